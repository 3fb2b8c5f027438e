"""Bad input: one clear error each, or the documented rejection, as in an edit."""

import base64
import gzip
import json
import re

import pytest

from tailkeep.audit import run
from tailkeep.data.corpus.output_run import check_output_outside_input
from tailkeep.errors import ConfigError, InputError
from tests.audit.conftest import prose, write_jsonl
from tests.edit.test_refusals import BAD, GOOD


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_stops_the_run_with_file_and_line_or_is_rejected(tmp_path, kind):
    line, reason = BAD[kind]
    (tmp_path / "x.jsonl").write_bytes(GOOD + line + b"\n" + GOOD.replace(b"good", b"other"))
    config = {"layout": {"max_document_bytes": 150}}
    with pytest.raises(InputError, match=f"x.jsonl, line 2: .*{reason}"):
        run(config, tmp_path / "x.jsonl", tmp_path / "out")
    outcome = run({**config, "on_error": "skip"}, tmp_path / "x.jsonl", tmp_path / "out")
    assert (outcome.counts["documents"], outcome.rejected, outcome.summary["input"]["documents"]) == (3, 1, 2)
    assert any(line.startswith("documents: 3 read, 1 rejected; ") for line in outcome.lines())
    (reject,) = map(json.loads, (tmp_path / "out" / "rejects" / "input" / "x.jsonl.jsonl").read_text().splitlines())
    assert reason in reject["reason"]
    assert kind == "too long" or base64.b64decode(reject["base64"]).strip() == line


def test_a_torn_gzip_keeps_what_came_before(tmp_path):
    whole = gzip.compress(b"".join(GOOD.replace(b"good", b"g%d" % n) for n in range(2000)))
    (tmp_path / "x.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged gzip data"):
        run({}, tmp_path / "x.jsonl.gz", tmp_path / "out")
    outcome = run({"on_error": "skip"}, tmp_path / "x.jsonl.gz", tmp_path / "out")
    assert outcome.rejected == 1
    assert outcome.summary["input"]["documents"] > 0
    assert outcome.warnings() == ["input/x.jsonl.gz is torn: nothing after the damage was read, see its rejects"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "x.json", "x.csv", "x.parquet"])
def test_an_empty_file_passes_and_the_audit_of_nothing_says_so(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    outcome = run({}, tmp_path / name, tmp_path / "out")
    assert (outcome.rejected, outcome.summary["input"]["documents"], outcome.counts["empty_files"]) == (0, 0, 1)
    assert outcome.summary["input"]["words_per_document"]["median"] is None


def test_a_parquet_file_that_is_none_is_damaged(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not a whole parquet file"):
        run({}, tmp_path / "x.parquet", tmp_path / "out")
    assert run({"on_error": "skip"}, tmp_path / "x.parquet", tmp_path / "skipped").rejected == 1


@pytest.mark.parametrize("text", ["", "a", "  \n ", "\u3042" * 5, "!!! ...", "\x00\x01", "x" * 600_000])
def test_a_strange_document_is_counted(tmp_path, text):
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": text}) + "\n")
    for reference in ((), tmp_path / "y.jsonl"):
        (tmp_path / "y.jsonl").write_text(json.dumps({"text": "Ann saw a cat."}) + "\n")
        out = tmp_path / f"out{bool(reference)}"
        assert run({}, tmp_path / "x.jsonl", out, reference=reference).summary["input"]["documents"] == 1


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(GOOD)
    with pytest.raises(InputError, match="matches no file"):
        run({}, tmp_path / "no" / "*.jsonl", tmp_path / "out")
    with pytest.raises(InputError, match="matches no file"):
        run({}, tmp_path / "x.jsonl", tmp_path / "out", reference=tmp_path / "no.jsonl")
    with pytest.raises(ConfigError, match="lies in the input"):
        run({}, tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="there is no folder"):
        run({"prior": {"path": str(tmp_path / "no-model")}}, tmp_path / "x.jsonl", tmp_path.parent / "o")
    with pytest.raises(ConfigError, match="'blank-line' is for plain text"):
        run({"layout": {"document_separator": "blank-line"}}, tmp_path / "x.jsonl", tmp_path.parent / "o")


@pytest.mark.parametrize(
    ("pattern", "out", "is_refused"),
    [
        ("in/*", "in/out", True),
        ("in/**/*.jsonl", "in/out", True),
        ("in/*/*", "in/out", True),
        ("in/*.jsonl", "in/out", False),
        ("in/*/train.jsonl", "in/out", False),
        ("in/*/*/train.jsonl", "in/out", True),
        ("in/*", "out", False),
        ("in/a*", "in/out", False),
        ("*/*.jsonl", "in/out", False),
    ],
)
def test_an_output_where_a_glob_finds_it_is_refused(pattern, out, is_refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not is_refused:
        check_output_outside_input(out, (pattern,))
        return
    with pytest.raises(ConfigError, match="lies in the input"):
        check_output_outside_input(out, (pattern,))


def test_a_file_named_like_the_rest_of_an_interrupted_write_is_refused(tmp_path):
    (tmp_path / "data.partial").write_text("one\ntwo\n")
    with pytest.raises(InputError, match=r"data\.partial: an output of this name would be deleted"):
        run({"layout": {"format": "txt"}}, tmp_path / "data.partial", tmp_path / "out")
    for folder in ("a.partial", "b"):
        write_jsonl(tmp_path / folder / "x.jsonl", ["one"])
    with pytest.raises(InputError, match=r"a\.partial/x\.jsonl: an output of this name would be deleted"):
        run({}, [tmp_path / "a.partial", tmp_path / "b"], tmp_path / "out")


def test_a_bad_document_is_named_by_its_path_since_sides_may_have_files_of_one_name(tmp_path):
    good = write_jsonl(tmp_path / "a" / "x.jsonl", prose(3, words=9, seed=0))
    bad = tmp_path / "b" / "x.jsonl"
    bad.parent.mkdir()
    bad.write_text('{"question": "?"}\n')
    with pytest.raises(InputError, match=re.escape(f"{bad}, line 1: the field 'text' is missing")):
        run({}, good, tmp_path / "out", reference=bad)
