"""What each known metric is called and in which unit it is read.

Rule: this file is the only place that knows metrics by name. A metric that is not here is drawn all the same, under
its plain name.
"""

from collections.abc import Mapping

from tailkeep.report.metric import Metric
from tailkeep.report.text_metrics import TEXT_METRICS, fraction_metric, is_test, test_metric
from tailkeep.sanitize import visible

METRICS: Mapping[str, Metric] = {
    "held_out_nll": Metric(
        "Held-out NLL",
        "Nats per token (per point for a mixture) on real data never trained on, by plain cross-entropy.",
        "lower",
        True,
    ),
    "kr_accuracy": Metric(
        "Knowledge retention",
        "Share of KR questions in which the true sentence is likelier than the false one; guessing gives 0.5.",
        "higher",
        True,
    ),
    "held_out_above_90": Metric("Sure on held-out text, 0.9", "Share of held-out tokens given more than 0.9."),
    "held_out_above_99": Metric("Sure on held-out text, 0.99", "Share of held-out tokens given more than 0.99."),
    "above_99": Metric("Sure on own samples, 0.99", "Share of the samples' tokens given more than 0.99."),
    "kr_items": Metric("KR questions", "How many questions the accuracy rests on."),
    "own_perplexity": Metric(
        "Own perplexity",
        "Perplexity of the model on its own samples; falls as the model grows sure of itself.",
        None,
        True,
    ),
    "distinct_1": Metric("Distinct-1", "Distinct 1-grams as a share of all 1-grams of the samples.", "higher"),
    "distinct_2": Metric("Distinct-2", "Distinct 2-grams as a share of all 2-grams of the samples.", "higher"),
    "distinct_3": Metric("Distinct-3", "Distinct 3-grams as a share of all 3-grams of the samples.", "higher"),
    "distinct_4": Metric("Distinct-4", "Distinct 4-grams as a share of all 4-grams of the samples.", "higher", True),
    "kl_sample_real": Metric("KL(samples ‖ real)", "Nats, over unigram histograms.", "lower"),
    "kl_real_sample": Metric(
        "KL(real ‖ samples)", "Nats, over unigram histograms; large where the tail is lost.", "lower"
    ),
    **TEXT_METRICS,
    "mean_length": Metric("Length of a sample", "Mean number of tokens."),
    "valid_share": Metric("Valid documents", "Share of samples that the world's grammar can produce.", "higher"),
    "true_share": Metric("True facts", "Share of the stated facts that are true in the world.", "higher"),
    "rare_fact_coverage": Metric(
        "Coverage of rare facts",
        "Rare facts that the samples state, relative to equally many real documents.",
        "higher",
        True,
    ),
    "common_fact_coverage": Metric(
        "Coverage of common facts",
        "Common facts that the samples state, relative to equally many real documents.",
        "higher",
    ),
    "rare_phrasing_coverage": Metric(
        "Coverage of rare phrasings",
        "Rare phrasings that the samples use, relative to equally many real documents.",
        "higher",
    ),
    "train_nll": Metric("NLL in training", "Nats per token by plain cross-entropy, mean over all steps of a training."),
    "train_units": Metric("Training units", "Tokens or examples that the optimiser saw, every epoch counted."),
    "train_flops": Metric(
        "Training arithmetic", "Operations, estimated as 6 for each target and each weight; of all members together."
    ),
    "train_data_units": Metric("Size of the training set", "Tokens or examples in the generation's training set."),
    "flagged_share": Metric(
        "Flagged tokens",
        "Share of the tokens that a model drew anew; most stay what they are, see changed tokens.",
    ),
    "changed_share": Metric("Changed tokens", "Share of the tokens that this edit made others, or deleted."),
    "cumulative_changed_share": Metric(
        "Changed since the real data",
        "Share of the real data's tokens that are others or gone by now, by this edit and those before it.",
        None,
        True,
    ),
    "candidates": Metric("Candidates", "Documents that the last model wrote to be selected from."),
    "selected_share": Metric(
        "Selected candidates", "Share of the candidates that are trained on; one that is repeated counts once."
    ),
    "effective_sample_size": Metric(
        "Effective sample size",
        "How many equally weighted candidates the selector’s weights are worth: (Σ w)² / Σ w².",
    ),
    "accepted_share": Metric("Accepted candidates", "Share of the candidates that the verifier gave any weight."),
    "detector_accuracy": Metric(
        "Accuracy of the detector",
        "On real and written texts that it was not fitted on, mean of both; 0.5 where it cannot tell them.",
    ),
    "candidate_true_share": Metric(
        "True facts among candidates", "Share of the facts stated in all candidates that are true in the world."
    ),
    "selected_true_share": Metric(
        "True facts in the selection",
        "Share of the facts stated in what is trained on that are true in the world; see true facts among candidates.",
        None,
        True,
    ),
    "decoder_temperature": Metric(
        "Temperature of the matched decoder",
        "At which the model’s own text is as likely to it as real text; above 1 for a model that is too sure.",
        None,
        True,
    ),
    "weight_change": Metric(
        "Change of the weights", "Euclidean, relative to the weights inherited; before any extrapolation."
    ),
    "members": Metric("Members", "Language models that write and read one pool."),
    "mixture_gain": Metric(
        "Gain of the mixture",
        "Nats: the members’ mean held-out NLL less that of their mean probabilities; 0 where members agree.",
        None,
        True,
    ),
    "member_kr_mean": Metric("Knowledge retention, mean member", "Of the members alone, each counted once.", "higher"),
    "member_kr_best": Metric("Knowledge retention, best member", "Of the member that knows most.", "higher"),
    "kept_fraction": Metric("Kept fraction", "Share of the targets that the loss kept."),
    "std_median": Metric("Standard deviation", "Median over lineages of the fitted σ.", None, True),
    "std_mean": Metric("Mean standard deviation", "Mean over lineages of the fitted σ."),
    "std_low": Metric("σ, lowest tenth", "The 10 % quantile over lineages of the fitted σ."),
    "std_high": Metric("σ, highest tenth", "The 90 % quantile over lineages of the fitted σ."),
    "variance_mean": Metric(
        "Mean variance", "Mean over lineages of σ²; a few wide lineages carry it.", None, True, True
    ),
    "variance_mean_se": Metric("Mean variance, Monte-Carlo error", "Standard error over lineages of the mean of σ²."),
    "variance_mean_theory_se": Metric(
        "Mean variance, error in closed form",
        "What so many lineages must come to; an estimate is too small where few of them carry the mean.",
    ),
    "std_median_se": Metric("Median σ, Monte-Carlo error", "Standard error over lineages of the median of σ."),
    "cut_growth": Metric(
        "Growth by the cut", "Variance of what the cut leaves over that of all, mean over lineages: η, measured."
    ),
    "kl_model_real_median": Metric("KL(model ‖ real)", "Nats; median over lineages.", "lower", True),
    "mean_abs_median": Metric(
        "Drift of the mean",
        "Median over lineages of the distance between the fitted mean and the real one.",
        "lower",
        True,
    ),
    "dropped_share": Metric("Dropped samples", "Share of the samples that the truncation dropped."),
    "std_real": Metric("Real standard deviation", "σ of the real distribution."),
    "guarded_share": Metric(
        "Guarded lineages", "Share of lineages that kept two values only because fewer would have been left."
    ),
    "latent_std": Metric(
        "Latent spread",
        "Standard deviation of the codes that an encoder of real images gives to drawn ones; falls as variety is lost.",
        None,
        True,
    ),
    "frechet": Metric(
        "Distance of the features",
        "Squared Fréchet distance between held-out and drawn images, in the features of a classifier of real ones.",
        "lower",
        True,
    ),
    "recall": Metric(
        "Recall",
        "Share of held-out images or points within reach of the drawn ones: how much of reality is covered.",
        "higher",
        True,
    ),
    "precision": Metric(
        "Precision",
        "Share of drawn images or points within reach of the held-out ones; a model that draws one good image has 1.",
        None,
        True,
    ),
    "coverage": Metric(
        "Coverage",
        "Share of held-out images or points whose neighbourhood among real ones holds a drawn one.",
        "higher",
        True,
    ),
    "class_entropy": Metric(
        "Entropy of the classes",
        "Nats, over the classes that a classifier of real images sees in drawn ones.",
        "higher",
    ),
    "classes_alive": Metric(
        "Classes alive",
        "Classes that a classifier of real images sees in more than 1 % of the drawn ones.",
        "higher",
        True,
    ),
    "classes_total": Metric("Classes in all", "Classes of the real images."),
    "held_out_bound": Metric(
        "Held-out bound", "Nats per image: the evidence bound's negative on held-out real images.", "lower"
    ),
    "train_bound": Metric("Bound in training", "Nats per image, the whole bound, mean over all steps of a training."),
    "latent_mean": Metric("Latent mean", "Mean of the codes that the encoder of real images gives to drawn ones."),
    "latent_std_real": Metric("Latent spread of real images", "The same of held-out images."),
    "classifier_accuracy": Metric("Accuracy of the yardstick", "Of the classifier, on held-out images."),
    "modes_alive": Metric(
        "Modes alive", "Components that still get at least a fifth of their true share of the samples.", "higher", True
    ),
    "modes_total": Metric("Modes in all", "Components of the real mixture."),
    "weight_distance": Metric(
        "Distance of the weights", "Total variation between the real and the sampled mode shares.", "lower", True
    ),
    "sliced_wasserstein": Metric(
        "Distance to the real density", "Sliced 1-Wasserstein, in the points’ unit.", "lower", True
    ),
    "kl_real_model": Metric(
        "KL(real ‖ model)",
        "Nats: what held-out points have in likelihood under the real density over the model’s exact one.",
        "lower",
        True,
    ),
    "train_loss": Metric("Loss in training", "Squared error of the velocities, mean over all steps of a training."),
    "discriminator_loss": Metric("Loss of the discriminator", "Nats a pair, mean over training; 2 ln 2 if it guesses."),
    "generator_loss": Metric("Loss of the generator", "Nats, mean over all steps of a training; ln 2 at balance."),
    "test_error": Metric(
        "Test error", "Mean of |w - w*|² over lineages, in units of the first fit's own error.", "lower", True, True
    ),
    "closed_form_ratio": Metric(
        "Test error over its closed form",
        "1 where it is met. The form is exact for replace and accumulate, and for edits the limit of many rows.",
        None,
        True,
    ),
    "bound_ratio": Metric("Test error over its bound", "Above 1 the published bound does not hold.", None, True, True),
    "decay_bound_ratio": Metric(
        "Test error over the bound of decaying edits", "Far below 1 the published bound holds and says little."
    ),
    "test_error_se": Metric("Test error, Monte-Carlo error", "Standard error over lineages of the mean."),
    "test_error_exact": Metric("Test error, exact", "Closed form of the recursion itself, where there is one."),
    "test_error_bound": Metric("Published bound", "On the test error, in the same units."),
    "test_error_decay_bound": Metric(
        "Published bound for decaying edits", "The second bound on the test error, in the same units."
    ),
    "test_error_wide": Metric(
        "Test error, many rows", "Own closed form of the recursion itself, for rows that far outnumber coefficients."
    ),
}

