"""Knowledge retention: does a model find a true sentence likelier than its false twin? (ForTIFAI, arXiv 2509.08972)

Rule: the published score judges both sentences over the same number of tokens, or the longer would pay for its length.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailkeep.metrics.intervals import Interval, McNemar, binomial_interval, bootstrap_interval, mcnemar

Over = Literal["common", "mean", "sum"]
"""How the tokens of a sentence count: their mean over the length that both have, their mean, or their sum."""


def kr_margin(true_log_probs: ArrayLike, false_log_probs: ArrayLike, *, over: Over = "common") -> float:
    """How much likelier a model finds the true sentence of one question than the false one; positive is right.

    The arguments are the log-probabilities of the sentences' tokens given the context, (t,) and (f,). By `over`:
    `common` averages each over its first min(t, f) tokens, as in the published test; `mean` over all its tokens
    (both in nats per token); `sum` adds them up (in nats), so that it compares the sentences' probabilities.

    Raises:
        ValueError: a sentence has no tokens.
    """
    true = np.asarray(true_log_probs, dtype=np.float64).ravel()
    false = np.asarray(false_log_probs, dtype=np.float64).ravel()
    common = min(true.size, false.size)
    if common == 0:
        raise ValueError(f"sentences of {true.size} and {false.size} tokens. Give at least one token each.")
    if over == "sum":
        return float(true.sum()) - float(false.sum())
    if over == "mean":
        common = max(true.size, false.size)
    # Plain floats: two impossible sentences give -inf - -inf = NaN, which `kr_accuracy` passes on.
    return float(true[:common].mean()) - float(false[:common].mean())


def kr_accuracy(margins: ArrayLike) -> float:
    """The share of questions (n,) answered rightly, those with a positive margin; a margin of 0 counts half.

    0.5 is chance. A NaN margin makes it NaN, and so does an empty set of questions.
    """
    values = np.asarray(margins, dtype=np.float64).ravel()
    if values.size == 0 or np.isnan(values).any():
        return float("nan")
    return float(np.mean((np.sign(values) + 1) / 2))


def kr_fractions(locations: ArrayLike, fractions: int, *, total: int | None = None) -> NDArray[np.int64]:
    """Which of `fractions` equal consecutive parts of a corpus each question (n,) comes from; -1 if it straddles two.

    `locations` are where the sources of the questions begin, in lines or documents of a corpus that has `total` of
    them; as many as the last location needs if not given. How far a source reaches is told in `kr_parts`.

    Raises:
        ValueError: `fractions` is below 1, a location is negative or not below `total`, or there are none.
    """
    starts = np.asarray(locations, dtype=np.int64).ravel()
    if fractions < 1 or starts.size == 0 or starts.min() < 0:
        raise ValueError(f"{fractions} fractions of {starts.size} locations. Give at least one of each, none negative.")
    end = int(starts.max()) + 1 if total is None else total
    # The first lines x of each part k: x fractions // end = k.
    return kr_parts(starts, [-(-part * end // fractions) for part in range(fractions + 1)], total=end)


def kr_parts(locations: ArrayLike, bounds: ArrayLike, *, total: int) -> NDArray[np.int64]:
    """In which part of a corpus the source of each question (n,) lies wholly; -1 if in none.

    Part k reaches from `bounds[k]` up to `bounds[k + 1]`, which does not belong to it. A source reaches from its
    location to where the next begins that has questions, and the last one to `total`, the end of the corpus.

    Raises:
        ValueError: a location is negative or not below `total`, or there are none.
    """
    starts = np.asarray(locations, dtype=np.int64).ravel()
    if starts.size == 0 or starts.min() < 0:
        raise ValueError(f"{starts.size} locations. Give at least one, none negative.")
    if starts.max() >= total:
        raise ValueError(f"location {starts.max()} of a corpus of {total}. Give a total above it.")
    edges = np.asarray(bounds, dtype=np.int64).ravel()
    sources = np.unique(starts)
    last = np.append(sources[1:], total)[np.searchsorted(sources, starts)] - 1
    first_part, last_part = (np.searchsorted(edges, place, side="right") - 1 for place in (starts, last))
    inside = (first_part == last_part) & (first_part >= 0) & (first_part < len(edges) - 1)
    return np.where(inside, first_part, -1)


# The table of a knowledge-retention test: shares of right answers, how sure they are, and two models compared.
#
# Rule: the primary score is ForTIFAI's, the mean over the common length; sum and full mean stand beside it.


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

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "accuracy": self.accuracy._asdict(), "bootstrap": self.bootstrap._asdict()}


class KRComparison(NamedTuple):
    """McNemar's test of two models, and on how many questions one of them finds no difference, so that it is out."""

    test: McNemar
    undecided: int


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
