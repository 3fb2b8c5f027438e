"""Texts as tokens with the characters of each.

Rule: a tokenizer's settings for batches never enter; a text is neither cut nor filled up, and no offset is shortened.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tailkeep.rules.placing import Tokens
from tailkeep.rules.surfaces import fast_backend


class TextTokenizer:
    """A Hugging Face fast tokenizer as a function of texts alone.

    Some byte-level tokenizers leave white space out of a token's offsets (`trim_offsets`); this copy does not, which
    changes no id.

    Raises:
        InputError: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = fast_backend(tokenizer)
        tree = _with_whole_offsets(json.loads(backend.to_str()))
        self._backend = type(backend).from_str(json.dumps({**tree, "truncation": None, "padding": None}))
        # Not part of the file: whether text that spells a special token is read as one.
        self._backend.encode_special_tokens = backend.encode_special_tokens

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text's tokens, among them those that the tokenizer itself puts around a text."""
        return [
            Tokens(np.array(encoding.ids, np.int32), np.array(encoding.offsets, np.int64).reshape(-1, 2))
            for encoding in self._backend.encode_batch(list(texts))
        ]


def _with_whole_offsets(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {
            key: False if key == "trim_offsets" else value if key == "vocab" else _with_whole_offsets(value)
            for key, value in tree.items()
        }
    return [_with_whole_offsets(item) for item in tree] if isinstance(tree, list) else tree
