"""The title, note and direction of each known metric.

Rule: only this file and `text_metrics` know metrics by name. A metric that is not here is shown under its raw name.
"""

from collections.abc import Mapping

from tailkeep.report.text_metrics import TEXT_METRICS, Metric, fraction_metric, is_test, test_metric
from tailkeep.sanitize import visible

METRICS: Mapping[str, Metric] = {
    "held_out_nll": Metric(
        "Held-out NLL",
        "Nats per token (per point for a mixture) on held-out real data, by cross-entropy.",
        "lower",
        True,
    ),
    "kr_accuracy": Metric(
        "KR-test accuracy",
        "Share of KR questions in which the true sentence is more likely than the false one; chance is 0.5.",
        "higher",
        True,
    ),
    "held_out_nll_worst_tokens": Metric(
        "Held-out NLL, worst tokens", "Nats per token, over the tenth of the held-out tokens with the highest.", "lower"
    ),
    "held_out_nll_worst_rows": Metric(
        "Held-out NLL, worst rows",
        "Nats per token, over the tenth of the held-out documents, or blocks of joined text, with the highest.",
        "lower",
    ),
    "kr_standardised_margin": Metric(
        "KR-test, standardised margin",
        "Mean over standard deviation, over questions, of how much more likely the true sentence is.",
        "higher",
    ),
    "held_out_above_90": Metric("High-confidence held-out tokens, 0.9", "Share of the held-out tokens with p > 0.9."),
    "held_out_above_99": Metric("High-confidence held-out tokens, 0.99", "Share of the held-out tokens with p > 0.99."),
    "above_99": Metric("High-confidence sampled tokens, 0.99", "Share of the samples' tokens with p > 0.99."),
    "kr_items": Metric("KR questions", "Number of questions of the accuracy."),
    "own_perplexity": Metric(
        "Perplexity on its own samples",
        "Perplexity of the model on its own samples; falls as the model becomes more confident.",
        None,
        True,
    ),
    "first_model_perplexity": Metric(
        "Perplexity under the first model", "Perplexity of the samples under the model of generation 0.", None
    ),
    "distinct_1": Metric("Distinct-1", "Distinct 1-grams as a share of all 1-grams of the samples.", "higher"),
    "distinct_2": Metric("Distinct-2", "Distinct 2-grams as a share of all 2-grams of the samples.", "higher"),
    "distinct_3": Metric("Distinct-3", "Distinct 3-grams as a share of all 3-grams of the samples.", "higher"),
    "distinct_4": Metric("Distinct-4", "Distinct 4-grams as a share of all 4-grams of the samples.", "higher", True),
    "self_bleu": Metric(
        "Self-BLEU",
        "Mean BLEU-4 of each sample with the others as references; 1 if all occur twice.",
        "lower",
    ),
    "vendi": Metric("Vendi score", "Effective number of different samples, by 1- to 4-grams of words.", "higher"),
    "kl_sample_real": Metric("KL(samples ‖ real)", "Nats, over unigram histograms.", "lower"),
    "kl_real_sample": Metric(
        "KL(real ‖ samples)", "Nats, over unigram histograms; large if the tail is lost.", "lower", True, True
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
    "people_named": Metric(
        "People named", "People of the world whose full name stands in at least one sample.", "higher", True
    ),
    "people_total": Metric("Total people", "People of the world."),
    "train_nll": Metric("NLL in training", "Nats per token by cross-entropy, mean over all training steps."),
    "train_units": Metric("Training units", "Tokens or examples that the optimiser saw, over all epochs."),
    "train_flops": Metric("Training FLOPs", "Estimated as 6 per target and weight; of all members together."),
    "train_data_units": Metric("Size of the training set", "Tokens or examples in the generation's training set."),
    "flagged_share": Metric(
        "Flagged tokens",
        "Share of the tokens that were resampled from a model; most stay the same, see changed tokens.",
    ),
    "changed_share": Metric("Changed tokens", "Share of the tokens that this edit replaced or deleted."),
    "cumulative_changed_share": Metric(
        "Changed since the real data",
        "Share of the real data's tokens that this edit and those before it have replaced or deleted.",
        None,
        True,
    ),
    "candidates": Metric("Candidates", "Documents that the last model generated to select from."),
    "selected_share": Metric(
        "Selected candidates", "Share of the candidates in the training set; a repeated one counts once."
    ),
    "effective_sample_size": Metric(
        "Effective sample size",
        "Number of equally weighted candidates with the same variance: (Σ w)² / Σ w².",
    ),
    "accepted_share": Metric("Accepted candidates", "Share of the candidates with a weight above 0 from the verifier."),
    "detector_accuracy": Metric(
        "Accuracy of the detector",
        "On real and synthetic texts that it was not fitted on, mean of both classes; chance is 0.5.",
    ),
    "candidate_true_share": Metric(
        "True facts among candidates", "Share of the facts stated in all candidates that are true in the world."
    ),
    "selected_true_share": Metric(
        "True facts in the selection",
        "Share of the facts stated in the training set that are true in the world; see true facts among candidates.",
        None,
        True,
    ),
    "replayed_documents": Metric("Replayed documents", "Real documents in the training set."),
    "replayed_share": Metric("Replayed tokens", "Share of the real tokens in the training set, each counted once."),
    "replayed_share_so_far": Metric(
        "Tokens replayed so far", "Share of the real tokens in the training set of this generation or an earlier one."
    ),
    "expected_loss": Metric(
        "Expected loss without replay",
        "Share of the real words, pairs and triples that drift alone loses from the synthetic text.",
    ),
    "expected_loss_replayed": Metric(
        "Expected loss with replay", "The same with the replayed documents.", "lower", False
    ),
    "rare_fact_coverage_outside": Metric(
        "Coverage of rare facts outside the replay",
        "Rare facts that no replayed document states but the samples do, relative to equally many real documents.",
        "higher",
    ),
    "rare_facts_outside": Metric("Rare facts outside the replay", "Rare facts that no replayed document states."),
    "decoder_temperature": Metric(
        "Temperature of the matched decoder",
        "At which the model’s samples and real text have the same NLL under the model; above 1 if it is overconfident.",
        None,
        True,
    ),
    "weight_change": Metric(
        "Change of the weights", "Euclidean, relative to the previous generation’s weights; before any extrapolation."
    ),
    "members": Metric("Members", "Number of language models that share one pool."),
    "mixture_gain": Metric(
        "Gain of the mixture",
        "Nats: the mean held-out NLL of the members minus that of their mean probabilities; 0 if they agree.",
        None,
        True,
    ),
    "member_kr_mean": Metric("KR-test accuracy, mean member", "Mean over the single members.", "higher"),
    "member_kr_best": Metric("KR-test accuracy, best member", "Maximum over the single members.", "higher"),
    "kept_fraction": Metric("Kept fraction", "Share of the target tokens that the loss keeps."),
    "std_median": Metric("Standard deviation", "Median over chains of the fitted σ.", None, True, True),
    "std_mean": Metric("Mean standard deviation", "Mean over chains of the fitted σ."),
    "std_low": Metric("σ, lowest tenth", "The 10 % quantile over chains of the fitted σ."),
    "std_high": Metric("σ, highest tenth", "The 90 % quantile over chains of the fitted σ."),
    "variance_mean": Metric(
        "Mean variance", "Mean over chains of σ²; a few wide chains dominate it.", None, True, True
    ),
    "variance_mean_se": Metric("Mean variance, Monte-Carlo error", "Standard error over chains of the mean of σ²."),
    "variance_mean_theory_se": Metric(
        "Mean variance, error in closed form",
        "Standard error that so many chains have in theory; the estimate is too small if few chains dominate the mean.",
    ),
    "std_median_se": Metric("Median σ, Monte-Carlo error", "Standard error over chains of the median of σ."),
    "cut_growth": Metric(
        "Variance ratio of truncation",
        "Variance after truncation over that before, mean over chains: η, measured.",
    ),
    "kl_model_real_median": Metric("KL(model ‖ real)", "Nats; median over chains.", "lower", True),
    "mean_abs_median": Metric(
        "Drift of the mean",
        "Median over chains of the distance between the fitted mean and the real one.",
        "lower",
        True,
    ),
    "dropped_share": Metric("Dropped samples", "Share of the samples that truncation removes."),
    "std_real": Metric("Real standard deviation", "σ of the real distribution."),
    "guarded_share": Metric(
        "Guarded chains", "Share of the chains in which truncation would leave fewer than two values, so two are kept."
    ),
    "latent_std": Metric(
        "Latent spread",
        "Standard deviation of the codes of an encoder of real images on generated ones; falls as diversity is lost.",
        None,
        True,
    ),
    "frechet": Metric(
        "Fréchet distance",
        "Squared, between held-out and generated images, in the features of a classifier of real images.",
        "lower",
        True,
    ),
    "recall": Metric(
        "Recall",
        "Share of held-out images or points within the neighbourhoods of generated ones: coverage of the data.",
        "higher",
        True,
    ),
    "precision": Metric(
        "Precision",
        "Share of generated images or points within the neighbourhoods of held-out ones; 1 for a single good image.",
        None,
        True,
    ),
    "coverage": Metric(
        "Coverage",
        "Share of held-out images or points whose neighbourhood among real ones includes a generated one.",
        "higher",
        True,
    ),
    "class_entropy": Metric(
        "Class entropy",
        "Nats, over the classes that a classifier of real images predicts for generated ones.",
        "higher",
    ),
    "classes_alive": Metric(
        "Classes alive",
        "Classes that a classifier of real images predicts for more than 1 % of the generated ones.",
        "higher",
        True,
    ),
    "classes_total": Metric("Total classes", "Classes of the real images."),
    "held_out_bound": Metric("Held-out negative ELBO", "Nats per image, on held-out real images.", "lower"),
    "train_bound": Metric("Negative ELBO in training", "Nats per image, mean over all training steps."),
    "latent_mean": Metric("Latent mean", "Mean of the codes of the encoder of real images on generated ones."),
    "latent_std_real": Metric("Latent spread of real images", "The same on held-out images."),
    "classifier_accuracy": Metric(
        "Accuracy of the classifier", "Of the classifier of these metrics, on held-out images."
    ),
    "modes_alive": Metric(
        "Modes alive", "Components with at least a fifth of their true share of the samples.", "higher", True
    ),
    "modes_total": Metric("Total modes", "Components of the real mixture."),
    "weight_distance": Metric(
        "Total variation of the mode weights", "Between the real and the sampled mode shares.", "lower", True
    ),
    "sliced_wasserstein": Metric(
        "Distance to the real density", "Sliced 1-Wasserstein, in the points’ unit.", "lower", True
    ),
    "kl_real_model": Metric(
        "KL(real ‖ model)",
        "Nats: mean log-likelihood ratio of held-out points, the real density over the model’s exact one.",
        "lower",
        True,
    ),
    "train_loss": Metric("Loss in training", "Squared error of the velocities, mean over all training steps."),
    "discriminator_loss": Metric(
        "Loss of the discriminator", "Nats per pair, mean over training steps; 2 ln 2 at chance."
    ),
    "generator_loss": Metric("Loss of the generator", "Nats, mean over all training steps; ln 2 at equilibrium."),
    "test_error": Metric(
        "Test error", "Mean of |w - w*|² over chains, in units of the first fit's error.", "lower", True, True
    ),
    "closed_form_ratio": Metric(
        "Test error over its closed form",
        "1 if theory holds. The form is exact for replace and accumulate, and for edits the limit of many rows.",
        None,
        True,
    ),
    "bound_ratio": Metric("Test error over its bound", "Above 1 the published bound does not hold.", None, True, True),
    "decay_bound_ratio": Metric(
        "Test error over the bound of decaying edits", "Far below 1 the published bound holds but is loose."
    ),
    "test_error_se": Metric("Test error, Monte-Carlo error", "Standard error over chains of the mean."),
    "test_error_exact": Metric("Test error, exact", "Closed form of the recursion itself, where there is one."),
    "test_error_bound": Metric("Published bound", "On the test error, in the same units."),
    "test_error_decay_bound": Metric(
        "Published bound for decaying edits", "The second bound on the test error, in the same units."
    ),
    "test_error_wide": Metric(
        "Test error, many rows", "Closed form of the recursion itself, for many more rows than coefficients."
    ),
}

THEORY = {
    "test_error": ("test_error_theory", "the published closed form"),
    "variance_mean": ("variance_mean_theory", "the closed form of the expectation"),
    "cut_growth": ("cut_growth_theory", "the closed form η(a)"),
    "std_median": ("std_theory", "the closed form of the median, or the floor where truncation starts"),
    "selected_true_share": ("candidate_true_share", "all candidates"),
}
"""metric -> the metric drawn in the same figure and its label there."""


def companion_of(name: str) -> tuple[str, str] | None:
    """The metric that is drawn in the figure of `name`, and its label there."""
    if is_test(name):
        return f"{name}.chance", "the chance level"
    has_companion = split_view(name)[1].startswith(("coverage_", "kl_", "language_"))
    if has_companion and not name.endswith(("_expected", "_outside")):
        return f"{name}_expected", "an equal amount of real text"
    return THEORY.get(name)


def _known(bare: str) -> Metric | None:
    return METRICS.get(bare) or test_metric(bare) or fraction_metric(bare)


def is_known(name: str) -> bool:
    """Whether `name`, without its view, is a metric that this file describes."""
    return _known(split_view(name)[1]) is not None


def _rank(bare: str) -> tuple[int, str]:
    """The sort key of a metric: the order of `METRICS`, then downstream tests, then unknown ones."""
    order = list(METRICS)
    return (order.index(bare) if bare in METRICS else len(order) + (_known(bare) is None), bare)


BOUNDED_SHARE = 0.4
"""The changed share of the real data above which the bound on collapse under edits (arXiv 2412.14689) does not hold."""

LEARNERS = {
    "causal_lm": "Language model",
    "flow": "Flow matching",
    "gan": "Generative adversarial network",
    "gaussian": "Gaussian",
    "mixture": "Gaussian mixture",
    "regression": "Linear regression",
    "vae": "Variational autoencoder",
}
"""Headings of learners; any other learner is shown under its name."""

VIEWS = {"common": "common decoder", "own": "the arm’s own decoder"}


def split_view(name: str) -> tuple[str, str]:
    """`"own.distinct_4"` as `("own", "distinct_4")`; the view is empty where there is none."""
    view, dot, bare = name.partition(".")
    return (view, bare) if dot and view in VIEWS and bare else ("", name)


def describe(name: str) -> Metric:
    """The presentation of `name`; a metric by the arm's own decoder says so and is no headline."""
    view, bare = split_view(name)
    metric = _known(bare) or Metric(visible(name if not view else bare, newline=" "))
    if view != "own":
        return metric
    return Metric(f"{metric.title}, arm’s own decoder", metric.note, metric.better, False, metric.log)


def title_in_sentence(name: str) -> str:
    """The title of `name` as a sentence goes on with it."""
    title = describe(name).title
    return title[0].lower() + title[1:] if is_known(name) and title[1:2].islower() else title


_MAIN_METRICS: Mapping[str, tuple[str, ...]] = {
    "causal_lm": ("kr_accuracy", "kr_fraction_0", "held_out_nll"),
    "flow": ("modes_alive", "coverage", "kl_real_model", "sliced_wasserstein", "frechet"),
    "gan": ("modes_alive", "coverage", "sliced_wasserstein", "frechet"),
    "gaussian": ("std_median", "kl_model_real_median"),
    "mixture": ("modes_alive", "weight_distance"),
    "regression": ("test_error",),
    "vae": ("recall", "frechet", "latent_std"),
}


def main_metrics(learner: str, names: set[str]) -> tuple[str, ...]:
    """At most two metrics of `names` that a verdict is about; the first one is the main picture's.

    Of an unknown learner, or where none of its own was measured, the first headline metrics with a better direction.
    """
    headline = headline_names(names)
    of_learner = [name for name in _MAIN_METRICS.get(learner, ()) if name in names]
    directed = [name for name in headline if describe(name).better]
    return tuple((of_learner or directed or list(headline))[:2])


def headline_names(names: set[str]) -> tuple[str, ...]:
    """The metrics of `names` in the summary, in the order of `METRICS`; all of them if none is known."""
    headline = [name for name in names if is_known(name) and describe(name).headline]
    return tuple(sorted(headline, key=lambda name: _rank(split_view(name)[1]))) or tuple(sorted(names))


def further_names(names: set[str]) -> tuple[str, ...]:
    """The other metrics of `names`, known ones first."""
    companions = (companion[0] for companion in map(companion_of, names) if companion)
    bounds = (f"{name}.{bound}" for name in names if is_test(name) for bound in ("low", "high"))
    totals = (name for name in names if split_view(name)[1].endswith("_total"))
    rest = names.difference(headline_names(names), companions, bounds, totals)
    return tuple(sorted(rest, key=lambda name: (split_view(name)[0], *_rank(split_view(name)[1]), name)))
