import gzip
import json

import pytest

from tailkeep.data import read_questions
from tests.kr_test.corpus import write
from tests.kr_test.server import questions, serving
from tests.kr_test.tiny import save_model

KEY = "a-key-of-no-known-shape-4711"


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path / "corpus.txt")


def test_questions_are_built_checked_run_and_exported(tailkeep, corpus, tmp_path):
    out, model = tmp_path / "kr.json", save_model(tmp_path / "model")
    code, text, _ = tailkeep("kr-test", "build", "--input", corpus, "--out", out, "--questions", 20)
    assert (code, len(read_questions(out))) == (0, 20)
    assert "bag of words" in text
    assert "differs from chance\n" not in text.replace("no difference from chance shown", "")
    code, text, _ = tailkeep("kr-test", "check", out)
    assert code == 0
    assert text.startswith("20 items\n0 cannot be read\n0 have identical sentences\n0 repeat")
    figures = tmp_path / "figures.json"
    code, text, _ = tailkeep(
        "kr-test", "run", "--model", model, "--questions", out, "--out", figures,
        "--reference", model, "--num-parts", 2, "--num-documents", 60, "--text-form", "wikitext",
    )  # fmt: skip
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["total", "fraction", "fraction"]
    assert "reference the plain form" in text
    assert f"reference {model}" in text
    tree = json.loads(figures.read_text())
    assert len(tree["margins"]["common"]) == 20
    assert tree["comparisons"][1]["test"] == {"only_first": 0, "only_second": 0, "p_value": 1.0}
    code, text, _ = tailkeep("kr-test", "export", "--questions", out, "--out", tmp_path / "task")
    assert (code, text) == (0, f"{tmp_path}/task/kr_test.yaml\n")


def test_a_model_that_never_saw_the_corpus_answers_half_of_what_is_built(tailkeep, corpus, tmp_path):
    out, model = tmp_path / "kr.json", save_model(tmp_path / "model")
    arguments = ["kr-test", "build", "--input", corpus, "--out", out, "--questions", 8]
    code, text, err = tailkeep(*arguments, "--reference-model", model)
    assert code == 0, err
    assert "pairs of which the reference model answer one: " in text
    figures = tmp_path / "figures.json"
    tailkeep("kr-test", "run", "--model", model, "--questions", out, "--out", figures)
    # So few articles have no interval: null, which every reader of JSON knows.
    margins = json.loads(figures.read_text(), parse_constant=pytest.fail)["margins"]["common"]
    assert sum((margin > 0) + (margin == 0) / 2 for margin in margins) == len(margins) / 2 == 4


def ask(tailkeep, server, corpus, out, *more):
    return tailkeep(
        "kr-test", "build", "--input", corpus, "--out", out, "--questions", 4, "--endpoint", server.url,
        "--model", "m", *more,
    )  # fmt: skip


def test_an_endpoint_is_told_of_before_and_the_key_stands_nowhere(tailkeep, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_PLACE", KEY)
    out = tmp_path / "asked" / "kr.json"
    with serving(questions("old")) as server:
        code, text, told = ask(tailkeep, server, corpus, out, "--yes", "--api-key-env", "MY_PLACE", "--price", "1,2")
        assert code == 0
        assert f"to {server.url[7:-3]}, model m: 2 requests" in told
        assert "at the prices given" in told
        assert server.requests[0][1]["Authorization"] == f"Bearer {KEY}"
        # Everything is paid for: nothing is asked, and nobody is asked.
        assert ask(tailkeep, server, corpus, out, "--api-key-env", "MY_PLACE")[0] == 0
        assert len(server.requests) == 2
    written = b"".join(path.read_bytes() for path in out.parent.rglob("*") if path.is_file())
    assert KEY.encode() not in written
    assert KEY not in text + told


def test_nothing_is_sent_without_a_yes(tailkeep, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    with serving(questions("old")) as server:
        code, _, told = ask(tailkeep, server, corpus, tmp_path / "kr.json", "--api-key-env", "")
    assert (code, server.requests) == (2, [])
    assert "no price is given" in told
    assert "nothing was sent" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--input", "nowhere/*.txt", "--out", "x.json"], "matches no file"),
        (["build", "--input", "{corpus}", "--out", "x.json", "--model", "m"], "does nothing without --endpoint"),
        (["build", "--input", "{corpus}", "--out", "x.json", "--endpoint", "http://h/v1"], "give the name of a model"),
        (
            ["build", "--input", "{corpus}", "--out", "x.json", "--endpoint", "http://h/v1", "--model", "m"],
            "OPENAI_API_KEY holds no key",
        ),
        (
            [
                "build",
                "--input",
                "{corpus}",
                "--out",
                "x.json",
                "--endpoint",
                "http://h",
                "--model",
                "m",
                "--price",
                "1",
            ],
            "give two numbers",
        ),
        (["check", "nowhere.json"], "nowhere.json matches no file"),
        (["check", "{corpus}"], "is plain text, which has no fields. Give a file of objects"),
        (["run", "--model", "nowhere/at/all", "--questions", "nowhere.json"], "nowhere.json matches no file"),
        (["run", "--model", "m", "--questions", "x", "--num-documents", "4"], "does nothing without --num-parts"),
        (["run", "--model", "m", "--questions", "x", "--text-form", "x"], "give one of plain, wikitext"),
        (["export", "--questions", "nowhere.json", "--out", "d"], "nowhere.json matches no file"),
    ],
)
def test_what_cannot_be_done_is_one_clear_message(tailkeep, corpus, monkeypatch, tmp_path, arguments, message):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    code, _, told = tailkeep("kr-test", *(argument.format(corpus=corpus) for argument in arguments))
    assert code == 2
    assert message in told
    assert [line[:7] for line in told.splitlines()] == ["error: "]


def test_a_document_that_cannot_be_read_is_rejected_beside_the_questions(tailkeep, tmp_path):
    lines = [json.dumps({"text": line}) for line in write(tmp_path / "corpus.txt").read_text().splitlines()]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("\n".join([*lines[:30], "{torn", *lines[30:]]))
    (tmp_path / "in" / "empty.jsonl").write_bytes(b"")
    arguments = ["kr-test", "build", "--input", tmp_path / "in", "--out", tmp_path / "kr.json", "--questions", 20]
    code, _, err = tailkeep(*arguments)
    assert code == 2
    assert "a.jsonl, line 31: not JSON" in err
    assert "--on-error skip" in err
    code, _, err = tailkeep(*arguments, "--on-error", "skip")
    assert (code, len(read_questions(tmp_path / "kr.json"))) == (4, 20)
    assert "rejected: 1 documents" in err
    (reject,) = map(json.loads, (tmp_path / "kr.json.rejects.jsonl").read_text().splitlines())
    assert reject["row"] == 30


def test_what_is_ignored_or_torn_is_said(tailkeep, tmp_path):
    lines = [json.dumps({"text": line}) for line in write(tmp_path / "corpus.txt").read_text().splitlines()]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "in" / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[:9]).encode())[:-40])
    (tmp_path / "in" / "README.md").write_text("text")
    arguments = ["kr-test", "build", "--input", tmp_path / "in", "--out", tmp_path / "kr.json", "--questions", 20]
    code, out, err = tailkeep(*arguments, "--on-error", "skip")
    assert code == 4
    assert out.startswith("ignored files: 1 ")
    assert "b.jsonl.gz, line" in err
    assert "is torn: everything after it is lost" in err
