"""Models and tokenizers loaded in one way from a folder, a GGUF file or the hub; priors with config and devices.

Rule: weights are safetensors or GGUF and nothing is unpickled; a model's own code runs only with `trust_remote_code`.
A GGUF file's weights are de-quantised, and become a model like any other.
"""

import json
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from pydantic import Field
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from tailkeep.config import InputPath, Settings
from tailkeep.data.corpus import LocalPool
from tailkeep.errors import ConfigError, InputError
from tailkeep.optional import require

# The files that decide what a model computes and how text becomes its tokens.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER = ("tokenizer*", "*.model", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json")
CODE = ("*.py",)
LOAD_ERRORS = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError),
    *(SafetensorError, StrictDataclassError, struct.error, IndexError),
)
"""What transformers and the libraries below it raise for a configuration or weights that they cannot use."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_MAX_REASON = 200
_MAX_HUB_PARTS = 2
_FOLDER_PREFIXES = ((".",), ("..",), ("~",))
_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
_GPUS = "CUDA_VISIBLE_DEVICES"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no warnings of transformers inside; afterwards its settings are as before."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def local_folder(path: Path, *, revision: str | None = None, key: str, trust_remote_code: bool = False) -> Path:
    """The folder or GGUF file that holds the model `path`: itself, or a local copy from the hub.

    Args:
        key: the config key of the model for error messages, such as `prior.path`.
        trust_remote_code: also download the model's own code.

    Raises:
        InputError: there is no such folder and no such hub id, or it holds no safetensors.
        ConfigError: a revision of a folder.
        MissingPackageError: a GGUF file without the package that reads it.
    """
    is_local = path.exists()
    if is_local and revision is not None:
        revision_key = key.removesuffix("path") + "revision"
        raise ConfigError(f"{revision_key}: {revision!r} has no effect, since {path} is a local folder. Leave it out.")
    if is_gguf(path):
        require("gguf", extra="gguf")
        return path
    if path.is_file():
        raise InputError(f"{key}: {path} is a file. Give the model's folder, or a .gguf file.")
    folder = path if is_local else _download(path, revision, key, (*CODE,) if trust_remote_code else ())
    if not (folder / "config.json").is_file():
        raise InputError(f"{key}: {path} holds no config.json. Give a folder saved by save_pretrained.")
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{key}: {path} holds no *.safetensors, and other formats are not read, since loading them can "
            "run code. Save it again with save_pretrained."
        )
    _check_index(folder, key)
    return folder


def _check_index(folder: Path, key: str) -> None:
    """Refuse an index of weights that names anything but files beside it."""
    for index in folder.glob("*.safetensors.index.json"):
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            outside = sorted(name for name in names if Path(name).name != name or not (folder / name).is_file())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(f"{key}: {index} is no index of weights. Save the model again.") from None
        if outside:
            raise InputError(
                f"{key}: {index} names {outside[0]!r}, which is no file beside it. Copy the whole model folder."
            )


def nonfinite_weight(network: Any) -> str | None:
    """The name of a weight of `network` that holds NaN or infinity, None if there is none."""
    return next((name for name, weight in network.named_parameters() if not bool(weight.isfinite().all())), None)


def is_gguf(path: Path) -> bool:
    """Whether `path` is a file that ends in .gguf."""
    return path.suffix.lower() == ".gguf" and path.is_file()


def model_files(folder: Path, *, code: bool = False) -> list[Path]:
    """The files in `folder` that decide what its model computes, its own `code` included; a GGUF file is the one."""
    if is_gguf(folder):
        return [folder]
    patterns = ("config.json", *WEIGHTS, *TOKENIZER, *(CODE if code else ()))
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


def load_network(folder: Path, *, dtype: torch.dtype | None = torch.float32, trust_remote_code: bool = False) -> Any:
    """The model in `folder`, which may be a GGUF file, in evaluation mode, on the CPU.

    Args:
        dtype: of the weights; None means bfloat16 if they are saved in it, else float32.

    Raises:
        InputError: it cannot be read, or lacks weights of its architecture.
    """
    if is_gguf(folder):
        return _load_gguf(folder, dtype or torch.float32)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=_saved_dtype(config) if dtype is None else dtype,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
    except LOAD_ERRORS as error:
        raise InputError(
            f"{folder}: the model cannot be read ({reason_of(error)}). Save it again with save_pretrained."
        ) from None
    network, info = loaded
    _check_whole(folder, info)
    return network.eval()


def _load_gguf(file: Path, dtype: torch.dtype) -> Any:
    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
            )
            read, info = loaded
            # What was read keeps the mark of a quantised model, which cannot be saved: a new one takes its weights.
            if hasattr(read.config, "quantization_config"):
                del read.config.quantization_config
            network: Any = AutoModelForCausalLM.from_config(read.config, dtype=dtype)  # type: ignore[no-untyped-call]
            network.load_state_dict(read.state_dict())
    except LOAD_ERRORS as error:
        raise InputError(
            f"{file}: the model cannot be read ({reason_of(error)}). Give a GGUF file of an architecture that "
            "transformers reads, or a folder saved by save_pretrained."
        ) from None
    _check_whole(file, info)
    return network.eval()


def _check_whole(path: Path, info: Mapping[str, Any]) -> None:
    # transformers would fill what is missing with random numbers.
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"{path}: {len(missing)} weights are missing, such as {missing[0]}. Give a whole causal language model."
        )


def max_positions_of(network: Any) -> int | None:
    """The longest sequence that `network` supports, if its configuration states one."""
    config = network.config.get_text_config()
    for name in ("max_position_embeddings", "max_seq_len", "n_positions"):
        if isinstance(value := getattr(config, name, None), int) and value > 1:
            return value
    return None


def reason_of(error: Exception) -> str:
    """The message of `error` in one line, truncated."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _MAX_REASON else line[:_MAX_REASON] + "..."


