from pathlib import Path

import pytest

from tailkeep.report import write
from tests.report.built_runs import hostile_run, language_run, numbers_run


@pytest.fixture(scope="session")
def language(tmp_path_factory) -> Path:
    """A language model's run with its report written. Read only."""
    path = language_run(tmp_path_factory.mktemp("language") / "run", generations=4)
    write(path)
    return path


@pytest.fixture(scope="session")
def numbers(tmp_path_factory) -> Path:
    """A Gaussian's and a mixture's run with its report written. Read only."""
    path = numbers_run(tmp_path_factory.mktemp("numbers") / "run")
    write(path)
    return path


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> Path:
    """A run whose names and texts try to be more than text, with its report written. Read only."""
    path = hostile_run(tmp_path_factory.mktemp("hostile") / "run")
    write(path)
    return path
