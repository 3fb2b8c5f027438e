"""The results of audits of corpora with known properties, and the checks of their arguments."""

import csv
import io
import json
import shutil
import subprocess
import sys

import pytest

from tailkeep.audit import load, run
from tailkeep.errors import ConfigError, FingerprintError, InputError
from tests.audit.conftest import left_by, prose, write_jsonl

FULL = {"near_duplicates": {}, "compression": "zlib"}


@pytest.fixture(scope="module")
def audited(corpus, reference, tmp_path_factory):
    out = tmp_path_factory.mktemp("audited") / "out"
    return run(FULL, corpus, out, reference=reference), out


def table(out, name):
    return list(csv.DictReader(io.StringIO((out / "tables" / f"{name}.csv").read_text())))


def test_the_counts_are_those_of_the_corpus(audited, corpus):
    outcome, _ = audited
    figures = outcome.summary["input"]
    assert figures["documents"] == 120
    assert figures["exact_duplicates"] == 4
    assert figures["near_duplicates"] >= 4
    assert figures["spectrum"]["types"] <= 56
    assert 0 < figures["distinct"]["1"] < figures["distinct"]["2"] < figures["distinct"]["4"] <= 1


def test_a_compression_ratio_of_less_than_a_block_is_said_to_be_missing(audited, tmp_path):
    outcome, _ = audited
    assert outcome.summary["input"]["compression"] is None
    said = [finding["sentence"] for finding in outcome.summary["findings"]]
    assert any(sentence.startswith("It has no compression ratio: neither a file nor a bundle") for sentence in said)
    long = run(
        {"compression": "zlib"}, write_jsonl(tmp_path / "x.jsonl", prose(800, words=60, seed=0)), tmp_path / "out"
    )
    assert long.summary["input"]["compression"] > 1
    assert not any("compression" in finding["sentence"] for finding in long.summary["findings"])


def test_a_narrow_corpus_is_flagged_for_its_signs_with_the_figures_behind_them(audited):
    outcome, _ = audited
    assert {"words: distinct", "words: entropy", "words: top 100 share"} <= set(outcome.flagged)
    flagged = [finding for finding in outcome.summary["findings"] if finding["flagged"]]
    narrow = next(finding for finding in flagged if "vocabulary is narrower" in finding["sentence"])
    shown = narrow["figures"]["words: distinct"]
    assert shown["input"] < shown["reference"]
    assert shown["adjusted_p"] <= 0.05
    assert f"{shown['input']:.4g} vs. {shown['reference']:.4g}" in narrow["sentence"]


def test_text_of_one_kind_is_not_flagged(tmp_path):
    # At a level of .05 one division in twenty would be, and some other seed's is.
    for seed in range(3):
        texts, folder = prose(200, words=30, seed=seed), tmp_path / str(seed)
        folder.mkdir()
        outcome = run({"testing": {"permutations": 640}}, write_jsonl(folder / "a.jsonl", texts[:100]), folder / "out",
                      reference=write_jsonl(folder / "b.jsonl", texts[100:]))  # fmt: skip
        assert outcome.flagged == []
        sentence = outcome.summary["findings"][0]["sentence"]
        assert sentence.startswith("No significant difference: 0 of 20 statistics")


def test_without_a_reference_nothing_is_flagged_and_the_reader_is_told_why(corpus, tmp_path):
    outcome = run({}, corpus, tmp_path / "out")
    assert not any(finding["flagged"] for finding in outcome.summary["findings"])
    assert "there is no reference (--reference) to compare with" in outcome.summary["findings"][0]["sentence"]
    assert "reference" not in outcome.summary
    assert not (tmp_path / "out" / "tables" / "tests.csv").exists()


