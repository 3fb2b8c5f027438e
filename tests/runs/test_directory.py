import json
import math
from pathlib import Path

import pytest

from tailkeep.config import dump_tree
from tailkeep.errors import ConfigError, FingerprintError, InputError, StorageError
from tailkeep.runs import RunDirectory, RunRecord
from tailkeep.sanitize import HIDDEN
from tests.runs.faults import content, with_fault
from tests.runs.small_run import CONFIG, RECORD, run


def record(sources, **changes):
    return RunRecord.of(**{"kind": "small", "sources": sources, "installed": {}, "seeds": (0,), **changes})


def create(path, kind=RECORD, *, config=CONFIG, storage=None):
    with RunDirectory.create(path, kind, config=config, storage=storage) as directory:
        return directory


def test_a_new_run_says_what_produced_it(tmp_path):
    create(tmp_path / "deep" / "run")
    assert (tmp_path / "deep" / "run" / "config.yaml").read_text() == CONFIG
    assert json.loads((tmp_path / "deep" / "run" / "run.json").read_text()) == {
        "kind": "small",
        "fingerprint": RECORD.fingerprint,
        "sources": {"config": {"seeds": [0], "rate": 0.001}},
        "versions": {"tailkeep": "0"},
        "seeds": [0],
    }


def test_a_record_that_is_read_back_equals_the_one_written(tmp_path):
    mixed = record({"config": {"seeds": (0, 1), "share": 0.1, "nothing": None, "name": "Zoë"}}, seeds=(0, 1))
    create(tmp_path / "run", mixed)
    assert RunDirectory.open(tmp_path / "run").record == mixed


def test_an_empty_folder_can_become_a_run(tmp_path):
    create(tmp_path)
    assert RunDirectory.open(tmp_path).record == RECORD


def test_the_same_fingerprint_resumes_and_keeps_the_first_record(tmp_path):
    create(tmp_path / "run")
    create(tmp_path / "run", record(RECORD.sources, installed={"tailkeep": "1"}))
    assert RunDirectory.open(tmp_path / "run").record == RECORD


def test_another_fingerprint_is_refused_and_says_what_differs(tmp_path):
    create(tmp_path / "run", record({"config": {"rate": 0.1, "old": None}, "model": "a"}))
    before = content(tmp_path / "run")
    with pytest.raises(FingerprintError) as caught:
        create(tmp_path / "run", record({"config": {"rate": 0.2, "new": "x" * 200}, "model": "a"}))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path / 'run'} holds another run. What differs:"
    assert lines[1].startswith('  config.new: nothing there, "xxx')
    assert lines[1].endswith("... here")
    assert lines[2:4] == ["  config.old: null there, nothing here", "  config.rate: 0.1 there, 0.2 here"]
    assert "Give another --out" in lines[4]
    assert content(tmp_path / "run") == before


def test_a_run_of_another_kind_is_refused(tmp_path):
    create(tmp_path / "run")
    with pytest.raises(FingerprintError, match=r"holds another run, of `tailkeep small`\. Give another --out"):
        create(tmp_path / "run", record(RECORD.sources, kind="audit"))


def test_credentials_reach_neither_the_record_nor_the_config(tmp_path):
    token = "hf_" + "a1B2" * 8
    create(
        tmp_path / "run",
        record({"config": {"hub_token": token, "url": f"https://u:{token}@host"}}),
        config=f"x: {token}\n",
    )
    written = b"".join(data or b"" for data in content(tmp_path / "run").values())
    assert token.encode() not in written


def test_secrets_of_a_configuration_are_hidden_whole_and_numbers_stay(tmp_path):
    secrets = {"password": "hunter,2secret", "api_key": "abc'defgh", "client_secret": "x; y' & z", "passwd": 12345678}
    config = dump_tree({"options": {**secrets, "prefix_token": 50256}, "seeds": [0]})
    create(tmp_path / "run", config=config)
    hidden = {"options": {**dict.fromkeys(secrets, HIDDEN), "prefix_token": 50256}, "seeds": [0]}
    assert RunDirectory.open(tmp_path / "run").config_tree() == hidden
    assert (tmp_path / "run" / ".config.yaml").read_text().partition("\n")[2] == dump_tree(hidden)
    plain = dump_tree({"seeds": [0, 1], "name": "x"})
    create(tmp_path / "plain", config=plain)
    assert (tmp_path / "plain" / "config.yaml").read_text() == plain


def test_a_renewed_credential_is_the_same_run(tmp_path):
    create(tmp_path / "run", record({"config": {"hub_token": "an old one"}}))
    create(tmp_path / "run", record({"config": {"hub_token": "a new one"}}))


@pytest.mark.parametrize("name", ["thesis.tex", "config.yaml", "movie.partial", "config.yaml.partial"])
def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="holds other things"):
        create(tmp_path)
    assert content(tmp_path, without=()) == {name: b"mine"}


def test_a_file_is_refused_as_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"is a file. Give the path of a folder"):
        create(tmp_path / "file")
    with pytest.raises(InputError, match="cannot create"):
        create(tmp_path / "file" / "run")


def test_a_read_only_disk_is_one_clear_error(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*config.yaml: Read-only file system"):
        create(tmp_path / "run", storage=with_fault(1, "read-only"))


def test_a_folder_that_cannot_be_locked_is_one_clear_error(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(InputError, match="cannot write in"):
        create(tmp_path)


def test_opening_a_folder_without_a_run_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match=r"holds no run.json. Give a directory"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object, got list"),
        ('{"kind": "lab"}', "the key 'fingerprint' is missing"),
        ('{"kind": "lab", "fingerprint": "a", "sources": [], "versions": {}, "seeds": []}', "sources: Input should be"),
    ],
)
def test_a_broken_record_is_named(tmp_path, text, found):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json") as caught:
        RunDirectory.open(tmp_path)
    assert found in str(caught.value)


