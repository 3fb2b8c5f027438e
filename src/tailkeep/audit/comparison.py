"""Permutation tests of two corpora on equally many words.

Rules: a difference counts only if it is significant after Holm's correction over all tests (Holm 1979). Whole documents
are permuted, since the words of one document are not independent; the p-values hold for independent documents. Each
statistic is a function of sums over documents, so a division of the documents into two sides is a column of a matrix.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tailkeep.audit.config import MAX_TESTS, PermutationTestConfig, SampleConfig
from tailkeep.audit.documents import SampledDocument, common_length, cut_words
from tailkeep.audit.prior_scores import CONFIDENCE_THRESHOLDS, count_confident, probability_histogram
from tailkeep.data.hashing import (
    BUCKETS,
    NGrams,
    Words,
    buckets_of,
    count_distinct_per_document,
    first_words,
    ngrams_of,
    split_words,
)
from tailkeep.errors import InputError
from tailkeep.metrics import (
    concentration,
    distinct_share,
    entropy,
    holm_correction,
    js_divergence,
    smoothed_kl,
    unseen_mass,
)
from tailkeep.metrics.language import LANGUAGE_FEATURES, MIN_ENGLISH_SHARE, english_share, language_features

Numbers = NDArray[np.float64]

SMOOTHING = 0.5
"""Added to each bucket before a Kullback-Leibler divergence: Jeffreys' prior."""

_TOP_BUCKETS = 100
_CHUNK = 32
_ZLIB_LEVEL = 6


@dataclass(frozen=True, eq=False)
class MatchedDocuments:
    """Documents truncated to equal length: first n of the input, then n of the reference.

    Attributes:
        texts: (2n,) the bytes of each, in the spelling in which words are compared.
        originals: (2n,) the same words as they stand in the document, for a prior and for patterns of language.
        words: the number of words of each.
        lengths: (2n,) ln of the number of words before truncation.
    """

    texts: list[bytes]
    originals: list[str]
    words: int
    lengths: Numbers

    @property
    def documents(self) -> int:
        """The number n of documents per side."""
        return len(self.texts) // 2


StatisticValues = tuple[str, Numbers, tuple[float, float] | None]
"""The name of a statistic, its difference in each permutation (1 + P,), and its observed values on both sides."""


def statistics(matched: MatchedDocuments, is_input: NDArray[np.bool_]) -> Iterator[StatisticValues]:
    """Every statistic of `matched` under each division `is_input` (2n, 1 + P) into two sides."""
    words = split_words(matched.texts)
    grams = ngrams_of(words, 4)
    for length, name in ((1, "words"), (2, "pairs of words")):
        yield from _bucket_statistics(name, grams[length - 1], words, is_input)
        yield from _type_statistics(name, grams[length - 1], words, is_input)
    documents = len(matched.texts)
    runs = np.bincount(grams[-1].documents, minlength=documents)
    repeated = 1 - count_distinct_per_document(grams[-1], documents) / np.maximum(runs, 1)
    compression = np.array([len(text) / len(zlib.compress(text, _ZLIB_LEVEL)) for text in matched.texts])
    word_length = np.bincount(words.documents, _characters(words), documents) / matched.words
    for name, values in (
        ("repetition", repeated),
        ("compression", compression),
        ("word length", word_length),
        ("document length", matched.lengths),
    ):
        yield _mean_difference(name, values, is_input)


def _characters(words: Words) -> NDArray[np.int64]:
    """The number of characters of each word (W,)."""
    # Every byte of UTF-8 but those that continue a character.
    is_first = np.frombuffer(words.data, np.uint8) & 0xC0 != 0x80
    before = np.concatenate([[0], np.cumsum(is_first)])
    return np.asarray(before[words.ends] - before[words.starts])


