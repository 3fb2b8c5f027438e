"""The text that each token stands for in the middle of a text, and which tokens stand for a text of their own.

Rule: a token without a complete surface (a special or added one, a byte or another part of a character) has none.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.errors import InputError
from tailkeep.runs import hash_tree

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
# What a call with `truncation=` or `padding=` leaves behind in a tokenizer; it is no part of what the ids mean.
_STATE = ("truncation", "padding")


@dataclass(frozen=True)
class Surfaces:
    """The surface of each id, None where there is none; the special and added ids; the tokenizer's hash."""

    texts: tuple[str | None, ...]
    special: frozenset[int]
    fingerprint: str

    def __getitem__(self, token: int) -> str | None:
        return self.texts[token] if token < len(self.texts) else None

    def allowed(self, size: int, *, without: str = "") -> NDArray[np.bool_]:
        """(size,) which ids may be drawn: those with a surface that holds no character of `without`.

        Args:
            size: the prior's number of ids, which need not be the tokenizer's.
            without: such as the line breaks that end a document in a file of lines.
        """
        barred = set(without)
        mask = np.zeros(size, np.bool_)
        clean = [text is not None and barred.isdisjoint(text) for text in self.texts[:size]]
        mask[: len(clean)] = clean
        return mask


def read_surfaces(tokenizer: Any) -> Surfaces:
    """The surfaces of a Hugging Face fast tokenizer.

    The surface of an id is what decoding a letter and the id gives beyond the letter: at the start of a text, some
    tokenizers would leave out a leading space.

    Raises:
        InputError: the tokenizer is not a fast one, or none of its tokens is a letter or digit.
    """
    backend = fast_backend(tokenizer)
    names = {token: name for name, token in backend.get_vocab(with_added_tokens=True).items()}
    tree = json.loads(backend.to_str())
    special = frozenset({*backend.get_added_tokens_decoder(), *tokenizer.all_special_ids, *_unknown(tree["model"])})
    plain = [i for i, name in sorted(names.items()) if i not in special and not _BYTE_PIECE.fullmatch(name)]
    texts: list[str | None] = [None] * (max(names, default=-1) + 1)
    base = _letter(backend, plain)
    for token, surface in zip(plain, decoded_after(backend, base, [[token] for token in plain]), strict=True):
        if surface and REPLACEMENT not in surface:
            texts[token] = surface
    lasting = {key: value for key, value in tree.items() if key not in _STATE}
    return Surfaces(tuple(texts), special, hash_tree(lasting))


def decoded_after(backend: Any, base: int, runs: Sequence[Sequence[int]]) -> list[str]:
    """What each run of ids reads as behind the token `base`; nothing where it changes how that reads."""
    prefix = backend.decode([base])
    texts = backend.decode_batch([[base, *run] for run in runs], skip_special_tokens=False)
    return [text.removeprefix(prefix) if text.startswith(prefix) else "" for text in texts]


def fast_backend(tokenizer: Any) -> Any:
    """The `tokenizers.Tokenizer` inside a fast tokenizer.

    Raises:
        InputError: there is none.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, and edits need the place of each token in the "
            "text. Give a tokenizer that has a tokenizer.json."
        )
    return backend


def _letter(backend: Any, plain: list[int]) -> int:
    """The first id that is a letter or digit."""
    for token, text in zip(plain, backend.decode_batch([[token] for token in plain]), strict=True):
        if len(text) == 1 and text.isalnum():
            return token
    raise InputError(
        f"none of the tokenizer's {len(plain)} ids is a single letter or digit, so surfaces cannot be read. "
        "Give the tokenizer of a language model of text."
    )


def _unknown(model: dict[str, Any]) -> Iterator[int]:
    """The id for what the vocabulary cannot spell, which need not be declared special."""
    if isinstance(model.get("unk_id"), int):
        yield model["unk_id"]
    name = model.get("unk_token")
    if isinstance(name, str) and isinstance(model["vocab"], dict) and name in model["vocab"]:
        yield model["vocab"][name]
