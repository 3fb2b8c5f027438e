"""`tailkeep edit` and `tailkeep show` of what it left."""

import bz2
import gzip
import html
import json
import os
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tailkeep import cli
from tailkeep.edit import EditOutcome
from tailkeep.report.edit import read_edit_run
from tests.edit.conftest import THRESHOLD
from tests.report.built_runs import HOSTILE_TEXT


@pytest.fixture
def arguments(corpus, prior):
    rule = ["--set", f"rule.threshold={THRESHOLD}", "--set", "sampler.exclude_original=true"]
    return ["edit", "--input", corpus, "--prior", prior, *rule]


def test_totals_go_to_stdout_and_progress_to_stderr(tailkeep, arguments, tmp_path):
    code, out, err = tailkeep(*arguments, "--out", tmp_path / "out")
    assert code == 0
    assert "documents: 40 read, 40 written" in out
    assert re.search(r"flagged, [\d.]+% changed", out)
    assert out.splitlines()[-1] == f"output: {tmp_path / 'out'}"
    assert re.search(r"^4/4 shards, [\d,]+ tokens, [\d,]+ tokens/s, \d+ s, about 0 s left$", err, re.MULTILINE)
    code, again, err = tailkeep(*arguments, "--out", tmp_path / "out")
    assert (code, again) == (0, out)
    assert "4 of 4 shards were finished before" in err


