"""The tables of an audit can be read again, whatever its documents hold."""

import csv
import json
from dataclasses import fields

import pytest

from tailkeep.audit import run
from tailkeep.audit.keywords import Example
from tailkeep.audit.share_summary import TellingDocument
from tailkeep.audit.templates import Template
from tailkeep.report.audit import audit_page
from tailkeep.report.audit_charts import read_audit_run
from tailkeep.sanitize import HIDDEN, excerpt, redact_tree
from tests.audit.conftest import QUICK, prose, write_jsonl

BEGIN, END = (f"-----{word} PRIVATE KEY-----" for word in ("BEGIN", "END"))


def audited(texts, folder):
    inputs = write_jsonl(folder / "in.jsonl", texts)
    reference = write_jsonl(folder / "reference.jsonl", prose(30, words=30, seed=2))
    run({"testing": QUICK}, inputs, folder / "out", reference=reference)
    return read_audit_run(folder / "out")


def test_a_private_key_that_an_excerpt_cuts_is_hidden_and_its_line_stays_json(tmp_path):
    keys = [f"{text} {BEGIN}\n{'MIIEpAIBAAKCAQEA' * 100}\n{END}" for text in prose(30, words=30, seed=1)]
    audit = audited(keys, tmp_path)
    shown = [item for item in audit.examples if item["side"] == "input"]
    assert len(shown) == 10
    assert all(item["text"].endswith(HIDDEN) and "MIIE" not in item["text"] for item in shown)
    assert "MIIE" not in audit_page(audit)


@pytest.mark.parametrize("kind", [Example, TellingDocument, Template])
def test_no_column_of_a_table_is_hidden_for_its_name(kind):
    row = {field.name: "x" for field in fields(kind)} | {"side": "x"}
    assert redact_tree(row) == row


def test_a_word_longer_than_a_cell_of_csv_is_cut(tmp_path):
    word = "x" * (csv.field_size_limit() + 1)
    audit = audited([*prose(30, words=30, seed=1), *[f"{word} {word}"] * 3], tmp_path)
    for table in ("frequent", "keywords"):
        assert excerpt(word) in [row["text"] for row in audit.rows(table)]
    assert audit_page(audit)


def test_a_secret_among_the_keywords_is_hidden(tmp_path):
    secret = "hf_" + "A1b2" * 6
    audit = audited([f"{secret} {text}" for text in prose(30, words=30, seed=1)], tmp_path)
    for table in ("frequent", "keywords"):
        texts = [row["text"] for row in audit.rows(table)]
        assert HIDDEN in texts
        assert not [text for text in texts if "a1b2" in json.dumps(text).lower()]
