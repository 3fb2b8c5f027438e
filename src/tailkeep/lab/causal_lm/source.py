"""Where a language model starts: a pretrained folder or hub id, or new weights of a named architecture.

Rule: weights are safetensors and code is transformers' own; nothing is unpickled and no remote code runs.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.codec import Codec
from tailkeep.lab.causal_lm.quiet import quiet_transformers
from tailkeep.lab.causal_lm.settings import Pretrained, Scratch

_FILES = ["*.safetensors", "*.json", "*.model", "*.txt"]


def local_folder(model: Pretrained) -> Path:
    """The folder that holds `model`: itself, or the hub's copy of it.

    Raises:
        InputError: there is no such folder and no such hub id, or it holds no safetensors.
    """
    folder = model.path if model.path.exists() else _download(model)
    if not (folder / "config.json").is_file():
        raise InputError(f"model.path: {model.path} holds no config.json. Give a folder saved by save_pretrained.")
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"model.path: {model.path} holds no *.safetensors, and other formats are not read, since loading them can "
            "run code. Save it again with save_pretrained."
        )
    return folder


def load_network(folder: Path) -> Any:
    """The model in `folder`, in float32.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with quiet_transformers():
            return AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{folder}: the model cannot be read: {_first_line(error)}") from None


def new_network(model: Scratch, codec: Codec, *, seed: int) -> Any:
    """Random weights for `codec`'s vocabulary.

    Raises:
        ConfigError: the architecture or its configuration is refused.
    """
    try:
        config = AutoConfig.for_model(
            model.type,
            **{
                "vocab_size": codec.size,
                "bos_token_id": codec.start,
                "eos_token_id": codec.tokenizer.eos_token_id,
                "pad_token_id": codec.tokenizer.pad_token_id,
                **model.config,
            },
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise ConfigError(f"model.type {model.type!r} cannot be built: {_first_line(error)}") from None


def _download(model: Pretrained) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    refused = f"model.path: {model.path} is neither a folder here nor a model on the hub that can be reached"
    try:
        return Path(snapshot_download(str(model.path), revision=model.revision, allow_patterns=_FILES))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"{refused} ({_first_line(error)}). Give the path of a model folder.") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
