"""Documents of equal ids: all but the first are rejected, whoever works on which shard, and however often."""

import json

import pytest

from tailkeep.data.corpus import Layout, Task, find_shards, open_shard_io
from tailkeep.edit import estimate, load, run
from tailkeep.errors import InputError
from tests.edit.conftest import left_by
from tests.lab.causal_lm.tiny import STORIES

IDS = {"a": ["x", "a"], "b": ["b", "x"], "c": ["x", "c", "c"]}


@pytest.fixture
def skipping(config):
    return {**config, "on_error": "skip"}


def write(folder, ids):
    folder.mkdir()
    for number, (name, names) in enumerate(ids.items()):
        rows = [{"id": one, "text": STORIES[(3 * number + row) % len(STORIES)]} for row, one in enumerate(names)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path / "in", IDS)


@pytest.fixture
def undisturbed(corpus, skipping, tmp_path):
    outcome = run(skipping, corpus, tmp_path / "undisturbed")
    assert (outcome.counts["written"], outcome.rejected) == (4, 3)
    return left_by(tmp_path / "undisturbed")


def test_tasks_in_any_order_reject_what_one_does(corpus, skipping, undisturbed, tmp_path):
    for index in (2, 0, 1):
        run(skipping, corpus, tmp_path / "out", task=Task(index, 3))
    assert left_by(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("name", ["documents/b.jsonl", "rejects/c.jsonl.jsonl"])
@pytest.mark.parametrize("verify", [True, False])
def test_what_is_made_again_rejects_what_it_did(corpus, skipping, undisturbed, tmp_path, name, verify):
    damaged = tmp_path / "undisturbed" / name
    damaged.write_bytes(bytes([damaged.read_bytes()[0] ^ 1]) + damaged.read_bytes()[1:])
    outcome = run(skipping, corpus, tmp_path / "undisturbed", verify=verify)
    assert outcome.damaged == (name.removeprefix("documents/").removeprefix("rejects/").replace(".jsonl.", "."),)
    assert left_by(tmp_path / "undisturbed") == undisturbed


def test_a_dry_run_rejects_what_the_run_does(config, skipping, corpus):
    assert estimate(load(skipping), corpus, limit=20).outcome.counts["rejected"] == 3
    with pytest.raises(InputError, match="the same id"):
        estimate(load(config), corpus, limit=20)


def test_a_finished_file_that_is_made_again_with_its_bundle_rejects_what_it_did(skipping, tmp_path):
    corpus = write(tmp_path / "in", {f"{n:02d}": ["x"] if n in (3, 5) else [f"{n}"] for n in range(32)})
    run(skipping, corpus, tmp_path / "out")
    undisturbed = left_by(tmp_path / "out")
    (tmp_path / "out" / "manifests" / "04.jsonl.json").unlink()
    run(skipping, corpus, tmp_path / "out")
    assert left_by(tmp_path / "out") == undisturbed


def test_a_document_that_a_run_without_rejects_has_written_is_no_second_of_its_id(config, skipping, corpus, tmp_path):
    run(config, corpus, tmp_path / "out", task=Task(1, 3))
    with pytest.raises(InputError, match=r"the same id: a\.jsonl, document 0, and b\.jsonl, document 1"):
        run(skipping, corpus, tmp_path / "out")


def test_a_document_that_is_left_out_is_the_first_of_its_id_after_a_restart_too(corpus, tmp_path):
    shard, layout = find_shards(corpus)[0], Layout()
    with open_shard_io(shard, layout, tmp_path / "out") as shard_io:
        for _ in shard_io.records():
            shard_io.exclude()
    assert (tmp_path / "out" / "ids" / "a.jsonl.ids").stat().st_size == 2 * 24
