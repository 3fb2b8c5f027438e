"""Two corpora compared at equal numbers of words, each statistic against what mixed-up documents give.

Rule: a difference counts only if it passes its level among all that were tested (Holm 1979). Documents are exchanged
whole, since the words of one are not independent; so the p-values hold for documents drawn independently of each other.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tailkeep.audit.config import MOST_TESTS, SampleConfig, Testing
from tailkeep.audit.documents import SampledDocument
from tailkeep.audit.prior_scores import SURE, confident_tokens, probability_histogram
from tailkeep.data.hashing import (
    BUCKETS,
    NGrams,
    Words,
    buckets_of,
    count_distinct_per_document,
    ngrams_of,
    split_words,
)
from tailkeep.errors import InputError
from tailkeep.metrics import (
    distinct_share,
    entropy,
    gini,
    holm_correction,
    js_divergence,
    smoothed_kl,
    top_share,
    unseen_mass,
)

# The statistics of two sides, for many divisions of the documents into two at once.
#
# Rule: each is a function of counts or of numbers that add up over documents, so that a division is a column of a
# matrix.


Numbers = NDArray[np.float64]

SMOOTHING = 0.5
"""Added to each bucket in a Kullback-Leibler divergence, Jeffreys' prior."""

_TOP_BUCKETS = 100
_AT_ONCE = 32
_LEVEL = 6


@dataclass(frozen=True, eq=False)
class MatchedDocuments:
    """Documents of equal length, those of the input first: bytes of each (2n,), and how many words they have."""

    texts: list[bytes]
    words: int
    lengths: Numbers

    @property
    def documents(self) -> int:
        """How many there are of each side."""
        return len(self.texts) // 2


Found = tuple[str, Numbers, tuple[float, float] | None]
"""The name of a statistic, its difference in each permutation (1 + P,), and its true values on both sides."""


def statistics(matched: MatchedDocuments, is_input: NDArray[np.bool_]) -> Iterator[Found]:
    """Every statistic of `matched` under each division into two sides."""
    words = split_words(matched.texts)
    grams = ngrams_of(words, 4)
    for length, name in ((1, "words"), (2, "pairs of words")):
        yield from _of_buckets(name, grams[length - 1], words, is_input)
        yield from _of_types(name, grams[length - 1], words, is_input)
    documents = len(matched.texts)
    runs = np.bincount(grams[-1].documents, minlength=documents)
    repeated = 1 - count_distinct_per_document(grams[-1], documents) / np.maximum(runs, 1)
    packed = np.array([len(text) / len(zlib.compress(text, _LEVEL)) for text in matched.texts])
    spelled = np.bincount(words.documents, words.ends - words.starts, documents) / matched.words
    for name, values in (
        ("repetition", repeated),
        ("compression", packed),
        ("word length", spelled),
        ("document length", matched.lengths),
    ):
        yield _of_means(name, values, is_input)


def _of_buckets(name: str, grams: NGrams, words: Words, is_input: NDArray[np.bool_]) -> Iterator[Found]:
    def all_of(ours: Numbers, theirs: Numbers) -> dict[str, tuple[Numbers, Numbers | None]]:
        return {
            f"{name}: JS divergence": (js_divergence(ours, theirs), None),
            f"{name}: KL(input ‖ reference)": (smoothed_kl(ours, theirs, smoothing=SMOOTHING), None),
            f"{name}: KL(reference ‖ input)": (smoothed_kl(theirs, ours, smoothing=SMOOTHING), None),
            f"{name}: entropy": (entropy(ours), entropy(theirs)),
            f"{name}: Gini": (gini(ours), gini(theirs)),
            f"{name}: top {_TOP_BUCKETS} share": (top_share(ours, _TOP_BUCKETS), top_share(theirs, _TOP_BUCKETS)),
        }

    yield from _of_counts(buckets_of(grams.hashes, BUCKETS), BUCKETS, grams, words, is_input, all_of)


def _of_types(name: str, grams: NGrams, words: Words, is_input: NDArray[np.bool_]) -> Iterator[Found]:
    def all_of(ours: Numbers, theirs: Numbers) -> dict[str, tuple[Numbers, Numbers | None]]:
        return {
            f"{name}: distinct": (distinct_share(ours), distinct_share(theirs)),
            f"{name}: unseen mass": (unseen_mass(ours), unseen_mass(theirs)),
        }

    types, numbers = np.unique(grams.hashes, return_inverse=True)
    yield from _of_counts(numbers, len(types), grams, words, is_input, all_of)


