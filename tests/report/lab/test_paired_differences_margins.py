"""The standardised margin in a report: paired by question, resampled by article, corrected for the number of arms."""

import csv
import io
import shutil

import numpy as np
import pytest

from tailkeep.metrics import compare_standardised_margins, kr_standardised_margin
from tailkeep.report import write
from tailkeep.report.lab.paired_differences import arm_margins, margin_differences
from tailkeep.report.lab.run import read_lab_run
from tests.report.lab.test_paired_differences import lab_run

ARTICLES = np.repeat(np.arange(20), 6)
NOISE = np.random.default_rng(0).normal(0, 1, (3, ARTICLES.size))
NOISE += np.random.default_rng(1).normal(0, 0.5, 20)[ARTICLES]
NO_LOCATIONS = [None] * ARTICLES.size


def knowledge(margins, locations=ARTICLES, file="f"):
    """A table `knowledge` as the laboratory writes it."""
    interval = {"mean": 0.5, "low": 0.4, "high": 0.6}
    row = {"part": "all", "items": len(margins), "accuracy": interval, "bootstrap": interval, "by_sum": 0.5}
    return {
        "knowledge": {
            "file": file,
            "numbers": list(range(len(margins))),
            "locations": [place if place is None else int(place) for place in locations],
            "margins": [float(margin) for margin in margins],
            "rows": [{**row, "by_mean": 0.5}],
        }
    }


def chain(*shifts):
    return [knowledge(NOISE[0] + 0.01 * NOISE[1] * number + shift) for number, shift in enumerate(shifts)]


def group_of(tmp_path, arms):
    return read_lab_run(lab_run(tmp_path / "r", arms)).groups[0]


def test_a_lost_margin_has_a_half_life_and_differs_significantly_while_the_same_arm_is_equivalent(tmp_path):
    arms = {"baseline": chain(0.8, 0.8, 0.8), "worse": chain(0.8, 0.5, 0.2), "same": chain(0.8, 0.8, 0.8)}
    group = group_of(tmp_path, arms)
    baseline, worse, _ = arm_margins(group)
    assert (baseline.questions, baseline.articles, baseline.generation) == (120, 20, 2)
    assert baseline.final.mean == pytest.approx(kr_standardised_margin(NOISE[0] + 0.02 * NOISE[1] + 0.8))
    assert baseline.failure.failure.state == "censored"
    assert worse.failure.failure.state == "failed"
    assert 1 < worse.failure.low < worse.failure.failure.time < worse.failure.high <= 2
    by_arm = {one.arm: one for one in margin_differences(group)}
    assert by_arm["worse"].corrected_p < 0.01
    assert by_arm["worse"].corrected_equivalence_p > 0.9
    assert by_arm["same"].equivalence.decided
    assert by_arm["same"].corrected_equivalence_p < 0.01
    assert by_arm["same"].difference.mean == pytest.approx(0, abs=1e-9)


def test_the_difference_is_that_of_the_metric_over_articles(tmp_path):
    other = NOISE[0] + 0.3 * NOISE[2] + 0.4
    group = group_of(tmp_path, {"baseline": [knowledge(NOISE[0] + 0.8)], "b": [knowledge(other)]})
    (one,) = margin_differences(group)
    expected = compare_standardised_margins([other], [NOISE[0] + 0.8], ARTICLES, bound=0)
    assert one.difference == pytest.approx(expected.difference)
    assert one.corrected_p == one.p_value


@pytest.mark.parametrize(
    "table",
    [
        knowledge(NOISE[0], locations=NO_LOCATIONS),
        knowledge(NOISE[0], locations=np.zeros(ARTICLES.size)),
        knowledge(np.ones(ARTICLES.size)),
        {},
    ],
    ids=["no locations", "one article", "no spread", "no questions"],
)
def test_without_articles_or_spread_there_is_no_margin(tmp_path, table):
    group = group_of(tmp_path, {"baseline": [table], "b": [table]})
    assert arm_margins(group) == ()
    assert margin_differences(group) == ()


def test_arms_of_different_question_files_are_not_compared(tmp_path):
    group = group_of(tmp_path, {"baseline": [knowledge(NOISE[0])], "b": [knowledge(NOISE[0], file="g")]})
    assert len(arm_margins(group)) == 2
    assert margin_differences(group) == ()


def test_a_half_life_that_was_not_reached_is_censored_in_the_table_and_an_undefined_one_has_no_bounds(tmp_path):
    arms = {"keeps": chain(0.8, 0.8), "loses": chain(0.8, 0.2), "none": chain(-0.8, -0.8)}
    run = lab_run(tmp_path / "r", arms)
    write(run)
    keeps, loses, none = csv.DictReader((run / "tables/kr_margins.csv").read_text(encoding="utf-8").splitlines())
    assert (keeps["half_life"], keeps["half_life_censored"]) == ("1.0", "1")
    assert (float(loses["half_life"]) < 1, loses["half_life_censored"]) == (True, "0")
    assert [none[f"half_life{part}"] for part in ("", "_low", "_high", "_censored")] == ["", "", "", "0"]


def test_a_margin_without_generation_0_has_no_initial_value(tmp_path):
    run = lab_run(tmp_path / "r", {"baseline": chain(0.8, 0.8, 0.2), "b": chain(0.8, 0.8, 0.8)})
    shutil.rmtree(run / "cells/baseline/0/0")
    group = read_lab_run(run).groups[0]
    baseline, _ = arm_margins(group)
    assert np.isnan(baseline.initial.mean)
    assert baseline.failure.failure.state == "undefined"
    assert np.isfinite(baseline.final.mean)
    (one,) = margin_differences(group)
    assert one.equivalence is None
    assert one.difference.mean > 0


def test_margins_of_different_last_generations_name_theirs_and_that_of_the_difference(tmp_path):
    run = lab_run(tmp_path / "r", {"baseline": chain(0.8, 0.8, 0.8), "short": chain(0.8, 0.2)})
    page = write(run).read_text(encoding="utf-8")
    table = page.partition("The KR-test, paired by question")[2].partition("</table>")[0]
    assert '<th scope="col">Last generation</th>' in table
    assert '<th scope="col">Minus the baseline, generation 1</th>' in table
    assert (table.count(" at generation 2<"), table.count(" at generation 1<")) == (1, 1)


def test_the_page_and_its_table_show_the_margins(tmp_path):
    run = lab_run(tmp_path / "r", {"baseline": chain(0.8, 0.8), "worse": chain(0.8, 0.2)})
    page = write(run).read_text(encoding="utf-8")
    assert "The KR-test, paired by question" in page
    text = (run / "tables" / "kr_margins.csv").read_text(encoding="utf-8")
    assert "np." not in text
    baseline, worse = csv.DictReader(io.StringIO(text))
    assert (baseline["baseline"], worse["baseline"]) == ("", "baseline")
    assert float(worse["difference"]) < 0
    assert float(worse["corrected_p"]) < 0.05
    assert float(baseline["initial"]) == pytest.approx(kr_standardised_margin(NOISE[0] + 0.8))
