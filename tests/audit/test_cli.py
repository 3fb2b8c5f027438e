"""`tailkeep audit`, and `tailkeep report` and `tailkeep show` of its output."""

import pytest
import yaml

from tests.audit.conftest import QUICK_OPTIONS, prose, write_jsonl
from tests.report.built_runs import HOSTILE_TEXT

FAST = QUICK_OPTIONS


def test_findings_go_to_stdout_and_progress_to_stderr(tailkeep, corpus, reference, tmp_path):
    arguments = ["audit", "--input", corpus, "--reference", reference, "--out", tmp_path / "out", *FAST]
    code, out, err = tailkeep(*arguments)
    assert code == 0
    assert "documents: 240 read (120 of --input), 0 rejected" in out
    assert "[flagged] Its vocabulary is narrower" in out
    assert "rules from the literature, by sizes alone, are in summary.json and the report" in out
    assert "tailkeep lab lab/mix.yaml --out lab/run" in out
    assert out.splitlines()[-1] == f"output: {tmp_path / 'out'}"
    assert "8/8 shards" in err
    code, again, err = tailkeep(*arguments)
    assert (code, again) == (0, out)
    assert "8 of 8 shards were finished before" in err


def test_a_run_with_rejects_ends_with_its_own_code(tailkeep, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "Ann saw a cat."}\nno\n')
    arguments = ["audit", "--input", tmp_path / "x.jsonl", "--out", tmp_path / "out"]
    code, out, err = tailkeep(*arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {tmp_path}/x.jsonl, line 2: not JSON")
    code, out, err = tailkeep(*arguments, "--on-error", "skip")
    assert code == 4
    assert err.splitlines()[-1].startswith("rejected: 1 documents")


def test_one_task_reports_the_finished_shards(tailkeep, corpus, tmp_path):
    arguments = ["audit", "--input", corpus, "--out", tmp_path / "out", "--task-index", 1, "--num-tasks", 4]
    code, out, _ = tailkeep(*arguments)
    assert code == 0
    assert out.startswith("1 of 4 shards are finished")
    assert not (tmp_path / "out" / "summary.json").exists()
    assert "not finished" in tailkeep("show", tmp_path / "out")[1]
    assert tailkeep("report", tmp_path / "out")[0] == 0
    assert "This audit is not finished" in (tmp_path / "out" / "report.html").read_text()


def test_what_the_resolved_config_prints_can_be_run(tailkeep, tmp_path):
    more = ["--near-duplicates", "--compression", "zstd", "--text-field", "body", "--memory-mb", 64]
    code, out, _ = tailkeep("audit", *more, "--dump-config")
    assert code == 0
    tree = yaml.safe_load(out)
    assert (tree["near_duplicates"]["bands"], tree["compression"], tree["memory_mb"]) == (14, "zstd", 64)
    (tmp_path / "audit.yaml").write_text(out)
    assert tailkeep("audit", "--config", tmp_path / "audit.yaml", "--dump-config")[1] == out


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "give the files to audit"), (["--input", "x"], "give the output folder")]
)
def test_what_is_missing_is_named(tailkeep, arguments, message):
    code, out, err = tailkeep("audit", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_the_page_and_the_terminal_show_both_sides_and_obey_no_text(tailkeep, tmp_path):
    texts = [f"{HOSTILE_TEXT} {text}" for text in prose(30, words=20, seed=1)]
    input_path = write_jsonl(tmp_path / "a.jsonl", texts)
    reference_path = write_jsonl(tmp_path / "b.jsonl", prose(30, words=20, seed=2, types=20))
    code, out, _ = tailkeep(
        "audit", "--input", input_path, "--reference", reference_path, "--out", tmp_path / "out", *FAST
    )
    assert code == 0
    assert "\x1b" not in out
    code, out, err = tailkeep("report", tmp_path / "out")
    assert (code, err) == (0, "")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "\x1b" not in page
    assert "statistics differ significantly from the reference.</h1>" in page
    for title in ("h3>What it means", "h2>Side by side", "h2>Documents to read"):
        assert f"<{title}" in page
    for title in ("The ", "Words and pairs", "How much to mix in"):
        assert f"<summary>{title}" in page
    code, out, _ = tailkeep("show", tmp_path / "out")
    assert code == 0
    assert "\x1b" not in out
    assert "this corpus" in out
    assert tailkeep("show", tmp_path / "out", "--edits", 2)[0] == 2


def test_a_damaged_summary_or_table_is_named_and_the_same_command_makes_it_good(tailkeep, corpus, tmp_path):
    out = tmp_path / "out"
    command = ("audit", "--input", corpus, "--out", out)
    tailkeep(*command)
    before = {path: path.read_bytes() for path in [out / "summary.json", *sorted((out / "tables").iterdir())]}
    assert len(before) > 4
    for path, content in before.items():
        path.write_bytes(content.replace(b"0", b"1", 1) if b"0" in content else content[1:] or b"x")
        code, _, err = tailkeep("report", out)
        assert code == 2
        assert f"{path.name} is damaged" in err
        assert "Run the same audit again" in err
        assert tailkeep(*command)[0] == 0
        assert path.read_bytes() == content
    (out / "tables" / "lengths.csv").unlink()
    code, _, err = tailkeep("show", out)
    assert code == 2
    assert "cannot read" in err


def test_the_share_is_told_on_the_terminal_and_drawn_on_the_page(tailkeep, tmp_path):
    human = prose(120, words=20, seed=1)
    machine = [f"delve moreover {text}" for text in prose(90, words=20, seed=2, types=60)]
    sides = {"input": [*human[:40], *machine[:20]], "reference": human[40:], "synthetic": machine[20:]}
    arguments = [
        argument
        for side, texts in sides.items()
        for argument in (f"--{side}", write_jsonl(tmp_path / f"{side}.jsonl", [f"{HOSTILE_TEXT} {t}" for t in texts]))
    ]
    code, out, _ = tailkeep("audit", *arguments, "--out", tmp_path / "out", *FAST)
    assert code == 0
    assert "of its documents are like the synthetic reference (90% CI" in out
    assert tailkeep("report", tmp_path / "out")[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "of the documents are like the synthetic reference (90\xa0%\xa0CI" in page
    assert "Of this corpus, most like the synthetic reference" in page
    assert "all documents" in page
    assert "<script" not in page
    refused = [*arguments[:2], *arguments[2:4], "--synthetic", write_jsonl(tmp_path / "few.jsonl", machine[:5])]
    code, out, _ = tailkeep("audit", *refused, "--out", tmp_path / "refused", *FAST)
    assert code == 0
    assert "No share of documents like the synthetic reference is named: the synthetic side has 5 documents" in out
    assert tailkeep("report", tmp_path / "refused")[0] == 0
    assert "the first finding says why." in (tmp_path / "refused" / "report.html").read_text()


def test_plain_text_on_one_side_is_split_as_the_option_says(tailkeep, tmp_path):
    (tmp_path / "x.txt").write_text("One\nline more.\n\nAnother one.\n")
    reference = write_jsonl(tmp_path / "r.jsonl", prose(3, words=9, seed=0))
    for sides in (("x.txt", reference.name), (reference.name, "x.txt")):
        paths = ["--input", tmp_path / sides[0], "--reference", tmp_path / sides[1]]
        arguments = [*paths, "--out", tmp_path / sides[0].partition(".")[0], "--document-separator", "blank-line"]
        code, out, _ = tailkeep("audit", *arguments)
        of_input = 2 if sides[0] == "x.txt" else 3
        assert (code, f"documents: 5 read ({of_input} of --input), 0 rejected" in out) == (0, True)
    code, _, err = tailkeep(
        "audit", "--input", reference, "--out", tmp_path / "o", "--document-separator", "blank-line"
    )
    assert (code, "no input file is .txt" in err) == (2, True)


@pytest.mark.parametrize(
    ("condition", "needs"),
    [("flagged > 0", "--reference"), ("near_duplicates_share > 0", "--near-duplicates"), ("share > 0", "--synthetic")],
)
def test_a_condition_that_the_audit_cannot_judge_is_refused_before_it(tailkeep, tmp_path, condition, needs):
    path = write_jsonl(tmp_path / "x.jsonl", prose(3, words=9, seed=0))
    code, _, err = tailkeep("audit", "--input", path, "--out", tmp_path / "out", "--fail-if", condition)
    assert (code, needs in err) == (2, True)
    assert not (tmp_path / "out").exists()