Statistics = Callable[[Numbers, Numbers], dict[str, tuple[Numbers, Numbers | None]]]


def _of_counts(
    cells: NDArray[np.int64], size: int, grams: NGrams, words: Words, is_input: NDArray[np.bool_], all_of: Statistics
) -> Iterator[Found]:
    """The statistics of the counts of `cells` on both sides, some permutations at once."""
    ones = np.ones(len(cells), np.float32)
    table = sparse.csr_matrix((ones, (cells, grams.documents)), shape=(size, len(words.counts)))
    total = np.asarray(table.sum(axis=1), np.float64)
    found: dict[str, list[Numbers]] = {}
    sides: dict[str, tuple[float, float]] = {}
    for start in range(0, is_input.shape[1], _AT_ONCE):
        # Counts of a sample are exact in single precision.
        ours = np.asarray(table @ is_input[:, start : start + _AT_ONCE].astype(np.float32), np.float64)
        for name, (left, right) in all_of(ours, total - ours).items():
            found.setdefault(name, []).append(left if right is None else left - right)
            if right is not None and start == 0:
                sides[name] = (float(left[0]), float(right[0]))
    for name, parts in found.items():
        yield name, np.concatenate(parts), sides.get(name)


def prior_statistics(asked: Sequence[NDArray[np.float32]], is_input: NDArray[np.bool_]) -> Iterator[Found]:
    """What a prior says of documents (2n of them, ln p of the tokens of each) under each division into two sides."""
    tokens = np.array([max(len(one), 1) for one in asked], np.float64)
    surprise = np.array([-float(one.sum(dtype=np.float64)) for one in asked]) / tokens
    sure = np.array([confident_tokens(one) for one in asked], np.float64) / tokens[:, None]
    histograms = np.stack([probability_histogram(one) for one in asked], axis=1).astype(np.float64)
    ours = histograms @ is_input
    theirs = histograms.sum(axis=1, keepdims=True) - ours
    yield "prior: JS divergence of probabilities", js_divergence(ours, theirs), None
    yield _of_means("prior: surprise", surprise, is_input)
    yield _of_spreads("prior: spread of surprise", surprise, is_input)
    for number, threshold in enumerate(SURE):
        yield _of_means(f"prior: share over {threshold}", sure[:, number], is_input)


def _of_spreads(name: str, values: Numbers, is_input: NDArray[np.bool_]) -> Found:
    """The standard deviation over documents; that of documents is what the paper calls the range of perplexity."""
    documents, centred = len(values) // 2, values - values.mean()
    sides = []
    for part in (is_input, ~is_input):
        mean = centred @ part / documents
        sides.append(np.sqrt(np.maximum(centred**2 @ part / documents - mean**2, 0)))
    return name, sides[0] - sides[1], (float(sides[0][0]), float(sides[1][0]))


def _of_means(name: str, values: Numbers, is_input: NDArray[np.bool_]) -> Found:
    documents = len(values) // 2
    ours = values @ is_input / documents
    theirs = values.sum() / documents - ours
    return name, ours - theirs, (float(ours[0]), float(theirs[0]))


_LEAST_SHARE = 0.8
_LEAST_DOCUMENTS = 20


@dataclass(frozen=True)
class Test:
    """One statistic of two corpora.

    Attributes:
        name: of the statistic.
        input, reference: its value on either side, None for a divergence, which both have together.
        difference: what is tested: the divergence, or input - reference.
        null: the mean and the 2.5 % and 97.5 % quantiles of the difference among mixed-up documents.
        p: the share of permutations, the true one among them, that differ as much.
        adjusted: p after Holm's correction over all tests.
        flagged: whether it is at most the level.
    """

    name: str
    input: float | None
    reference: float | None
    difference: float
    null: tuple[float, float, float]
    p: float
    adjusted: float
    flagged: bool


@dataclass(frozen=True)
class Comparison:
    """All tests, on `documents` of each side of which the first `words` words count."""

    documents: int
    words: int
    tests: list[Test]

    @property
    def flagged(self) -> list[Test]:
        """Those that passed their level."""
        return [test for test in self.tests if test.flagged]


Ask = Callable[[Sequence[str]], Iterable[NDArray[np.float32]]]
"""Texts -> ln p of the tokens of each."""


