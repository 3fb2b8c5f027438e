"""The page of a forecast: its findings stand in its figures, and nothing of a corpus becomes markup."""

import html
import re

import pytest

from tailkeep.errors import InputError
from tailkeep.forecast import run
from tailkeep.report import write_forecast
from tailkeep.report.forecast import forecast_figures, read_forecast
from tailkeep.report.forecast_charts import SurvivalLine, exponent_chart, survival_chart
from tailkeep.report.phrases import BASELINE
from tests.audit.conftest import prose, write_jsonl


@pytest.fixture(scope="module")
def forecast_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forecast")
    corpus = write_jsonl(folder / "x.jsonl", prose(80, words=40, seed=0, types=3000))
    synthetic = write_jsonl(folder / "y.jsonl", prose(80, words=40, seed=1, types=3000))
    run({"generations": 6, "real_shares": [0.2]}, corpus, folder / "out", synthetic=[f"model-a={synthetic}"])
    return folder / "out"


def test_the_page_says_what_the_summary_says(forecast_dir):
    page = write_forecast(forecast_dir).read_text()
    shown = re.sub(r"</?code>", "", html.unescape(page)).replace("\xa0", " ")
    for sentence in read_forecast(forecast_dir)["sentences"]:
        assert sentence in shown
    assert page.count('<svg class="fig"') == len(forecast_figures(read_forecast(forecast_dir))) == 3
    assert "<script" not in page
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org/2000/svg", "", page)


def test_figures_are_files_too_and_state_their_finding(forecast_dir):
    write_forecast(forecast_dir)
    names = sorted(path.name for path in (forecast_dir / "figures").glob("*.svg"))
    assert names == ["forecast-words-drift.svg", "forecast-words-exponent.svg", "forecast-words-real-data.svg"]
    drift = forecast_figures(read_forecast(forecast_dir))[0]
    assert re.search(r"after 6 generations once \d+ %", drift.finding)


def test_a_damaged_summary_is_not_shown(forecast_dir, tmp_path):
    (tmp_path / "run.json").write_bytes((forecast_dir / "run.json").read_bytes())
    content = (forecast_dir / "summary.json").read_text()
    (tmp_path / "summary.json").write_text(content.replace("0.", "1.", 1))
    with pytest.raises(InputError, match=r"summary\.json is damaged: .* Run the forecast again"):
        read_forecast(tmp_path)


def test_an_unfinished_forecast_says_so(forecast_dir, tmp_path):
    (tmp_path / "run.json").write_bytes((forecast_dir / "run.json").read_bytes())
    assert "not finished" in write_forecast(tmp_path).read_text()


def test_a_name_never_becomes_markup():
    line = SurvivalLine("<b>", BASELINE, [0, 1], [[1.0] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]], [(1.0, 0.25)])
    for figure in (
        survival_chart("a", "<i>", [line], note="", finding="<u>", goal=(0.5, "<s>")),
        exponent_chart("b", "<i>", [("<b>", 1.2, 1.1, 1.3)], BASELINE, note="", finding="<u>"),
    ):
        assert not re.search(r"<(b|i|u|s)>", figure.inline + figure.file)
        assert 'class="hollow' in figure.inline or "whisk" in figure.inline


def test_an_exponent_that_includes_one_is_hollow():
    rows = [("a", 1.02, 0.97, 1.07), ("b", 1.2, 1.1, 1.3)]
    body = exponent_chart("e", "", rows, BASELINE, note="", finding="").inline
    assert (body.count('class="hollow'), body.count('class="mark')) == (1, 1)
