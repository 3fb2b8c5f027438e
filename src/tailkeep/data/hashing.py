"""Words and word n-grams of documents as 64-bit hashes, computed for many documents at once, and DSIR features.

Rule: a hash is a function of the bytes alone, the same on every machine and in every process. A word is a run of
letters, marks, digits and underscores, a run of punctuation and symbols, or, in a script without spaces, a letter with
its marks: of text in NFC with its case folded. An n-gram never crosses from one document into the next.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]

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
    hashes = _absorb(_BY_LENGTH.take(lengths, mode="clip"), eights[starts], lengths)
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
    return mix_bits(hashes * _STEP + (eights & _FIRST_BYTES.take(lengths, mode="clip")))


def mix_bits(values: Hashes) -> Hashes:
    """Spread every bit of `values` (any shape) over all others: the finalizer of SplitMix64, a bijection."""
    bits = values ^ (values >> np.uint64(30))
    bits *= np.uint64(0xBF58_476D_1CE4_E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D0_49BB_1331_11EB)
    bits ^= bits >> np.uint64(31)
    return bits


_BY_LENGTH = mix_bits(np.arange(_LONG + 1, dtype=np.uint64))
"""The hash of a span of so many bytes before any of them is mixed in."""


def extend_grams(grams: Hashes, following: Hashes) -> Hashes:
    """The hashes of n-grams, each extended by the word with the hash in `following`, of the same shape."""
    return grams * _STEP + following


def sort_hashes(hashes: Hashes) -> tuple[Positions, Positions]:
    """The stable order (N,) of `hashes`, and where in it each distinct one begins (V,), ascending.

    Two radix sorts by 16 bits leave the last sort next to nothing to do: a quarter of the time of that one alone.
    """
    order = np.argsort((hashes >> np.uint64(32)).astype(np.uint16), kind="stable")
    order = order.take(np.argsort((hashes >> np.uint64(48)).astype(np.uint16).take(order), kind="stable"))
    order = order.take(np.argsort(hashes.take(order), kind="stable"))
    ascending = hashes.take(order)
    return order, np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1])[: len(hashes)])


def buckets_of(hashes: Hashes, buckets: int) -> NDArray[np.int64]:
    """The bucket of each hash, from 0 to `buckets` - 1 (at most 2^32)."""
    return (((hashes >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)).astype(np.int64)


def slots_of(hashes: Hashes) -> NDArray[np.intp]:
    """The slot of each hash, from 0 to `SLOTS` - 1: few enough for tables that fit into a CPU's cache."""
    return (hashes >> np.uint64(64 - _SLOT_BITS)).astype(np.intp)


# Documents as words, split on the UTF-8 bytes of many documents at once.

_SPACE, _LETTER, _PUNCTUATION, _SINGLE, _SINGLE_MARK = range(5)
_CLASSES = bytes(
    _SPACE
    if byte <= 0x20 or byte == 0x7F
    else _LETTER
    if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_")
    else _PUNCTUATION
    for byte in range(256)
)
# Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana, Han and their extensions.
_WITHOUT_SPACES = (
    *((0x0E01, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3100, 0x312F)),
    *((0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF)),
    *((0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x323AF)),
)
_LAST_CODE = 0x323B0
"""What lies behind is private, unassigned or a tag, and counts as a letter."""
_OTHER_CASE = 8
"""Beside the class of a character: case folding or NFC may change it, or what stands before it."""
_JOINING = re.compile(
    "[\u1100-\u11ff\u09be\u09d7\u0b3e\u0b56\u0b57\u0bbe\u0bd7\u0cc2\u0cd5\u0cd6\u0d3e\u0d57\u0dcf\u0ddf\u102e\u1b35"
    "\U00011127\U0001133e\U00011357\U000114b0\U000114ba\U000114bd\U000115af\U00011930]"
)
"""Jamo, and the signs without a combining class that NFC may join to what stands before them (NFC_QC=Maybe)."""
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200e\u200f\u202a-\u202e\u2060-\u206f]")
"""Soft hyphens, marks of direction and their kin, which are no part of a word."""

_UNKNOWN = 255
_character_classes: NDArray[np.uint8] = np.full(_LAST_CODE + 1, _UNKNOWN, np.uint8)
"""The class of each code point met so far: computing that of all takes as long as counting 5 MB."""


