"""Two models on the same questions: standardised margins compared by resampling the articles that questions are about.

Rule: questions about one article are not independent, so the article is the unit of resampling. Seeds are averaged and
never resampled: an interval is about the questions, for the trained models as they are. Fewer than `MIN_CLUSTERS`
articles have no interval and no p-value: resamples of so few differ too little.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailkeep.metrics.failure import Failure, time_to_failure
from tailkeep.metrics.intervals import MIN_CLUSTERS, FailureInterval, Interval, check_level, resampled_failure
from tailkeep.metrics.knowledge import kr_standardised_margin

Numbers = NDArray[np.float64]

_ROUNDING = 1e-12


class Equivalence(NamedTuple):
    """Two one-sided tests: the difference with its interval of level 1 - 2 alpha, and the larger of the two p-values.

    `p_value` is the share of resamples at or beyond the nearer bound, never 0, NaN where a resample is not finite;
    below alpha the interval lies inside the bounds.
    """

    difference: Interval
    bound: float
    p_value: float

    @property
    def decided(self) -> bool:
        """Whether the whole interval lies inside -bound to bound."""
        return -self.bound < self.difference.low and self.difference.high < self.bound


class MarginComparison(NamedTuple):
    """`first` - `second` on the same resamples: the 95 % interval, the p-value of no difference, and equivalence.

    `equivalence` is None without a positive bound.
    """

    difference: Interval
    p_value: float
    equivalence: Equivalence | None


def standardised_margin_interval(
    margins: ArrayLike, articles: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean standardised margin of `margins` (seeds, questions) or (questions,), with bounds over `articles`.

    Raises:
        ValueError: the shapes differ, there are fewer than two articles, or `level` is not between 0 and 1.
    """
    table = _table(margins, articles)
    values = _resampled(table, _draws(articles, resamples, seed), articles).mean(axis=0)
    return _interval(_mean_standardised(table), values, level)


def mean_standardised_margin(margins: ArrayLike) -> float:
    """The mean over seeds of the standardised margin of `margins` (seeds, questions) or (questions,)."""
    return _mean_standardised(np.atleast_2d(np.asarray(margins, dtype=np.float64)))


def compare_standardised_margins(
    first: ArrayLike, second: ArrayLike, articles: ArrayLike, *, bound: float, resamples: int = 10_000, seed: int = 0
) -> MarginComparison:
    """The mean over seeds of the difference in standardised margin, `first` - `second`, each (seeds, questions).

    Both models answer the same resampled questions, so what makes a question hard cancels out. The p-value is
    two-sided, from the resamples on either side of 0: at least 2 / (`resamples` + 1), NaN where a resample is not
    finite. With a positive `bound`: whether the margins differ by less (TOST at alpha 0.05, Schuirmann 1987).

    Raises:
        ValueError: the shapes differ or there are fewer than two articles.
    """
    point, values = _differences(first, second, articles, resamples, seed)
    equivalence = _equivalence(point, values, bound, 0.05) if bound > 0 else None
    return MarginComparison(_interval(point, values, 0.95), _p_value(values), equivalence)


