"""Pure functions of numbers: what collapse looks like. No model, no file, no text enters this room."""

from tailkeep.metrics.classes import class_entropy, classes_alive
from tailkeep.metrics.confidence import confidence_histogram, perplexity, share_above
from tailkeep.metrics.coverage import CoverageBand, band_coverage
from tailkeep.metrics.divergence import gaussian_kl, kl_divergence, unigram_counts
from tailkeep.metrics.diversity import distinct_n
from tailkeep.metrics.factorial import Effect, factorial_effects
from tailkeep.metrics.failure import Failure, margin_limit, time_to_failure
from tailkeep.metrics.features import frechet_distance, manifold_coverage, precision_recall
from tailkeep.metrics.gap import ConfidenceGap, confidence_gap
from tailkeep.metrics.histograms import (
    distinct_share,
    entropy,
    gini,
    js_divergence,
    smoothed_kl,
    top_share,
    unseen_mass,
    zipf_slope,
)
from tailkeep.metrics.intervals import Interval, binomial_interval, holm, mean_interval, slope
from tailkeep.metrics.knowledge import kr_accuracy, kr_fractions, kr_margin, kr_parts
from tailkeep.metrics.linear_theory import (
    accumulated_error,
    error_unit,
    published_decay_bound,
    published_edit_bound,
    published_edit_error,
    replaced_error,
    wide_edit_error,
)
from tailkeep.metrics.mixing import golden_weight
from tailkeep.metrics.modes import assign_modes, mode_shares, modes_alive, weight_distance
from tailkeep.metrics.ngrams import ngram_counts, ngram_kl
from tailkeep.metrics.normal_theory import (
    accumulated_variance,
    balanced_width,
    density_floor,
    expected_variance,
    expected_variance_error,
    median_variance,
    variance_growth,
)
from tailkeep.metrics.resampling import (
    FailureInterval,
    McNemar,
    bootstrap_interval,
    failure_interval,
    mcnemar,
    median_time,
)
from tailkeep.metrics.retention import KRComparison, KRMargins, KRRow, kr_compare, kr_margins, kr_rows
from tailkeep.metrics.selection import draw_by_weight, effective_size, highest
from tailkeep.metrics.temperature import TEMPERATURES, fitted_temperature
from tailkeep.metrics.transport import sliced_wasserstein

__all__ = [
    "TEMPERATURES",
    "ConfidenceGap",
    "CoverageBand",
    "Effect",
    "Failure",
    "FailureInterval",
    "Interval",
    "KRComparison",
    "KRMargins",
    "KRRow",
    "McNemar",
    "accumulated_error",
    "accumulated_variance",
    "assign_modes",
    "balanced_width",
    "band_coverage",
    "binomial_interval",
    "bootstrap_interval",
    "class_entropy",
    "classes_alive",
    "confidence_gap",
    "confidence_histogram",
    "density_floor",
    "distinct_n",
    "distinct_share",
    "draw_by_weight",
    "effective_size",
    "entropy",
    "error_unit",
    "expected_variance",
    "expected_variance_error",
    "factorial_effects",
    "failure_interval",
    "fitted_temperature",
    "frechet_distance",
    "gaussian_kl",
    "gini",
    "golden_weight",
    "highest",
    "holm",
    "js_divergence",
    "kl_divergence",
    "kr_accuracy",
    "kr_compare",
    "kr_fractions",
    "kr_margin",
    "kr_margins",
    "kr_parts",
    "kr_rows",
    "manifold_coverage",
    "margin_limit",
    "mcnemar",
    "mean_interval",
    "median_time",
    "median_variance",
    "mode_shares",
    "modes_alive",
    "ngram_counts",
    "ngram_kl",
    "perplexity",
    "precision_recall",
    "published_decay_bound",
    "published_edit_bound",
    "published_edit_error",
    "replaced_error",
    "share_above",
    "sliced_wasserstein",
    "slope",
    "smoothed_kl",
    "time_to_failure",
    "top_share",
    "unigram_counts",
    "unseen_mass",
    "variance_growth",
    "weight_distance",
    "wide_edit_error",
    "zipf_slope",
]