def compare(
    input_: Sequence[SampledDocument],
    reference: Sequence[SampledDocument],
    sample: SampleConfig,
    testing: Testing,
    seed: int,
    ask: Ask | None = None,
) -> Comparison:
    """Test whether the documents of two samples could have changed places.

    Args:
        input_, reference: the two samples.
        sample, testing: the choices for them.
        seed: of the permutations.
        ask: a prior, asked for the documents as they are compared: cut to equal length.

    Raises:
        InputError: a side has too few documents that are long enough.
    """
    matched = match(input_, reference, sample)
    is_input = permuted(matched.documents, testing.permutations, seed)
    found = list(statistics(matched, is_input))
    if ask is not None:
        texts = [text.decode("utf-8", "replace") for text in matched.texts]
        found += prior_statistics(list(ask(texts)), is_input)
    assert len(found) <= MOST_TESTS
    p_values = [float(permutation_p_values(name, values)[0]) for name, values, _ in found]
    adjusted = holm_correction(p_values)
    tests = [
        _test(name, values, sides, p, corrected, testing.level)
        for (name, values, sides), p, corrected in zip(found, p_values, adjusted, strict=True)
    ]
    return Comparison(matched.documents, matched.words, tests)


def match(
    input_: Sequence[SampledDocument], reference: Sequence[SampledDocument], sample: SampleConfig
) -> MatchedDocuments:
    """As many documents of each side, cut to one number of words that at least 80 % of either side have."""
    sides = [[item.text.encode("utf-8") for item in side] for side in (input_, reference)]
    split = [split_words(side) for side in sides]
    counts = [words.counts for words in split]
    if min(len(count) for count in counts) < _LEAST_DOCUMENTS:
        raise InputError(_too_few(counts, sample.min_words))
    typical = min(int(np.quantile(count, 1 - _LEAST_SHARE, method="lower")) for count in counts)
    length = int(np.clip(typical, sample.min_words, sample.max_words))
    long_enough = [np.flatnonzero(count >= length) for count in counts]
    documents = min(len(places) for places in long_enough)
    if documents < _LEAST_DOCUMENTS:
        raise InputError(_too_few(counts, length))
    texts, lengths = [], []
    for side, words, places in zip((input_, reference), split, long_enough, strict=True):
        firsts = np.cumsum(words.counts) - words.counts
        for place in places[:documents]:
            start, end = words.starts[firsts[place]], words.ends[firsts[place] + length - 1]
            texts.append(words.data[start:end])
            # Of a long document only the beginning is in the sample.
            lengths.append(np.log(words.counts[place] * side[place].bytes / max(len(side[place].text.encode()), 1)))
    return MatchedDocuments(texts, length, np.array(lengths))


def permuted(documents: int, permutations: int, seed: int) -> NDArray[np.bool_]:
    """Which of 2n documents count as input (2n, 1 + permutations); in the first column those that are."""
    generator = np.random.default_rng(seed)
    is_input = np.arange(2 * documents) < documents
    return np.stack([is_input, *(generator.permutation(is_input) for _ in range(permutations))], axis=1)


def permutation_p_values(name: str, values: Numbers) -> Numbers:
    """The p-value (1 + P,) of each division if it were the true one: the share of all that differ at least as much.

    A divergence differs upward only, a difference either way from the mean of all divisions.
    """
    sizes = values if _is_divergence(name) else np.abs(values - values.mean())
    # Sums in another order must not make a tie a difference.
    bounds = sizes - 1e-9 * np.abs(sizes)
    return np.asarray(1 - np.searchsorted(np.sort(sizes), bounds) / len(sizes))


def _is_divergence(name: str) -> bool:
    return "divergence" in name or "KL" in name


def _test(
    name: str, values: Numbers, sides: tuple[float, float] | None, p: float, adjusted: float, level: float
) -> Test:
    null = values[1:]
    low, high = np.quantile(null, [0.025, 0.975])
    ours, theirs = sides or (None, None)
    spread = (float(null.mean()), float(low), float(high))
    return Test(name, ours, theirs, float(values[0]), spread, p, adjusted, adjusted <= level)


def _too_few(counts: Sequence[NDArray[np.int64]], length: int) -> str:
    there = " and ".join(str(int((count >= length).sum())) for count in counts)
    return (
        f"the samples have {there} documents of {length} words or more, and a comparison needs {_LEAST_DOCUMENTS} of "
        "each side. Give larger corpora, a smaller sample.min_words, or cut the documents otherwise (layout.document)."
    )