def standardised_margin_failure(
    generations: ArrayLike,
    margins: ArrayLike,
    articles: ArrayLike,
    *,
    remaining: float = 0.5,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> FailureInterval:
    """When the standardised margin first falls below `remaining` times that of the first generation, over articles.

    Args:
        generations: (g,), rising.
        margins: (generations, questions), or (seeds, generations, questions), whose seeds are averaged.
        articles: (questions,), a label of the article of each.

    Raises:
        ValueError: the shapes differ, there are fewer than two articles, or `level` is not between 0 and 1.
    """
    check_level(level)
    late = resampled_failure_times(generations, margins, articles, remaining=remaining, resamples=resamples, seed=seed)
    times = np.asarray(generations, dtype=np.float64).ravel()
    table = _by_seed(margins)
    point = [_mean_standardised(table[:, number]) for number in range(times.size)]
    failure = (
        time_to_failure(times.tolist(), point, limit=remaining * point[0])
        if math.isfinite(point[0])
        else Failure(math.nan, "undefined")
    )
    return resampled_failure(failure, late, level=level)


def resampled_failure_times(
    generations: ArrayLike,
    margins: ArrayLike,
    articles: ArrayLike,
    *,
    remaining: float = 0.5,
    resamples: int = 10_000,
    seed: int = 0,
) -> Numbers:
    """(resamples,): the time of `standardised_margin_failure` in each; calls with one `seed` draw the same articles.

    Infinity where it never fails and 0 where it is undefined; one NaN with too few articles.

    Raises:
        ValueError: the shapes differ, or there are fewer than two articles.
    """
    times = np.asarray(generations, dtype=np.float64).ravel()
    table = _by_seed(margins)
    if table.ndim != 3 or table.shape[1] != times.size or table.shape[2] != np.asarray(articles).size:
        raise ValueError(
            f"margins of shape {table.shape} for {times.size} generations and {np.asarray(articles).size} articles. "
            "Pass (seeds, generations, questions)."
        )
    draws = _draws(articles, resamples, seed)
    curves = np.mean([_resampled(_table(run, articles), draws, articles) for run in table], axis=0)
    return crossing_times(times, curves, remaining) if len(draws) == resamples else np.array([math.nan])


def crossing_times(generations: Numbers, curves: Numbers, remaining: float) -> Numbers:
    """When each of `curves` (generations, n) falls below `remaining` times its first value, as `time_to_failure`.

    Infinity where it never does, and 0 where it is undefined: a resample of equal margins has no spread.
    """
    with np.errstate(invalid="ignore"):  # infinite margins of a resample without a spread
        above = curves - remaining * curves[0]
    undefined = ~np.isfinite(curves[0]) | (above[0] < 0)
    late = np.full(curves.shape[1], np.inf)
    crossed = (above[1:] < 0).any(axis=0) & ~undefined
    for column in np.flatnonzero(crossed & np.isnan(above).any(axis=0)):
        late[column] = time_to_failure(generations.tolist(), above[:, column].tolist(), limit=0.0).time
    columns = np.flatnonzero(crossed & ~np.isnan(above).any(axis=0))
    if columns.size:
        after = 1 + np.argmax(above[1:, columns] < 0, axis=0)
        start, end = above[after - 1, columns], above[after, columns]
        with np.errstate(invalid="ignore"):
            share = np.where(np.isinf(start), 1.0, start / (start - end))
        late[columns] = generations[after - 1] + share * (generations[after] - generations[after - 1])
    late[undefined] = 0.0
    return late


def discordance(first: ArrayLike, second: ArrayLike) -> float:
    """The share of questions (n,) that exactly one of two models answers rightly; a margin of 0 is wrong.

    Raises:
        ValueError: the lengths differ or there are no questions.
    """
    one, other = np.asarray(first, dtype=np.float64).ravel(), np.asarray(second, dtype=np.float64).ravel()
    if one.size != other.size or one.size == 0:
        raise ValueError(f"{one.size} and {other.size} margins. Pass both models' on the same questions.")
    return float(np.mean((one > 0) != (other > 0)))


def intraclass_correlation(values: ArrayLike, articles: ArrayLike) -> float:
    """The share of the variance of `values` (n,) that lies between articles: ICC(1) of a one-way analysis of variance.

    With unequal groups the mean group size is n0 of Donner (1986). NaN where no article has two questions.

    Raises:
        ValueError: the lengths differ or there are fewer than two articles.
    """
    table = _table(values, articles)[0]
    groups = _groups(articles)
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    n, k = table.size, len(groups)
    if n == k:
        return math.nan
    means = np.array([table[group].mean() for group in groups])
    between = float(sizes @ (means - table.mean()) ** 2) / (k - 1)
    within = sum(float(((table[group] - table[group].mean()) ** 2).sum()) for group in groups) / (n - k)
    typical = (n - float((sizes**2).sum()) / n) / (k - 1)
    total = between + (typical - 1) * within
    return (between - within) / total if total > 0 else math.nan


def _by_seed(margins: ArrayLike) -> Numbers:
    table = np.asarray(margins, dtype=np.float64)
    return table[None] if table.ndim == 2 else table


def _mean_standardised(table: Numbers) -> float:
    return float(np.mean([kr_standardised_margin(row) for row in table]))


def _differences(
    first: ArrayLike, second: ArrayLike, articles: ArrayLike, resamples: int, seed: int
) -> tuple[float, Numbers]:
    one, other = _table(first, articles), _table(second, articles)
    if one.shape != other.shape:
        raise ValueError(f"margins of shapes {one.shape} and {other.shape}. Pass the same seeds and questions of both.")

    draws = _draws(articles, resamples, seed)
    with np.errstate(invalid="ignore"):  # a resample without a spread is not finite on either side
        values = _resampled(one, draws, articles) - _resampled(other, draws, articles)
    return _mean_standardised(one) - _mean_standardised(other), values.mean(axis=0)


def _p_value(values: Numbers) -> float:
    if not np.isfinite(values).all():
        return math.nan
    tail = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (values.size + 1))


