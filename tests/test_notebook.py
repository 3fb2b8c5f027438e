"""The notebook runs from its first cell to its last, at a small size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "collapse_in_ten_minutes.ipynb"


def test_it_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@pytest.mark.slow
def test_every_cell_runs_in_order_and_the_remedy_joins_the_run(tmp_path):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "notebook.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "TAILKEEP_SMALL": "1", "MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "notebook.py"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    arms = {path.name for path in (tmp_path / "runs" / "demo" / "cells").iterdir()}
    assert arms == {"baseline", "accumulate", "softened"}
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    assert "report.html" in ended.stdout
