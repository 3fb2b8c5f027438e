"""The table of a knowledge-retention test: shares of right answers, how sure they are, and two models compared.

Rule: the primary score is ForTIFAI's, the mean over the common length; sum and full mean stand beside it.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailkeep.metrics.intervals import Interval, binomial_interval
from tailkeep.metrics.knowledge import Over, kr_accuracy, kr_margin
from tailkeep.metrics.resampling import McNemar, bootstrap_interval, mcnemar


@dataclass(frozen=True, eq=False)
class KRMargins:
    """Of each question (n,) how much likelier the true sentence is, in nats (per token in `common` and `mean`)."""

    common: NDArray[np.float64]
    sum: NDArray[np.float64]
    mean: NDArray[np.float64]


@dataclass(frozen=True)
class KRRow:
    """One part of the test: its number of questions and what the model got right of them (`accuracy`, by `common`)."""

    part: str
    items: int
    accuracy: Interval
    bootstrap: Interval
    by_sum: float
    by_mean: float

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "accuracy": self.accuracy._asdict(), "bootstrap": self.bootstrap._asdict()}


class KRComparison(NamedTuple):
    """McNemar's test of two models, and on how many questions one of them finds no difference, so that it is out."""

    test: McNemar
    left_out: int


def kr_margins(pairs: Iterable[tuple[ArrayLike, ArrayLike]]) -> KRMargins:
    """The margins of questions, each given as the log-probabilities of its true and of its false sentence's tokens."""
    asked = list(pairs)

    def by(over: Over) -> NDArray[np.float64]:
        return np.array([kr_margin(true, false, over=over) for true, false in asked], dtype=np.float64)

    return KRMargins(by("common"), by("sum"), by("mean"))


def kr_rows(margins: KRMargins, parts: NDArray[np.int64] | None = None) -> list[KRRow]:
    """The total, and behind it each part if `parts` (n,) numbers them; questions with a negative number are in none."""
    everything = np.ones(len(margins.common), np.bool_)
    found = [_row("total", margins, everything)]
    if parts is not None:
        numbers = sorted({int(part) for part in parts if part >= 0})
        found += [_row(f"fraction {number}", margins, parts == number) for number in numbers]
    return found


def kr_compare(one: ArrayLike, other: ArrayLike) -> KRComparison:
    """McNemar's test of two models' margins of the same questions (n,); a margin of 0 or NaN decides nothing."""
    a, b = (np.asarray(margins, dtype=np.float64).ravel() for margins in (one, other))
    decided = (a != 0) & (b != 0) & ~np.isnan(a) & ~np.isnan(b)
    return KRComparison(mcnemar(a[decided] > 0, b[decided] > 0), int(np.sum(~decided)))


def _row(part: str, margins: KRMargins, chosen: NDArray[np.bool_]) -> KRRow:
    common = margins.common[chosen]
    share = kr_accuracy(common)
    right = (np.sign(common) + 1) / 2
    unknown = Interval(share, np.nan, np.nan)
    sure = not np.isnan(share)
    return KRRow(
        part,
        len(common),
        binomial_interval(share * len(common), len(common)) if sure else unknown,
        bootstrap_interval(right) if sure else unknown,
        kr_accuracy(margins.sum[chosen]),
        kr_accuracy(margins.mean[chosen]),
    )