BANDS = {"std_median": ("std_low", "std_high")}
"""Metrics whose band is not the range over seeds but two other metrics."""

THEORY = {
    "test_error": ("test_error_theory", "the published closed form"),
    "variance_mean": ("variance_mean_theory", "the closed form of the expectation"),
    "cut_growth": ("cut_growth_theory", "the closed form η(a)"),
    "std_median": ("std_theory", "the closed form of the median, or the floor where truncation begins"),
    "selected_true_share": ("candidate_true_share", "all candidates"),
}
"""Metrics that are drawn beside another one, in its figure, and what they are called there."""


def bounds_of(name: str) -> tuple[str, str] | None:
    """The two metrics that are the band of `name`, where that is not the range over seeds."""
    return (f"{name}.low", f"{name}.high") if is_test(name) else BANDS.get(name)


def companion_of(name: str) -> tuple[str, str] | None:
    """The metric that is drawn beside `name`, in its figure, and what it is called there."""
    if is_test(name):
        return f"{name}.chance", "the chance level"
    if split_view(name)[1].startswith(("coverage_", "kl_")) and not name.endswith("_expected"):
        return f"{name}_expected", "as much real text"
    return THEORY.get(name)


def _known(bare: str) -> Metric | None:
    return METRICS.get(bare) or test_metric(bare) or fraction_metric(bare)