def _classes_of(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The class of each of `codes` (C,), and whether it may be spelled anew."""
    codes = np.minimum(codes, _LAST_CODE)
    classes = _character_classes[codes]
    if (classes == _UNKNOWN).any():
        for code in np.unique(codes[classes == _UNKNOWN]).tolist():
            _character_classes[code] = _class_of(chr(code))
        classes = _character_classes[codes]
    return classes


def _class_of(character: str) -> int:
    category = unicodedata.category(character)
    changes = (
        character.casefold() != character
        or unicodedata.combining(character) != 0
        or _JOINING.match(character) is not None
        or _INVISIBLE.match(character) is not None
        or not unicodedata.is_normalized("NFC", character)
    )
    if category[0] == "Z" or category == "Cc" or character in "\u200b\ufeff":
        kind = _SPACE
    elif (category[0] in "PS" and category != "Pc") or "\ufe00" <= character <= "\ufe0f":
        kind = _PUNCTUATION
    elif character.isdecimal() or not any(first <= ord(character) <= last for first, last in _WITHOUT_SPACES):
        kind = _LETTER
    else:
        kind = _SINGLE_MARK if category[0] == "M" else _SINGLE
    return kind + _OTHER_CASE * changes


@dataclass(frozen=True, eq=False)
class Words:
    """The words of some documents, one after another.

    Attributes:
        data: (N,) the documents' bytes in NFC with folded case, a line break after each.
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
    data, characters = b"\n".join([*documents, b""]), None
    bounds = np.cumsum([0, *(len(document) + 1 for document in documents)])
    if not data.isascii():
        characters = _characters_of(data)
        changed = characters.leads[characters.classes >= _OTHER_CASE]
        if numbers := set((np.searchsorted(bounds, changed, side="right") - 1).tolist()):
            folded = [_folded(text) if number in numbers else text for number, text in enumerate(documents)]
            data = b"\n".join([*folded, b""])
            bounds = np.cumsum([0, *(len(document) + 1 for document in folded)])
            characters = None if data.isascii() else _characters_of(data)
    data = data.lower()
    starts, ends = _spans(data, characters)
    firsts = np.searchsorted(starts, bounds)
    counts = np.diff(firsts)
    hashes = hash_spans(data, starts, ends)
    return Words(data, starts, ends, hashes, np.repeat(np.arange(len(documents)), counts), counts)


def first_words(text: str, count: int) -> str:
    """`text` from its first word to the end of word `count`, as it is spelled; all of it if it has fewer.

    Invisible characters within words, such as soft hyphens, are left out.
    """
    data = _INVISIBLE.sub("", text).encode("utf-8", "surrogatepass")
    starts, ends = _spans(data, None if data.isascii() else _characters_of(data))
    if not len(starts):
        return ""
    return data[starts[0] : ends[min(count, len(ends)) - 1]].decode("utf-8", "surrogatepass")


def _folded(document: bytes) -> bytes:
    """`document` in NFC without differences of case: canonical caseless matching, D145 of the Unicode Standard.

    Invisible characters are removed.
    """
    text = _INVISIBLE.sub("", document.decode("utf-8", "surrogatepass"))
    text = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, eq=False)
class _Characters:
    """The characters outside ASCII: where each begins (C,), its number of bytes and its class."""

    leads: Positions
    sizes: NDArray[np.uint8]
    classes: NDArray[np.uint8]


def _characters_of(data: bytes) -> _Characters:
    raw = np.frombuffer(data + bytes(3), np.uint8)
    leads = np.flatnonzero(raw >= 0xC0)
    first = raw[leads]
    sizes = (2 + (first >= 0xE0) + (first >= 0xF0)).astype(np.uint8)
    codes = (first & (0x7F >> sizes)).astype(np.uint32)
    for offset in range(1, 4):
        following = codes << np.uint32(6) | (raw[leads + offset] & 0x3F)
        codes = np.where(sizes > offset, following, codes)
    return _Characters(leads, sizes, _classes_of(codes))


