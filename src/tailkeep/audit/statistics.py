"""The statistics of two sides, for many divisions of the documents into two at once.

Rule: each is a function of counts or of numbers that add up over documents, so that a division is a column of a matrix.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tailkeep.audit.asking import SURE, probability_histogram, sure_tokens
from tailkeep.data.hashed import BUCKETS, Grams, Words, buckets_of, distinct_in_documents, grams_of, words_of
from tailkeep.metrics import distinct_share, entropy, gini, js_divergence, smoothed_kl, top_share, unseen_mass

Numbers = NDArray[np.float64]

SMOOTHING = 0.5
"""Added to each bucket in a Kullback-Leibler divergence, Jeffreys' prior."""

_TOP_BUCKETS = 100
_AT_ONCE = 32
_LEVEL = 6


@dataclass(frozen=True, eq=False)
class Matched:
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


def statistics(matched: Matched, is_input: NDArray[np.bool_]) -> Iterator[Found]:
    """Every statistic of `matched` under each division into two sides."""
    words = words_of(matched.texts)
    grams = grams_of(words, 4)
    for length, name in ((1, "words"), (2, "pairs of words")):
        yield from _of_buckets(name, grams[length - 1], words, is_input)
        yield from _of_types(name, grams[length - 1], words, is_input)
    documents = len(matched.texts)
    runs = np.bincount(grams[-1].documents, minlength=documents)
    repeated = 1 - distinct_in_documents(grams[-1], documents) / np.maximum(runs, 1)
    packed = np.array([len(text) / len(zlib.compress(text, _LEVEL)) for text in matched.texts])
    spelled = np.bincount(words.documents, words.ends - words.starts, documents) / matched.words
    for name, values in (
        ("repetition", repeated),
        ("compression", packed),
        ("word length", spelled),
        ("document length", matched.lengths),
    ):
        yield _of_means(name, values, is_input)


def _of_buckets(name: str, grams: Grams, words: Words, is_input: NDArray[np.bool_]) -> Iterator[Found]:
    def all_of(ours: Numbers, theirs: Numbers) -> dict[str, tuple[Numbers, Numbers | None]]:
        return {
            f"{name}: JS divergence": (js_divergence(ours, theirs), None),
            f"{name}: KL(input ‖ against)": (smoothed_kl(ours, theirs, smoothing=SMOOTHING), None),
            f"{name}: KL(against ‖ input)": (smoothed_kl(theirs, ours, smoothing=SMOOTHING), None),
            f"{name}: entropy": (entropy(ours), entropy(theirs)),
            f"{name}: Gini": (gini(ours), gini(theirs)),
            f"{name}: top {_TOP_BUCKETS} share": (top_share(ours, _TOP_BUCKETS), top_share(theirs, _TOP_BUCKETS)),
        }

    yield from _of_counts(buckets_of(grams.hashes, BUCKETS), BUCKETS, grams, words, is_input, all_of)


def _of_types(name: str, grams: Grams, words: Words, is_input: NDArray[np.bool_]) -> Iterator[Found]:
    def all_of(ours: Numbers, theirs: Numbers) -> dict[str, tuple[Numbers, Numbers | None]]:
        return {
            f"{name}: distinct": (distinct_share(ours), distinct_share(theirs)),
            f"{name}: unseen mass": (unseen_mass(ours), unseen_mass(theirs)),
        }

    types, numbers = np.unique(grams.hashes, return_inverse=True)
    yield from _of_counts(numbers, len(types), grams, words, is_input, all_of)


Statistics = Callable[[Numbers, Numbers], dict[str, tuple[Numbers, Numbers | None]]]


def _of_counts(
    cells: NDArray[np.int64], size: int, grams: Grams, words: Words, is_input: NDArray[np.bool_], all_of: Statistics
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


def asked_statistics(asked: Sequence[NDArray[np.float32]], is_input: NDArray[np.bool_]) -> Iterator[Found]:
    """What a prior says of documents (2n of them, ln p of the tokens of each) under each division into two sides."""
    tokens = np.array([max(len(one), 1) for one in asked], np.float64)
    surprise = np.array([-float(one.sum(dtype=np.float64)) for one in asked]) / tokens
    sure = np.array([sure_tokens(one) for one in asked], np.float64) / tokens[:, None]
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