def _equivalence(point: float, values: Numbers, bound: float, alpha: float) -> Equivalence:
    beyond = max(int((values <= -bound).sum()), int((values >= bound).sum()))
    p_value = (beyond + 1) / (values.size + 1) if np.isfinite(values).all() else math.nan
    return Equivalence(_interval(point, values, 1 - 2 * alpha), bound, p_value)


def _table(margins: ArrayLike, articles: ArrayLike) -> Numbers:
    table = np.atleast_2d(np.asarray(margins, dtype=np.float64))
    labels = np.asarray(articles).ravel()
    if table.ndim != 2 or table.shape[1] != labels.size:
        raise ValueError(f"margins of shape {table.shape} and {labels.size} articles. Pass one article per question.")
    if np.unique(labels).size < 2:
        raise ValueError("all questions are about one article. Nothing can be resampled: pass at least two.")
    return table


def _groups(articles: ArrayLike) -> list[NDArray[np.int64]]:
    labels = np.unique(np.asarray(articles).ravel(), return_inverse=True)[1]
    return [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]


def _draws(articles: ArrayLike, resamples: int, seed: int) -> Numbers:
    """How often each article is in each resample: (resamples, articles); NaN where there are too few."""
    count = len(_groups(articles))
    return _multinomial(count, resamples, seed) if count >= MIN_CLUSTERS else np.full((1, count), np.nan)


@lru_cache(maxsize=2)
def _multinomial(count: int, resamples: int, seed: int) -> Numbers:
    """The draws, kept since a report makes the same ones for each arm."""
    draws = np.random.default_rng(seed).multinomial(count, [1 / count] * count, resamples).astype(np.float64)
    draws.flags.writeable = False
    return draws


def _resampled(table: Numbers, draws: Numbers, articles: ArrayLike) -> Numbers:
    """The standardised margin of each row of `table` (rows, questions) in each resample: (rows, resamples).

    A resample's mean and variance follow from each article's number of questions, sum and sum of squares.
    """
    groups = _groups(articles)
    centre = table.mean(axis=1, keepdims=True)
    centred = table - centre
    size = draws @ np.array([float(len(group)) for group in groups])
    total = np.array([centred[:, group].sum(axis=1) for group in groups]).T @ draws.T
    squares = np.array([(centred[:, group] ** 2).sum(axis=1) for group in groups]).T @ draws.T
    deviation = squares - total**2 / size
    # What rounding leaves of equal margins is no spread.
    variance = np.where(deviation > _ROUNDING * squares, deviation, 0.0) / (size - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        standardised: Numbers = (centre + total / size) / np.sqrt(variance)
    return standardised


def _interval(point: float, values: Numbers, level: float) -> Interval:
    """Percentile bounds; NaN where the point or a resample is not finite."""
    check_level(level)
    if not (math.isfinite(point) and np.isfinite(values).all()):
        return Interval(point, math.nan, math.nan)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(point, float(low), float(high))