def _spans(data: bytes, characters: _Characters | None) -> tuple[Positions, Positions]:
    classes = np.frombuffer(bytearray(data.translate(_CLASSES)), np.uint8)
    changes = np.empty(len(data) + 1, np.bool_)
    singles = _paint(classes, characters) if characters is not None else None
    np.not_equal(classes[1:], classes[:-1], out=changes[1:-1])
    if singles is not None:
        changes[singles] = True
    changes[0] = changes[-1] = True
    is_word = classes != _SPACE
    return np.flatnonzero(changes[:-1] & is_word), np.flatnonzero(changes[1:] & is_word) + 1


def _paint(classes: NDArray[np.uint8], characters: _Characters) -> Positions:
    """Write the class of each of `characters` over its bytes; where those begin that are words of their own."""
    kinds = characters.classes & np.uint8(_OTHER_CASE - 1)
    of_bytes = np.where(kinds == _SINGLE_MARK, _SINGLE, kinds).astype(np.uint8)
    for offset in range(4):
        longer = characters.sizes > offset
        classes[characters.leads[longer] + offset] = of_bytes[longer]
    return np.asarray(characters.leads[kinds == _SINGLE])


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
        ngrams.append(NGrams(hashes.take(inside), inside, documents.take(inside)))
    return ngrams


def group_equal_grams(grams: NGrams) -> NGramTypes:
    """The types among `grams`."""
    firsts, numbers = _numbered(grams.hashes)
    counts = np.bincount(numbers, minlength=len(firsts))
    return NGramTypes(grams.hashes.take(firsts), counts, grams.firsts.take(firsts), numbers)


def count_documents_with(grams: NGrams, equal: NGramTypes) -> Positions:
    """The document frequency (V,) of each type of `equal`, which was made from `grams`."""
    numbers, types = equal.numbers, len(equal.hashes)
    order = np.argsort(numbers.astype(np.uint16) if types <= _SHORT else numbers, kind="stable")
    documents = grams.documents.take(order)
    is_new = np.ones(len(order), np.bool_)
    np.not_equal(documents[1:], documents[:-1], out=is_new[1:])
    ends = np.cumsum(equal.counts)
    is_new[ends[:-1]] = True
    return np.diff(np.cumsum(is_new).take(ends - 1), prepend=0)


def drop_unrepeated(grams: NGrams, length: int, pairs: NGrams, equal: NGramTypes) -> NGrams:
    """The n-grams of `length` words that may occur twice: those whose first and last pair of words do.

    `pairs` are the 2-grams of the same documents, `equal` their types.
    """
    is_repeated = np.zeros(int(pairs.firsts[-1]) + 1 if len(pairs.firsts) else 0, np.bool_)
    is_repeated[pairs.firsts] = (equal.counts > 1).take(equal.numbers)
    rest = np.flatnonzero(is_repeated.take(grams.firsts) & is_repeated[length - 2 :].take(grams.firsts))
    return NGrams(grams.hashes[rest], grams.firsts[rest], grams.documents[rest])


def count_distinct_per_document(grams: NGrams, documents: int) -> Positions:
    """The number of distinct n-grams of each of `documents` documents."""
    pairs = grams.hashes ^ mix_bits(np.arange(documents, dtype=np.uint64))[grams.documents]
    firsts, _ = _numbered(pairs)
    return np.bincount(grams.documents[firsts], minlength=documents)


def _numbered(hashes: Hashes) -> tuple[Positions, NDArray[np.int32]]:
    """The index of the first occurrence of each distinct hash, ascending (V,), and the number of each hash (G,).

    Each slot holds its first hash. The few others of a slot are sorted. For pairs of words this takes a third of the
    time of Arrow's dictionaries, and those a third of that of sorting all.
    """
    slots, order = slots_of(hashes), np.arange(len(hashes), dtype=np.int32)
    table = np.empty(SLOTS, np.int32)
    # NumPy writes half as fast from reversed views.
    table[slots[::-1].copy()] = order[::-1].copy()
    firsts = table.take(slots)
    others = np.flatnonzero(hashes.take(firsts) != hashes)
    order_of_others, starts = sort_hashes(hashes[others])
    others = others[order_of_others]
    firsts[others] = np.repeat(others[starts], np.diff(starts, append=len(others)))
    is_first = firsts == order
    return np.flatnonzero(is_first), (np.cumsum(is_first, dtype=np.int32) - 1).take(firsts)


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
