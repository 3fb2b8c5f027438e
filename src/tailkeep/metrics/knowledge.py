"""Knowledge by likelihood: is a true sentence more probable than its false twin (ForTIFAI, arXiv 2509.08972)?

Rule: the primary score is the published one, the mean log-probability over the length that both sentences have, since
a sum would penalize the longer sentence. Sum and full mean are reported beside it.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from tailkeep.metrics.intervals import Interval, McNemar, binomial_interval, clustered_interval, mcnemar

Over = Literal["common", "mean", "sum"]
"""How the tokens of a sentence count: their mean over the common length, their mean, or their sum."""


def kr_margin(true_log_probs: ArrayLike, false_log_probs: ArrayLike, *, over: Over = "common") -> float:
    """The margin of the true over the false sentence of one question; positive is correct.

    The arguments are the log-probabilities of the sentences' tokens given the context, (t,) and (f,). By `over`:
    `common` averages each over its first min(t, f) tokens, as in the published test; `mean` over all its tokens (both
    in nats/token); `sum` adds them up (in nats), which compares the sentences' probabilities.

    Raises:
        ValueError: a sentence has no tokens.
    """
    true = np.asarray(true_log_probs, dtype=np.float64).ravel()
    false = np.asarray(false_log_probs, dtype=np.float64).ravel()
    common = min(true.size, false.size)
    if common == 0:
        raise ValueError(f"sentences of {true.size} and {false.size} tokens. Pass at least one token each.")
    if over == "sum":
        return float(true.sum()) - float(false.sum())
    if over == "mean":
        common = max(true.size, false.size)
    # Python floats: two impossible sentences give -inf - -inf = NaN without a warning; `kr_accuracy` propagates it.
    return float(true[:common].mean()) - float(false[:common].mean())


def kr_accuracy(margins: ArrayLike) -> float:
    """The share of questions (n,) answered correctly, with a positive margin; a margin of 0 counts half.

    0.5 is chance. NaN with a NaN margin or without questions.
    """
    values = np.asarray(margins, dtype=np.float64).ravel()
    if values.size == 0 or np.isnan(values).any():
        return float("nan")
    return float(np.mean((np.sign(values) + 1) / 2))


def kr_standardised_margin(margins: ArrayLike) -> float:
    """The mean over the standard deviation (n - 1) of the margins of questions (n,), without a unit.

    The mean alone is no measure of knowledge: it grows with a model's confidence. NaN with a margin that is not finite,
    with fewer than two questions, and with equal margins.
    """
    values = np.asarray(margins, dtype=np.float64).ravel()
    if values.size < 2 or not np.isfinite(values).all():
        return float("nan")
    spread = float(values.std(ddof=1))
    return float(values.mean()) / spread if spread > 0 else float("nan")


def kr_fractions(locations: ArrayLike, fractions: int, *, total: int | None = None) -> NDArray[np.int64]:
    """Which of `fractions` equal consecutive parts of a corpus each question (n,) comes from; -1 if it straddles two.

    `locations` are where the sources of the questions begin, in lines or documents of a corpus that has `total` of
    them; by default up to the last location. `kr_parts` defines the extent of a source.

    Raises:
        ValueError: `fractions` is below 1, a location is negative or not below `total`, or there are none.
    """
    starts = np.asarray(locations, dtype=np.int64).ravel()
    if fractions < 1 or starts.size == 0 or starts.min() < 0:
        raise ValueError(f"{fractions} fractions of {starts.size} locations. Pass at least one of each, none negative.")
    end = int(starts.max()) + 1 if total is None else total
    # The first lines x of each part k: x fractions // end = k.
    return kr_parts(starts, [-(-part * end // fractions) for part in range(fractions + 1)], total=end)


def kr_parts(locations: ArrayLike, bounds: ArrayLike, *, total: int) -> NDArray[np.int64]:
    """The part of a corpus in which the whole source of each question (n,) lies; -1 if in none.

    Part k is [`bounds[k]`, `bounds[k + 1]`). A source extends from its location to the next location that has
    questions, and the last one to `total`, the end of the corpus.

    Raises:
        ValueError: a location is negative or not below `total`, or there are none.
    """
    starts = np.asarray(locations, dtype=np.int64).ravel()
    if starts.size == 0 or starts.min() < 0:
        raise ValueError(f"{starts.size} locations. Pass at least one, none negative.")
    if starts.max() >= total:
        raise ValueError(f"total must be above the last location {starts.max()}, got {total}.")
    edges = np.asarray(bounds, dtype=np.int64).ravel()
    sources = np.unique(starts)
    last = np.append(sources[1:], total)[np.searchsorted(sources, starts)] - 1
    first_part, last_part = (np.searchsorted(edges, lines, side="right") - 1 for lines in (starts, last))
    inside = (first_part == last_part) & (first_part >= 0) & (first_part < len(edges) - 1)
    return np.where(inside, first_part, -1)


# The table of a knowledge-retention test: accuracies with intervals, and two models compared.


@dataclass(frozen=True, eq=False)
class KRMargins:
    """The margins of questions (n,), in nats (nats/token in `common` and `mean`)."""

    common: NDArray[np.float64]
    sum: NDArray[np.float64]
    mean: NDArray[np.float64]


@dataclass(frozen=True)
class KRRow:
    """One part of the test: its number of questions and the model's accuracy (`accuracy` is by `common`).

    The bounds of `accuracy` are Wilson's, as if questions were independent; those of `bootstrap` resample the articles
    that they are about.
    """

    part: str
    items: int
    accuracy: Interval
    bootstrap: Interval
    by_sum: float
    by_mean: float

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {**asdict(self), "accuracy": self.accuracy._asdict(), "bootstrap": self.bootstrap._asdict()}


class KRComparison(NamedTuple):
    """McNemar's test of two models; `undecided` questions, on which a model has no preference, are excluded."""

    test: McNemar
    undecided: int


