"""Words and word n-grams of documents as 64-bit hashes, computed for many documents at once, and DSIR features.

Rule: a hash is a function of the bytes alone, the same on every machine and in every process. A word is a run of
letters and digits, a run of punctuation, or one character of a script without spaces, with ASCII letters in lower case.
An n-gram never crosses from one document into the next.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Hashes = NDArray[np.uint64]

_STEP = np.uint64(0xD6E8_FEB8_6659_FD93)
_EIGHT = 8
_LONG = 64
_FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(_EIGHT + 1)], np.uint64)
_SLOT_BITS = 20
SLOTS = 1 << _SLOT_BITS


def hash_spans(data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Hashes:
    """A hash (W,) of each span [start, end) of `data`.

    Eight bytes at a time are read as one number and mixed into the state; the few spans longer than `_LONG` bytes are
    hashed one by one. Two different words collide with a probability of about 2^-64, so among V words some pair does
    with about V^2 / 2^65.
    """
    padded = data + bytes(_EIGHT)
    # The eight bytes from each offset on: a view with overlaps, no copy.
    eights = np.ndarray(len(data) + 1, "<u8", padded, strides=(1,))
    lengths = ends - starts
    hashes = _absorb(mix_bits(lengths.astype(np.uint64)), eights[starts], lengths)
    longer = np.flatnonzero(lengths > _EIGHT)
    for offset in range(_EIGHT, _LONG, _EIGHT):
        hashes[longer] = _absorb(hashes[longer], eights[starts[longer] + offset], lengths[longer] - offset)
        longer = longer[lengths[longer] > offset + _EIGHT]
    for number in longer.tolist():
        digest = hashlib.blake2b(data[starts[number] : ends[number]], digest_size=8).digest()
        hashes[number] = int.from_bytes(digest, "little")
    return hashes


def _absorb(hashes: Hashes, eights: Hashes, lengths: NDArray[np.int64]) -> Hashes:
    """Mix the first `lengths` bytes of `eights` into `hashes`, all of the same shape."""
    return mix_bits(hashes * _STEP + (eights & _FIRST_BYTES[np.minimum(lengths, _EIGHT)]))


def mix_bits(values: Hashes) -> Hashes:
    """Spread every bit of `values` (any shape) over all others: the finalizer of SplitMix64, a bijection."""
    bits = values ^ (values >> np.uint64(30))
    bits *= np.uint64(0xBF58_476D_1CE4_E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D0_49BB_1331_11EB)
    bits ^= bits >> np.uint64(31)
    return bits


def extend_grams(grams: Hashes, following: Hashes) -> Hashes:
    """The hashes of n-grams, each extended by the word with the hash in `following`, of the same shape."""
    return grams * _STEP + following


def buckets_of(hashes: Hashes, buckets: int) -> NDArray[np.int64]:
    """The bucket of each hash, from 0 to `buckets` - 1 (at most 2^32)."""
    return (((hashes >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)).astype(np.int64)


def slots_of(hashes: Hashes) -> NDArray[np.int32]:
    """The slot of each hash, from 0 to `SLOTS` - 1: few enough for tables that fit into a CPU's cache."""
    return (hashes >> np.uint64(64 - _SLOT_BITS)).astype(np.int32)


# Documents as words, split on the UTF-8 bytes of many documents at once.


Positions = NDArray[np.int64]

_SPACE, _LETTER, _PUNCTUATION, _IDEOGRAPH = range(4)
_CLASSES = bytes(
    _SPACE
    if byte <= 0x20 or byte == 0x7F
    else _LETTER
    if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_")
    else _PUNCTUATION
    for byte in range(256)
)
_LOWER_CASE = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
# Lead bytes of characters that are not letters of a script with spaces.
_LATIN, _GENERAL, _WIDE_FIRST, _WIDE_LAST, _FULL = 0xC2, 0xE2, 0xE3, 0xE9, 0xEF


@dataclass(frozen=True, eq=False)
class Words:
    """The words of some documents, one after another.

    Attributes:
        data: (N,) the documents' bytes in lower case, a line break after each.
        starts, ends: (W,) the span of each word in `data`.
        hashes: (W,) the hash of each word.
        documents: (W,) the number of each word's document, ascending.
        counts: (D,) the number of words of each document.
    """

    data: bytes
    starts: Positions
    ends: Positions
    hashes: Hashes
    documents: Positions
    counts: Positions

    def texts(self, firsts: Positions, length: int = 1) -> list[bytes]:
        """For each index in `firsts` (K,) the `length` words from it on, joined by spaces."""
        columns = [self._words(firsts + offset) for offset in range(length)]
        return columns[0] if length == 1 else [b" ".join(words) for words in zip(*columns, strict=True)]

    def _words(self, numbers: Positions) -> list[bytes]:
        data = self.data
        spans = zip(self.starts[numbers].tolist(), self.ends[numbers].tolist(), strict=True)
        return [data[start:end] for start, end in spans]


