"""The tokenizer that belongs to a model. Rule: nothing is unpickled, and no foreign code runs unasked."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tailkeep.errors import InputError
from tailkeep.scoring.quiet import quiet_transformers

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False, key: str = "prior.path") -> Any:
    """The tokenizer in `folder`, which the choice `key` names.

    Raises:
        InputError: there is none that transformers can read.
    """
    if not any((folder / name).is_file() for name in _FILES):
        raise InputError(f"{key}: {folder} holds no tokenizer (no tokenizer.json). Save the model's own there.")
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # noqa: BLE001  (the tokenizers library raises bare Exceptions)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{key}: {folder}: the tokenizer cannot be read ({reason}). Save it again.") from None
