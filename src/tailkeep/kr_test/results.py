"""The table of a knowledge-retention test: shares of right answers, how sure they are, and two models compared.

Rule: the primary score is ForTIFAI's, the mean over the common length; sum and full mean stand beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import Question
from tailkeep.errors import ConfigError
from tailkeep.metrics import (
    Interval,
    McNemar,
    binomial_interval,
    bootstrap_interval,
    kr_accuracy,
    kr_fractions,
    mcnemar,
)


@dataclass(frozen=True, eq=False)
class Margins:
    """Of each question (n,) how much likelier the true sentence is, in nats (per token in `common` and `mean`).

    `uneven` is the number of questions whose sentences have different numbers of tokens, `beyond_window` of those that
    the model cannot read in one piece, so that the sentence is scored without the beginning of its context.
    """

    common: NDArray[np.float64]
    sum: NDArray[np.float64]
    mean: NDArray[np.float64]
    uneven: int = 0
    beyond_window: int = 0


@dataclass(frozen=True)
class Row:
    """One part of the test: its number of questions and what the model got right of them (`accuracy`, by `common`)."""

    part: str
    items: int
    accuracy: Interval
    bootstrap: Interval
    by_sum: float
    by_mean: float


@dataclass(frozen=True)
class Comparison:
    """A model against another on the same questions; `left_out` are those where one of them finds no difference."""

    against: str
    accuracy: float
    test: McNemar
    left_out: int


def rows_of(margins: Margins, parts: NDArray[np.int64] | None = None) -> list[Row]:
    """The total, and behind it each part if `parts` (n,) numbers them; questions with a negative number are in none."""
    everything = np.ones(len(margins.common), np.bool_)
    found = [_row("total", margins, everything)]
    if parts is not None:
        numbers = sorted({int(part) for part in parts if part >= 0})
        found += [_row(f"fraction {number}", margins, parts == number) for number in numbers]
    return found


def compare(one: NDArray[np.float64], other: NDArray[np.float64], *, against: str) -> Comparison:
    """McNemar's test of two models' margins of the same questions (n,)."""
    decided = (one != 0) & (other != 0) & ~np.isnan(one) & ~np.isnan(other)
    return Comparison(against, kr_accuracy(other), mcnemar(one[decided] > 0, other[decided] > 0), int(np.sum(~decided)))


def parts_of(questions: Sequence[Question], fractions: int, *, total: int | None = None) -> NDArray[np.int64]:
    """The fraction of each question, -1 where its source straddles two; see `metrics.kr_fractions`.

    Raises:
        ConfigError: a question has no location, or the corpus is smaller than a location says.
    """
    locations = [question.location for question in questions]
    if None in locations:
        raise ConfigError(
            f"--fractions: {locations.count(None)} of {len(locations)} questions have no 'location'. "
            "Add it to the file, or leave the option out."
        )
    try:
        return kr_fractions([location for location in locations if location is not None], fractions, total=total)
    except ValueError as error:
        raise ConfigError(f"--fractions and --lines: {error}") from None


def row_lines(rows: Sequence[Row]) -> Iterator[str]:
    """A table for a terminal."""
    yield f"{'part':<12} {'items':>6}  common (95 % Wilson, bootstrap)                   sum   mean"
    for row in rows:
        wilson, drawn = row.accuracy, row.bootstrap
        yield (
            f"{row.part:<12} {row.items:>6}  {wilson.mean:.3f} ({wilson.low:.3f} to {wilson.high:.3f}, "
            f"{drawn.low:.3f} to {drawn.high:.3f})  {row.by_sum:.3f}  {row.by_mean:.3f}"
        )


def tree_of(rows: Sequence[Row], margins: Margins, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """All figures as plain values, the margins of each question among them."""
    return {
        "rows": [
            {**asdict(row), "accuracy": row.accuracy._asdict(), "bootstrap": row.bootstrap._asdict()} for row in rows
        ],
        "comparisons": [{**asdict(item), "test": item.test._asdict()} for item in comparisons],
        "uneven": margins.uneven,
        "beyond_window": margins.beyond_window,
        "margins": {name: getattr(margins, name).tolist() for name in ("common", "sum", "mean")},
    }


def _row(part: str, margins: Margins, chosen: NDArray[np.bool_]) -> Row:
    common = margins.common[chosen]
    share = kr_accuracy(common)
    right = (np.sign(common) + 1) / 2
    unknown = Interval(share, np.nan, np.nan)
    sure = not np.isnan(share)
    return Row(
        part,
        len(common),
        binomial_interval(share * len(common), len(common)) if sure else unknown,
        bootstrap_interval(right) if sure else unknown,
        kr_accuracy(margins.sum[chosen]),
        kr_accuracy(margins.mean[chosen]),
    )