def _bucket_statistics(
    name: str, grams: NGrams, words: Words, is_input: NDArray[np.bool_]
) -> Iterator[StatisticValues]:
    def compute(left: Numbers, right: Numbers) -> dict[str, tuple[Numbers, Numbers | None]]:
        (left_gini, left_top), (right_gini, right_top) = (concentration(side, _TOP_BUCKETS) for side in (left, right))
        return {
            f"{name}: JS divergence": (js_divergence(left, right), None),
            f"{name}: KL(input ‖ reference)": (smoothed_kl(left, right, smoothing=SMOOTHING), None),
            f"{name}: KL(reference ‖ input)": (smoothed_kl(right, left, smoothing=SMOOTHING), None),
            f"{name}: entropy": (entropy(left), entropy(right)),
            f"{name}: Gini": (left_gini, right_gini),
            f"{name}: top {_TOP_BUCKETS} share": (left_top, right_top),
        }

    yield from _count_statistics(buckets_of(grams.hashes, BUCKETS), BUCKETS, grams, words, is_input, compute)


def _type_statistics(name: str, grams: NGrams, words: Words, is_input: NDArray[np.bool_]) -> Iterator[StatisticValues]:
    def compute(left: Numbers, right: Numbers) -> dict[str, tuple[Numbers, Numbers | None]]:
        return {
            f"{name}: distinct": (distinct_share(left), distinct_share(right)),
            f"{name}: unseen mass": (unseen_mass(left), unseen_mass(right)),
        }

    types, type_ids = np.unique(grams.hashes, return_inverse=True)
    yield from _count_statistics(type_ids, len(types), grams, words, is_input, compute)


CountStatistics = Callable[[Numbers, Numbers], dict[str, tuple[Numbers, Numbers | None]]]
"""Counts of both sides -> per name the values of both sides, or (divergence, None)."""


def _count_statistics(
    cells: NDArray[np.int64],
    size: int,
    grams: NGrams,
    words: Words,
    is_input: NDArray[np.bool_],
    compute: CountStatistics,
) -> Iterator[StatisticValues]:
    """The statistics of the counts of `cells` on both sides, in chunks of permutations."""
    ones = np.ones(len(cells), np.float32)
    table = sparse.csr_matrix((ones, (cells, grams.documents)), shape=(size, len(words.counts)))
    total = np.asarray(table.sum(axis=1), np.float64)
    chunks: dict[str, list[Numbers]] = {}
    observed: dict[str, tuple[float, float]] = {}
    for start in range(0, is_input.shape[1], _CHUNK):
        # Counts of a sample are exact in float32.
        input_counts = np.asarray(table @ is_input[:, start : start + _CHUNK].astype(np.float32), np.float64)
        for name, (left, right) in compute(input_counts, total - input_counts).items():
            chunks.setdefault(name, []).append(left if right is None else left - right)
            if right is not None and start == 0:
                observed[name] = (float(left[0]), float(right[0]))
    for name, parts in chunks.items():
        yield name, np.concatenate(parts), observed.get(name)


def prior_statistics(
    log_probs: Sequence[NDArray[np.float32]], is_input: NDArray[np.bool_]
) -> Iterator[StatisticValues]:
    """The statistics of ln p of the tokens of 2n documents under each division into two sides."""
    tokens = np.array([max(len(row), 1) for row in log_probs], np.float64)
    surprise = np.array([-float(row.sum(dtype=np.float64)) for row in log_probs]) / tokens
    confident = np.array([count_confident(row) for row in log_probs], np.float64) / tokens[:, None]
    histograms = np.stack([probability_histogram(row) for row in log_probs], axis=1).astype(np.float64)
    left = histograms @ is_input
    right = histograms.sum(axis=1, keepdims=True) - left
    yield "prior: JS divergence of probabilities", js_divergence(left, right), None
    yield _mean_difference("prior: surprise", surprise, is_input)
    yield _spread_difference("prior: spread of surprise", surprise, is_input)
    for number, threshold in enumerate(CONFIDENCE_THRESHOLDS):
        yield _mean_difference(f"prior: share over {threshold}", confident[:, number], is_input)


