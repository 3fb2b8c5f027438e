"""The prior with its tokenizer, ready to work. Rule: what does not fit together is refused before any document."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tailkeep.errors import InputError
from tailkeep.rules import Speller, Surfaces, TextTokenizer, read_surfaces
from tailkeep.scoring import CausalLMScorer, Prior, Scorer
from tailkeep.scoring.quiet import quiet_transformers

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class Model:
    """A scorer, its tokenizer both ways, the surfaces of its tokens, and the strings that are tokens of their own."""

    scorer: Scorer
    tokenizer: TextTokenizer
    speller: Speller
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
    scorer = CausalLMScorer(prior)
    tokenizer = load_tokenizer(scorer.folder, trust_remote_code=prior.trust_remote_code)
    surfaces = read_surfaces(tokenizer)
    if len(surfaces.texts) > scorer.vocab_size:
        raise InputError(
            f"prior.path: the tokenizer has {len(surfaces.texts)} ids, the model's embedding {scorer.vocab_size}. "
            "Give a folder with the tokenizer that belongs to the model."
        )
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    literals = tuple(sorted(token.content for token in added))
    return Model(scorer, TextTokenizer(tokenizer), Speller(tokenizer, surfaces), surfaces, literals)


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False, key: str = "prior.path") -> Any:
    """The tokenizer in `folder`, which the choice `key` names.

    Raises:
        InputError: there is none that transformers can read.
    """
    if not any((folder / name).is_file() for name in _FILES):
        raise InputError(f"{key}: {folder} holds no tokenizer (no tokenizer.json). Save the prior's own there.")
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # noqa: BLE001  (the tokenizers library raises bare Exceptions)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{key}: {folder}: the tokenizer cannot be read ({reason}). Save it again.") from None
