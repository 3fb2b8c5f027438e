"""Input that cannot be edited, and runs that cannot be: one clear error each, or the documented rejection."""

import base64
import gzip
import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tailkeep.data.corpus import Task
from tailkeep.edit import estimate, load, run, task_here
from tailkeep.errors import ConfigError, FingerprintError, InputError
from tailkeep.rules import Low, ToEdit
from tests.edit.conftest import left_by

GOOD = b'{"id": "good", "text": "Ann saw a red cat."}\n'
BAD = {
    "not JSON": (b'{"text": "Ann', "not JSON"),
    "no field": (b'{"words": "Ann"}', "the field 'text' is missing"),
    "not UTF-8": (b'{"text": "\xff"}', "not UTF-8: byte 0xff"),
    "not text": (b'{"text": [1, 2, 3]}', "of type int"),
    "too long": (b'{"text": "%s"}' % (b"a" * 200), "exceed max_document_bytes"),
}


def rejects(out, name):
    return [json.loads(line) for line in (out / "rejects" / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_stops_the_run_with_file_and_line_or_is_rejected(config, tmp_path, kind):
    line, reason = BAD[kind]
    (tmp_path / "x.jsonl").write_bytes(GOOD + line + b"\n" + GOOD.replace(b"good", b"other"))
    strict = {**config, "layout": {"max_document_bytes": 150}}
    with pytest.raises(InputError, match=f"x.jsonl, line 2: .*{reason}"):
        run(strict, tmp_path / "x.jsonl", tmp_path / "out")
    assert not (tmp_path / "out" / "documents" / "x.jsonl").exists()
    assert not list((tmp_path / "out").rglob("*.partial"))
    # The same output goes on: what is rejected changes nothing of what is finished.
    outcome = run({**strict, "on_error": "skip"}, tmp_path / "x.jsonl", tmp_path / "out")
    assert (outcome.counts["documents"], outcome.counts["written"], outcome.rejected) == (3, 2, 1)
    (rejected,) = rejects(tmp_path / "out", "x.jsonl")
    assert reason in rejected["reason"]
    assert kind == "too long" or base64.b64decode(rejected["base64"]).strip() == line


def test_a_torn_gzip_keeps_what_came_before(config, tmp_path):
    whole = gzip.compress(b"".join(GOOD.replace(b"good", b"g%d" % n) for n in range(2000)))
    (tmp_path / "x.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged gzip data"):
        run(config, tmp_path / "x.jsonl.gz", tmp_path / "out")
    outcome = run({**config, "on_error": "skip"}, tmp_path / "x.jsonl.gz", tmp_path / "out")
    assert outcome.rejected == 1
    assert outcome.counts["written"] > 0
    assert outcome.warnings()[-1] == "x.jsonl.gz is torn: nothing after the damage was read, see its rejects"
    assert "damaged gzip data" in outcome.rejects.first


def test_an_empty_file_passes_through_and_is_counted(config, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b"")
    outcome = run(config, tmp_path / "x.jsonl", tmp_path / "out")
    assert (outcome.counts["documents"], outcome.counts["empty_files"], outcome.rejected) == (0, 1, 0)
    assert "files without a document: 1" in outcome.lines()
    assert (tmp_path / "out" / "documents" / "x.jsonl").read_bytes() == b""


@pytest.mark.parametrize("text", ["", "a"])
def test_a_document_of_at_most_one_token_is_carried_along(config, tmp_path, text):
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": text}) + "\n")
    outcome = run(config, tmp_path / "x.jsonl", tmp_path / "out")
    assert outcome.counts["written"] == 1


def test_a_document_longer_than_the_model_is_edited_to_its_end(config, tmp_path):
    text = "Ann saw a red cat. " * 3000
    (tmp_path / "x.txt").write_text(text)
    random = {**config, "rule": {"name": "random", "share": 0.01}}
    outcome = run(random, tmp_path / "x.txt", tmp_path / "out")
    assert outcome.counts["tokens"] > 15_000
    edits = [json.loads(line) for line in (tmp_path / "out" / "edits" / "x.txt.jsonl").read_text().splitlines()]
    assert max(edit["start"] for edit in edits) > 0.97 * len(text)


@pytest.fixture
def own_prior(prior, tmp_path):
    return shutil.copytree(prior, tmp_path / "own")


def test_a_tokenizer_with_more_ids_than_the_embedding_is_refused(own_prior, corpus, config, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(own_prior)
    tokenizer.add_tokens([f"[new{number}]" for number in range(20)])
    tokenizer.save_pretrained(own_prior)
    with pytest.raises(InputError, match=r"the tokenizer has \d+ ids, the model's embedding \d+"):
        run({**config, "prior": {"path": str(own_prior)}}, corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_prior_without_a_tokenizer_is_refused(own_prior, corpus, config, tmp_path):
    for path in own_prior.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        run({**config, "prior": {"path": str(own_prior)}}, corpus, tmp_path / "out")
    (own_prior / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="the tokenizer cannot be read"):
        run({**config, "prior": {"path": str(own_prior)}}, corpus, tmp_path / "out")


def test_a_probability_that_is_not_a_number_stops_the_run(own_prior, corpus, config, tmp_path):
    weights = load_file(own_prior / "model.safetensors")
    weights["model.embed_tokens.weight"][100:] *= float("nan")
    save_file(weights, own_prior / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"token is NaN. The weight model.embed_tokens.weight of .* holds NaN"):
        run({**config, "prior": {"path": str(own_prior)}}, corpus, tmp_path / "out")


def test_a_token_that_has_a_text_of_its_own_is_never_drawn_or_replaced(own_prior, config, tmp_path):
    (tmp_path / "x.txt").write_text("Ann</s> saw <pad> a red cat.\n")
    wild = {"rule": {"name": "random", "share": 1.0}, "sampler": {"top_k": None, "temperature": 1e6}}
    outcome = run({**config, **wild}, tmp_path / "x.txt", tmp_path / "out")
    text = (tmp_path / "out" / "documents" / "x.txt").read_text()
    assert (text.count("</s>"), text.count("<pad>"), text.count("<s>")) == (1, 1, 0)
    assert outcome.counts["refused/special"] == 2


# Configurations


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sampler": {"top_p": 0.9}}, "nothing would change"),
        ({"sampler": {"top_k": 1}}, "nothing would change"),
        ({"rule": {"treshold": 0.9}}, "Did you mean 'threshold'"),
        ({"rule": {"name": "toedit", "delete_below": 0.999}}, "both resampled"),
        ({"outputs": "text"}, "Did you mean 'output'"),
        ({"rule": {"name": "low", "action": "delete"}, "sampler": {"top_k": 4}}, "sampler has no effect beside"),
    ],
)
def test_a_choice_that_cannot_work_is_refused(prior, more, message):
    with pytest.raises(ConfigError, match=message):
        load({"prior": {"path": str(prior)}, **more})


def test_the_prior_must_be_named_and_the_option_is_told():
    with pytest.raises(ConfigError, match=r"the key 'prior' is missing\. Give --prior PATH"):
        load({})


def test_a_fault_of_several_keys_does_not_print_the_whole_configuration(prior):
    with pytest.raises(ConfigError) as caught:
        load({"prior": {"path": str(prior)}, "sampler": {"top_k": 1}})
    message = str(caught.value)
    assert message.startswith("config: sampler.top_k 1 leaves only the original")
    assert message.endswith("or set sampler.exclude_original.")
    assert "received" not in message


@pytest.mark.parametrize("name", ["/no/such/model", "../no-such-model", "./no-such-model", "no/such/model"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(corpus, tmp_path, monkeypatch, name):
    def download(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("tailkeep.scoring.loading.snapshot_download", download)
    with pytest.raises(InputError, match=r"there is no folder .*no.such.model"):
        run({"prior": {"path": name}}, corpus, tmp_path / "out")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"document_separator": "blank-line"}, "'blank-line' is for plain text"),
        ({"id_field": "uid"}, "none of the first 1 documents has the field 'uid'"),
    ],
)
def test_a_layout_that_does_nothing_for_the_files_is_refused(config, tmp_path, layout, message):
    (tmp_path / "x.jsonl").write_bytes(GOOD)
    with pytest.raises(ConfigError, match=message):
        run({**config, "layout": layout}, tmp_path / "x.jsonl", tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        estimate(load({**config, "layout": layout}), tmp_path / "x.jsonl", limit=1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"layout": {"text_fields": ["answer"]}}, "layout.text_fields: all input is plain text"),
        ({"layout": {"chat": {}}}, "layout.chat: all input is plain text"),
        ({"row_groups": 2}, "row_groups: 2, but no input file is parquet"),
    ],
)
def test_what_does_nothing_for_plain_text_is_refused(config, tmp_path, more, message):
    (tmp_path / "x.txt").write_text("Ann saw a red cat.\n")
    with pytest.raises(ConfigError, match=message):
        run({**config, **more}, tmp_path / "x.txt", tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        estimate(load({**config, **more}), tmp_path / "x.txt", limit=1)


def test_an_id_field_that_some_documents_have_is_taken(config, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(GOOD + GOOD.replace(b'"id"', b'"uid"'))
    outcome = run({**config, "layout": {"id_field": "uid"}}, tmp_path / "x.jsonl", tmp_path / "out")
    assert outcome.counts["written"] == 2


# A first mistake


def test_a_mistake_before_the_first_finished_shard_costs_no_folder(config, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"answer": "Ann saw a red cat."}\n')
    with pytest.raises(InputError, match="the field 'text' is missing"):
        run(config, tmp_path / "x.jsonl", tmp_path / "out")
    right = {**config, "layout": {"text_fields": ["answer"]}}
    run(right, tmp_path / "x.jsonl", tmp_path / "out")
    run(right, tmp_path / "x.jsonl", tmp_path / "fresh")
    assert left_by(tmp_path / "out") == left_by(tmp_path / "fresh")
    with pytest.raises(FingerprintError, match="holds another run"):
        run({**right, "seed": 1}, tmp_path / "x.jsonl", tmp_path / "out")


def test_outputs_without_their_manifest_are_not_written_over_by_another_configuration(config, corpus, tmp_path):
    run(config, corpus / "a.jsonl", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "manifests")
    before = left_by(tmp_path / "out")
    with pytest.raises(FingerprintError, match="holds another run"):
        run({**config, "seed": 1}, corpus / "a.jsonl", tmp_path / "out")
    assert left_by(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("file", "overrides", "rule"),
    [
        ({"threshold": 0.95}, ["rule.name=low"], Low()),
        # These keys can only mean the kind that is named.
        ({"threshold": 0.05, "action": "delete"}, ["rule.name=low"], Low(threshold=0.05, action="delete")),
        ({"threshold": 0.95}, ["rule.name=toedit"], ToEdit(threshold=0.95)),
        ({"threshold": 0.95}, ["rule.delete_below=0.1"], ToEdit(threshold=0.95, delete_below=0.1)),
        ({"name": "low"}, ["rule.threshold=0.5"], Low(threshold=0.5)),
        (None, ["rule.threshold=0.5", "rule.name=low"], Low(threshold=0.5)),
    ],
)
def test_a_rule_of_another_kind_inherits_nothing_of_a_rule_whose_kind_is_the_default(prior, file, overrides, rule):
    tree = {"prior": {"path": str(prior)}, **({} if file is None else {"rule": file})}
    assert load(tree, overrides=overrides).rule == rule


def test_options_beat_overrides_and_these_the_file(tmp_path, prior):
    (tmp_path / "edit.yaml").write_text(
        f"prior: {{path: {prior}}}\nseed: 1\nnum_threads: 1\nrule: {{threshold: 0.5}}\n"
    )
    loaded = load(tmp_path / "edit.yaml", overrides=["seed=2", "num_threads=2"], options={"num_threads": 3})
    assert (loaded.seed, loaded.num_threads, loaded.rule.threshold) == (2, 3, 0.5)


# Tasks


@pytest.mark.parametrize(
    ("index", "count", "environment", "task"),
    [
        (None, None, {}, Task(0, 1)),
        (2, 4, {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "9"}, Task(2, 4)),
        (None, None, {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, Task(3, 4)),
        (
            None,
            None,
            {f"SLURM_ARRAY_TASK_{k}": v for k, v in {"ID": "5", "COUNT": "3", "MIN": "1", "STEP": "2"}.items()},
            Task(2, 3),
        ),
    ],
)
def test_a_task_is_what_is_given_or_what_slurm_says(index, count, environment, task):
    assert task_here(index, count, environment) == task


def test_half_of_a_task_is_refused():
    with pytest.raises(ConfigError, match="num_tasks is missing"):
        task_here(1, None, {})
    with pytest.raises(ConfigError, match="task_index is missing"):
        task_here(None, 3, {})
