"""What a knowledge-retention test of a model came to, as lines and as a tree. Rule: the figures are `metrics`' own."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import Question
from tailkeep.errors import ConfigError
from tailkeep.metrics import KRMargins, KRRow, McNemar, kr_accuracy, kr_compare, kr_fractions


@dataclass(frozen=True, eq=False)
class Margins(KRMargins):
    """Those of a model's answers to a whole test.

    `uneven` is the number of questions whose sentences have different numbers of tokens, `beyond_window` of those that
    the model cannot read in one piece, so that the sentence is scored without the beginning of its context.
    """

    uneven: int = 0
    beyond_window: int = 0


@dataclass(frozen=True)
class Comparison:
    """A model against another on the same questions; `left_out` are those where one of them finds no difference."""

    against: str
    accuracy: float
    test: McNemar
    left_out: int


def compare(one: NDArray[np.float64], other: NDArray[np.float64], *, against: str) -> Comparison:
    """McNemar's test of two models' margins of the same questions (n,)."""
    test, left_out = kr_compare(one, other)
    return Comparison(against, kr_accuracy(other), test, left_out)


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


def row_lines(rows: Sequence[KRRow]) -> Iterator[str]:
    """A table for a terminal."""
    yield f"{'part':<12} {'items':>6}  common (95 % Wilson, bootstrap)                   sum   mean"
    for row in rows:
        wilson, drawn = row.accuracy, row.bootstrap
        yield (
            f"{row.part:<12} {row.items:>6}  {wilson.mean:.3f} ({wilson.low:.3f} to {wilson.high:.3f}, "
            f"{drawn.low:.3f} to {drawn.high:.3f})  {row.by_sum:.3f}  {row.by_mean:.3f}"
        )


def tree_of(rows: Sequence[KRRow], margins: Margins, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """All figures as plain values, the margins of each question among them."""
    return {
        "rows": [row.plain() for row in rows],
        "comparisons": [{**asdict(item), "test": item.test._asdict()} for item in comparisons],
        "uneven": margins.uneven,
        "beyond_window": margins.beyond_window,
        "margins": {name: getattr(margins, name).tolist() for name in ("common", "sum", "mean")},
    }
