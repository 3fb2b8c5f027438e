"""One flipped bit in any file of a run is seen by the same command again, which leaves the bytes of a whole run."""

import shutil
from functools import partial

import pytest

from tailkeep import lab
from tailkeep.errors import FingerprintError, InputError
from tailkeep.runs import RunDirectory
from tests.lab.small_lab import TREE, outcome, run
from tests.runs.faults import Fault, FaultyStorage, interrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def results(folder):
    """The files of a run but its times, which are no results and have no record of their bytes."""
    skipped = {"timings.json", "timings.jsonl", ".lock"}
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in skipped]


def test_a_flipped_bit_in_any_file_is_made_good_by_the_same_command(whole, tmp_path):
    for number, path in enumerate(results(whole)):
        copy = tmp_path / str(number)
        shutil.copytree(whole, copy)
        flip(copy / path.relative_to(whole))
        run(copy)
        assert outcome(copy) == outcome(whole), path.relative_to(whole)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\x00{"])
@pytest.mark.parametrize("name", ["config.yaml", ".config.yaml", "fingerprint.json"])
def test_what_is_overwritten_is_restored(whole, tmp_path, name, content):
    shutil.copytree(whole, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob(name):
        path.write_bytes(content)
    run(tmp_path / "copy")
    assert outcome(tmp_path / "copy") == outcome(whole)


def test_an_unfinished_generation_of_unknown_inputs_is_made_again(whole, tmp_path):
    for number, content in enumerate((b"", b"no json")):
        cut = tmp_path / str(number)
        interrupt(partial(run, cut), Fault(40, "killed"))
        (unfinished,) = [cell for cell in RunDirectory.open(cut).generation_dirs(only_done=False) if not cell.done]
        (unfinished.path / "fingerprint.json").write_bytes(content)
        run(cut, FaultyStorage())
        assert outcome(cut) == outcome(whole)


def test_the_advice_about_a_fingerprint_of_other_inputs_works(whole, tmp_path):
    interrupt(partial(run, tmp_path / "run"), Fault(40, "killed"))
    (unfinished,) = [
        cell for cell in RunDirectory.open(tmp_path / "run").generation_dirs(only_done=False) if not cell.done
    ]
    path = unfinished.path / "fingerprint.json"
    text = path.read_text()
    path.write_text(text.replace(text[12:20], "0" * 8))
    with pytest.raises(FingerprintError, match=f"Give --recompute {unfinished.arm}, or another --out"):
        run(tmp_path / "run")
    lab.run(TREE, tmp_path / "run", recompute=(unfinished.arm,))
    cells = {name: content for name, content in outcome(tmp_path / "run").items() if name.startswith("cells")}
    assert cells == {name: content for name, content in outcome(whole).items() if name.startswith("cells")}


@pytest.mark.parametrize("name", ["metrics.json", "DONE"])
def test_a_deleted_result_is_made_again(whole, tmp_path, name):
    shutil.copytree(whole, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob(name):
        path.unlink()
    run(tmp_path / "copy")
    assert outcome(tmp_path / "copy") == outcome(whole)


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("name", ["DONE", "model.sha256", "samples.sha256"])
def test_a_record_of_sums_that_is_empty_or_lacks_its_end_is_damage(whole, tmp_path, name, size):
    shutil.copytree(whole, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob(name):
        path.write_bytes(path.read_bytes()[:size])
    run(tmp_path / "copy")
    assert outcome(tmp_path / "copy") == outcome(whole)


def test_a_damaged_model_of_an_interrupted_run_is_trained_again(whole, tmp_path):
    damaged = 0
    for n in range(20, 80, 15):
        cut = tmp_path / str(n)
        interrupt(partial(run, cut), Fault(n, "killed"))
        for path in [path for path in cut.rglob("model/*") if path.is_file()]:
            flip(path)
            damaged += 1
        run(cut, FaultyStorage())
        assert outcome(cut) == outcome(whole), n
    assert damaged


def test_damaged_metrics_are_no_numbers_of_a_report(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    cell = RunDirectory.open(tmp_path / "copy").generation_dirs()[0]
    text = (cell.path / "metrics.json").read_text()
    digit = next(at for at, character in enumerate(text) if character.isdigit())
    (cell.path / "metrics.json").write_text(f"{text[:digit]}{9 - int(text[digit])}{text[digit + 1 :]}")
    with pytest.raises(InputError, match=r"metrics\.json is damaged.*Run the same command again"):
        cell.metrics()


def test_the_sums_are_those_that_sha256sum_checks(whole):
    lines = [line for path in whole.rglob("samples.sha256") for line in path.read_text().splitlines()]
    assert lines
    assert all(len(line.partition("  ")[0]) == 64 and line.partition("  ")[2].startswith("samples/") for line in lines)