def test_a_run_with_rejects_ends_with_its_own_code(tailkeep, prior, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "Ann saw a cat."}\nno\n')
    arguments = ["edit", "--input", tmp_path / "x.jsonl", "--prior", prior, "--out", tmp_path / "out"]
    code, out, err = tailkeep(*arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: x.jsonl, line 2: not JSON")
    code, out, err = tailkeep(*arguments, "--on-error", "skip")
    assert code == 4
    assert "2 read, 1 written" in out
    last = err.splitlines()[-1]
    assert last.startswith(f"rejected: 1 documents, see {tmp_path / 'out'}/rejects/. The first is x.jsonl, line 2: not")


def test_a_run_that_changes_nothing_says_what_would(tailkeep, corpus, prior, tmp_path):
    arguments = ["edit", "--input", corpus, "--prior", prior, "--set"]
    _, out, _ = tailkeep(*arguments, "rule.threshold=0.999999", "--dry-run", 4)
    assert "hint: no token was flagged; lower rule.threshold" in out
    counts = dict.fromkeys(("documents", "written", "rejected", "tokens", "flagged"), 1)
    same = EditOutcome("", 1, 1, {**counts, "edited": 0, "changed": 0, "deleted": 0})
    assert "hint: each flagged token was drawn as it was" in same.lines()[-1]
    assert "falsify names and numbers without protection.entities" in same.lines()[-1]
    for flagged in (0, 1):
        # Of a rule that deletes none is flagged.
        refused = EditOutcome("", 1, 1, {**same.counts, "flagged": flagged, "refused/fragment": 1})
        assert refused.lines()[-1].startswith("hint: every edit was refused, for the reasons above")
    assert "hint" not in EditOutcome("", 1, 1, {**same.counts, "changed": 1}).lines()[-1]


@pytest.mark.parametrize(
    ("rule", "advice"),
    [
        ("toedit", "lower rule.threshold, or give a prior that fits the corpus better"),
        ("low", "raise rule.threshold"),
        ("band", "lower rule.low or raise rule.high"),
        ("random", "raise rule.share"),
    ],
)
def test_what_would_flag_a_token_is_said_in_the_keys_of_the_rule(rule, advice):
    counts = dict.fromkeys(("documents", "written", "tokens"), 1)
    none = dict.fromkeys(("rejected", "edited", "flagged", "changed", "deleted"), 0)
    assert EditOutcome("", 1, 1, counts | none, rule=rule).lines()[-1] == f"hint: no token was flagged; {advice}"


def test_a_chat_without_a_turn_of_an_editable_role_is_warned_about(tailkeep, prior, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"messages": [{"role": "model", "content": "Ann saw a red cat."}]}\n')
    status, _, err = tailkeep(
        "edit", "--input", tmp_path / "x.jsonl", "--prior", prior, "--out", tmp_path / "out", "--set", "layout.chat={}"
    )
    assert status == 0
    assert "warning: no document has a token that can be edited" in err


def test_a_share_of_the_tasks_says_what_is_left(tailkeep, arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "4")
    code, out, _ = tailkeep(*arguments, "--out", tmp_path / "out")
    assert code == 0
    assert out.startswith("1 of 4 shards are finished")
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_sample_writes_nothing(tailkeep, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = tailkeep(*arguments, "--dry-run", 6, "--out", tmp_path / "out")
    assert code == 0
    assert out.startswith("sample: 6 documents of 4 of 4 shards")
    assert "tokens/s" in out
    assert " of output\n" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "idle", [["--workers", 2], ["--task-index", 0], ["--num-tasks", 3], ["--verify"], ["--executor", "ray"]]
)
def test_what_a_dry_run_does_not_do_is_refused(tailkeep, arguments, idle):
    code, _, err = tailkeep(*arguments, "--dry-run", 2, *idle)
    assert code == 2
    assert idle[0] in err
    assert "a dry run is one process here; leave it out" in err


def test_what_the_resolved_config_prints_can_be_run(tailkeep, arguments, tmp_path):
    code, out, _ = tailkeep(*arguments, "--text-field", "body", "--dump-config")
    assert code == 0
    tree = yaml.safe_load(out)
    assert tree["layout"]["text_fields"] == ["body"]
    assert tree["rule"] == {"name": "toedit", "threshold": THRESHOLD, "delete_below": None}
    (tmp_path / "edit.yaml").write_text(out)
    assert tailkeep("edit", "--config", tmp_path / "edit.yaml", "--dump-config")[1] == out
    code, chat, _ = tailkeep(*arguments, "--set", "layout.chat={}", "--dump-config")
    (tmp_path / "chat.yaml").write_text(chat)
    assert tailkeep("edit", "--config", tmp_path / "chat.yaml", "--dump-config")[1] == chat


@pytest.mark.parametrize(
    ("missing", "message"), [("--input", "give what to edit"), ("--prior", "the key 'prior' is missing")]
)
def test_what_is_missing_is_named(tailkeep, arguments, tmp_path, missing, message):
    at = arguments.index(missing)
    code, out, err = tailkeep(*arguments[:at], *arguments[at + 2 :], "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_without_the_extra_its_install_line_is_told(tmp_path):
    code = (
        "import sys\nclass Blocker:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name.split('.')[0])\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "sys.argv = ['tailkeep', 'edit', '--input', 'x', '--prior', 'y', '--out', 'z']\n"
        "from tailkeep.cli import main; main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=os.environ)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: transformers is not installed")
    assert "pip install 'tailkeep[hf]'" in ended.stderr


# Seeing the edits


def test_edits_are_shown_in_their_context_with_both_probabilities(tailkeep, arguments, corpus, tmp_path):
    tailkeep(*arguments, "--out", tmp_path / "out")
    code, out, err = tailkeep("show", tmp_path / "out", "--edits", 3)
    assert (code, err) == (0, "")
    flat = " ".join(out.split())
    assert "40 documents" in flat
    assert flat.count("→") == 6
    assert len(re.findall(r"\[[^\[\]]+→[^\[\]]+\]", flat)) == 3
    assert "0.999" in flat
    assert len(re.findall(r"p [\d.e-]+ → [\d.e-]+", flat)) == 3
    first = json.loads((tmp_path / "out" / "edits" / "a.jsonl.jsonl").read_text().splitlines()[0])
    edited = [json.loads(line) for line in (tmp_path / "out" / "documents" / "a.jsonl").read_text().splitlines()]
    text = next(row["text"] for row in edited if row["id"] == first["document"])
    before = text[max(0, first["start"] - 40) : first["start"]]
    assert " ".join(f"{first['document']} {before}[{first['old']}→".split()) in flat


def test_a_report_shows_documents_before_and_after(tailkeep, arguments, corpus, tmp_path):
    tailkeep(*arguments, "--out", tmp_path / "out")
    code, out, err = tailkeep("report", tmp_path / "out")
    assert (code, out, err) == (0, f"report: {tmp_path / 'out' / 'report.html'}\n", "")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert all(f'<th scope="row">{name}</th>' in page for name in ("a.jsonl", "deep/b.jsonl.gz", "d.parquet", "0"))
    # A band without tokens, before and after, is not listed.
    bands = re.findall(r'"Tokens">([\d,]+)</td>.*"Tokens after the edit">([\d,]+)</td>', page)
    assert bands
    assert ("0", "0") not in bands
    originals = {
        json.loads(line)["id"]: json.loads(line)["text"] for line in (corpus / "a.jsonl").read_text().splitlines()
    }
    sides = r"<div><h4>Original</h4><p>(.*?)</p></div>\s*<div><h4>Edited</h4><p>(.*?)</p></div>"
    shown = re.findall(rf'<h3>(a\d+)</h3>\s*<div class="docs sides">\s*{sides}', page, re.DOTALL)
    assert shown
    for name, before, after in shown:
        old, new = (html.unescape(re.sub(r"<[^>]*>", "", side)) for side in (before, after))
        assert originals[name].startswith(old)
        assert old != new


def test_a_shard_that_stopped_a_run_is_shown_with_the_reason_until_it_is_finished(tailkeep, prior, tmp_path):
    (tmp_path / "in").mkdir()
    for name, text in (("a", '{"text": "Ann saw a cat."}'), ("b", "no"), ("c", '{"text": "Ben had a boat."}')):
        (tmp_path / "in" / f"{name}.jsonl").write_text(text + "\n")
    arguments = ["edit", "--input", tmp_path / "in", "--prior", prior, "--out", tmp_path / "out"]
    assert tailkeep(*arguments)[0] == 2
    _, shown, _ = tailkeep("show", tmp_path / "out")
    shown = " ".join(shown.split())
    assert "failed: b.jsonl, line 1: not JSON" in shown
    assert "1 of 3 shards are finished" in shown
    tailkeep("report", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.search(r"<li>b\.jsonl, line 1: not JSON", page)
    assert "1 of 3 shards are finished" in page
    assert tailkeep(*arguments, "--on-error", "skip")[0] == 4
    assert not list((tmp_path / "out" / "failures").iterdir())
    _, shown, _ = tailkeep("show", tmp_path / "out", "--edits", 0)
    assert "failed" not in shown
    tailkeep("report", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Failures" not in page
    assert "3 of 3 finished" in page
    assert "<li>b.jsonl, line 1: not JSON" in page


def test_a_text_that_is_read_in_part_ends_before_the_next_edit(tailkeep, prior, tmp_path):
    text = "Ann saw a red cat. Ben had a little boat."
    (tmp_path / "x.txt").write_text(text + "\n")
    wild = ["--set", "rule={name: random, share: 1}", "--set", "sampler.exclude_original=true"]
    tailkeep("edit", "--input", tmp_path / "x.txt", "--prior", prior, "--out", tmp_path / "out", *wild)
    total = len((tmp_path / "out" / "edits" / "x.txt.jsonl").read_text().splitlines())
    for count in range(1, total + 1):
        (edited,) = read_edit_run(tmp_path / "out", edits=count).texts
        before = "".join(same + edit.old for same, edit in zip(edited.unchanged, edited.edits, strict=False))
        before += edited.unchanged[-1]
        assert text.startswith(before)
    assert before == text


def test_a_text_cannot_command_the_terminal(tailkeep, prior, tmp_path):
    text = HOSTILE_TEXT + " Ann saw a red cat."
    (tmp_path / "x.jsonl").write_text(json.dumps({"id": HOSTILE_TEXT, "text": text}) + "\n")
    wild = ["--set", "rule={name: random, share: 1}", "--set", "sampler.exclude_original=true"]
    tailkeep("edit", "--input", tmp_path / "x.jsonl", "--prior", prior, "--out", tmp_path / "out", *wild)
    code, out, _ = tailkeep("show", tmp_path / "out")
    assert code == 0
    assert "\x1b" not in out
    assert "→" in out
    assert tailkeep("report", tmp_path / "out")[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "\x1b" not in page
    assert "<script" not in page


def test_options_of_the_other_kind_of_run_are_refused(tailkeep, arguments, tmp_path):
    tailkeep(*arguments, "--out", tmp_path / "out")
    code, _, err = tailkeep("show", tmp_path / "out", "--samples", 2)
    assert code == 2
    assert "give --edits" in " ".join(err.split())


def test_an_interrupt_outside_of_a_command_ends_as_one_inside(tailkeep, monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    code, out, err = tailkeep("edit")
    assert (code, out) == (130, "")
    assert err == "interrupted: run the same command again to go on from what is finished.\n"


def test_eight_kinds_of_files_are_edited_and_what_is_no_data_is_named(tailkeep, prior, tmp_path):
    rows = [{"id": str(number), "text": f"Ann saw a cat and {number} dogs."} for number in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    table = "id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in rows)
    source = tmp_path / "in"
    source.mkdir()
    for name, content in (
        *(
            ("a.jsonl", lines.encode()),
            ("b.json", json.dumps(rows).encode()),
            ("c.json.gz", gzip.compress(lines.encode())),
        ),
        *(("d.NDJSON", lines.encode()), ("e.csv", table.encode()), ("f.txt.bz2", bz2.compress(b"Ann saw a cat.\n"))),
        *(("g.tsv", table.replace(",", "\t", 4).encode()), ("empty.jsonl", b""), ("_SUCCESS", b""), (".crc", b"")),
    ):
        (source / name).write_bytes(content)
    pq.write_table(
        pa.table({"id": [row["id"] for row in rows], "text": [row["text"] for row in rows]}), source / "h.parquet"
    )
    rule = ["--set", "rule.threshold=0.01", "--set", "sampler.exclude_original=true", "--set", "layout.id_field=null"]
    arguments = ["edit", "--input", source, "--prior", prior, *rule, "--out", tmp_path / "out"]
    code, out, _ = tailkeep(*arguments)
    assert code == 0
    assert "documents: 22 read, 22 written" in out
    assert "files without a document: 1\nignored files: 1 hidden, 1 markers\n" in out
    edited = json.loads((tmp_path / "out" / "documents" / "b.json").read_text())
    assert [row["id"] for row in edited] == ["0", "1", "2"]
    assert any((tmp_path / "out" / "edits" / f"{name}.jsonl").stat().st_size for name in ("b.json", "e.csv", "g.tsv"))
    (source / "z.arrow").touch()
    code, _, err = tailkeep(*arguments)
    assert code == 2
    assert "1 of 10 files have an unknown ending: 'z.arrow'" in err
    assert tailkeep(*arguments, "--ignore", "*.arrow")[0] == 0
