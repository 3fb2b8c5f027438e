"""Documents as words: where each begins and ends, and its hash.

Rule: a word is a run of letters and digits, a run of punctuation, or one character of a script without spaces; capitals
of ASCII count as small. It is found on the bytes of UTF-8, for many documents at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.hashed.hashing import Hashes, hash_spans

Positions = NDArray[np.int64]

_SPACE, _LETTER, _MARK, _SIGN = range(4)
_CLASSES = bytes(
    _SPACE
    if byte <= 0x20 or byte == 0x7F
    else _LETTER
    if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_")
    else _MARK
    for byte in range(256)
)
_SMALL = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
# Lead bytes of characters that are no letters of a spaced script, and where to look in the two that follow.
_LATIN, _GENERAL, _WIDE_FIRST, _WIDE_LAST, _FULL = 0xC2, 0xE2, 0xE3, 0xE9, 0xEF


@dataclass(frozen=True, eq=False)
class Words:
    """The words of some documents, one after another.

    Attributes:
        data: (N,) the documents' bytes in small letters, a line break behind each.
        starts, ends: (W,) the span of each word in `data`.
        hashes: (W,) of each word.
        documents: (W,) the number of the document it stands in, ascending.
        counts: (D,) the words of each document.
    """

    data: bytes
    starts: Positions
    ends: Positions
    hashes: Hashes
    documents: Positions
    counts: Positions

    def texts(self, firsts: Positions, length: int = 1) -> list[bytes]:
        """For each number in `firsts` (K,) the `length` words from it on, joined by spaces."""
        columns = [self._words(firsts + offset) for offset in range(length)]
        return columns[0] if length == 1 else [b" ".join(words) for words in zip(*columns, strict=True)]

    def _words(self, numbers: Positions) -> list[bytes]:
        data = self.data
        spans = zip(self.starts[numbers].tolist(), self.ends[numbers].tolist(), strict=True)
        return [data[start:end] for start, end in spans]


def words_of(documents: Sequence[bytes]) -> Words:
    """The words of `documents`, each UTF-8."""
    data = b"\n".join([*documents, b""]).translate(_SMALL)
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
        signs = _classify(np.frombuffer(data, np.uint8), classes)
        np.not_equal(classes[1:], classes[:-1], out=changes[1:-1])
        changes[signs] = True
    else:
        np.not_equal(classes[1:], classes[:-1], out=changes[1:-1])
    changes[0] = changes[-1] = True
    is_word = classes != _SPACE
    return np.flatnonzero(changes[:-1] & is_word), np.flatnonzero(changes[1:] & is_word) + 1


def _classify(raw: NDArray[np.uint8], classes: NDArray[np.uint8]) -> Positions:
    """Give characters outside ASCII that are no letters their class; the places of signs, each a word of its own."""
    latin = np.flatnonzero(raw == _LATIN)
    classes[latin] = classes[latin + 1] = np.where(raw[latin + 1] == 0xA0, _SPACE, _MARK)
    general = np.flatnonzero(raw == _GENERAL)
    second, third = raw[general + 1], raw[general + 2]
    is_space = (second == 0x80) & ((third <= 0x8A) | (third == 0xA8) | (third == 0xA9) | (third == 0xAF))
    _paint(classes, general, np.where(is_space, _SPACE, _MARK).astype(np.uint8))
    full = np.flatnonzero(raw == _FULL)
    _paint(classes, full[raw[full + 1] == 0xBC], np.uint8(_MARK))
    wide = np.flatnonzero((raw >= _WIDE_FIRST) & (raw <= _WIDE_LAST))
    is_gap = (raw[wide] == _WIDE_FIRST) & (raw[wide + 1] == 0x80)
    _paint(classes, wide, np.where(is_gap, np.where(raw[wide + 2] == 0x80, _SPACE, _MARK), _SIGN).astype(np.uint8))
    return np.asarray(wide[~is_gap])


def _paint(classes: NDArray[np.uint8], leads: Positions, kind: NDArray[np.uint8] | np.uint8) -> None:
    for offset in range(3):
        classes[leads + offset] = kind
