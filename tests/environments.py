"""Tests of losses and trainers on other versions of the packages around them: `make test-matrix [NAMES...]`.

Each environment is a folder under `.matrix/`, a venv laid over the one that runs this script: its packages lie
in front of those of `make setup`. The last lines are the table of docs/integrations.md.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".matrix"

ATTACH = ("tests/losses/hf",)
TRAINER = ("tests/integrations/test_hf_trainer.py", "tests/integrations/test_resume.py")
TRL = ("tests/integrations/test_trl.py",)


@dataclass(frozen=True)
class Environment:
    """Requirements in front of the usual ones, and the tests that are run on them."""

    packages: tuple[str, ...]
    tests: tuple[str, ...]
    slow: bool = False


ENVIRONMENTS = {
    "deepspeed": Environment(("deepspeed==0.19.8",), ("tests/losses/hf/test_zero3.py",), slow=True),
    "transformers-4.57": Environment(("transformers==4.57.6", "trl==0.29.1"), (*ATTACH, *TRAINER, *TRL)),
    "transformers-5.0": Environment(("transformers==5.0.0", "trl==1.0.0"), (*ATTACH, *TRAINER, *TRL)),
    "transformers-5.6": Environment(("transformers==5.6.2", "trl==1.5.1"), (*ATTACH, *TRAINER, *TRL)),
    "transformers-5.16": Environment(("transformers==5.16.1", "trl==1.9.2"), (*ATTACH, *TRAINER, *TRL)),
}


def prepared(name: str) -> Path:
    """The interpreter of an environment, made if missing."""
    folder = FOLDER / name
    python = folder / "bin" / "python"
    done = folder / "packages.json"
    packages = list(ENVIRONMENTS[name].packages)
    if not (done.is_file() and json.loads(done.read_text()) == packages):
        venv.create(folder, clear=True, with_pip=True)
        below = sysconfig.get_paths()["purelib"]
        paths = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        (Path(paths.stdout.strip()) / "below.pth").write_text(below + "\n")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        done.write_text(json.dumps(packages))
    return python


def tested(name: str, options: list[str]) -> tuple[int, str]:
    """The exit status of pytest in an environment, and its closing line."""
    environment = ENVIRONMENTS[name]
    python = prepared(name)
    marks = ["-m", "slow or not slow"] if environment.slow else []
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *marks, *options, *environment.tests]
    # Older packages warn of what newer ones have mended.
    command += ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning", "-W", "ignore::UserWarning"]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    extensions = FOLDER / name / "torch_extensions"
    variables["TORCH_EXTENSIONS_DIR"] = str(extensions)
    for lock in extensions.rglob("lock"):
        # Of a build that was killed: every later one would wait for it.
        lock.unlink()
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.strip())
    return process.returncode, next((line for line in reversed(lines) if line), "nothing was printed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ENVIRONMENTS)}; all of them")
    names, options = parser.parse_known_args()
    results = {}
    for name in names.names or ENVIRONMENTS:
        print(f"== {name}: {', '.join(ENVIRONMENTS[name].packages)}", flush=True)
        results[name] = tested(name, options)
    for name, (_, line) in results.items():
        print(f"| {' '.join(ENVIRONMENTS[name].packages)} | {line} |")
    return max(status for status, _ in results.values())


if __name__ == "__main__":
    sys.exit(main())
