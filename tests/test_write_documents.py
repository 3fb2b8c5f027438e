"""examples/write_documents.py and benchmarks/share.py: both sides of known mixtures, and the coverage on them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.audit.conftest import prose, write_jsonl
from tests.edit.conftest import prior

__all__ = ["prior"]

ROOT = Path(__file__).parents[1]


def run(script, *arguments):
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_windows_of_articles_are_continued_by_a_model_and_by_people(prior, tmp_path):
    paragraph = "Ann saw a cat @-@ like dog , and it ( the dog ) saw 3 @,@ 000 cats . " * 12
    marked = paragraph.replace("cats", "<unk>")
    text = f" = First = \n \n {paragraph}\n = = Heading = = \n {paragraph}\n = Second = \n {marked}\n"
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    sizes = ["--num-documents", 3, "--tokens", 12, "--dtype", "float32"]
    run("examples/write_documents.py", prior, tmp_path / "out", tmp_path / "text.txt", *sizes)
    human, machine = (
        [json.loads(line) for line in (tmp_path / "out" / f"{side}.jsonl").read_text(encoding="utf-8").splitlines()]
        for side in ("human", "machine")
    )
    assert len(machine) == 3
    assert all("<unk>" not in row["text"] for row in human)
    assert all("<unk>" not in row["prompt"] for row in machine)
    assert {row["source"] for row in human} <= {"First", "Second"}
    assert "Heading" not in " ".join(row["text"] + row["prompt"] for row in human)
    joined = " ".join(row["prompt"] + row["text"] for row in human)
    assert "cat-like" in joined
    assert " ," not in joined
    first = (tmp_path / "out" / "machine.jsonl").read_bytes()
    run("examples/write_documents.py", prior, tmp_path / "again", tmp_path / "text.txt", *sizes)
    assert (tmp_path / "again" / "machine.jsonl").read_bytes() == first


@pytest.mark.slow
def test_the_coverage_of_known_mixtures_is_counted_and_refusals_are_no_hits(tmp_path):
    paired = tmp_path / "paired"
    paired.mkdir()
    for domain, ending in (("first", "x"), ("second", "q")):
        human, machine = (prose(160, words=30, seed=types, types=types) for types in (300, 120))
        tree = {"original": human, "sampled": [f"delve moreover {text}" for text in machine]}
        tree = {side: [f"The same. {text}".replace("x", ending) for text in texts] for side, texts in tree.items()}
        (paired / f"{domain}_model.raw_data.json").write_text(json.dumps(tree))
    small = ["--mixtures", 3, "--resamples", 100, "--shares", 0.2]
    rows = list(csv.DictReader(run("benchmarks/share.py", "--paired", paired, *small).splitlines()))
    assert [(row["design"], row["corpus"]) for row in rows] == [
        ("in-domain", "first/model"),
        ("domain", "first/model"),
        ("in-domain", "second/model"),
        ("domain", "second/model"),
    ]
    for row in rows:
        assert int(row["hits"]) <= 3 - int(row["refused"])
    assert [int(row["refused"]) for row in rows if row["design"] == "domain"] == [3, 3]
    assert sum(int(row["hits"]) for row in rows if row["design"] == "in-domain") >= 4

    folder = tmp_path / "documents"
    for side, texts in (("human", prose(160, words=30, seed=1)), ("machine", prose(160, words=30, seed=2, types=90))):
        path = write_jsonl(folder / f"{side}.jsonl", texts)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "source": f"a{i // 8}"}) + "\n" for i, row in enumerate(lines)))
    printed = run("benchmarks/share.py", "--documents", f"made/model={folder}", "--half", "dev", *small)
    assert [row["corpus"] for row in csv.DictReader(printed.splitlines())] == ["made/model"]


def test_divisions_differ_and_the_first_is_that_of_development():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import share
    finally:
        sys.path.pop(0)
    blocks = [f"b{number}" for number in range(200)]
    first = [block for block in blocks if share.is_first_half(block)]
    assert 70 < len(first) < 130
    others = [[block for block in blocks if share.is_first_half(block, division)] for division in (1, 2)]
    assert first != others[0] != others[1]
    sides = share.select_blocks(blocks, "test", np.random.default_rng(0))
    assert sides[0] & sides[1] == set()
    assert sides[0] >= set(first)
    assert share.select_blocks(blocks, "dev", np.random.default_rng(0))[1] < set(first)
