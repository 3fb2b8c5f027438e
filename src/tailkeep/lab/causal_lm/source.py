"""Where a language model starts: a pretrained folder or hub id, or new weights of a named architecture.

Rule: weights are safetensors and code is transformers' own; nothing is unpickled and no remote code runs.
"""

import difflib
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM

from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.codec import Codec
from tailkeep.lab.causal_lm.quiet import quiet_transformers
from tailkeep.lab.causal_lm.settings import Pretrained, Scratch

_LONGEST_REASON = 200
# What transformers raises about a configuration or weights that it cannot use, from the libraries below it too.
_UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError),
    *(SafetensorError, StrictDataclassError),
)
_FILES = ["*.safetensors", "*.json", "*.model", "*.txt"]


def local_folder(model: Pretrained) -> Path:
    """The folder that holds `model`: itself, or the hub's copy of it.

    Raises:
        InputError: there is no such folder and no such hub id, or it holds no safetensors.
        ConfigError: a revision of a folder.
    """
    if model.path.exists() and model.revision is not None:
        raise ConfigError(
            f"model.revision: {model.revision!r} has no effect, since {model.path} is a folder here. Leave it out."
        )
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
        InputError: it cannot be read, or lacks weights of its architecture.
    """
    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
    except _UNREADABLE as error:
        raise InputError(
            f"{folder}: the model cannot be read ({_reason(error)}). Save it again with save_pretrained."
        ) from None
    network, found = loaded
    # transformers would fill them up with random numbers.
    if missing := sorted(found["missing_keys"]):
        raise InputError(
            f"{folder}: {len(missing)} weights are missing, such as {missing[0]}. Give a whole causal language model."
        )
    return network


def new_network(model: Scratch, codec: Codec, *, seed: int) -> Any:
    """Random weights for `codec`'s vocabulary.

    Raises:
        ConfigError: the architecture or its configuration is refused.
    """
    try:
        _refuse_unknown(model)
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
    except ConfigError:
        raise
    except _UNREADABLE as error:
        raise ConfigError(
            f"model.type {model.type!r} cannot be built ({_reason(error)}). Correct model.type or model.config."
        ) from None


def _refuse_unknown(model: Scratch) -> None:
    """transformers keeps a key that the architecture does not know, and does nothing with it."""
    default = AutoConfig.for_model(model.type)
    known = [*vars(default), *default.attribute_map]
    for key in model.config:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "Remove it."
            raise ConfigError(f"unknown key 'model.config.{key}' for model.type {model.type!r}. {hint}")


def _download(model: Pretrained) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    refused = f"model.path: {model.path} is neither a folder here nor a model on the hub that can be reached"
    try:
        return Path(snapshot_download(str(model.path), revision=model.revision, allow_patterns=_FILES))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"{refused} ({_reason(error)}). Give the path of a model folder.") from None


def _reason(error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON] + "..."
