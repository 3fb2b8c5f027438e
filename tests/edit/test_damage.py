"""One flipped bit in any file of a finished run: the same command again sees it and makes it good."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep.edit import run
from tests.edit.conftest import left_by


@pytest.fixture(scope="module")
def whole(corpus, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    run(config, corpus, out)
    return out


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_in_any_file_is_made_good_by_the_same_command(corpus, config, whole, tmp_path):
    names = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file() and path.stat().st_size]
    names = [name for name in names if not name.parts[0].startswith(".lock")]
    assert {name.parts[0] for name in names} >= {"documents", "edits", "ids", "manifests", "run.json", "summary.json"}
    for number, name in enumerate(names):
        copy = tmp_path / str(number)
        shutil.copytree(whole, copy)
        flip(copy / name)
        outcome = run(config, corpus, copy)
        assert left_by(copy) == left_by(whole), name
        assert bool(outcome.damaged) == (
            name.parts[0] in {"documents", "edits", "ids"} and name.name != "tailkeep.json"
        )


def test_verify_checks_an_unfinished_run_and_makes_good_what_is_damaged(corpus, config, whole, tmp_path):
    from tailkeep.edit import Task

    assert not run(config, corpus, tmp_path, task=Task(0, 2)).complete
    path = next(path for path in sorted((tmp_path / "documents").rglob("*.*")) if path.is_file())
    flip(path)
    assert not run(config, corpus, tmp_path, task=Task(0, 2)).damaged
    outcome = run(config, corpus, tmp_path, task=Task(0, 2), verify=True)
    assert len(outcome.damaged) == 1
    assert "Check the disk" in outcome.warnings()[-1]
    run(config, corpus, tmp_path)
    assert left_by(tmp_path) == left_by(whole)


def test_a_join_certifies_no_damage(config, tmp_path):
    texts = [f"Ann saw a cat and {number} dogs." for number in range(12)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet", row_group_size=4)
    parts = {**config, "row_groups": 1}
    from tailkeep.edit import Task

    for number in range(2):
        run(parts, tmp_path / "x.parquet", tmp_path / "out", task=Task(number, 3))
    flip(next(path for path in (tmp_path / "out" / "parts").rglob("*.parquet") if path.is_file()))
    outcome = run(parts, tmp_path / "x.parquet", tmp_path / "out", task=Task(2, 3))
    assert len(outcome.damaged) == 1
    run(parts, tmp_path / "x.parquet", tmp_path / "whole")
    assert left_by(tmp_path / "out") == left_by(tmp_path / "whole")
