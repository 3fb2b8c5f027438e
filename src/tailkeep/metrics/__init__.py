"""Pure functions of numbers: what collapse looks like. No model, no file, no text enters this room."""

from tailkeep.metrics.confidence import confidence_histogram, perplexity, share_above
from tailkeep.metrics.divergence import gaussian_kl, kl_divergence, unigram_counts
from tailkeep.metrics.diversity import distinct_n
from tailkeep.metrics.failure import Failure, time_to_failure
from tailkeep.metrics.intervals import Interval, binomial_interval, mean_interval, slope
from tailkeep.metrics.knowledge import kr_accuracy, kr_margin
from tailkeep.metrics.modes import assign_modes, mode_shares, modes_alive, weight_distance

__all__ = [
    "Failure",
    "Interval",
    "assign_modes",
    "binomial_interval",
    "confidence_histogram",
    "distinct_n",
    "gaussian_kl",
    "kl_divergence",
    "kr_accuracy",
    "kr_margin",
    "mean_interval",
    "mode_shares",
    "modes_alive",
    "perplexity",
    "share_above",
    "slope",
    "time_to_failure",
    "unigram_counts",
    "weight_distance",
]
