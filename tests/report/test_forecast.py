"""The page of a forecast: its findings stand in its figures, and nothing of a corpus becomes markup."""

import html
import re

import pytest
from typer.testing import CliRunner

from tailkeep import lab
from tailkeep.cli import app
from tailkeep.errors import InputError
from tailkeep.forecast import run
from tailkeep.report import write_forecast
from tailkeep.report.forecast import _survival, forecast_figures, read_forecast
from tailkeep.report.forecast_charts import SurvivalLine, exponent_chart, survival_chart
from tailkeep.report.phrases import BASELINE, TRUNCATED
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


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A forecast of two texts, one of them of a decoder for which there is a number."""
    folder = tmp_path_factory.mktemp("forecast")
    corpus = write_jsonl(folder / "x.jsonl", prose(80, words=40, seed=0, types=3000))
    texts = [
        f"{name}={write_jsonl(folder / f'{name}.jsonl', prose(80, words=40, seed=1, types=3000))}" for name in "ab"
    ]
    config = {"generations": 2, "decoders": {"b": "sampled"}, "draws": 20, "real_shares": [0.011, 0.012]}
    run(config, corpus, folder / "out", synthetic=texts)
    return folder / "out"


def test_a_forecast_of_a_model_has_the_colour_of_its_text(model_dir):
    tree = read_forecast(model_dir)
    (figure,) = (one for one in forecast_figures(tree) if one.title.endswith("without real data: b"))
    assert TRUNCATED.css in figure.inline
    assert BASELINE.css not in figure.inline
    page = write_forecast(model_dir).read_text()
    assert f'class="{TRUNCATED.css}' in page.split("</h1>")[1].split("<h2>")[0]
    assert "are left by b after 2 generations" in html.unescape(page)


def test_a_single_forecast_generation_is_a_point_on_its_interval(model_dir):
    """One generation ahead has no line: its median is a filled marker, its 90 % interval a bar."""
    tree = read_forecast(model_dir)
    (figure,) = (one for one in forecast_figures(tree) if one.title.endswith("without real data: b"))
    bands = {curve["band"] for curve in tree["items"]["words"]["synthetic"]["b"]["forecast"]}
    assert figure.inline.count("whisk") == figure.inline.count('class="mark') == len(bands)


def test_the_table_has_a_row_for_each_real_share(model_dir):
    page = html.unescape(write_forecast(model_dir).read_text())
    assert all(f">real data mixed in, {share} % (mix)<" in page for share in ("1.1", "1.2"))
    assert ">once</th>" in page
    assert ">1 times<" not in page


def test_the_page_of_a_laboratory_run_says_what_was_not_validated(tmp_path):
    world = {"modes": 30, "size": 400, "zipf": 1.0}
    lab.run({"learner": "mixture", "generations": 4, "components": 30, "data": world, "seeds": [0]}, tmp_path / "run")
    ended = CliRunner().invoke(app, ["forecast", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")])
    assert ended.exit_code == 0, ended.output
    page = html.unescape(write_forecast(tmp_path / "out").read_text())
    assert "modes, after 1 measured round (not validated)" in page
    assert re.search(r"of drift alone \d+, of no further change \d+", page)
    assert "mean error of survival from 2 measured rounds" in page


def test_figures_are_files_too_and_state_their_finding(forecast_dir):
    write_forecast(forecast_dir)
    names = sorted(path.name for path in (forecast_dir / "figures").glob("*.svg"))
    assert names == ["forecast-words-drift.svg", "forecast-words-exponent.svg", "forecast-words-real-data.svg"]
    drift = forecast_figures(read_forecast(forecast_dir))[0]
    assert re.search(r"after 6 generations once \d+ %", drift.finding)


def test_one_generation_is_one():
    line = SurvivalLine("once", BASELINE, [1], [[0.1, 0.2, 0.3, 0.4, 0.5]])
    assert _survival("n", "t", [line], "").finding == "t: after 1 generation once 30 %."


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
