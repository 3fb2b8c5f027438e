"""What holds for every test: real text and models where the machine has them, and a last line that counts the skips.

Rule: what a test needs and may miss is a fixture here or a skip whose reason names it. Hypothesis gives no test a
deadline, since a busy machine is no fault of the code.
"""

import gc
import logging
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings

from tailkeep import cli

# A run records when what was added to it; two runs of a test are to be equal in all bytes.
os.environ["SOURCE_DATE_EPOCH"] = "1700000000"

settings.register_profile("tailkeep", deadline=None)
settings.load_profile("tailkeep")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real text, questions, images and the tiny prior stories260k."""
    folder = os.environ.get("TAILKEEP_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TAILKEEP_DATA names no folder with real text and a real model")
    return Path(folder)


@pytest.fixture(scope="session")
def smollm2():
    """The Hugging Face folder of SmolLM2-135M, which examples/fetch_models.py makes."""
    folder = os.environ.get("TAILKEEP_MODELS")
    if not folder or not (Path(folder) / "smollm2-135m").is_dir():
        pytest.skip("TAILKEEP_MODELS names no folder with smollm2-135m; examples/fetch_models.py makes it")
    return Path(folder) / "smollm2-135m"


@pytest.fixture
def tailkeep(monkeypatch, capsys):
    """Run the command in this process: tailkeep("lab", ...) -> (exit code, stdout, stderr)."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tailkeep", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True, scope="module")
def _what_is_imported_is_no_garbage():
    """A Trainer collects garbage as it starts and ends, and would look at all that every other test has imported."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Give all of it back to the collector, so that the interpreter can end as ever."""
    gc.unfreeze()


REQUIREMENTS = {
    "TAILKEEP_DATA": r"TAILKEEP_DATA",
    "TAILKEEP_MODELS": r"TAILKEEP_MODELS",
    "chromium": r"chromium",
    "a GPU": r"no CUDA device",
    "a package": r"could not import|is not installed",
}
"""What a skipped test misses, and what its reason then says."""


def describe_skips(reasons: Iterable[str]) -> str:
    """One line: the skipped tests by what they miss. A module that skips itself is one of them."""
    counts = Counter(
        next((name for name, pattern in REQUIREMENTS.items() if re.search(pattern, reason)), "") for reason in reasons
    )
    if not counts:
        return "skipped tests: none"
    parts = [f"{counts[name]} without {name}" for name in REQUIREMENTS if counts[name]]
    parts += [f"{counts['']} for other reasons (pytest -rs lists them)"] if counts[""] else []
    return f"skipped tests: {', '.join(parts)}"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter) -> None:
    """End the session with a line on what was skipped, so that a missing model or browser cannot go unnoticed."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] if isinstance(report.longrepr, tuple) else "" for report in skipped]
    terminalreporter.write_line(describe_skips(reasons))