def _saved_dtype(config: Any) -> torch.dtype:
    saved = str(getattr(config.get_text_config(), "dtype", None)).removeprefix("torch.")
    return torch.bfloat16 if saved == "bfloat16" else torch.float32


def _download(path: Path, revision: str | None, key: str, code: tuple[str, ...]) -> Path:
    # A hub id is `name` or `owner/name`; anything else means a folder.
    if path.is_absolute() or len(path.parts) > _MAX_HUB_PARTS or path.parts[:1] in _FOLDER_PREFIXES:
        raise InputError(f"{key}: there is no folder {path}. Give the path of a model folder, or a hub id.")
    patterns = ["config.json", *WEIGHTS, *TOKENIZER, *code]
    # Without a network, the client below the hub's raises errors of its own.
    errors: tuple[type[Exception], ...] = (HfHubHTTPError, HFValidationError, OSError, *network_errors())
    try:
        return Path(snapshot_download(str(path), revision=revision, allow_patterns=patterns))
    except errors as error:
        raise InputError(
            f"{key}: {path} is neither a local folder nor a model that can be downloaded from the hub "
            f"({reason_of(error)}). Give the path of a model folder."
        ) from None


def network_errors() -> tuple[type[Exception], ...]:
    """The errors of the http clients that may be below huggingface_hub, of those that are loaded."""
    named = (("httpx", "HTTPError"), ("requests", "RequestException"))
    return tuple(getattr(sys.modules[module], name) for module, name in named if module in sys.modules)


def load_tokenizer(
    folder: Path,
    *,
    trust_remote_code: bool = False,
    key: str = "prior.path",
    advice: str = "Save the model's own there.",
) -> Any:
    """The tokenizer in `folder`, which the config key `key` names and which may be a GGUF file.

    Raises:
        InputError: there is none that transformers can read.
    """
    if is_gguf(folder):
        source, options = folder.parent, {"gguf_file": folder.name}
    elif any((folder / name).is_file() for name in _TOKENIZER_FILES):
        source, options = folder, {}
    else:
        raise InputError(f"{key}: {folder} holds no tokenizer (no tokenizer.json). {advice}")
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # noqa: BLE001  (the tokenizers library raises bare Exceptions)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{key}: {folder}: the tokenizer cannot be read ({reason}). Save it again.") from None


class Prior(Settings):
    """A causal language model that scores text: a folder or hub id with safetensors weights, or a GGUF file.

    `device: auto` means a GPU if one is available. `dtype: auto` means bfloat16 if the weights are saved in it and the
    device multiplies in it natively, else float32. `window` is the longest sequence of a forward pass; by default the
    model's positions or `batch_tokens`, whichever is smaller.

    Attributes:
        path: the folder, hub id or GGUF file.
        revision: the branch, tag or commit on the hub.
        trust_remote_code: run Python code that comes with the model: only for models whose code you have read.
    """

    path: InputPath
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_tokens: Annotated[int, Field(ge=2)] = 16_384
    window: Annotated[int, Field(ge=2)] | None = None
    trust_remote_code: bool = False


def device_of(prior: Prior) -> torch.device:
    """The device on which `prior` runs.

    Raises:
        ConfigError: `cuda` without a GPU.
    """
    if prior.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("prior.device: 'cuda', but torch sees no GPU. Set prior.device=cpu.")
    return torch.device("cuda" if uses_gpu(prior) else "cpu")


def load_prior_network(prior: Prior, folder: Path) -> Any:
    """The model in `folder`, in evaluation mode, with the dtype and on the device of `prior`.

    Raises:
        InputError: it cannot be read, or lacks weights of its architecture.
        ConfigError: `cuda` without a GPU.
    """
    device = device_of(prior)
    dtype = _DTYPES[prior.dtype]
    if prior.dtype == "auto" and device.type == "cpu" and not has_native_bfloat16("cpu"):
        dtype = torch.float32
    return load_network(folder, dtype=dtype, trust_remote_code=prior.trust_remote_code).to(device)


def has_native_bfloat16(device: str) -> bool:
    """Whether `device`, `cpu` or `cuda`, multiplies matrices in bfloat16; processors with AVX512-BF16 or AMX do."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def uses_gpu(prior: Prior) -> bool:
    """Whether `prior` runs on a GPU: its config allows it, and one is available."""
    return prior.device != "cpu" and torch.cuda.is_available()


def local_pool(prior: Prior, workers: int) -> LocalPool:
    """Processes on this machine; if `prior` runs on GPUs, the processes take turns on them."""
    if not uses_gpu(prior):
        return LocalPool(workers)
    visible = os.environ.get(_GPUS)
    gpus = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return LocalPool(workers, environments=[{_GPUS: gpus[number % len(gpus)]} for number in range(workers)])


def prior_for_worker(prior: Prior, identity: Mapping[str, Any]) -> Prior:
    """`prior` for another process: `auto` and a relative path resolved in this one; `identity` is its scorer's."""
    path = prior.path.absolute() if prior.path.exists() else prior.path
    return prior.model_copy(update={"device": identity["device"], "path": path})