def _spread_difference(name: str, values: Numbers, is_input: NDArray[np.bool_]) -> StatisticValues:
    """The difference of the standard deviations over documents. The paper calls it the range of perplexity."""
    # Centred on one of them, so that equal values have no spread of rounding.
    documents, centred = len(values) // 2, values - values[0]
    sides = []
    for part in (is_input, ~is_input):
        mean = centred @ part / documents
        sides.append(np.sqrt(np.maximum(centred**2 @ part / documents - mean**2, 0)))
    return name, sides[0] - sides[1], (float(sides[0][0]), float(sides[1][0]))


def _mean_difference(name: str, values: Numbers, is_input: NDArray[np.bool_]) -> StatisticValues:
    # From one of them on, so that equal values have no difference of rounding.
    documents, beyond = len(values) // 2, values - values[0]
    left = beyond @ is_input / documents
    right = beyond.sum() / documents - left
    return name, left - right, (float(values[0] + left[0]), float(values[0] + right[0]))


_MIN_DOCUMENTS = 20


@dataclass(frozen=True)
class StatisticTest:
    """The test of one statistic of two corpora.

    Attributes:
        name: of the statistic.
        input, reference: its value on each side; None for a divergence, which has no value per side.
        difference: the tested value: the divergence, or input - reference.
        null: mean, 2.5 % and 97.5 % quantile of the difference over the permutations.
        p: the share of permutations, with the observed division, whose difference is at least as extreme.
        adjusted: p after Holm's correction over all tests.
        flagged: whether `adjusted` <= level.
    """

    name: str
    input: float | None
    reference: float | None
    difference: float
    null: tuple[float, float, float]
    p: float
    adjusted: float
    flagged: bool

    @property
    def has_direction(self) -> bool:
        """Whether `difference` has a sign: a divergence is never negative."""
        return self.input is not None


@dataclass(frozen=True)
class Comparison:
    """All tests, on the first `words` words of `documents` documents per side.

    The tests of the panel of language are a family of their own; there are none if `not_covered` says why.
    """

    documents: int
    words: int
    tests: list[StatisticTest]
    language: tuple[StatisticTest, ...] = ()
    not_covered: str = ""

    @property
    def flagged(self) -> list[StatisticTest]:
        """The significant tests, without those of the panel."""
        return [test for test in self.tests if test.flagged]

    @property
    def all_tests(self) -> list[StatisticTest]:
        """The tests, then those of the panel."""
        return [*self.tests, *self.language]


LogProbFunction = Callable[[Sequence[str]], Iterable[NDArray[np.float32]]]
"""Texts -> ln p of the tokens of each text."""


def compare(
    input_: Sequence[SampledDocument],
    reference: Sequence[SampledDocument],
    sample: SampleConfig,
    testing: PermutationTestConfig,
    seed: int,
    log_probs: LogProbFunction | None = None,
) -> Comparison:
    """Test whether the documents of two samples are exchangeable.

    Args:
        input_, reference: the two samples.
        sample, testing: their configuration.
        seed: seed of the permutations.
        log_probs: scores the documents with a prior, truncated to equal length as in the other tests.

    Raises:
        InputError: a side has too few documents that are long enough.
    """
    matched = match_lengths(input_, reference, sample)
    is_input = permute_sides(matched.documents, testing.permutations, seed)
    results = list(statistics(matched, is_input))
    if log_probs is not None:
        results += prior_statistics(list(log_probs(matched.originals)), is_input)
    assert len(results) <= MAX_TESTS
    language = list(language_statistics(matched, is_input)) if not (reason := _not_covered(matched)) else []
    tests = [_tests(family, testing.level) for family in (results, language)]
    return Comparison(matched.documents, matched.words, tests[0], tuple(tests[1]), reason)


def _tests(results: Sequence[StatisticValues], level: float) -> list[StatisticTest]:
    """The tests of one family of statistics, with Holm's correction over them."""
    p_values = [float(permutation_p_values(name, values)[0]) for name, values, _ in results]
    adjusted = holm_correction(p_values)
    return [
        _test(name, values, sides, p, corrected, level)
        for (name, values, sides), p, corrected in zip(results, p_values, adjusted, strict=True)
    ]


