"""The prior with its tokenizer, ready to work. Rule: what does not fit together is refused before any document."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils import logging

from tailkeep.errors import InputError
from tailkeep.rules import Surfaces, TextTokenizer, read_surfaces
from tailkeep.scoring import CausalLMScorer, Prior, Scorer

_HUB_PARTS = 2
_OF_FOLDERS = ((".",), ("..",), ("~",))
_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class Model:
    """A scorer, its tokenizer, the surfaces of its tokens, and the strings that are tokens of their own."""

    scorer: Scorer
    tokenizer: TextTokenizer
    surfaces: Surfaces
    literals: tuple[str, ...]

    def identity(self) -> dict[str, Any]:
        """What can change a score or a token, as plain values for a fingerprint."""
        return {"prior": self.scorer.identity(), "tokenizer": self.surfaces.fingerprint}


def load_model(prior: Prior) -> Model:
    """`prior` and its tokenizer.

    Raises:
        InputError: one cannot be found or read, or they do not belong together.
        ConfigError: a device that is not there.
    """
    _refuse_missing_folder(prior.path)
    scorer = CausalLMScorer(prior)
    tokenizer = load_tokenizer(scorer.folder, trust_remote_code=prior.trust_remote_code)
    surfaces = read_surfaces(tokenizer)
    if len(surfaces.texts) > scorer.vocab_size:
        raise InputError(
            f"prior.path: the tokenizer has {len(surfaces.texts)} ids, the model's embedding {scorer.vocab_size}. "
            "Give a folder with the tokenizer that belongs to the model."
        )
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    return Model(scorer, TextTokenizer(tokenizer), surfaces, tuple(sorted(token.content for token in added)))


def _refuse_missing_folder(path: Path) -> None:
    """Refuse what is no folder here and cannot be a hub id, `name` or `owner/name`."""
    if not path.exists() and (path.is_absolute() or len(path.parts) > _HUB_PARTS or path.parts[:1] in _OF_FOLDERS):
        raise InputError(f"prior.path: there is no folder {path}. Give the path of a model folder, or a hub id.")


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer in `folder`.

    Raises:
        InputError: there is none that transformers can read.
    """
    if not any((folder / name).is_file() for name in _FILES):
        raise InputError(f"prior.path: {folder} holds no tokenizer (no tokenizer.json). Save the prior's own there.")
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # noqa: BLE001  (the tokenizers library raises bare Exceptions)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"prior.path: {folder}: the tokenizer cannot be read ({reason}). Save it again.") from None
    finally:
        logging.set_verbosity(level)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let torch use `threads` threads inside: sums differ with their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