def is_known(name: str) -> bool:
    """Whether `name`, without its view, is a metric that this file describes."""
    return _known(split_view(name)[1]) is not None


def _place(bare: str) -> tuple[int, str]:
    """Where a metric stands among the others: in the order of `METRICS`, then downstream tests, then unknown ones."""
    order = list(METRICS)
    return (order.index(bare) if bare in METRICS else len(order) + (_known(bare) is None), bare)


BOUNDED_SHARE = 0.4
"""The changed share of the real data above which the bound on collapse under edits (arXiv 2412.14689) wears out."""

LEARNERS = {
    "causal_lm": "Language model",
    "flow": "Flow matching",
    "gan": "Generative adversarial network",
    "gaussian": "Gaussian",
    "mixture": "Gaussian mixture",
    "regression": "Linear regression",
    "vae": "Variational autoencoder",
}
"""How a learner is called in a heading; another one's name stands for itself."""

VIEWS = {"common": "common decoder", "own": "the arm’s own decoder"}


def split_view(name: str) -> tuple[str, str]:
    """`"own.distinct_4"` as `("own", "distinct_4")`; the view of a metric without one is empty."""
    view, dot, bare = name.partition(".")
    return (view, bare) if dot and view in VIEWS and bare else ("", name)


def describe(name: str) -> Metric:
    """The presentation of `name`; a metric through the arm's own decoder says so and is no headline."""
    view, bare = split_view(name)
    known = _known(bare) or Metric(visible(name if not view else bare, newline=" "))
    if view != "own":
        return known
    return Metric(f"{known.title}, own decoder", known.note, known.better, False, known.log)


def headline_names(names: set[str]) -> tuple[str, ...]:
    """The metrics of `names` that stand in the summary, in the order of `METRICS`; all, if none is known."""
    chosen = [name for name in names if is_known(name) and describe(name).headline]
    return tuple(sorted(chosen, key=lambda name: _place(split_view(name)[1]))) or tuple(sorted(names))


def further_names(names: set[str]) -> tuple[str, ...]:
    """The other metrics of `names`, known ones first."""
    companions = (found[0] for found in map(companion_of, names) if found)
    bounds = (bound for name in names if is_test(name) for bound in bounds_of(name) or ())
    rest = names.difference(headline_names(names), companions, bounds)
    return tuple(sorted(rest, key=lambda name: (split_view(name)[0], *_place(split_view(name)[1]), name)))