def language_statistics(matched: MatchedDocuments, is_input: NDArray[np.bool_]) -> Iterator[StatisticValues]:
    """The features of `metrics.language`, means over documents, under each division into two sides."""
    features = [language_features(text) for text in matched.originals]
    for name in LANGUAGE_FEATURES:
        values = np.array([one[name] for one in features])
        if values.any():
            yield _mean_difference(name.replace("_", " "), values, is_input)


def _not_covered(matched: MatchedDocuments) -> str:
    """Why the panel of language does not cover both sides; "" if it does."""
    half = matched.documents
    for side, texts in (("corpus", matched.originals[:half]), ("reference", matched.originals[half:])):
        share = english_share("\n".join(texts))
        if share < MIN_ENGLISH_SHARE:
            return (
                f"frequent English words are {share:.0%} of the {side}'s words, below the {MIN_ENGLISH_SHARE:.0%} from "
                "which a text counts as English"
            )
    return ""


def match_lengths(
    input_: Sequence[SampledDocument], reference: Sequence[SampledDocument], sample: SampleConfig
) -> MatchedDocuments:
    """Equally many documents of each side, truncated to a number of words that at least 80 % of each side have."""
    sides = [[item.text.encode("utf-8") for item in side] for side in (input_, reference)]
    split = [split_words(side) for side in sides]
    counts = [words.counts for words in split]
    if min(len(count) for count in counts) < _MIN_DOCUMENTS:
        raise InputError(_too_few_message(counts, sample.min_words))
    length = common_length(split, sample)
    long_enough = [np.flatnonzero(count >= length) for count in counts]
    documents = min(len(indices) for indices in long_enough)
    if documents < _MIN_DOCUMENTS:
        raise InputError(_too_few_message(counts, length))
    texts: list[bytes] = []
    originals, lengths = [], []
    for side, words, indices in zip((input_, reference), split, long_enough, strict=True):
        texts += cut_words(words, indices[:documents], length)
        for index in indices[:documents]:
            originals.append(first_words(side[index].text, length))
            # The sample has only the beginning of a long document, so its length is extrapolated.
            lengths.append(np.log(words.counts[index] * side[index].bytes / max(len(side[index].text.encode()), 1)))
    return MatchedDocuments(texts, originals, length, np.array(lengths))


def permute_sides(documents: int, permutations: int, seed: int) -> NDArray[np.bool_]:
    """Which of 2n documents count as input (2n, 1 + permutations). The first column is the observed division."""
    generator = np.random.default_rng(seed)
    is_input = np.arange(2 * documents) < documents
    return np.stack([is_input, *(generator.permutation(is_input) for _ in range(permutations))], axis=1)


def permutation_p_values(name: str, values: Numbers) -> Numbers:
    """The p-value (1 + P,) of each division as if it were the observed one: the share of all at least as extreme.

    A divergence is tested one-sided, a difference two-sided around the mean of all divisions.
    """
    extremes = values if _is_divergence(name) else np.abs(values - values.mean())
    # A tie stays a tie if its sums were rounded in another order.
    bounds = extremes - 1e-9 * np.abs(extremes)
    return np.asarray(1 - np.searchsorted(np.sort(extremes), bounds) / len(extremes))


def _is_divergence(name: str) -> bool:
    return "divergence" in name or "KL" in name


def _test(
    name: str, values: Numbers, sides: tuple[float, float] | None, p: float, adjusted: float, level: float
) -> StatisticTest:
    null = values[1:]
    low, high = np.quantile(null, [0.025, 0.975])
    left, right = sides or (None, None)
    null_summary = (float(null.mean()), float(low), float(high))
    return StatisticTest(name, left, right, float(values[0]), null_summary, p, adjusted, adjusted <= level)


def _too_few_message(counts: Sequence[NDArray[np.int64]], length: int) -> str:
    numbers = " and ".join(str(int((count >= length).sum())) for count in counts)
    return (
        f"the samples have {numbers} documents of at least {length} words. A comparison needs {_MIN_DOCUMENTS} "
        "per side. Give larger corpora, lower sample.min_words, or form longer documents (layout.document_separator)."
    )
