"""The metrics of all learners by name, those of a run's own code too, and intervals inside their ranges.

Rules: a metric that nobody has defined is shown under its raw name. No band, bar or table shows a value that the metric
cannot take.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tailkeep.metrics import Interval, mean_interval, positive_interval, share_interval
from tailkeep.report.text_metrics import TEXT_METRICS, fraction_metric, is_test, test_metric
from tailkeep.runs.metric import FailureLimit, Metric
from tailkeep.sanitize import visible

_share, _positive = partial(Metric, range="share"), partial(Metric, range="positive")
METRICS: Mapping[str, Metric] = {
    **TEXT_METRICS,
    "std_median": _positive(
        "Standard deviation",
        "Median over chains of the fitted σ.",
        headline=True,
        log=True,
        reference=(1.0, "real data, 1"),
        companion=("std_theory", "the closed form of the median, or the floor where truncation starts"),
        heading="How wide the fitted distribution still is",
        limits=(FailureLimit(0.5, "median σ < half the real σ", of="std_real"),),
    ),
    "std_mean": _positive("Mean standard deviation", "Mean over chains of the fitted σ."),
    "std_low": _positive("σ, lowest tenth", "The 10 % quantile over chains of the fitted σ."),
    "std_high": _positive("σ, highest tenth", "The 90 % quantile over chains of the fitted σ."),
    "variance_mean": _positive(
        "Mean variance",
        "Mean over chains of σ²; a few wide chains dominate it.",
        headline=True,
        log=True,
        companion=("variance_mean_theory", "the closed form of the expectation"),
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
        companion=("cut_growth_theory", "the closed form η(a)"),
    ),
    "kl_model_real_median": _positive(
        "KL(model ‖ real)", "Nats; median over chains.", better="lower", headline=True, unit="nats"
    ),
    "mean_abs_median": _positive(
        "Drift of the mean",
        "Median over chains of the distance between the fitted mean and the real one.",
        better="lower",
        headline=True,
    ),
    "dropped_share": _share("Dropped samples", "Share of the samples that truncation removes."),
    "std_real": Metric("Real standard deviation", "σ of the real distribution."),
    "guarded_share": _share(
        "Guarded chains", "Share of the chains in which truncation would leave fewer than two values, so two are kept."
    ),
    "latent_std": _positive(
        "Latent spread",
        "Standard deviation of the codes of an encoder of real images on generated ones; falls as diversity is lost.",
        headline=True,
        limits=(FailureLimit(0.8, "latent spread 20 % below generation 0", of="latent_std"),),
    ),
    "frechet": _positive(
        "Fréchet distance",
        "Squared, between held-out and generated images, in the features of a classifier of real images.",
        better="lower",
        headline=True,
    ),
    "recall": _share(
        "Recall",
        "Share of held-out images or points within the neighbourhoods of generated ones: coverage of the data.",
        better="higher",
        headline=True,
        heading="How much of the real data is still covered",
    ),
    "precision": _share(
        "Precision",
        "Share of generated images or points within the neighbourhoods of held-out ones; 1 for a single good image.",
        headline=True,
    ),
    "coverage": _share(
        "Coverage",
        "Share of held-out images or points whose neighbourhood among real ones includes a generated one.",
        better="higher",
        headline=True,
        heading="How much of the real data is still covered",
        limits=(FailureLimit(0.8, "coverage 20 % below generation 0", of="coverage"),),
    ),
    "class_entropy": _positive(
        "Class entropy",
        "Nats, over the classes that a classifier of real images predicts for generated ones.",
        better="higher",
        unit="nats",
    ),
    "classes_alive": Metric(
        "Classes alive",
        "Classes that a classifier of real images predicts for more than 1 % of the generated ones.",
        better="higher",
        headline=True,
        range="count",
        total="classes_total",
        unit="classes",
    ),
    "classes_total": Metric("Total classes", "Classes of the real images."),
    "held_out_bound": Metric("Held-out negative ELBO", "Nats per image, on held-out real images.", better="lower"),
    "train_bound": Metric("Negative ELBO in training", "Nats per image, mean over all training steps."),
    "latent_mean": Metric("Latent mean", "Mean of the codes of the encoder of real images on generated ones."),
    "latent_std_real": Metric("Latent spread of real images", "The same on held-out images."),
    "classifier_accuracy": _share(
        "Accuracy of the classifier", "Of the classifier of these metrics, on held-out images."
    ),
    "modes_alive": Metric(
        "Modes alive",
        "Components with at least a fifth of their true share of the samples.",
        better="higher",
        headline=True,
        range="count",
        total="modes_total",
        unit="modes",
        heading="How many modes are left",
        limits=(FailureLimit(0.75, "fewer than 75 % of the modes", of="modes_total"),),
    ),
    "modes_total": Metric("Total modes", "Components of the real mixture."),
    "weight_distance": _share(
        "Total variation of the mode weights",
        "Between the real and the sampled mode shares.",
        better="lower",
        headline=True,
    ),
    "sliced_wasserstein": _positive(
        "Distance to the real density", "Sliced 1-Wasserstein, in the points’ unit.", better="lower", headline=True
    ),
    "kl_real_model": Metric(
        "KL(real ‖ model)",
        "Nats: mean log-likelihood ratio of held-out points, the real density over the model’s exact one.",
        better="lower",
        headline=True,
        unit="nats",
    ),
    "train_loss": Metric("Loss in training", "Squared error of the velocities, mean over all training steps."),
    "discriminator_loss": Metric(
        "Loss of the discriminator", "Nats per pair, mean over training steps; 2 ln 2 at chance."
    ),
    "generator_loss": Metric("Loss of the generator", "Nats, mean over all training steps; ln 2 at equilibrium."),
    "test_error": _positive(
        "Test error",
        "Mean of |w − w*|² over chains, in units of the first fit's error.",
        better="lower",
        headline=True,
        log=True,
        companion=("test_error_theory", "the published closed form"),
        heading="How large the error has become",
    ),
    "closed_form_ratio": _positive(
        "Test error over its closed form",
        "1 if theory holds. The form is exact for replace and accumulate, and for edits the limit of many rows.",
        headline=True,
    ),
    "bound_ratio": _positive(
        "Test error over its bound",
        "Above 1 the published bound does not hold.",
        headline=True,
        log=True,
        reference=(1.0, "the bound, 1"),
        limits=(FailureLimit(1.0, "test error above its published bound", falling=False),),
    ),
    "decay_bound_ratio": _positive(
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

BOUNDED_SHARE = 0.4
"""The changed share of the real data above which the bound on collapse under edits (arXiv 2412.14689) does not hold."""

VIEWS = {"common": "common decoder", "own": "the arm’s own decoder"}


@dataclass(frozen=True)
class LearnerWords:
    """What a learner is called, what its models generate, and the metrics that a verdict is about, best first.

    `of_text` says that it trains language models, whose arms have a loss to choose.
    """

    title: str
    samples: str = "samples"
    main_metrics: tuple[str, ...] = ()
    of_text: bool = False


LEARNERS: Mapping[str, LearnerWords] = {
    "causal_lm": LearnerWords("Language model", "text", ("kr_accuracy", "kr_fraction_0", "held_out_nll"), of_text=True),
    "ecosystem": LearnerWords("ecosystem", of_text=True),
    "flow": LearnerWords(
        "Flow matching", main_metrics=("modes_alive", "coverage", "kl_real_model", "sliced_wasserstein", "frechet")
    ),
    "gan": LearnerWords(
        "Generative adversarial network", main_metrics=("modes_alive", "coverage", "sliced_wasserstein", "frechet")
    ),
    "gaussian": LearnerWords("Gaussian", "values", ("std_median", "kl_model_real_median")),
    "mixture": LearnerWords("Gaussian mixture", "points", ("modes_alive", "weight_distance")),
    "regression": LearnerWords("Linear regression", "labels", ("test_error",)),
    "vae": LearnerWords("Variational autoencoder", "images", ("recall", "frechet", "latent_std")),
}


def limits_of(metric: Metric, total: float = math.nan) -> tuple[float, float]:
    """The lowest and the highest possible value; `total` is the highest count."""
    match metric.range:
        case "share":
            return 0.0, 1.0
        case "count":
            return 0.0, total if math.isfinite(total) else math.inf
        case "positive":
            return 0.0, math.inf
        case "any":
            return -math.inf, math.inf


def seed_interval(metric: Metric, values: Sequence[float], total: float = math.nan) -> Interval:
    """The mean of `values`, one per seed, with its 95 % CI inside the possible range.

    Shares and counts have Student's t on the logit scale, positive metrics on the logarithmic one, others as they are.
    Values that are on the edge of their range in every seed have no width; an unexpected one gives plain Student's t.
    """
    kind, (low, high) = metric.range, limits_of(metric, total)
    finite = all(map(math.isfinite, values))
    if kind == "count" and finite and math.isfinite(high) and high > 0 and all(0 <= value <= high for value in values):
        mean, lower, upper = share_interval([value / high for value in values])
        return Interval(mean * high, lower * high, upper * high)
    if kind == "share" and finite and all(low <= value <= high for value in values):
        return share_interval(values)
    if kind == "positive" and finite and all(value > 0 for value in values):
        return positive_interval(values)
    plain = mean_interval(values)
    if all(low <= value <= high for value in values) and math.isfinite(plain.low):
        return Interval(plain.mean, max(plain.low, low), min(plain.high, high))
    return plain


def difference_interval(metric: Metric, values: Sequence[float]) -> Interval:
    """The mean of paired differences with Student's t, cut off at what two shares can differ by."""
    plain = mean_interval(values)
    if metric.range != "share" or not math.isfinite(plain.low):
        return plain
    return Interval(plain.mean, max(plain.low, -1.0), min(plain.high, 1.0))


