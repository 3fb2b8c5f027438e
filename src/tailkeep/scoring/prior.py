"""The choice of a prior, and how it is loaded.

Rule: weights are safetensors and nothing is unpickled; a model's own code runs only if `trust_remote_code`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from pydantic import Field
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from tailkeep.config import InputPath, Settings
from tailkeep.errors import ConfigError, InputError

# The files that decide what a model computes and how text becomes its tokens.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER = ("tokenizer*", "*.model", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json")
CODE = ("*.py",)
_LONGEST_REASON = 200
# What transformers raises about a configuration or weights that it cannot use, from the libraries below it too.
_UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError),
    *(SafetensorError, StrictDataclassError),
)


class Prior(Settings):
    """A causal language model that scores text: a folder or hub id that holds safetensors weights.

    `auto` means a GPU if there is one, and bfloat16 there if the weights are saved in it, else float32. `window` is the
    longest sequence in a forward pass; not given, the model's positions or `batch_tokens`, whichever is smaller.
    """

    path: InputPath
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_tokens: Annotated[int, Field(ge=2)] = 16_384
    window: Annotated[int, Field(ge=2)] | None = None
    trust_remote_code: bool = False


def local_folder(prior: Prior) -> Path:
    """The folder that holds `prior`: itself, or the hub's copy of it.

    Raises:
        InputError: there is no such folder and no such hub id, or it holds no safetensors.
        ConfigError: a revision of a folder.
    """
    here = prior.path.exists()
    if here and prior.revision is not None:
        raise ConfigError(
            f"prior.revision: {prior.revision!r} has no effect, since {prior.path} is a folder here. Leave it out."
        )
    folder = prior.path if here else _download(prior)
    if not (folder / "config.json").is_file():
        raise InputError(f"prior.path: {prior.path} holds no config.json. Give a folder saved by save_pretrained.")
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"prior.path: {prior.path} holds no *.safetensors, and other formats are not read, since loading them can "
            "run code. Save it again with save_pretrained."
        )
    return folder


def device_of(prior: Prior) -> torch.device:
    """Where `prior` is to run.

    Raises:
        ConfigError: a GPU that is not there.
    """
    there = torch.cuda.is_available()
    if prior.device == "cuda" and not there:
        raise ConfigError("prior.device: 'cuda', and torch sees no GPU here. Set prior.device=cpu.")
    return torch.device("cuda" if there and prior.device != "cpu" else "cpu")


def load_network(prior: Prior, folder: Path) -> Any:
    """The model in `folder`, in evaluation mode, of the type and on the device that `prior` asks for.

    Raises:
        InputError: it cannot be read, or lacks weights of its architecture.
        ConfigError: a GPU that is not there.
    """
    device = device_of(prior)
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=prior.trust_remote_code)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=_dtype_of(prior, device, config),
            use_safetensors=True,
            trust_remote_code=prior.trust_remote_code,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise InputError(f"{folder}: the model cannot be read ({_reason(error)}). Save it again.") from None
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    network, found = loaded
    # transformers would fill them up with random numbers.
    if missing := sorted(found["missing_keys"]):
        raise InputError(
            f"{folder}: {len(missing)} weights are missing, such as {missing[0]}. Give a whole causal language model."
        )
    return network.to(device).eval()


def _dtype_of(prior: Prior, device: torch.device, config: Any) -> torch.dtype:
    if prior.dtype != "auto":
        return torch.bfloat16 if prior.dtype == "bfloat16" else torch.float32
    saved = str(getattr(config.get_text_config(), "dtype", None)).removeprefix("torch.")
    return torch.bfloat16 if device.type == "cuda" and saved == "bfloat16" else torch.float32


def _download(prior: Prior) -> Path:
    wanted = ["config.json", *WEIGHTS, *TOKENIZER, *(CODE if prior.trust_remote_code else ())]
    try:
        return Path(snapshot_download(str(prior.path), revision=prior.revision, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(
            f"prior.path: {prior.path} is neither a folder here nor a model on the hub that can be reached "
            f"({_reason(error)}). Give the path of a model folder."
        ) from None


def _reason(error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON] + "..."
