"""Boilerplate and templates of a corpus: text that many documents share, and documents that are filled-in forms.

    shared     a line with 2 words of letters, or 5 words in a row, 3 of them of letters, that occur in many documents:
               in 1 % of them, and in 5 at least
    template   as many documents whose shared text agrees (cosine similarity at least 0.5), with fixed text, which 80 %
               of them share: a tenth of their words (the median), or 3 different pieces in the most typical one
    skeleton   the fixed text as it stands there, with an ellipsis where the rest stands

Rule: a word with a digit equals any other, and case does not count, so near-identical text is shared text. Only the
sample is read, each document to its length there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tailkeep.audit.documents import SampledDocument
from tailkeep.data.hashing import (
    Hashes,
    NGrams,
    Positions,
    Words,
    count_documents_with,
    group_equal_grams,
    mix_bits,
    ngrams_of,
    split_words,
)
from tailkeep.metrics import binomial_interval

SPAN = 5
"""Words in a row that make shared text."""

_LETTERS_IN_SPAN, _LETTERS_IN_LINE = 3, 2
_MIN_DOCUMENTS, _MIN_SHARE = 5, 0.01
_SIMILARITY, _FIXED_IN, _FIXED_SHARE, _FIXED_PIECES = 0.5, 0.8, 0.1, 3
_NUM_EXAMPLES = 3
_SKELETON_CHARACTERS = 1000
_ELLIPSIS = " … "
_A_NUMBER = np.uint64(1)

Mask = NDArray[np.bool_]

_DIGITS: Mask = np.array([48 <= byte <= 57 for byte in range(256)])
# Every character outside ASCII counts as a letter here.
_LETTERS: Mask = np.array([byte >= 0x80 or chr(byte).isalpha() for byte in range(256)])


@dataclass(frozen=True)
class Template:
    """Documents that follow one form.

    Attributes:
        documents: how many of the sample.
        fixed_share: the median share of their words that is fixed.
        skeleton: the fixed text in lower case, with ellipses between its pieces.
        examples: where some of them are.
    """

    documents: int
    fixed_share: float
    skeleton: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class SharedSpan:
    """A piece of text, in lower case, and the number of the sample's documents with it."""

    text: str
    documents: int


@dataclass(frozen=True)
class Boilerplate:
    """The shared text of a sample of a corpus.

    Attributes:
        documents: the number of documents in the sample.
        share: the share of all words that stand in shared text; NaN without a word.
        templates: those found, the largest first.
        spans: the shared pieces with the most words in all documents together, at most as many as asked for.
    """

    documents: int
    share: float
    templates: tuple[Template, ...]
    spans: tuple[SharedSpan, ...]

    @property
    def templated(self) -> int:
        """How many documents follow a template."""
        return sum(template.documents for template in self.templates)

    def figures(self) -> dict[str, float | int | list[float]]:
        """The figures by name; the interval is that of a share of sampled documents, 95 %."""
        share, low, high = binomial_interval(self.templated, self.documents) if self.documents else (math.nan,) * 3
        return {
            "boilerplate_share": self.share,
            "templates": len(self.templates),
            "templated": self.templated,
            "templated_share": share,
            "templated_interval": [low, high],
            "templates_among": self.documents,
        }


def find_boilerplate(sample: Sequence[SampledDocument], *, num_spans: int = 50) -> Boilerplate:
    """The boilerplate and the templates of the sampled documents, in the order of their locations."""
    documents = sorted(sample, key=lambda document: document.location)
    least = max(_MIN_DOCUMENTS, math.ceil(len(documents) * _MIN_SHARE))
    words = split_words([document.text.encode("utf-8", "surrogatepass") for document in documents])
    if not len(words.hashes):
        return Boilerplate(len(documents), math.nan, (), ())
    shared = _shared_text(words, least)
    is_shared = shared.covers(np.ones(len(shared.firsts), np.bool_))
    return Boilerplate(
        documents=len(documents),
        share=float(is_shared.mean()),
        templates=tuple(_templates(shared, [document.location for document in documents], least)),
        spans=tuple(_spans(words, is_shared, least))[:num_spans],
    )


@dataclass(frozen=True, eq=False)
class _SharedText:
    """The occurrences of shared lines and n-grams (S,): first word, number of words, document, type (0 to T - 1)."""

    words: Words
    firsts: Positions
    lengths: Positions
    documents: Positions
    types: Positions

    def covers(self, selected: Mask) -> Mask:
        """Which words (W,) stand in one of the `selected` (S,) occurrences."""
        steps = np.zeros(len(self.words.hashes) + 1, np.int64)
        np.add.at(steps, self.firsts[selected], 1)
        np.add.at(steps, self.firsts[selected] + self.lengths[selected], -1)
        return np.asarray(np.cumsum(steps)[:-1] > 0)

    def by_document(self) -> sparse.csr_array:
        """(D, T): whether a document has a shared text."""
        shape = (len(self.words.counts), int(self.types.max(initial=-1)) + 1)
        pairs = sparse.csr_array((np.ones(len(self.types)), (self.documents, self.types)), shape=shape)
        pairs.sum_duplicates()
        pairs.data[:] = 1
        return pairs