def test_a_record_that_is_not_text_is_named(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"run.json: not JSON"):
        RunDirectory.open(tmp_path)


def test_leftovers_of_a_killed_process_are_gone_after_resuming(tmp_path):
    directory = create(tmp_path / "run")
    leftover = directory.generation_dir("arm", 0, 1).path / "model.partial"
    leftover.mkdir(parents=True)
    create(tmp_path / "run")
    assert not leftover.exists()


@pytest.mark.parametrize("arm", ["", ".", "..", "../up", "a/b", ".hidden", "-o", "a b", "ä", "x.partial", "a\n"])
def test_an_arm_that_cannot_name_a_folder_is_refused(tmp_path, arm):
    with pytest.raises(ConfigError, match="cannot name a folder"):
        create(tmp_path / "run").generation_dir(arm, 0, 0)


def test_an_unfinished_cell_is_not_listed(tmp_path):
    directory = create(tmp_path / "run")
    directory.generation_dir("b", 1, 0).write_metrics({}, {}, learner="x")
    directory.generation_dir("b", 0, 0).finish()
    assert directory.generation_dirs() == [directory.generation_dir("b", 0, 0)]
    assert directory.generation_dirs(only_done=False) == [
        directory.generation_dir("b", 0, 0),
        directory.generation_dir("b", 1, 0),
    ]


def test_cells_come_in_the_order_of_numbers(tmp_path):
    directory = create(tmp_path / "run")
    names = [("a", 2, 0), ("a", 10, 0), ("b", 0, 9), ("b", 0, 10)]
    for name in reversed(names):
        directory.generation_dir(*name).finish()
    assert [(cell.arm, cell.seed, cell.generation) for cell in directory.generation_dirs()] == names


def test_folders_that_are_no_cells_are_passed_over(tmp_path):
    directory = create(tmp_path / "run")
    for name in ("arm/notes/0", "arm/0/x", "arm/0/²", ".arm/0/0"):
        (directory.path / "cells" / name).mkdir(parents=True)
    assert directory.generation_dirs(only_done=False) == []


def test_a_run_without_cells_lists_none(tmp_path):
    assert create(tmp_path / "run").generation_dirs(only_done=False) == []


def test_the_tables_are_rebuilt_from_finished_cells_alone(tmp_path):
    run(tmp_path / "run")
    directory = RunDirectory.open(tmp_path / "run")
    before = content(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("spoilt")
    (tmp_path / "run" / "timings.jsonl").unlink()
    directory.generation_dir("baseline", 0, 7).write_metrics({"nll": 9.0}, {}, learner="small")
    directory.collect()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before["metrics.jsonl"]
    assert (tmp_path / "run" / "timings.jsonl").read_bytes() == before["timings.jsonl"]


def test_a_row_holds_the_names_of_its_cell_and_its_metrics(tmp_path):
    run(tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1] == {"arm": "kept", "seed": 0, "generation": 1, "learner": "small", "nll": 3.0}


def test_a_number_that_is_not_finite_is_read_back(tmp_path):
    cell = create(tmp_path / "run").generation_dir("arm", 0, 0)
    cell.write_metrics({"nan": math.nan, "inf": -math.inf}, {}, learner="x")
    metrics = cell.metrics()["metrics"]
    assert math.isnan(metrics["nan"])
    assert metrics["inf"] == -math.inf


def test_timings_add_up_phase_by_phase(tmp_path):
    cell = create(tmp_path / "run").generation_dir("arm", 0, 0)
    assert cell.timings() == {}
    cell.add_timing("fit", 1.23456)
    cell.add_timing("sample", 2.0)
    cell.add_timing("fit", 4.0)
    assert cell.timings() == {"fit": 4.0, "sample": 2.0}


def test_a_cell_is_done_once_its_last_file_is_there(tmp_path):
    cell = create(tmp_path / "run").generation_dir("arm", 0, 0)
    cell.storage.write_folder(cell.model, lambda folder: None)
    cell.write_metrics({}, {}, learner="x")
    assert not cell.done
    cell.finish()
    assert cell.done


def test_missing_metrics_are_named(tmp_path):
    cell = create(tmp_path / "run").generation_dir("arm", 0, 0)
    with pytest.raises(InputError, match=r"cannot read .*metrics.json: No such file"):
        cell.metrics()


def test_the_folders_of_a_cell_are_named_after_what_they_hold():
    directory = RunDirectory(Path("out"), RECORD, with_fault(1, "killed"))
    cell = directory.generation_dir("truncated.99", 3, 12)
    folder = Path("out/cells/truncated.99/3/12")
    assert (cell.path, cell.generated, cell.model, cell.samples) == (
        folder,
        folder / "generated",
        folder / "model",
        folder / "samples",
    )


@pytest.mark.parametrize("damage", ["flip", "delete", "truncate"])
def test_a_damaged_record_is_restored_from_its_copy_and_the_advice_works(tmp_path, damage):
    create(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    whole = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(whole[:-30] if damage == "truncate" else whole.replace(b'"rate"', b'"rbte"'))
        with pytest.raises(InputError, match=r"run the same command again, which restores it from its copy"):
            RunDirectory.open(tmp_path / "run")
    create(tmp_path / "run")
    assert path.read_bytes() == whole
    for name in ("run.json", ".run.json"):
        (tmp_path / "run" / name).write_bytes(whole[:-30])
    with pytest.raises(InputError, match="Give another --out"):
        create(tmp_path / "run")