def kr_margins(pairs: Iterable[tuple[ArrayLike, ArrayLike]]) -> KRMargins:
    """The margins of questions; a pair is the log-probabilities of the true and of the false sentence's tokens."""
    questions = list(pairs)

    def by(over: Over) -> NDArray[np.float64]:
        return np.array([kr_margin(true, false, over=over) for true, false in questions], dtype=np.float64)

    return KRMargins(by("common"), by("sum"), by("mean"))


def kr_rows(
    margins: KRMargins, parts: NDArray[np.int64] | None = None, articles: ArrayLike | None = None
) -> list[KRRow]:
    """The total, then each part by `parts` (n,) if given; questions with a negative number are in no part.

    `articles` (n,) are labels of what the questions are about; without them each question is an article of its own.
    """
    labels = np.arange(len(margins.common)) if articles is None else np.asarray(articles)
    rows = [_row("total", margins, labels, np.ones(len(margins.common), np.bool_))]
    if parts is not None:
        numbers = sorted({int(part) for part in parts if part >= 0})
        rows += [_row(f"fraction {number}", margins, labels, parts == number) for number in numbers]
    return rows


def kr_compare(one: ArrayLike, other: ArrayLike) -> KRComparison:
    """McNemar's test of two models' margins on the same questions (n,); a margin of 0 or NaN is undecided."""
    a, b = (np.asarray(margins, dtype=np.float64).ravel() for margins in (one, other))
    decided = (a != 0) & (b != 0) & ~np.isnan(a) & ~np.isnan(b)
    return KRComparison(mcnemar(a[decided] > 0, b[decided] > 0), int(np.sum(~decided)))


def _row(part: str, margins: KRMargins, articles: NDArray[Any], mask: NDArray[np.bool_]) -> KRRow:
    common = margins.common[mask]
    share = kr_accuracy(common)
    answers = (np.sign(common) + 1) / 2
    unknown = Interval(share, np.nan, np.nan)
    is_known = not np.isnan(share)
    return KRRow(
        part,
        len(common),
        binomial_interval(share * len(common), len(common)) if is_known else unknown,
        clustered_interval(answers, articles[mask]) if is_known else unknown,
        kr_accuracy(margins.sum[mask]),
        kr_accuracy(margins.mean[mask]),
    )


def choice_credit(log_probs: ArrayLike, gold: int) -> float:
    """1 if choice `gold` of (choices,) is the most likely, its share of a tie for that, 0 otherwise; NaN if one is."""
    scores = _scores(log_probs, gold)
    if np.isnan(scores).any():
        return np.nan
    best = np.flatnonzero(scores == scores.max())
    return 1 / len(best) if gold in best else 0.0


def choice_log_odds(log_probs: ArrayLike, gold: int) -> float:
    """ln p - ln(1 - p) in nats, where p is the share of choice `gold` in the probability of all choices (choices,).

    0 where it is as likely as all the others together; unlike accuracy it moves with every change of the model.
    """
    scores = _scores(log_probs, gold)
    return float(scores[gold] - logsumexp(np.delete(scores, gold)))


def macro_f1(predicted: ArrayLike, gold: ArrayLike) -> float:
    """The mean, over the classes that occur in either, of F1 = 2 TP / (2 TP + FP + FN); both (n,) of class numbers.

    Raises:
        ValueError: the lengths differ or there are no items.
    """
    guesses, truths = np.asarray(predicted).ravel(), np.asarray(gold).ravel()
    if guesses.size != truths.size or guesses.size == 0:
        raise ValueError(f"{guesses.size} predictions for {truths.size} items. Pass one for each, at least one.")
    scores = []
    for label in np.union1d(guesses, truths):
        hits = int(np.sum((guesses == label) & (truths == label)))
        scores.append(2 * hits / (int(np.sum(guesses == label)) + int(np.sum(truths == label))))
    return math.fsum(scores) / len(scores)


def _scores(log_probs: ArrayLike, gold: int) -> NDArray[np.float64]:
    scores = np.asarray(log_probs, dtype=np.float64).ravel()
    if scores.size < 2 or not 0 <= gold < scores.size:
        raise ValueError(f"choice {gold} of {scores.size}. Pass at least two choices and the index of one of them.")
    return scores
