"""Token ids as a text in which each token has its place, for documents that come without one.

Rule: a token stands for its surface; what has none is spelled for the reader, and is never edited.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.rules.placing import Tokens
from tailkeep.rules.surfaces import Surfaces, decoded_after, fast_backend

Ids = NDArray[np.integer]


class Speller:
    """Spells documents of token ids.

    A run of tokens that are parts of characters is decoded as a whole and is the place of each of them. Special and
    added tokens stand as they are written, with no place of their own, as a tokenizer's own around a text.
    """

    def __init__(self, tokenizer: Any, surfaces: Surfaces) -> None:
        self._backend, self._surfaces = fast_backend(tokenizer), surfaces
        # A single letter or digit, which `read_surfaces` has found to be there.
        self._base = next(i for i, text in enumerate(surfaces.texts) if text and len(text) == 1 and text.isalnum())

    def __call__(self, documents: Sequence[Ids]) -> list[tuple[str, Tokens]]:
        """The text of each document and its tokens with their places in it."""
        runs = [list(self._runs(ids)) for ids in documents]
        broken = dict.fromkeys(tuple(run) for found in runs for kind, run in found if kind == "fragment")
        texts = dict(zip(broken, decoded_after(self._backend, self._base, list(broken)), strict=True))
        return [self._spelled(ids, found, texts) for ids, found in zip(documents, runs, strict=True)]

    def _runs(self, ids: Ids) -> Iterator[tuple[str, list[int]]]:
        for kind, run in groupby(ids.tolist(), self._kind):
            yield kind, list(run)

    def _kind(self, token: int) -> str:
        if token in self._surfaces.special:
            return "special"
        return "fragment" if self._surfaces[token] is None else "plain"

    def _spelled(
        self, ids: Ids, runs: Sequence[tuple[str, list[int]]], fragments: dict[tuple[int, ...], str]
    ) -> tuple[str, Tokens]:
        pieces: list[str] = []
        offsets: list[tuple[int, int]] = []
        at = 0
        for kind, run in runs:
            if kind == "fragment":
                shown = fragments[tuple(run)]
                pieces.append(shown)
                offsets += [(at, at + len(shown))] * len(run)
                at += len(shown)
                continue
            for token in run:
                written = self._backend.id_to_token(token) if kind == "special" else self._surfaces[token]
                pieces.append(written or "")
                end = at + len(pieces[-1])
                offsets.append((at, at) if kind == "special" else (at, end))
                at = end
        return "".join(pieces), Tokens(ids, np.array(offsets, np.int64).reshape(-1, 2))