def test_too_few_documents_are_counted_and_not_tested(tmp_path):
    texts = prose(24, words=30, seed=6)
    outcome = run({}, write_jsonl(tmp_path / "a.jsonl", texts[:12]), tmp_path / "out",
                  reference=write_jsonl(tmp_path / "b.jsonl", texts[12:]))  # fmt: skip
    assert outcome.summary["comparison"] is None
    assert "Nothing was tested: the samples have 12 and 12" in outcome.summary["findings"][0]["sentence"]


def test_the_tables_hold_both_sides(audited):
    _, out = audited
    assert {row["side"] for row in table(out, "lengths")} == {"input", "reference"}
    assert sum(int(row["documents"]) for row in table(out, "lengths") if row["side"] == "input") == 120
    assert table(out, "duplicates")[0]["copies"] == "2"
    tests = table(out, "tests")
    assert len(tests) == 20
    assert all(0 < float(row["p"]) <= float(row["adjusted_p"]) <= 1 for row in tests)
    keywords = table(out, "keywords")
    # The audited corpus has no w700x, the reference has.
    assert any(row["in_input"] == "under" and float(row["input"]) == 0 for row in keywords)
    ends = [json.loads(line) for line in (out / "tables" / "examples.jsonl").read_text().splitlines()]
    assert {item["side"] for item in ends} == {"input", "reference"}


def test_an_edit_can_be_audited(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "documents")
    (tmp_path / "documents" / "tailkeep.json").write_text('{"tailkeep.edit": {"run": "x"}}')
    assert run({}, tmp_path / "documents", tmp_path / "out").counts["documents"] == 120


# Choices


def test_a_choice_that_would_do_nothing_is_refused(corpus, tmp_path):
    for config, message in (
        ({"testing": {"permutations": 500}}, "permutations must be >= 639 at level=0.05, got 500"),
        ({"layout": {"token_field": "ids"}}, "token_field has no effect in an audit, which counts words of text"),
        ({"layout": {"prompt_fields": ["q"]}}, "prompt_fields have no effect in an audit"),
        ({"sample": {"documnts": 20}}, "Did you mean 'documents'"),
        ({"prior": {"path": str(tmp_path), "dtyp": "x"}}, "Did you mean 'dtype'"),
        ({"prior": {"dtype": "auto"}}, "the key 'prior.path' is missing"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(config)
    with pytest.raises(ConfigError, match="testing has no effect without --reference"):
        run({"testing": {"level": 0.1}}, corpus, tmp_path / "out")


def test_a_corpus_is_not_compared_with_itself(corpus, tmp_path):
    with pytest.raises(InputError, match="both --input and --reference"):
        run({}, corpus / "a.jsonl", tmp_path / "out", reference=corpus)


def test_another_configuration_or_reference_is_another_run(corpus, reference, tmp_path):
    run({}, corpus / "a.jsonl", tmp_path / "out")
    before = left_by(tmp_path / "out")
    for config, trusted in (({"seed": 1}, ()), ({}, reference / "a.jsonl")):
        with pytest.raises(FingerprintError, match="holds another run"):
            run(config, corpus / "a.jsonl", tmp_path / "out", reference=trusted)
    assert left_by(tmp_path / "out") == before


def test_without_a_prior_neither_torch_nor_transformers_is_needed(corpus, tmp_path):
    code = (
        "import sys\nclass Blocker:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'datasketch', 'sklearn'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name.split('.')[0])\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from tailkeep.cli import main; main()\n"
    )
    arguments = ["audit", "--input", corpus / "a.jsonl", "--out", tmp_path / "out"]

    def started(*more):
        command = [sys.executable, "-c", code, *map(str, arguments), *map(str, more)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    assert started().returncode == 0
    for more, package, extra in (
        (["--prior", "x"], "transformers", "hf"),
        (["--near-duplicates"], "datasketch", "audit"),
    ):
        ended = started(*more, "--out", tmp_path / package)
        assert ended.returncode == 2, ended.stderr
        assert f"{package} is not installed" in ended.stderr
        assert f"tailkeep[{extra}]" in ended.stderr
