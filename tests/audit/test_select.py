"""The weights of documents that `select` writes, and their use in an edit and in the lab."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep import edit
from tailkeep.audit import run, select
from tailkeep.data import TextRecord
from tailkeep.data.corpus import read_weights, repeat_count, write_weights
from tailkeep.data.corpus.manifest import read_manifest
from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.data_config import TextCorpus
from tailkeep.lab.causal_lm.dataset import read_dataset
from tests.audit.conftest import prose, write_jsonl
from tests.lab.causal_lm.tiny import STORIES


@pytest.fixture(scope="module")
def audited(prior, tmp_path_factory):
    folder = tmp_path_factory.mktemp("selected")
    (folder / "in").mkdir()
    write_jsonl(folder / "in" / "a.jsonl", STORIES[:10], "a")
    write_jsonl(folder / "in" / "b.jsonl", [f"x{n} {text[:12]}" for n, text in enumerate(STORIES[10:20])], "b")
    reference = write_jsonl(folder / "ref" / "r.jsonl", [text.replace("x", "q") for text in STORIES[20:40]], "r")
    run({"prior": {"path": str(prior)}}, folder / "in", folder / "out", reference=reference)
    return folder


def weights_in(folder):
    files = sorted((folder / "weights").rglob("*.parquet"))
    return {path.stem: pq.ParquetFile(path).read().to_pylist() for path in files}


def surprise_of(audited):
    surprise = {}
    for path in (audited / "out" / "scores" / "input").glob("*.parquet"):
        rows = pq.ParquetFile(path).read().to_pylist()
        surprise |= {row["document_id"]: -row["log_prob"] / row["tokens"] for row in rows}
    return surprise


@pytest.mark.parametrize("method", ["perplexity", "surplexity"])
def test_the_share_with_the_lowest_or_the_highest_perplexity_is_kept(audited, tmp_path, method):
    counts = select(audited / "out", tmp_path, method, keep=0.3)
    assert (counts.documents, counts.selected, counts.files) == (20, 6, 2)
    surprise = surprise_of(audited)
    rows = [row for file_rows in weights_in(tmp_path).values() for row in file_rows]
    selected = {row["document_id"] for row in rows if row["weight"] > 0}
    expected = sorted(surprise, key=surprise.get, reverse=method == "surplexity")[:6]
    assert selected == set(expected)
    assert {row["method"] for row in rows} == {method}
    assert len({row["fingerprint"] for row in rows}) == 1


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("summary.json", "perplexity"),
        ("scores/input/a.jsonl.parquet", "perplexity"),
        ("counts/input/b.jsonl.parquet", "dsir"),
        ("counts/reference/r.jsonl.parquet", "dsir"),
    ],
)
def test_what_a_selection_reads_of_an_audit_has_its_recorded_sha256(audited, tmp_path, name, method):
    shutil.copytree(audited / "out", tmp_path / "out")
    content = bytearray((tmp_path / "out" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(InputError, match=r"damaged|summary.*not JSON"):
        select(
            tmp_path / "out",
            tmp_path / "weights",
            method,
            keep=0.3,
            inputs=audited / "in" if method == "dsir" else (),
        )
    assert not (tmp_path / "weights" / "weights").exists()


def test_a_selection_by_both_sides_reads_each_manifest_once(audited, tmp_path, monkeypatch):
    keys = []

    def counting_read(key, destination):
        keys.append(key)
        return read_manifest(key, destination)

    monkeypatch.setattr("tailkeep.data.corpus.manifest.read_manifest", counting_read)
    select(audited / "out", tmp_path, "dsir", inputs=audited / "in")
    assert sorted(keys) == ["input/a.jsonl", "input/b.jsonl", "reference/r.jsonl"]


def test_dsir_prefers_documents_like_the_reference_and_the_seed_decides(tmp_path):
    write_jsonl(tmp_path / "in" / "a.jsonl", prose(20, words=30, seed=1))
    write_jsonl(tmp_path / "in" / "b.jsonl", prose(20, words=30, seed=2, types=20))
    run({}, tmp_path / "in", tmp_path / "out", reference=write_jsonl(tmp_path / "r.jsonl", prose(15, words=30, seed=3)))
    selections = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        select(tmp_path / "out", tmp_path / name, "dsir", inputs=tmp_path / "in", seed=seed, keep=0.25)
        selections[name] = weights_in(tmp_path / name)
        assert sum(row["weight"] for row in selections[name]["a.jsonl"]) == 10
        assert sum(row["weight"] for row in selections[name]["b.jsonl"]) == 0
    assert selections["first"] == selections["again"]
    assert selections["first"] != selections["other"]


def test_a_function_and_a_file_give_weights_of_ones_own(audited, tmp_path, tailkeep):
    select(audited / "out", tmp_path / "f", "scores", inputs=audited / "in", scores=lambda text: len(text) / 100)
    rows = weights_in(tmp_path / "f")["a.jsonl"]
    assert [row["weight"] for row in rows] == pytest.approx([len(text) / 100 for text in STORIES[:10]])
    run({}, audited / "in" / "a.jsonl", tmp_path / "one")
    lines = [json.dumps({"document_id": f"a{n}", "score": n}) for n in range(10)]
    (tmp_path / "scores.jsonl").write_text("\n".join(lines))
    arguments = ["select", tmp_path / "one", "--method", "scores", "--scores", tmp_path / "scores.jsonl"]
    code, out, _ = tailkeep(*arguments, "--out", tmp_path / "g")
    assert code == 0
    assert out.startswith("9 of 10 documents of 1 files")
    assert list(read_weights(tmp_path / "g" / "weights" / "a.jsonl.parquet").values()) == list(range(10))
    (tmp_path / "scores.jsonl").write_text("\n".join([lines[0], "no"]))
    code, _, err = tailkeep(*arguments, "--out", tmp_path / "h")
    assert code == 2
    assert "scores.jsonl, line 2" in err


def scored(path, scores):
    lines = [json.dumps({"document_id": name, "score": score}) for name, score in scores.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("with_prior", [True, False])
def test_scores_of_other_documents_than_the_audited_ones_are_refused(audited, prior, tmp_path, with_prior):
    config = {"prior": {"path": str(prior)}} if with_prior else {}
    run(config, audited / "in" / "a.jsonl", tmp_path / "out")
    complete = {f"a{number}": 1 for number in range(10)}
    others = {f"b{number}": 1 for number in range(10)}
    for scores, message in (
        (
            complete | {"a10": 1},
            "has 11 scores, and .* audited 10 documents" + (": 'a10' was not audited" * with_prior),
        ),
        (dict(list(complete.items())[:9]), "has 9 scores, and .* audited 10 documents: 'a9' has no score"),
        (others, "has 10 scores, and .* audited 10 documents: "),
    ):
        with pytest.raises(InputError, match=message):
            select(tmp_path / "out", tmp_path / "w", "scores", scores=scored(tmp_path / "s.jsonl", scores))
    assert not (tmp_path / "w" / "weights").exists()
    select(tmp_path / "out", tmp_path / "w", "scores", scores=scored(tmp_path / "s.jsonl", complete))


def test_one_score_for_each_id_is_enough_where_documents_have_equal_ids(tmp_path):
    rows = [{"id": name, "text": f"the {name} one"} for name in ("a", "a", "b")]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run({"on_error": "skip"}, tmp_path / "x.jsonl", tmp_path / "out")
    counts = select(tmp_path / "out", tmp_path / "w", "scores", scores=scored(tmp_path / "s.jsonl", {"a": 1, "b": 0}))
    assert (counts.documents, counts.selected) == (2, 1)


@pytest.mark.parametrize("score", [-1, "nan", "inf"])
def test_a_score_that_is_no_weight_is_named_by_its_line_or_rejected(audited, tmp_path, score):
    run({}, audited / "in" / "a.jsonl", tmp_path / "out")
    scores = scored(tmp_path / "s.jsonl", {f"a{number}": score if number == 3 else 1 for number in range(10)})
    with pytest.raises(InputError, match=r"s\.jsonl, line 4: a score must be finite and >= 0, got"):
        select(tmp_path / "out", tmp_path / "w", "scores", scores=scores)
    counts = select(tmp_path / "out", tmp_path / "w", "scores", scores=scores, skip=True)
    assert (counts.documents, counts.rejected) == (9, 1)
    assert "a3" not in read_weights(tmp_path / "w" / "weights" / "a.jsonl.parquet")


def test_what_a_selection_lacks_is_named(audited, tmp_path):
    run({}, audited / "in", tmp_path / "bare")
    for arguments, more, message in (
        ((tmp_path / "bare", tmp_path, "perplexity"), {}, "audited without a prior"),
        ((tmp_path / "bare", tmp_path, "dsir"), {"inputs": audited / "in"}, "audited without a reference"),
        ((tmp_path / "bare", tmp_path, "dsir"), {}, "reads the documents again"),
        ((audited / "out", tmp_path, "perplexity"), {"inputs": audited / "in"}, "has no effect with method perplexity"),
        ((audited / "out", tmp_path, "perplexity"), {"keep": 1}, "keep must be between 0 and 1 .both excluded., got 1"),
        ((audited / "out", tmp_path, "perplexity"), {"seed": 0}, "a seed has no effect with method perplexity"),
        ((audited / "out", tmp_path, "surplexity"), {"seed": 1}, "a seed has no effect with method surplexity"),
        ((audited / "out", tmp_path, "scores"), {"seed": 0, "scores": tmp_path}, "a seed has no effect"),
        ((audited / "out", tmp_path, "scores"), {"keep": 0.5, "scores": tmp_path}, "keep has no effect"),
        ((audited / "out", tmp_path, "scores"), {}, "Give both or neither|reads the documents again"),
    ):
        with pytest.raises((ConfigError, InputError), match=message):
            select(*arguments, **more)
    with pytest.raises(InputError, match="a weight must be finite and >= 0, got -1"):
        write_weights(tmp_path, "x", ["a"], np.array([-1.0]), method="m", fingerprint="f")
    with pytest.raises(InputError, match="two documents have the same id"):
        write_weights(tmp_path, "x", ["a", "a"], np.array([1.0, 1.0]), method="m", fingerprint="f")


@pytest.mark.parametrize("method", ["perplexity", "dsir", "scores"])
def test_documents_at_fault_get_no_weight_and_are_told_of(prior, tmp_path, tailkeep, method):
    rows = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(STORIES[:8])]
    rows += [json.dumps({"id": "3", "text": "the id of an earlier one"})]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.jsonl").write_text("\n".join(rows))
    reference = write_jsonl(tmp_path / "r.jsonl", STORIES[20:40], "r")
    config = {"prior": {"path": str(prior)}}
    run(config, tmp_path / "in", tmp_path / "out", reference=reference)
    scores = tmp_path / "scores.jsonl"
    scores.write_text("".join(json.dumps({"document_id": json.loads(row)["id"], "score": 1}) + "\n" for row in rows))
    more = {"perplexity": [], "dsir": ["--input", tmp_path / "in"], "scores": ["--scores", scores]}[method]
    if method == "scores":
        scores.write_text(scores.read_text() + '{"document_id": "9"}\n')
    arguments = ["select", tmp_path / "out", "--method", method, *more, "--out", tmp_path / "w"]
    code, _, err = tailkeep(*arguments)
    assert code == 2
    assert "--on-error skip" in err
    code, _, err = tailkeep(*arguments, "--on-error", "skip")
    rejects = [json.loads(line) for line in (tmp_path / "w" / "rejects.jsonl").read_text().splitlines()]
    assert code == 4
    assert sum("occurs twice" in item["reason"] for item in rejects) == 1
    assert len(rejects) == 1 + (method == "scores")
    assert f"rejected: {len(rejects)} documents" in err
    assert list(read_weights(tmp_path / "w" / "weights" / "x.jsonl.parquet")) == [str(n) for n in range(8)]
    # An edit that skips the same documents takes these weights.
    edited = {**config, "sample_weights": str(tmp_path / "w"), "on_error": "skip"}
    counts = edit.run(edited, tmp_path / "in", tmp_path / "edited").counts
    assert (counts["documents"], counts["rejected"]) == (9, 1)


def test_a_selection_skips_what_its_audit_skipped(tmp_path):
    rows = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(STORIES[:8])]
    (tmp_path / "x.jsonl").write_text("\n".join([*rows, "no json"]))
    reference = write_jsonl(tmp_path / "r.jsonl", STORIES[20:40], "r")
    run({"on_error": "skip"}, tmp_path / "x.jsonl", tmp_path / "out", reference=reference)
    counts = select(tmp_path / "out", tmp_path / "w", "dsir", inputs=tmp_path / "x.jsonl")
    assert (counts.documents, counts.rejected) == (8, 1)
    with pytest.raises(InputError, match=r"x\.jsonl, line 9: not JSON .* give --on-error skip"):
        select(tmp_path / "out", tmp_path / "w", "dsir", inputs=tmp_path / "x.jsonl", skip=False)


# What reads them


def test_an_edit_leaves_documents_of_weight_0_out_and_counts_them(audited, prior, tmp_path):
    select(audited / "out", tmp_path, "surplexity", keep=0.4)
    config = {"prior": {"path": str(prior)}, "rule": {"threshold": 0.002}, "sample_weights": str(tmp_path)}
    outcome = edit.run(config, audited / "in", tmp_path / "edited")
    counts = outcome.counts
    assert (counts["documents"], counts["written"], counts["left_out"]) == (20, 8, 12)
    assert "12 left out for their weight of 0" in outcome.lines()[1]
    selected = {
        row["document_id"] for file_rows in weights_in(tmp_path).values() for row in file_rows if row["weight"] > 0
    }
    lines = [
        line for path in (tmp_path / "edited" / "documents").glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    assert {json.loads(line)["id"] for line in lines} == selected
    select(audited / "out", tmp_path, "perplexity", keep=0.4)
    with pytest.raises(Exception, match="weights"):
        edit.run(config, audited / "in", tmp_path / "edited")


def test_a_document_without_a_weight_stops_an_edit(audited, prior, tmp_path):
    write_weights(tmp_path, "a.jsonl", ["a0"], np.array([1.0]), method="m", fingerprint="f")
    config = {"prior": {"path": str(prior)}, "sample_weights": str(tmp_path)}
    with pytest.raises(InputError, match="'a1' has no weight"):
        edit.run(config, audited / "in" / "a.jsonl", tmp_path / "edited")


def test_documents_are_repeated_in_proportion_to_their_weight():
    assert list(repeat_count([1, 1, 1, 1], 4, seed=0)) == [1, 1, 1, 1]
    assert list(repeat_count([0, 3, 1, 0], 8, seed=1)) == [0, 6, 2, 0]
    rng = np.random.default_rng(0)
    weights = rng.random(50)
    means = np.mean([list(repeat_count(weights, 80, seed=seed)) for seed in range(400)], axis=0)
    assert means == pytest.approx(80 * weights / weights.sum(), abs=0.12)
    assert all(sum(repeat_count(weights, 80, seed=seed)) == 80 for seed in range(20))
    with pytest.raises(InputError, match="weight 0"):
        list(repeat_count([0.0, 0.0], 2, seed=0))


def test_the_laboratory_draws_real_documents_by_weight_and_leaves_the_held_out_alone(tmp_path):
    texts = prose(20, words=5, seed=0)
    path = write_jsonl(tmp_path / "x.jsonl", texts)
    weights = np.array([2.0, 0.0] * 10)
    file = write_weights(tmp_path, "x", [f"d{n}" for n in range(20)], weights, method="m", fingerprint="f")
    settings = {"name": "text", "path": path, "held_out": 0.2}
    unweighted, weighted = read_dataset(TextCorpus(**settings)), read_dataset(TextCorpus(**settings, weights=file))
    assert (
        weighted.held_out == unweighted.held_out == [TextRecord(text, line=16 + n) for n, text in enumerate(texts[16:])]
    )
    assert [record.text for record in weighted.real] == [text for text in texts[:16:2] for _ in range(2)]
    write_jsonl(path, texts[:19])
    with pytest.raises(InputError, match=r"has 20 weights, but .* has 19 documents"):
        read_dataset(TextCorpus(**settings, weights=file))
    with pytest.raises(ValueError, match="weights_seed has no effect"):
        TextCorpus(**settings, weights_seed=1)


def test_other_files_than_the_audited_ones_are_refused(tmp_path):
    texts = prose(40, words=30, seed=7)
    for number in range(2):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", texts[number * 20 : number * 20 + 20], f"{number}-")
    reference = write_jsonl(tmp_path / "reference.jsonl", prose(40, words=30, seed=8))
    run({}, tmp_path / "in", tmp_path / "out", reference=reference)

    def weights(inputs):
        return select(tmp_path / "out", tmp_path / "weights", method="dsir", inputs=inputs)

    assert weights(tmp_path / "in").documents == 40
    with pytest.raises(InputError, match=r"is not what .* audited: 1\.jsonl was audited and is not in it"):
        weights(tmp_path / "in" / "0.jsonl")
    with pytest.raises(InputError, match="was not audited"):
        weights([tmp_path / "in", reference])
    write_jsonl(tmp_path / "in" / "1.jsonl", texts[:20])
    with pytest.raises(InputError, match=r"1\.jsonl is no longer what .* audited"):
        weights(tmp_path / "in")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1]}, "no column document_id and weight. Give the output of tailkeep select"),
        ({"document_id": ["a"], "weight": [-1.0]}, "must be finite and >= 0, got -1.0 for the document 'a'"),
        ({"document_id": ["a"], "weight": [float("nan")]}, "must be finite and >= 0, got nan"),
        ({"document_id": ["a", "a"], "weight": [1.0, 2.0]}, "two documents have the same id"),
        ({"document_id": ["a"], "weight": ["much"]}, "Give the output of tailkeep select"),
    ],
)
def test_weights_that_are_none_are_one_clear_line(columns, message, tmp_path):
    pq.write_table(pa.table(columns), tmp_path / "w.parquet")
    with pytest.raises(InputError, match=message):
        read_weights(tmp_path / "w.parquet")
