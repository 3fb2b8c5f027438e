"""The report of an audit of hardly any text: every figure is drawn, or says that there is nothing to show."""

import re
from io import StringIO

import pytest
from rich.console import Console

from tailkeep.audit import run
from tailkeep.report.audit import audit_page, show_audit
from tailkeep.report.audit_charts import audit_figures, read_audit_run
from tests.audit.conftest import prose, write_jsonl


def reported(folder, texts, reference=None, **config):
    """The figures of the audit of `texts`, by name."""
    trusted = {} if reference is None else {"reference": write_jsonl(folder / "reference.jsonl", reference)}
    run(config, write_jsonl(folder / "in.jsonl", texts), folder / "out", **trusted)
    audit = read_audit_run(folder / "out")
    printed = StringIO()
    show_audit(folder / "out", Console(file=printed, width=100))
    for output in (audit_page(audit), printed.getvalue()):
        assert not re.search(r"\bnan\b", output)
    return {figure.name: figure for figure in audit_figures(audit)}


def test_a_corpus_without_a_readable_document_has_a_report_without_points(tmp_path):
    path = tmp_path / "in.jsonl"
    figures = reported(tmp_path, [], on_error="skip")
    assert not path.read_bytes()
    assert figures["ranks"].body == ""
    assert "Nothing to show" in figures["ranks"].note


def test_documents_of_white_space_alone_have_a_report(tmp_path):
    figures = reported(tmp_path, [" ", "\n"], prose(3, words=10, seed=0), on_error="skip")
    # The reference is drawn alone.
    assert figures["ranks"].body.count('class="line') == 1


@pytest.mark.parametrize("texts", [["word"], ["word word"] * 30])
def test_a_corpus_of_one_word_has_one_rank(tmp_path, texts):
    assert ">1</text>" in reported(tmp_path, texts)["ranks"].body


def test_a_reference_of_one_document_has_one_band_of_coverage(tmp_path):
    body = reported(tmp_path, prose(30, words=20, seed=1), prose(1, words=40, seed=2))["coverage"].body
    assert body.count('class="mark r-') == 2