def _shared_text(words: Words, least: int) -> _SharedText:
    has_digit, has_letter = _count_in(words, _DIGITS) > 0, _count_in(words, _LETTERS) > 0
    hashes = np.where(has_digit, _A_NUMBER, words.hashes)
    of_letters = np.concatenate([[0], np.cumsum(has_letter & ~has_digit)])
    occurrences, types = [], 0
    spans = ngrams_of(replace(words, hashes=hashes), SPAN)[-1]
    for (grams, lengths), least_letters in (
        ((spans, np.full(len(spans.hashes), SPAN)), _LETTERS_IN_SPAN),
        (_lines(words, hashes), _LETTERS_IN_LINE),
    ):
        is_text = of_letters[grams.firsts + lengths] - of_letters[grams.firsts] >= least_letters
        grams, lengths = (
            NGrams(grams.hashes[is_text], grams.firsts[is_text], grams.documents[is_text]),
            lengths[is_text],
        )
        equal = group_equal_grams(grams)
        is_shared = count_documents_with(grams, equal) >= least
        selected = is_shared[equal.numbers]
        numbers = (np.cumsum(is_shared) - 1)[equal.numbers[selected]] + types
        occurrences.append((grams.firsts[selected], lengths[selected], grams.documents[selected], numbers))
        types += int(is_shared.sum())
    return _SharedText(words, *(np.concatenate(column) for column in zip(*occurrences, strict=True)))


def _count_in(words: Words, bytes_: Mask) -> Positions:
    """How many bytes of each word (W,) are among `bytes_` (256,)."""
    counts = np.concatenate([[0], np.cumsum(bytes_[np.frombuffer(words.data, np.uint8)])])
    return np.asarray(counts[words.ends] - counts[words.starts])


def _lines(words: Words, hashes: Hashes) -> tuple[NGrams, Positions]:
    """The lines that have a word, and their numbers of words."""
    breaks = np.concatenate([[0], np.cumsum(np.frombuffer(words.data, np.uint8) == ord("\n"))])[words.starts]
    firsts = np.flatnonzero(np.diff(breaks, prepend=-1))
    lengths = np.diff(np.append(firsts, len(breaks)))
    places = (np.arange(len(breaks)) - np.repeat(firsts, lengths)).astype(np.uint64)
    lines = np.add.reduceat(mix_bits(hashes + mix_bits(places)), firsts)
    return NGrams(lines, firsts, words.documents[firsts]), lengths


def _templates(shared: _SharedText, locations: Sequence[str], least: int) -> list[Template]:
    """Greedy clusters around the document that is most like all others, then around the next that is left."""
    texts = shared.by_document()
    lengths = np.sqrt(np.maximum(texts.sum(axis=1), 1))
    likeness = (texts @ texts.sum(axis=0)) / lengths
    by_text = texts.tocsc()
    is_left = np.diff(texts.indptr) > 0
    templates = []
    for center in np.argsort(-likeness, kind="stable"):
        if not is_left[center]:
            continue
        center_texts = texts.indices[texts.indptr[center] : texts.indptr[center + 1]]
        similarity = by_text[:, center_texts].sum(axis=1) / (lengths * lengths[center])
        members = np.flatnonzero(is_left & (similarity >= _SIMILARITY))
        is_left[members] = False
        if len(members) >= least:
            fixed = shared.covers((texts[members].sum(axis=0) / len(members) >= _FIXED_IN)[shared.types])
            of_document = np.bincount(shared.words.documents, fixed, minlength=len(locations))
            fixed_share = float(np.median(of_document[members] / shared.words.counts[members]))
            pieces = _pieces(shared.words, fixed & (shared.words.documents == center))
            if fixed_share >= _FIXED_SHARE or len(set(pieces)) >= _FIXED_PIECES:
                skeleton = _skeleton(pieces)
                examples = tuple(locations[number] for number in members[:_NUM_EXAMPLES])
                templates.append(Template(len(members), fixed_share, skeleton, examples))
    return sorted(templates, key=lambda template: -template.documents)


def _runs(mask: Mask, documents: Positions) -> tuple[Positions, Positions]:
    """The first and the last word of each run of `mask` (W,) within a document."""
    starts = mask & np.append(True, ~mask[:-1] | (documents[1:] != documents[:-1]))
    ends = mask & np.append(~mask[1:] | (documents[1:] != documents[:-1]), True)
    return np.flatnonzero(starts), np.flatnonzero(ends)


def _pieces(words: Words, mask: Mask) -> list[str]:
    """The text of each run of `mask` (W,), with single spaces."""
    runs = zip(*_runs(mask, words.documents), strict=True)
    texts = (words.data[words.starts[first] : words.ends[last]].decode("utf-8", "replace") for first, last in runs)
    return [" ".join(text.split()) for text in texts]


def _skeleton(pieces: Sequence[str]) -> str:
    text = _ELLIPSIS.join(pieces)
    return text if len(text) <= _SKELETON_CHARACTERS else text[:_SKELETON_CHARACTERS].rstrip() + _ELLIPSIS.rstrip()


def _spans(words: Words, is_shared: Mask, least: int) -> list[SharedSpan]:
    """The runs of shared words that `least` documents have whole, those with the most words in all on top."""
    where: dict[str, set[int]] = {}
    sizes: dict[str, int] = {}
    firsts, lasts = _runs(is_shared, words.documents)
    sizes_of_runs = (lasts - firsts + 1).tolist()
    documents = words.documents[firsts].tolist()
    for text, document, size in zip(_pieces(words, is_shared), documents, sizes_of_runs, strict=True):
        where.setdefault(text, set()).add(document)
        sizes[text] = size
    spans = [SharedSpan(text, len(among)) for text, among in where.items() if len(among) >= least]
    return sorted(spans, key=lambda span: (-span.documents * sizes[span.text], span.text))