def split_words(documents: Sequence[bytes]) -> Words:
    """Split `documents`, each UTF-8, into words."""
    data = b"\n".join([*documents, b""]).translate(_LOWER_CASE)
    starts, ends = _spans(data)
    bounds = np.cumsum([0, *(len(document) + 1 for document in documents)])
    firsts = np.searchsorted(starts, bounds)
    counts = np.diff(firsts)
    hashes = hash_spans(data, starts, ends)
    return Words(data, starts, ends, hashes, np.repeat(np.arange(len(documents)), counts), counts)


def _spans(data: bytes) -> tuple[Positions, Positions]:
    classes = np.frombuffer(bytearray(data.translate(_CLASSES)), np.uint8)
    changes = np.empty(len(data) + 1, np.bool_)
    if not data.isascii():
        singles = _classify(np.frombuffer(data, np.uint8), classes)
        np.not_equal(classes[1:], classes[:-1], out=changes[1:-1])
        changes[singles] = True
    else:
        np.not_equal(classes[1:], classes[:-1], out=changes[1:-1])
    changes[0] = changes[-1] = True
    is_word = classes != _SPACE
    return np.flatnonzero(changes[:-1] & is_word), np.flatnonzero(changes[1:] & is_word) + 1


def _classify(raw: NDArray[np.uint8], classes: NDArray[np.uint8]) -> Positions:
    """Classify characters outside ASCII that are not letters; return the positions of single-character words."""
    latin = np.flatnonzero(raw == _LATIN)
    classes[latin] = classes[latin + 1] = np.where(raw[latin + 1] == 0xA0, _SPACE, _PUNCTUATION)
    general = np.flatnonzero(raw == _GENERAL)
    second, third = raw[general + 1], raw[general + 2]
    is_space = (second == 0x80) & ((third <= 0x8A) | (third == 0xA8) | (third == 0xA9) | (third == 0xAF))
    _paint(classes, general, np.where(is_space, _SPACE, _PUNCTUATION).astype(np.uint8))
    full = np.flatnonzero(raw == _FULL)
    _paint(classes, full[raw[full + 1] == 0xBC], np.uint8(_PUNCTUATION))
    wide = np.flatnonzero((raw >= _WIDE_FIRST) & (raw <= _WIDE_LAST))
    is_gap = (raw[wide] == _WIDE_FIRST) & (raw[wide + 1] == 0x80)
    _paint(
        classes,
        wide,
        np.where(is_gap, np.where(raw[wide + 2] == 0x80, _SPACE, _PUNCTUATION), _IDEOGRAPH).astype(np.uint8),
    )
    return np.asarray(wide[~is_gap])


def _paint(classes: NDArray[np.uint8], leads: Positions, kind: NDArray[np.uint8] | np.uint8) -> None:
    for offset in range(3):
        classes[leads + offset] = kind


# n-grams of words within documents, and their types.


_SHORT = 1 << 16


@dataclass(frozen=True, eq=False)
class NGrams:
    """The n-grams of some documents: the hash of each (G,), the index of its first word and of its document."""

    hashes: Hashes
    firsts: Positions
    documents: Positions


@dataclass(frozen=True, eq=False)
class NGramTypes:
    """The distinct n-grams, in the order of their first occurrence (V,).

    Attributes:
        hashes: the hash of each type.
        counts: how often it occurs.
        firsts: the index of the first word of its first occurrence.
        numbers: (G,) the index of each n-gram's type.
    """

    hashes: Hashes
    counts: Positions
    firsts: Positions
    numbers: NDArray[np.int32]


def ngrams_of(words: Words, max_n: int) -> list[NGrams]:
    """The n-grams of `words` for n = 1 to `max_n`."""
    hashes, documents = words.hashes, words.documents
    ngrams = [NGrams(hashes, np.arange(len(hashes)), documents)]
    for length in range(2, max_n + 1):
        hashes = extend_grams(hashes[:-1], words.hashes[length - 1 :])
        inside = np.flatnonzero(documents[length - 1 :] == documents[: max(len(documents) - length + 1, 0)])
        ngrams.append(NGrams(hashes[inside], inside, documents[inside]))
    return ngrams


