"""The share by source: what names a source, which sources are flagged, and how often by chance."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep.audit import run
from tailkeep.audit.share import ShareEstimate
from tailkeep.data.corpus import Layout, find_shards, read_shard
from tailkeep.data.documents import NO_SOURCE, name_source
from tailkeep.errors import ConfigError
from tests.audit.conftest import QUICK, QUICK_OPTIONS, write_jsonl
from tests.audit.test_share import CONFIG, human, machine, other
from tests.report.built_runs import HOSTILE_TEXT

BY = {"share": {"resamples": 100, "by": "url"}, "testing": QUICK, "sample": {"documents": 40}}
SOURCES = {
    "https://clean.example/a?b=1": human(80, 3),
    "http://mixed.example:80/x": [*human(40, 4), *machine(40, 5)],
    "other.example": other(60, 6),
    "https://tiny.example/": machine(9, 7),
}


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    rows = [{"text": text, "url": url} for url, texts in SOURCES.items() for text in texts]
    (folder / "input.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": human(1, 8)[0]}]))
    return (
        folder / "input.jsonl",
        write_jsonl(folder / "reference.jsonl", human(150, 1)),
        write_jsonl(folder / "synthetic.jsonl", machine(150, 2)),
    )


def table(out):
    return {row["source"]: row for row in csv.DictReader((out / "tables" / "sources.csv").read_text().splitlines())}


def test_each_source_has_its_share_or_its_refusal(sides, tmp_path):
    outcome = run(BY, sides[0], tmp_path / "out", reference=sides[1], synthetic=sides[2])
    rows = table(tmp_path / "out")
    # A source with few documents, and those without one, are judged together, here still too few.
    assert set(rows) == {"clean.example", "mixed.example", "other.example", "(all other sources)"}
    sizes = [int(row["documents"]) for row in rows.values()]
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert [rows[name]["flagged"] for name in ("clean.example", "mixed.example")] == ["0", "1"]
    assert float(rows["clean.example"]["low"]) == 0
    assert float(rows["mixed.example"]["low"]) <= 0.5 <= float(rows["mixed.example"]["high"])
    assert "a classifier tells its documents" in rows["other.example"]["refusal"]
    assert rows["other.example"]["share"] == rows["other.example"]["telling"] == ""
    assert "documents of at least" in rows["(all other sources)"]["refusal"]
    finding = outcome.summary["findings"][1]
    assert finding["flagged"]
    assert finding["sentence"].startswith("Sources with documents like the synthetic reference: 1 of 4 (false disc")
    assert "mixed.example " in finding["sentence"]
    assert "No share is named for other.example, (all other sources): such a source can" in finding["sentence"]
    lines = (tmp_path / "out" / "tables" / "source_documents.jsonl").read_text().splitlines()
    documents = [json.loads(line) for line in lines]
    assert [item["source"] for item in documents].count("mixed.example") == 3
    assert all("delve" in item["text"] for item in documents if item["source"] == "mixed.example")
    assert {item["location"] for item in documents if item["source"] == "mixed.example"} == set(
        rows["mixed.example"]["telling"].split()
    )


def test_the_file_can_be_the_source(sides, tmp_path):
    folder = tmp_path / "in"
    write_jsonl(folder / "a.jsonl", human(60, 3))
    (folder / "b.txt").write_text("\n".join(machine(60, 14)) + "\n")
    config = {**CONFIG, "share": {"resamples": 100, "by": "file"}}
    run(config, folder, tmp_path / "out", reference=sides[1], synthetic=sides[2])
    rows = table(tmp_path / "out")
    assert [rows[name]["flagged"] for name in ("a.jsonl", "b.txt")] == ["0", "1"]


def test_sources_without_synthetic_text_are_rarely_flagged(sides, tmp_path):
    rows = [{"text": text, "url": f"s{number // 25}"} for number, text in enumerate(human(500, 9))]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = run(BY, tmp_path / "in.jsonl", tmp_path / "out", reference=sides[1], synthetic=sides[2])
    # A false discovery rate of 5 % is that of any discovery here.
    assert "like the synthetic reference: 0 of 13 (" in outcome.summary["findings"][1]["sentence"]
    assert not outcome.summary["findings"][1]["flagged"]


def test_a_source_that_is_refused_counts_among_the_tests(sides, tmp_path, monkeypatch):
    def estimate(corpus, share, seed, rows=None, **_):
        if rows is None or corpus.sides["input"].documents[rows[0]].source != "seen":
            return ShareEstimate(len(corpus.sides["input"].documents), refusal="too few")
        return ShareEstimate(60, share=0.5, low=0.1, high=0.9, zero_p=0.03)

    monkeypatch.setattr("tailkeep.audit.share_summary.estimate_share", estimate)
    rows = [{"text": text, "url": "seen" if number < 60 else "refused"} for number, text in enumerate(human(100, 9))]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(BY, tmp_path / "in.jsonl", tmp_path / "out", reference=sides[1], synthetic=sides[2])
    found = table(tmp_path / "out")
    assert float(found["seen"]["adjusted_p"]) == pytest.approx(0.06)
    assert (found["seen"]["flagged"], found["refused"]["adjusted_p"]) == ("0", "")


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ("https://User@Example.ORG:8080/a?b", "example.org"),
        ("wiki", "wiki"),
        ("  wiki ", "wiki"),
        ("http://[bad", "http://[bad"),
        ("://x", "://x"),
        (7, "7"),
        (True, "True"),
        (None, NO_SOURCE),
        ("", NO_SOURCE),
        (["a"], NO_SOURCE),
        ({"a": 1}, NO_SOURCE),
        ("x" * 900, "x" * 200),
        ("half \ud83d", "half ?"),
    ],
)
def test_a_value_names_a_source(value, source):
    assert name_source(value) == source


def test_every_format_with_fields_has_the_field_and_its_text_alone_is_read(tmp_path):
    rows = [{"text": "one", "meta": {"url": "u"}}, {"text": "two"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.json").write_text(json.dumps(rows))
    pq.write_table(pa.table({"text": ["one", "two"], "meta": [{"url": "u"}, None]}), tmp_path / "d.parquet")
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "e.parquet")
    found = {
        shard.name: [(item.extra, *item.texts.values()) for item in read_shard(shard, Layout(), "meta.url")]
        for shard in find_shards(tmp_path)
    }
    expected = [("u", "one"), (None, "two")]
    assert found == {
        **dict.fromkeys(("a.jsonl", "b.jsonl.gz", "c.json", "d.parquet"), expected),
        "e.parquet": [(None, "one"), (None, "two")],
    }


def test_a_field_that_no_document_has_is_named(sides, tmp_path):
    config = {"share": {"by": "sourc"}}
    with pytest.raises(ConfigError, match="--by: none of the first 100 documents has the field 'sourc'"):
        run(config, sides[0], tmp_path / "out", reference=sides[1], synthetic=sides[2])
    with pytest.raises(ConfigError, match=r"share \(--by\) has no effect without --synthetic"):
        run(config, sides[0], tmp_path / "out", reference=sides[1])


def test_the_page_has_a_table_of_sources_that_obeys_no_text(tailkeep, sides, tmp_path):
    rows = [{"text": f"{HOSTILE_TEXT} {text}", "url": url} for url, texts in SOURCES.items() for text in texts] + [
        {"text": text, "url": HOSTILE_TEXT} for text in human(30, 8)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    references = ["--reference", sides[1], "--synthetic", sides[2], "--by", "url"]
    code, out, _ = tailkeep("audit", "--input", tmp_path / "in.jsonl", *references, "--out", tmp_path / "out",
                            *QUICK_OPTIONS, "--set", "sample.documents=40")  # fmt: skip
    assert code == 0
    assert "\x1b" not in out
    assert tailkeep("report", tmp_path / "out")[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>By source</h2>" in page
    assert "mixed.example" in page
    assert "<script" not in page
    assert "\x1b" not in page