def words_of(learner: str) -> LearnerWords:
    """The words of `learner`; a learner of the user's own has its name as title."""
    return LEARNERS.get(learner) or LearnerWords(visible(learner, newline=" "))


def split_view(name: str) -> tuple[str, str]:
    """`"own.distinct_4"` as `("own", "distinct_4")`; the view is empty where there is none."""
    view, dot, bare = name.partition(".")
    return (view, bare) if dot and view in VIEWS and bare else ("", name)


@dataclass(frozen=True)
class FailureRule:
    """A limit of one metric, by which a chain fails; `items` is the metric with the number of its questions."""

    metric: str
    limit: FailureLimit
    items: str = ""

    @property
    def key(self) -> str:
        """The metric, with the limit's name if it has one."""
        return "_".join(filter(None, [self.metric, self.limit.name]))

    @property
    def condition(self) -> str:
        """The limit in words."""
        return self.limit.condition


@dataclass(frozen=True)
class Catalog:
    """How the metrics of one learner's arms are read. `definitions` are those of the run's code, by name."""

    learner: str
    definitions: Mapping[str, Metric] = field(default_factory=dict)

    def _known(self, bare: str) -> Metric | None:
        return self.definitions.get(bare) or METRICS.get(bare) or test_metric(bare) or fraction_metric(bare)

    def is_known(self, name: str) -> bool:
        """Whether somebody has defined `name`, without its view."""
        return self._known(split_view(name)[1]) is not None

    def describe(self, name: str) -> Metric:
        """The metric `name`; one by the arm's own decoder says so and is no headline.

        `total` and the companion are full names. Points, not tokens, are the units of what trains no language models.
        """
        view, bare = split_view(name)
        metric = self._known(bare) or Metric(visible(bare, newline=" "))
        in_view = f"{view}." if view else ""
        if not words_of(self.learner).of_text and bare not in self.definitions:
            metric = replace(metric, unit=metric.unit.replace("/token", "/point"))
        if metric.total:
            metric = replace(metric, total=in_view + metric.total)
        if metric.companion:
            other, label = metric.companion
            metric = replace(metric, companion=(other.replace("{name}", name), label))
        if view != "own":
            return metric
        return replace(metric, title=f"{metric.title}, arm’s own decoder", headline=False)

    def title_in_sentence(self, name: str) -> str:
        """The title of `name` as a sentence goes on with it."""
        title = self.describe(name).title
        return title[0].lower() + title[1:] if self.is_known(name) and title[1:2].islower() else title

    def main_metrics(self, names: set[str]) -> tuple[str, ...]:
        """At most two metrics of `names` that a verdict is about; the first one is the main picture's.

        Of an unknown learner, or where none of its own was measured, the first headlines with a better direction.
        """
        headline = self.headline_names(names)
        of_learner = [name for name in words_of(self.learner).main_metrics if name in names]
        directed = [name for name in headline if self.describe(name).better]
        return tuple((of_learner or directed or list(headline))[:2])

    def headline_names(self, names: set[str]) -> tuple[str, ...]:
        """The metrics of `names` in the summary, in the order of `METRICS`; all of them if none is a headline."""
        headline = [name for name in names if self.describe(name).headline]
        return tuple(sorted(headline, key=lambda name: self._rank(split_view(name)[1]))) or tuple(sorted(names))

    def further_names(self, names: set[str]) -> tuple[str, ...]:
        """The other metrics of `names`, known ones first."""
        metrics = [self.describe(name) for name in names]
        companions = {metric.companion[0] for metric in metrics if metric.companion}
        totals = {metric.total for metric in metrics}
        bounds = {f"{name}.{bound}" for name in names if is_test(name) for bound in ("low", "high")}
        rest = names - {*self.headline_names(names), *companions, *totals, *bounds}
        return tuple(sorted(rest, key=lambda name: (split_view(name)[0], *self._rank(split_view(name)[1]), name)))

    def failure_rules(self, names: set[str]) -> tuple[FailureRule, ...]:
        """The limits by which a chain with the metrics `names` fails, those of the learner's main metrics first."""
        mains = words_of(self.learner).main_metrics
        order = [*(name for name in mains if name in names), *sorted(names - {*mains}, key=self._rank)]
        return tuple(rule for name in order for rule in self._rules(name, names))

    def _rules(self, name: str, names: set[str]) -> Iterator[FailureRule]:
        metric, view = self.describe(name), split_view(name)[0]
        for limit in metric.limits:
            if limit.unless not in names:
                in_view = f"{view}.{limit.of}"
                known = replace(limit, of=in_view) if in_view in names else limit
                yield FailureRule(name, known, metric.items[0] if metric.items else "")

    def _rank(self, bare: str) -> tuple[int, str]:
        """The sort key of a metric: the order of `METRICS`, then downstream tests and own ones, then unknown ones."""
        order = list(METRICS)
        return (order.index(bare) if bare in METRICS else len(order) + (self._known(bare) is None), bare)
