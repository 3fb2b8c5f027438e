"""How sure a number over items is, and whether two models differ on the same items.

Rule: items are the unit that is drawn again; what belongs to one item (its answers in all generations) stays together.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tailkeep.metrics.failure import Failure, time_to_failure
from tailkeep.metrics.intervals import Interval, require_level


class McNemar(NamedTuple):
    """On how many items only the first, or only the second model is right, and the two-sided exact p-value."""

    only_first: int
    only_second: int
    p_value: float


class FailureInterval(NamedTuple):
    """A time to failure with bounds in generations; `censored` is the share of the resamples that never failed.

    A bound is infinite where that many of the resamples never failed.
    """

    failure: Failure
    low: float
    high: float
    censored: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Whether two models that answered the same items (n,), right or wrong, differ (McNemar 1947, exact binomial).

    Items on which both are right or both are wrong say nothing. With none left the p-value is 1.

    Raises:
        ValueError: the lengths differ, or an answer is neither right (1, True) nor wrong (0, False).
    """
    a, b = _answers(first), _answers(second)
    if a.shape != b.shape:
        raise ValueError(f"answers to {a.size} and {b.size} items. Give both models the same items.")
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    differing = only_a + only_b
    p_value = float(stats.binomtest(only_a, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_a, only_b, p_value)


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """`statistic` (the mean if not given) of the items `values` (n, ...) with percentile bootstrap bounds (Efron 1979).

    A value that is not finite makes all three NaN.

    Raises:
        ValueError: there are no items, or `level` is not between 0 and 1.
    """
    items = np.asarray(values, dtype=np.float64)
    require_level(level)
    if items.shape[:1] in ((), (0,)):
        raise ValueError("an interval over no items. Give at least one.")
    if not np.isfinite(items).all():
        return Interval(np.nan, np.nan, np.nan)
    of = statistic or (lambda drawn: float(drawn.mean()))
    found = [of(items[rows]) for rows in _draws(len(items), resamples, seed)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(of(items), float(low), float(high))


def failure_interval(
    generations: ArrayLike,
    answers: ArrayLike,
    *,
    limit: float,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> FailureInterval:
    """When the share of right `answers` (items, generations) falls below `limit`, with bounds over items.

    A tie counts as half an answer. A resample that never fails, or fails at the start, counts as infinitely late or
    as 0. The share of those that never fail is told apart, since a bound of infinity means only that.

    Raises:
        ValueError: the shapes differ, an answer is not in [0, 1], or `level` is not between 0 and 1.
    """
    times = np.asarray(generations, dtype=np.float64).ravel()
    table = np.asarray(answers, dtype=np.float64)
    require_level(level)
    if table.ndim != 2 or table.shape[1] != times.size or len(table) == 0:
        raise ValueError(f"answers of shape {table.shape} in {times.size} generations. Give (items, generations).")
    if not ((table >= 0) & (table <= 1)).all():
        raise ValueError("an answer is not between 0 (wrong) and 1 (right). Give 0.5 for a tie.")

    def failure_of(rows: NDArray[np.int64] | slice) -> Failure:
        return time_to_failure(times.tolist(), table[rows].mean(axis=0).tolist(), limit=limit)

    found = [failure_of(rows) for rows in _draws(len(table), resamples, seed)]
    late = np.array([{"failed": f.time, "censored": np.inf, "undefined": 0.0}[f.state] for f in found])
    # An order statistic: between a time and infinity there is nothing to interpolate.
    low, high = np.quantile(late, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return FailureInterval(failure_of(slice(None)), float(low), float(high), float(np.isinf(late).mean()))


def median_time(failures: Sequence[Failure], *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """The median time to failure of independent repetitions (seeds), with percentile bootstrap bounds over them.

    One that never failed counts as infinitely late, so a median or a bound may be infinite; undefined ones are left
    out. One repetition has NaN bounds, and none a NaN median. The bounds of three are their extremes.

    Raises:
        ValueError: `level` is not between 0 and 1.
    """
    require_level(level)
    times = np.array([np.inf if f.state == "censored" else f.time for f in failures if f.state != "undefined"])
    if times.size == 0:
        return Interval(np.nan, np.nan, np.nan)
    if times.size == 1:
        return Interval(float(times[0]), np.nan, np.nan)
    found = [float(np.median(times[rows])) for rows in _draws(len(times), resamples, seed)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Interval(float(np.median(times)), float(low), float(high))


def _draws(items: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, items, items) for _ in range(resamples))


def _answers(values: ArrayLike) -> NDArray[np.bool_]:
    answers = np.asarray(values).ravel()
    if not np.isin(answers, (0, 1)).all():
        raise ValueError("an answer is neither right (1) nor wrong (0). Leave ties out, or decide them.")
    return answers.astype(bool)
