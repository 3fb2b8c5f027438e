"""Documents of token ids: edited as their text would be, and refused if they may be another tokenizer's."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from tailkeep.edit import estimate, load, run
from tailkeep.errors import ConfigError, InputError
from tailkeep.rules import read_token_texts
from tailkeep.scoring.loading import load_tokenizer
from tests.edit.conftest import left_by
from tests.lab.causal_lm.tiny import STORIES


@pytest.fixture(scope="module")
def tokenizer(prior):
    return AutoTokenizer.from_pretrained(prior)


@pytest.fixture(scope="module")
def own_hash(prior):
    return read_token_texts(load_tokenizer(prior)).fingerprint


@pytest.fixture(scope="module")
def ids(tokenizer):
    return [tokenizer(text)["input_ids"] for text in STORIES]


@pytest.fixture(scope="module")
def ids_config(config, prior):
    return {**config, "layout": {"token_field": "input_ids", "tokenizer": str(prior)}}


@pytest.fixture(scope="module")
def corpus_of_ids(ids, tmp_path_factory):
    """Two files of lines and one of columns, with the ids of the same stories."""
    folder = tmp_path_factory.mktemp("ids") / "in"
    folder.mkdir()
    rows = [{"id": f"d{n}", "input_ids": row, "n": n} for n, row in enumerate(ids)]
    for name, part in (("a", rows[:10]), ("b", rows[10:20])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    table = pa.table(
        {
            "id": [row["id"] for row in rows[20:]],
            "input_ids": pa.array([row["input_ids"] for row in rows[20:]], pa.list_(pa.uint16())),
            "attention_mask": [[1] * len(row["input_ids"]) for row in rows[20:]],
        }
    )
    pq.write_table(table.replace_schema_metadata({"mine": "kept"}), folder / "c.parquet", row_group_size=7)
    return folder


@pytest.fixture(scope="module")
def finished(corpus_of_ids, ids_config, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished-ids") / "out"
    return run(ids_config, corpus_of_ids, out), out


def ids_in(folder, name="input_ids"):
    contents = {}
    for path in sorted(folder.glob("*.jsonl")):
        contents |= {row["id"]: row[name] for row in map(json.loads, path.read_text().splitlines())}
    for path in sorted(folder.glob("*.parquet")):
        contents |= {row["id"]: row[name] for row in pq.read_table(path).to_pylist()}
    return contents


def logged(out):
    return [
        json.loads(line) for path in sorted((out / "edits").glob("*")) for line in path.read_text("utf-8").splitlines()
    ]


def test_ids_are_edited_as_their_text_is(finished, config, tmp_path):
    outcome, out = finished
    rows = [{"id": f"d{n}", "text": text} for n, text in enumerate(STORIES)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = run({**config, "output": "tokens"}, tmp_path / "x.jsonl", tmp_path / "text")
    table = pq.read_table(tmp_path / "text" / "tokens" / "x.jsonl.parquet")
    assert ids_in(out / "documents") == dict(zip(table["document"].to_pylist(), table["ids"].to_pylist(), strict=True))
    assert outcome.counts["changed"] > 0
    for kind in ("tokens", "flagged", "changed", "deleted", "edited"):
        assert outcome.counts[kind] == whole.counts[kind]
    of_text = {(item["document"], item["old_id"], item["new_id"], item["old"], item["new"]) for item in logged(out)}
    of_ids = logged(tmp_path / "text")
    assert of_text == {(item["document"], item["old_id"], item["new_id"], item["old"], item["new"]) for item in of_ids}


def test_the_log_counts_tokens_and_with_the_original_makes_the_edited_list(finished, corpus_of_ids):
    _, out = finished
    lists = ids_in(corpus_of_ids)
    for item in logged(out):
        at = item["start"]
        assert (item["path"], item["end"]) == ("input_ids", at + 1)
        assert lists[item["document"]][at] == item["old_id"]
        lists[item["document"]][at] = item["new_id"]
    assert lists == ids_in(out / "documents")


def test_everything_but_the_ids_stays_as_it_was(finished, corpus_of_ids, own_hash):
    _, out = finished
    edited = {item["document"] for item in logged(out)}
    for name in ("a.jsonl", "b.jsonl"):
        lines = [(folder / name).read_bytes().splitlines() for folder in (corpus_of_ids, out / "documents")]
        for old, new in zip(*lines, strict=True):
            row = json.loads(old)
            assert (old == new) == (row["id"] not in edited)
            assert {**json.loads(new), "input_ids": row["input_ids"]} == row
    old, new = (pq.read_table(folder / "c.parquet") for folder in (corpus_of_ids, out / "documents"))
    assert new.schema.equals(old.schema)
    assert new.drop_columns("input_ids").equals(old.drop_columns("input_ids"))
    metadata = new.schema.metadata
    assert (metadata[b"mine"], metadata[b"tailkeep.tokenizer"]) == (b"kept", own_hash.encode())
    groups = [pq.ParquetFile(folder / "c.parquet").num_row_groups for folder in (corpus_of_ids, out / "documents")]
    assert groups[0] == groups[1] > 1


@pytest.mark.slow
def test_two_workers_leave_the_same_bytes(finished, corpus_of_ids, ids_config, tmp_path):
    run(ids_config, corpus_of_ids, tmp_path / "out", workers=2)
    assert left_by(tmp_path / "out") == left_by(finished[1])


def test_a_run_that_was_stopped_goes_on_and_leaves_the_same_bytes(finished, corpus_of_ids, ids_config, tmp_path):
    class StopError(Exception):
        pass

    def stop(progress):
        if progress.done == 1:
            raise StopError

    with pytest.raises(StopError):
        run(ids_config, corpus_of_ids, tmp_path / "out", observe=stop)
    assert run(ids_config, corpus_of_ids, tmp_path / "out") == finished[0]
    assert left_by(tmp_path / "out") == left_by(finished[1])


def test_special_tokens_and_parts_of_characters_are_never_touched(ids_config, tokenizer, tmp_path):
    pieces = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Ann saw", " 数 a red cat.")]
    row = [tokenizer.eos_token_id, *pieces[0], tokenizer.eos_token_id, *pieces[1], tokenizer.eos_token_id]
    (tmp_path / "x.jsonl").write_text(json.dumps({"input_ids": row}) + "\n")
    wild = {"rule": {"name": "random", "share": 1.0}, "sampler": {"top_k": None, "temperature": 1e6}}
    outcome = run({**ids_config, **wild}, tmp_path / "x.jsonl", tmp_path / "out")
    edited = json.loads((tmp_path / "out" / "documents" / "x.jsonl").read_text())["input_ids"]
    surfaces = read_token_texts(tokenizer)
    fixed = [at for at, token in enumerate(row) if surfaces[token] is None]
    assert len(fixed) > 4
    assert [edited[at] for at in fixed] == [row[at] for at in fixed]
    assert outcome.counts["refused/fragment"] == len(fixed) - 3
    assert outcome.counts["changed"] > 0.5 * (len(row) - len(fixed))
    assert all(surfaces[token] is not None for at, token in enumerate(edited) if at not in fixed)


def test_protected_text_is_protected_in_ids_too(ids_config, tokenizer, tmp_path):
    row = tokenizer("Ann saw 1999 cats.")["input_ids"]
    (tmp_path / "x.jsonl").write_text(json.dumps({"input_ids": row}) + "\n")
    wild = {"rule": {"name": "random", "share": 1.0}, "protection": {"numbers": True}}
    outcome = run({**ids_config, **wild}, tmp_path / "x.jsonl", tmp_path / "out")
    assert outcome.counts["refused/protected"] > 0
    edited = json.loads((tmp_path / "out" / "documents" / "x.jsonl").read_text())["input_ids"]
    assert "1999" in tokenizer.decode(edited)


# Deletion and what stands beside the ids


DELETING = {"rule": {"name": "low", "threshold": 1e-4, "action": "delete"}, "sampler": {}}


def test_deletion_makes_the_list_shorter(ids_config, corpus_of_ids, tmp_path):
    outcome = run({**ids_config, **DELETING}, corpus_of_ids / "a.jsonl", tmp_path / "out")
    before = {name: len(row) for name, row in ids_in(corpus_of_ids).items()}
    after = {name: len(row) for name, row in ids_in(tmp_path / "out" / "documents").items()}
    assert sum(before[name] - length for name, length in after.items()) == outcome.counts["deleted"] > 0


@pytest.mark.parametrize("deletion", [DELETING, {"rule": {"name": "toedit", "delete_below": 1e-4}}])
def test_deletion_beside_a_list_as_long_is_refused(ids_config, corpus_of_ids, tmp_path, deletion):
    with pytest.raises(ConfigError, match=r"c\.parquet, row 0: the field 'attention_mask' is as long as 'input_ids'"):
        run({**ids_config, **deletion, "on_error": "skip"}, corpus_of_ids / "c.parquet", tmp_path / "out")


def test_a_list_that_repeats_the_ids_is_warned_about(ids_config, ids, tmp_path):
    rows = [{"input_ids": row, "labels": [-100, *row[1:]], "attention_mask": [1] * len(row)} for row in ids[:5]]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = run(ids_config, tmp_path / "x.jsonl", tmp_path / "out")
    _, warning = outcome.warnings()
    assert warning.startswith(f"{outcome.counts['edited']} edited documents have another list that repeats their token")
    for line, row in zip((tmp_path / "out" / "documents" / "x.jsonl").read_text().splitlines(), rows, strict=True):
        assert json.loads(line)["labels"] == row["labels"]


# Whose ids they are


def test_ids_of_nobody_in_particular_are_refused_until_it_is_said(config, corpus_of_ids, own_hash, finished, tmp_path):
    unsaid = {**config, "layout": {"token_field": "input_ids"}}
    with pytest.raises(InputError, match=rf"a\.jsonl does not record which tokenizer .*layout\.tokenizer .*{own_hash}"):
        run(unsaid, corpus_of_ids, tmp_path / "out")
    with pytest.raises(InputError, match="does not record which tokenizer"):
        estimate(load(unsaid), corpus_of_ids, limit=1)
    assert not (tmp_path / "out").exists()
    # How it is said is free: the run that named a folder goes on with the hash.
    outcome, out = finished
    said = {**config, "layout": {"token_field": "input_ids", "tokenizer": own_hash}}
    assert run(said, corpus_of_ids, out) == outcome


def test_ids_of_another_tokenizer_are_refused(config, corpus_of_ids, tmp_path, own_hash):
    def layout(tokenizer):
        return {**config, "layout": {"token_field": "input_ids", "tokenizer": tokenizer}}

    other = "0" * 64
    message = f"the ids come from the tokenizer {'0' * 12}, but the prior's is {own_hash[:12]}"
    with pytest.raises(InputError, match=message):
        run(layout(other), corpus_of_ids, tmp_path / "out")
    with pytest.raises(InputError, match=r"layout\.tokenizer: no/such is neither a folder nor a hash of 64 digits"):
        run(layout("no/such"), corpus_of_ids, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"layout\.tokenizer: .*empty holds no tokenizer"):
        run(layout(str(tmp_path / "empty")), corpus_of_ids, tmp_path / "out")
    table = pq.read_table(corpus_of_ids / "c.parquet").replace_schema_metadata({"tailkeep.tokenizer": other})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InputError, match=rf"x\.parquet holds ids of the tokenizer {'0' * 12}"):
        run(layout(own_hash), tmp_path / "x.parquet", tmp_path / "out")


def test_the_ids_of_an_edit_tell_their_tokenizer_and_that_they_are_edited(config, corpus, tmp_path):
    run({**config, "output": "tokens"}, corpus / "a.jsonl", tmp_path / "first")
    tokens = tmp_path / "first" / "tokens" / "a.jsonl.parquet"
    again = {**config, "layout": {"token_field": "ids", "id_field": "document"}}
    with pytest.raises(InputError, match="edited already"):
        run(again, tokens, tmp_path / "again")
    outcome = run({**again, "force": True}, tokens, tmp_path / "again")
    assert outcome.counts["written"] == 10
    schema = pq.read_schema(tmp_path / "again" / "documents" / "a.jsonl.parquet")
    assert schema.equals(pq.read_schema(tokens))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_an_id_that_the_tokenizer_does_not_have_stops_with_its_place_or_is_rejected(ids_config, ids, tmp_path, kind):
    rows = [{"input_ids": ids[0]}, {"input_ids": [*ids[1], 70000]}]
    path = tmp_path / f"x.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    place = "line 2" if kind == "jsonl" else "row 1"
    with pytest.raises(InputError, match=rf"x\.{kind}, {place}: number {len(ids[1])} of 'input_ids' is 70000"):
        run(ids_config, path, tmp_path / "out")
    outcome = run({**ids_config, "on_error": "skip"}, path, tmp_path / "out")
    assert (outcome.counts["documents"], outcome.counts["written"], outcome.rejected) == (2, 1, 1)
    (rejected,) = map(json.loads, (tmp_path / "out" / "rejects" / f"x.{kind}.jsonl").read_text().splitlines())
    assert rejected["reason"].startswith(
        f"number {len(ids[1])} of 'input_ids' is 70000, but the prior's tokenizer has ids"
    )
    assert rejected["base64"]


def test_a_column_that_cannot_hold_the_edited_ids_is_refused(ids_config, tmp_path):
    pq.write_table(pa.table({"input_ids": pa.array([[1, 2]], pa.list_(pa.uint8()))}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"ids of type list<.*uint8> cannot hold the tokenizer's \d+ ids"):
        run(ids_config, tmp_path / "x.parquet", tmp_path / "out")
    inner = pa.array([{"ids": [1, 2]}], pa.struct([("ids", pa.list_(pa.int32(), 2))]))
    pq.write_table(pa.table({"a": inner}), tmp_path / "x.parquet")
    nested = {**ids_config, "layout": {**ids_config["layout"], "token_field": "a.ids"}}
    with pytest.raises(ConfigError, match=r"x\.parquet: ids of type fixed_size_list.* have a fixed length"):
        run({**nested, **DELETING}, tmp_path / "x.parquet", tmp_path / "out")
    assert run(nested, tmp_path / "x.parquet", tmp_path / "out").counts["written"] == 1


def test_an_output_of_text_is_refused_beside_ids(ids_config):
    with pytest.raises(ConfigError, match=r"output 'both' does nothing beside layout\.token_field"):
        load({**ids_config, "output": "both"})


def test_plain_text_holds_no_ids(ids_config, corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"c\.txt is plain text and has no field"):
        run(ids_config, corpus / "c.txt", tmp_path / "out")
