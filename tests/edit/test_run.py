"""The whole way from files to files: what is edited, what stays, and what a run leaves behind."""

import gzip
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailkeep.data.corpus import find_shards
from tailkeep.edit import Task, run
from tailkeep.edit.stats import BANDS, bands_of
from tailkeep.errors import BusyError, ConfigError, FingerprintError, InputError
from tailkeep.runs import RunDirectory
from tests.edit.conftest import THRESHOLD, lines


@pytest.fixture(scope="module")
def finished(corpus, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    return run(config, corpus, out), out


def logged(out, name):
    return [json.loads(line) for line in (out / "edits" / f"{name}.jsonl").read_text("utf-8").splitlines()]


# What is edited


def test_documents_in_are_documents_out_and_every_shard_keeps_its_name(finished, corpus):
    outcome, out = finished
    assert outcome.complete
    assert outcome.counts["documents"] == outcome.counts["written"] == 40
    assert outcome.rejected == 0
    names = {
        path.relative_to(out / "documents").as_posix() for path in (out / "documents").rglob("*") if path.is_file()
    }
    assert names == {shard.name for shard in find_shards(corpus)}


def test_only_the_text_of_a_line_changes_and_the_log_tells_how(finished, corpus):
    _, out = finished
    edits = logged(out, "a.jsonl")
    assert edits
    before, after = ((folder / "a.jsonl").read_text().splitlines() for folder in (corpus, out / "documents"))
    changed = 0
    for old, new in zip(before, after, strict=True):
        tree, edited = json.loads(old), json.loads(new)
        document_edits = [edit for edit in edits if edit["document"] == tree["id"]]
        text = tree["text"]
        for edit in reversed(document_edits):
            assert text[edit["start"] : edit["end"]] == edit["old"] != edit["new"]
            text = text[: edit["start"]] + edit["new"] + text[edit["end"] :]
        assert edited == {**tree, "text": text}
        assert document_edits or new == old
        changed += bool(document_edits)
    assert changed > 0


def test_a_document_that_no_rule_touches_is_returned_byte_for_byte(corpus, config, tmp_path):
    outcome = run({**config, "rule": {"name": "low", "threshold": 1e-30}}, corpus, tmp_path / "out")
    assert outcome.counts["flagged"] == outcome.counts["edited"] == 0
    for name in ("a.jsonl", "c.txt"):
        assert (tmp_path / "out" / "documents" / name).read_bytes() == (corpus / name).read_bytes()
    zipped = (tmp_path / "out" / "documents" / "deep" / "b.jsonl.gz").read_bytes()
    assert gzip.decompress(zipped) == gzip.decompress((corpus / "deep" / "b.jsonl.gz").read_bytes())
    old, new = (pq.read_table(folder / "d.parquet") for folder in (corpus, tmp_path / "out" / "documents"))
    assert new.equals(old)


def test_flagged_tokens_are_those_of_a_plain_forward_pass(finished, corpus, prior):
    tokenizer = AutoTokenizer.from_pretrained(prior)
    network = AutoModelForCausalLM.from_pretrained(prior).double().eval()
    flagged = tokens = 0
    for row in (json.loads(line) for line in (corpus / "a.jsonl").read_text().splitlines()):
        ids = torch.tensor([tokenizer(row["text"])["input_ids"]])
        with torch.no_grad():
            table = network(input_ids=ids).logits[0, :-1].log_softmax(-1)
        log_probs = table.gather(1, ids[0, 1:, None])[:, 0]
        assert (log_probs - math.log(THRESHOLD)).abs().min() > 1e-5
        flagged += int((log_probs >= math.log(THRESHOLD)).sum())
        tokens += len(log_probs)
    counts = json.loads((finished[1] / "manifests" / "a.jsonl.json").read_text())["counts"]
    assert (counts["flagged"], counts["tokens"]) == (flagged, tokens)


def test_the_counts_of_the_bands_add_up(finished):
    counts = finished[0].counts
    for kind in ("tokens", "flagged", "changed", "deleted"):
        assert sum(counts[f"{kind}/{band}"] for band in BANDS) == counts[kind]
    assert sum(counts[f"after/{band}"] for band in BANDS) == counts["tokens"] - counts["deleted"]
    assert 0 < counts["changed"] <= counts["flagged"]
    refused = sum(value for name, value in counts.items() if name.startswith("refused/"))
    # The rule of the tests leaves no flagged token as it is, unless there was no candidate.
    assert counts["changed"] + refused == counts["flagged"]


def test_the_probabilities_in_the_log_are_those_of_the_bands(finished):
    outcome, out = finished
    edits = [edit for name in ("a.jsonl", "c.txt", "d.parquet", "deep/b.jsonl.gz") for edit in logged(out, name)]
    assert len(edits) == outcome.counts["changed"]
    assert min(edit["old_p"] for edit in edits) >= THRESHOLD * (1 - 1e-5)
    above = sum(edit["old_p"] >= 0.5 for edit in edits)
    assert above == sum(outcome.counts[f"changed/{band}"] for band in BANDS if float(band) >= 0.5)


def test_deletion_takes_tokens_out(corpus, config, tmp_path):
    rule = {"name": "low", "threshold": 1e-4, "action": "delete"}
    outcome = run({**config, "rule": rule, "sampler": {}}, corpus / "c.txt", tmp_path / "out")
    assert outcome.counts["deleted"] > 0
    assert outcome.counts["flagged"] == outcome.counts["changed"] == 0
    edits = logged(tmp_path / "out", "c.txt")
    assert all((edit["new"], edit["new_id"], edit["new_p"]) == ("", None, None) for edit in edits)
    old, new = (folder / "c.txt" for folder in (corpus, tmp_path / "out" / "documents"))
    assert len(old.read_text()) - len(new.read_text()) == sum(len(edit["old"]) for edit in edits)
    assert old.read_text().count("\n") == new.read_text().count("\n")


def test_only_the_turns_of_the_assistant_are_edited_and_prompts_are_context(config, tmp_path):
    turns = [("user", "Ann saw a red cat."), ("assistant", "Ben had a little boat."), ("user", "It was Ben's.")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    (tmp_path / "chat.jsonl").write_text(json.dumps(row) + "\n")
    settings = {**config, "layout": {"chat": {}}, "rule": {"name": "random", "share": 1.0}}
    run(settings, tmp_path / "chat.jsonl", tmp_path / "out")
    edited = json.loads((tmp_path / "out" / "documents" / "chat.jsonl").read_text())
    contents = [turn["content"] for turn in edited["messages"]]
    assert contents[0::2] == [turns[0][1], turns[2][1]]
    assert contents[1] != turns[1][1]
    assert {edit["path"] for edit in logged(tmp_path / "out", "chat.jsonl")} == {"messages.1.content"}
    # The same answer to another question is judged anew.
    row["messages"][0]["content"] = "Dov had an old house."
    (tmp_path / "chat.jsonl").write_text(json.dumps(row) + "\n")
    run(settings, tmp_path / "chat.jsonl", tmp_path / "other")
    first, second = (logged(tmp_path / name, "chat.jsonl") for name in ("out", "other"))
    assert [edit["old_p"] for edit in first] != [edit["old_p"] for edit in second]


def test_protected_parts_stay_and_are_counted(config, tmp_path):
    texts = ["Ann saw 1,234 cats at www.example.org in 1999.", "Q: red? A: green."]
    (tmp_path / "x.txt").write_text("\n".join(texts) + "\n")
    settings = {
        **config,
        "rule": {"name": "random", "share": 1.0},
        "protection": {"numbers": True, "prompt_until": "A:"},
    }
    outcome = run(settings, tmp_path / "x.txt", tmp_path / "out")
    first, second = (tmp_path / "out" / "documents" / "x.txt").read_text().splitlines()
    # Without the mark that ends a prompt a text is all prompt.
    assert first == texts[0]
    assert second.startswith("Q: red? A:")
    assert second != texts[1]
    assert outcome.counts["refused/protected"] > 20


def test_token_ids_are_those_of_the_edits(corpus, config, tmp_path, prior):
    outcome = run({**config, "output": "both"}, corpus / "a.jsonl", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "tokens" / "a.jsonl.parquet")
    assert table.schema.metadata.keys() >= {b"tailkeep.tokenizer", b"tailkeep.edit"}
    tokenizer = AutoTokenizer.from_pretrained(prior)
    rows = [json.loads(line) for line in (corpus / "a.jsonl").read_text().splitlines()]
    assert table["document"].to_pylist() == [row["id"] for row in rows]
    edits = logged(tmp_path / "out", "a.jsonl")
    for row, ids in zip(rows, table["ids"].to_pylist(), strict=True):
        original = tokenizer(row["text"])["input_ids"]
        document_edits = [edit for edit in edits if edit["document"] == row["id"]]
        differing = [(old, new) for old, new in zip(original, ids, strict=True) if old != new]
        assert differing == [(edit["old_id"], edit["new_id"]) for edit in document_edits]
    assert 0 <= outcome.counts["retokenized_otherwise"] <= outcome.counts["edited"]


def test_tokens_alone_leave_no_documents(corpus, config, tmp_path):
    run({**config, "output": "tokens"}, corpus / "a.jsonl", tmp_path / "out")
    assert not (tmp_path / "out" / "documents" / "a.jsonl").exists()
    assert len(pq.read_table(tmp_path / "out" / "tokens" / "a.jsonl.parquet")) == 10


def test_a_line_of_plain_text_stays_a_line(corpus, config, tmp_path):
    # Every token of every line is drawn anew, from all tokens alike.
    wild = {"rule": {"name": "random", "share": 1.0}, "sampler": {"top_k": None, "temperature": 1e6}}
    outcome = run({**config, **wild}, corpus / "c.txt", tmp_path / "out")
    assert outcome.counts["changed"] > 0.5 * outcome.counts["tokens"]
    text = (tmp_path / "out" / "documents" / "c.txt").read_bytes().decode()
    assert len(text.splitlines()) == 10 + 1
    assert text.endswith("\n\n")
    assert "\ufffd" not in text


def test_another_seed_makes_other_edits(corpus, config, tmp_path):
    for seed in (0, 1):
        run({**config, "seed": seed}, corpus / "a.jsonl", tmp_path / str(seed))
    zero, one = (logged(tmp_path / str(seed), "a.jsonl") for seed in (0, 1))
    assert [(edit["document"], edit["start"]) for edit in zero] == [(edit["document"], edit["start"]) for edit in one]
    assert [edit["new_id"] for edit in zero] != [edit["new_id"] for edit in one]


def test_a_document_is_edited_alike_whatever_stands_beside_it(corpus, config, tmp_path):
    whole = (corpus / "a.jsonl").read_bytes()
    (tmp_path / "part.jsonl").write_bytes(b"\n".join(whole.split(b"\n")[4:7]))
    for name, path in (("part", tmp_path / "part.jsonl"), ("whole", corpus / "a.jsonl")):
        run(config, path, tmp_path / name)
    part = (tmp_path / "part" / "documents" / "part.jsonl").read_bytes()
    assert b"\n".join((tmp_path / "whole" / "documents" / "a.jsonl").read_bytes().split(b"\n")[4:7]) == part


# What a run leaves


def test_a_run_directory_says_what_produced_it(finished):
    outcome, out = finished
    record = RunDirectory.open(out).record
    assert record.kind == "edit"
    assert record.fingerprint == outcome.fingerprint
    assert record.sources["config"]["rule"]["threshold"] == THRESHOLD
    assert set(record.sources["model"]["prior"]["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["counts"] == outcome.counts
    assert summary["changed_share"] == outcome.changed_share <= summary["flagged_share"]


def test_a_run_that_is_run_again_keeps_its_bytes_and_its_files(finished, corpus, config):
    outcome, out = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "documents").rglob("*")}
    assert run(config, corpus, out) == outcome
    assert {path: path.stat().st_mtime_ns for path in (out / "documents").rglob("*")} == before


def test_a_run_of_something_else_is_refused_by_what_differs(finished, corpus, config):
    _, out = finished
    with pytest.raises(FingerprintError, match=r"config\.seed: 0 there, 7 here"):
        run({**config, "seed": 7}, corpus, out)
    with pytest.raises(FingerprintError, match=r"input\.shards: 4 there, 1 here"):
        run(config, corpus / "a.jsonl", out)


def test_what_changes_no_output_resumes(finished, corpus, config):
    outcome, out = finished
    assert run({**config, "on_error": "skip"}, corpus, out) == outcome


@pytest.fixture
def doubled(tmp_path):
    """Two files that share two ids, of which one occurs three times."""
    (tmp_path / "in").mkdir()
    for name, ids in (("one", ["a", "b", "c", "b"]), ("two", ["d", "b", "c"])):
        rows = [{"id": id_, "text": f"Ann saw a cat, {name} {number}."} for number, id_ in enumerate(ids)]
        (tmp_path / "in" / f"{name}.jsonl").write_bytes(lines(rows, ""))
    return tmp_path / "in"


def test_documents_with_one_id_are_refused_before_the_first_is_edited(config, doubled, tmp_path, monkeypatch):
    monkeypatch.setattr("tailkeep.edit.editor.DocumentEditor.edit", None)
    with pytest.raises(
        InputError, match=r"3 documents have the id of an earlier one, such as one\.jsonl, document 3, and"
    ):
        run(config, doubled, tmp_path / "out")
    monkeypatch.undo()
    # Nothing was edited, so another choice begins in the same folder.
    outcome = run({**config, "layout": {"id_field": None}}, doubled, tmp_path / "out")
    assert outcome.counts["written"] == 7


def test_skip_rejects_every_document_with_the_id_of_an_earlier_one(config, doubled, tmp_path):
    outcome = run({**config, "on_error": "skip"}, doubled, tmp_path / "out")
    assert (outcome.counts["written"], outcome.rejected) == (4, 3)
    rejected = {
        name: [json.loads(line) for line in (tmp_path / "out" / "rejects" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("one.jsonl", "two.jsonl")
    }
    assert {name: [item["row"] for item in items] for name, items in rejected.items()} == {
        "one.jsonl": [3],
        "two.jsonl": [1, 2],
    }
    assert rejected["two.jsonl"][0]["reason"] == "the id of one.jsonl, document 1, from 0. Make the ids unique"
    # A run whose first shard is finished knows its ids from its output.
    for task in range(2):
        run({**config, "on_error": "skip"}, doubled, tmp_path / "tasks", task=Task(task, 2))
    (tmp_path / "out" / "manifests" / "two.jsonl.json").unlink()
    assert run({**config, "on_error": "skip"}, doubled, tmp_path / "out").counts == outcome.counts


def test_an_output_within_the_input_is_refused(corpus, config):
    with pytest.raises(ConfigError, match="lies in the input"):
        run(config, corpus, corpus / "out")
    assert not (corpus / "out").exists()


def test_a_folder_of_other_things_is_refused(corpus, config, tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(InputError, match="holds other things, such as 'mine'"):
        run(config, corpus, tmp_path)


def test_a_task_is_done_by_one_process_at_a_time_and_others_go_on(corpus, config, tmp_path):
    out = tmp_path / "out"
    inner = []

    def meanwhile(progress):
        if progress.done != 1 or inner:
            return
        inner.append("busy")
        with pytest.raises(BusyError, match="task 0 of 2"):
            run(config, corpus, out, task=Task(0, 2))
        inner.append(run(config, corpus, out, task=Task(1, 2)))

    outcome = run(config, corpus, out, task=Task(0, 2), observe=meanwhile)
    assert not inner[1].complete
    assert outcome.complete


def test_bands_split_at_the_thresholds():
    logs = np.log(np.array([0.05, 0.1, 0.95, 0.99, 0.9995, 1.0]))
    assert [BANDS[band] for band in bands_of(logs.astype(np.float32))] == ["0", "0.1", "0.9", "0.99", "0.999", "0.999"]


@pytest.mark.parametrize(
    ("sampler", "entities", "warned"),
    [
        ({"exclude_original": True}, False, True),
        ({"exclude_original": True}, True, False),
        ({"temperature": 4.0}, False, True),
        ({}, False, False),
    ],
)
def test_a_sampler_that_prefers_unlikely_tokens_is_warned_about_unless_facts_are_protected(
    config, corpus, tmp_path, sampler, entities, warned
):
    tree = {**config, "sampler": sampler, "protection": {"entities": entities}}
    warnings = " ".join(run(tree, corpus / "a.jsonl", tmp_path / "out").warnings())
    assert ("Set protection.entities=true" in warnings) == warned


def test_protected_entities_are_never_edited(config, tmp_path):
    text = "She met Ann Lee in Northern Ireland on 3 April 1992 and they had a long walk by the sea. "
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"id": str(n), "text": text * 5}) + "\n" for n in range(5)))
    tree = {**config, "protection": {"entities": True}}
    outcome = run(tree, tmp_path / "x.jsonl", tmp_path / "out")
    assert outcome.counts["changed"] > 0
    assert outcome.counts["refused/protected"] > 0
    for line in (tmp_path / "out" / "documents" / "x.jsonl").read_text().splitlines():
        edited = json.loads(line)["text"]
        assert edited.count(" Ann Lee") == edited.count(" Northern Ireland") == edited.count(" 3 April 1992") == 5