def group_equal_grams(grams: NGrams) -> NGramTypes:
    """The types among `grams`."""
    hashes, numbers = _numbered(grams.hashes)
    counts = np.bincount(numbers, minlength=len(hashes))
    firsts = np.full(len(hashes), np.iinfo(np.int64).max)
    np.minimum.at(firsts, numbers, grams.firsts)
    return NGramTypes(hashes, counts, firsts, numbers)


def count_documents_with(grams: NGrams, equal: NGramTypes) -> Positions:
    """The document frequency (V,) of each type of `equal`, which was made from `grams`."""
    numbers, types = equal.numbers, len(equal.hashes)
    order = np.argsort(numbers.astype(np.uint16) if types <= _SHORT else numbers, kind="stable")
    documents = grams.documents[order]
    is_new = np.ones(len(order), np.bool_)
    np.not_equal(documents[1:], documents[:-1], out=is_new[1:])
    is_new[np.cumsum(equal.counts)[:-1]] = True
    return np.bincount(numbers[order[is_new]], minlength=types)


def count_distinct_per_document(grams: NGrams, documents: int) -> Positions:
    """The number of distinct n-grams of each of `documents` documents."""
    pairs = grams.hashes ^ mix_bits(np.arange(documents, dtype=np.uint64))[grams.documents]
    suspects = np.flatnonzero(_maybe_repeated(pairs))
    _, numbers = _numbered(pairs[suspects])
    is_again = np.diff(np.maximum.accumulate(numbers), prepend=-1) == 0
    repeats = np.bincount(grams.documents[suspects[is_again]], minlength=documents)
    return np.bincount(grams.documents, minlength=documents) - repeats


def _numbered(hashes: Hashes) -> tuple[Hashes, NDArray[np.int32]]:
    """The distinct hashes in the order of their first occurrence (V,), and the index of each hash among them (G,)."""
    # Arrow takes a third of the time of sorting.
    encoded = pa.array(hashes).dictionary_encode()
    return encoded.dictionary.to_numpy(), encoded.indices.to_numpy()


def _maybe_repeated(hashes: Hashes) -> NDArray[np.bool_]:
    """Whether another hash shares the slot of each hash (G,): true for all that occur twice, and for some others.

    Each slot holds the last hash. This takes a fifth of the time of numbering all hashes, and leaves an eighth of them.
    """
    slots = slots_of(hashes)
    order = np.arange(len(hashes), dtype=np.int32)
    last = np.empty(SLOTS, np.int32)
    last[slots] = order
    is_shared = np.zeros(SLOTS, np.bool_)
    is_shared[slots[last[slots] != order]] = True
    return is_shared[slots]


# Importance weights of texts for one corpus against another (DSIR), from hashed unigrams and bigrams.


BUCKETS = 10_000
"""As in ToEdit's analysis (arXiv 2412.14689), after DSIR (arXiv 2302.03169)."""

_SMOOTHING = 0.5


def count_features(texts: Sequence[str]) -> sparse.csr_array:
    """(texts, buckets): how often unigrams and bigrams of each bucket occur in each text."""
    grams = ngrams_of(split_words([text.encode("utf-8") for text in texts]), 2)
    rows = np.concatenate([ngrams.documents for ngrams in grams])
    columns = np.concatenate([buckets_of(ngrams.hashes, BUCKETS) for ngrams in grams])
    counts = sparse.coo_array((np.ones(len(rows), np.int32), (rows, columns)), shape=(len(texts), BUCKETS))
    return counts.tocsr()


def log_ratios(input_counts: ArrayLike, reference_counts: ArrayLike) -> NDArray[np.float64]:
    """ln p / q (b,) of each bucket: p its share in the reference, q its share in the input, from counts (b,) of both.

    Half an occurrence is added to each count. A text's importance weight is exp(sum over its n-grams of ln p / q); its
    logarithm is `count_features(texts) @ log_ratios(...)` (Xie et al. 2023, arXiv 2302.03169, equation 1, section 3).
    """
    q, p = (np.asarray(counts, np.float64) + _SMOOTHING for counts in (input_counts, reference_counts))
    return np.asarray(np.log(p / p.sum()) - np.log(q / q.sum()))
