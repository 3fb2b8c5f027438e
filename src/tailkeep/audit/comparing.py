"""Two corpora compared at equal numbers of words, each statistic against what mixed-up documents give.

Rule: a difference counts only if it passes its level among all that were tested (Holm 1979). Documents are exchanged
whole, since the words of one are not independent; so the p-values hold for documents drawn independently of each other.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.config import MOST_TESTS, Sample, Testing
from tailkeep.audit.sampling import Sampled
from tailkeep.audit.statistics import Matched, Numbers, asked_statistics, statistics
from tailkeep.data.hashed import words_of
from tailkeep.errors import InputError
from tailkeep.metrics import holm

_LEAST_SHARE = 0.8
_LEAST_DOCUMENTS = 20


@dataclass(frozen=True)
class Test:
    """One statistic of two corpora.

    Attributes:
        name: of the statistic.
        input, against: its value on either side, None for a divergence, which both have together.
        difference: what is tested: the divergence, or input minus against.
        null: the mean and the 2.5 % and 97.5 % quantiles of the difference among mixed-up documents.
        p: the share of permutations, the true one among them, that differ as much.
        adjusted: p after Holm's correction over all tests.
        flagged: whether it is at most the level.
    """

    name: str
    input: float | None
    against: float | None
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
    input_: Sequence[Sampled],
    against: Sequence[Sampled],
    sample: Sample,
    testing: Testing,
    seed: int,
    ask: Ask | None = None,
) -> Comparison:
    """Test whether the documents of two samples could have changed places.

    Args:
        input_, against: the two samples.
        sample, testing: the choices for them.
        seed: of the permutations.
        ask: a prior, asked for the documents as they are compared: cut to equal length.

    Raises:
        InputError: a side has too few documents that are long enough.
    """
    matched = match(input_, against, sample)
    is_input = permuted(matched.documents, testing.permutations, seed)
    found = list(statistics(matched, is_input))
    if ask is not None:
        texts = [text.decode("utf-8", "replace") for text in matched.texts]
        found += asked_statistics(list(ask(texts)), is_input)
    assert len(found) <= MOST_TESTS
    p_values = [float(each_p(name, values)[0]) for name, values, _ in found]
    adjusted = holm(p_values)
    tests = [
        _test(name, values, sides, p, corrected, testing.level)
        for (name, values, sides), p, corrected in zip(found, p_values, adjusted, strict=True)
    ]
    return Comparison(matched.documents, matched.words, tests)


def match(input_: Sequence[Sampled], against: Sequence[Sampled], sample: Sample) -> Matched:
    """As many documents of each side, cut to one number of words that at least 80 % of either side have."""
    sides = [[item.text.encode("utf-8") for item in side] for side in (input_, against)]
    split = [words_of(side) for side in sides]
    counts = [words.counts for words in split]
    if min(len(count) for count in counts) < _LEAST_DOCUMENTS:
        raise InputError(_too_few(counts, sample.shortest))
    typical = min(int(np.quantile(count, 1 - _LEAST_SHARE, method="lower")) for count in counts)
    length = int(np.clip(typical, sample.shortest, sample.words))
    long_enough = [np.flatnonzero(count >= length) for count in counts]
    documents = min(len(places) for places in long_enough)
    if documents < _LEAST_DOCUMENTS:
        raise InputError(_too_few(counts, length))
    texts, lengths = [], []
    for side, words, places in zip((input_, against), split, long_enough, strict=True):
        firsts = np.cumsum(words.counts) - words.counts
        for place in places[:documents]:
            start, end = words.starts[firsts[place]], words.ends[firsts[place] + length - 1]
            texts.append(words.data[start:end])
            # Of a long document only the beginning is in the sample.
            lengths.append(np.log(words.counts[place] * side[place].bytes / max(len(side[place].text.encode()), 1)))
    return Matched(texts, length, np.array(lengths))


def permuted(documents: int, permutations: int, seed: int) -> NDArray[np.bool_]:
    """Which of 2n documents count as input (2n, 1 + permutations); in the first column those that are."""
    generator = np.random.default_rng(seed)
    is_input = np.arange(2 * documents) < documents
    return np.stack([is_input, *(generator.permutation(is_input) for _ in range(permutations))], axis=1)


def each_p(name: str, values: Numbers) -> Numbers:
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
        "each side. Give larger corpora, a smaller sample.shortest, or cut the documents otherwise (layout.document)."
    )
