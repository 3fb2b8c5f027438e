"""The pages of edit, audit and forecast: what they say holds for every rule and size, and what they draw has room."""

import re

import pytest

from tailkeep.report.audit import audit_verdict
from tailkeep.report.audit_charts import AuditRun
from tailkeep.report.charts import Histogram, histogram_chart
from tailkeep.report.edit import _rule_words, context_after, context_before, share
from tailkeep.report.forest import ForestBlock, ForestRow, forest_rows
from tailkeep.report.page_kit import new_environment
from tailkeep.report.phrases import BASELINE
from tailkeep.report.svg import WIDTH, fitted, text_width
from tailkeep.rules import Band, Low, Random, ToEdit
from tailkeep.runs import RunRecord

HOST = "www.a-very-long-host-name-without-a-single-space-in-it.mmmmmmmm.example.org"


def prose(sentence):
    return new_environment().from_string("{{ sentence | prose }}").render(sentence=sentence)


def test_a_number_stays_beside_its_per_cent_and_an_option_in_one_piece():
    assert prose("44.3% (90% CI 26 %): --near-duplicates counts.") == (
        "44.3\xa0% (90\xa0%\xa0CI 26\xa0%): <code>--near-duplicates</code> counts."
    )


def test_a_name_within_a_sentence_stays_as_it_is_and_never_becomes_markup():
    assert prose("https://a.example/x%20y/5%20z <b>--set</b>") == (
        "https://a.example/x%20y/5%20z &lt;b&gt;<code>--set</code>&lt;/b&gt;"
    )


@pytest.mark.parametrize("name", [HOST, "例え" * 30, "words: KL(input ‖ ref.)", "i" * 90])
@pytest.mark.parametrize("significant", [True, False])
def test_the_label_of_a_row_ends_before_its_axis(name, significant):
    row = ForestRow(name, BASELINE, 0.8, 0.55, 1.0, significant, "80.1 %", "55.4 to 99.7")
    figure = forest_rows(
        "a", "", [ForestBlock("", "", [row], reach=1.0, one_sided=True, ends=("0", "100 %"))],
        note="", finding="", longest=20, directed=False,
    )  # fmt: skip
    axis = float(re.search(r'class="zero" d="M([\d.]+)', figure.body)[1])
    shown = fitted(name, 8.3 * 20, bold=significant)
    assert shown in figure.body
    assert text_width(shown, bold=significant) < axis
    assert axis < WIDTH / 2
    assert ">100 %</text>" in figure.body


def test_a_label_that_has_room_is_shown_whole():
    assert fitted("repetition", 200, bold=True) == "repetition"
    assert "…" in fitted(HOST, 200, bold=True)


def test_no_tick_leaves_the_figure():
    histograms = [Histogram("a", BASELINE, [0.0, 0.5, 1.0], [90.0, 10.0])]
    body = histogram_chart("a", "", histograms, unit="", x_label="", note="", finding="").body
    (last,) = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="end">1</text>', body)
    assert float(last) == WIDTH


def test_a_share_of_something_is_never_shown_as_nothing():
    assert share(1, 100_000) == "0.001%"
    assert (share(0, 100_000), share(5, 100_000), share(27, 3_124), share(0, 0)) == ("0.00%", "0.01%", "0.86%", "–")


def test_the_key_of_an_edit_names_the_rule_that_made_it():
    rules = (ToEdit(), ToEdit(delete_below=0.001), Low(action="delete"), Band(low=0.2, high=0.5), Random(share=0.05))
    assert [_rule_words(rule.model_dump()) for rule in rules] == [
        "resampled from the prior: tokens with p ≥ 0.99 under it",
        "resampled from the prior: tokens with p ≥ 0.99 under it; deleted: those with p < 0.001",
        "deleted: tokens with p < 0.001 under the prior",
        "resampled from the prior: tokens with 0.2 ≤ p < 0.5 under it",
        "resampled from the prior: 5 % of all tokens, whatever their p",
    ]


def test_the_context_of_an_edit_begins_and_ends_with_whole_words():
    text = "The first sentence of a long document, whose words are not to be cut"
    assert context_before(text) == "document, whose words are not to be cut"
    assert context_after(text) == "The first sentence of a long document,"
    assert (context_before("short"), context_after(" short")) == ("short", " short")
    unbroken = "山" * 90
    assert context_before(unbroken) == context_after(unbroken) == "山" * 40


def test_one_document_is_one(tmp_path):
    summary = {"input": {"documents": 1}}
    record = RunRecord.of("audit", {}, installed={"tailkeep": "0"}, seeds=())
    run = AuditRun(tmp_path, record, summary, {}, ())
    assert audit_verdict(run) == "1 document described; without a reference nothing is tested."
