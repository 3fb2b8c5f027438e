import itertools
import re
import struct
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.report import svg
from tailkeep.report.lab.charts import Line
from tailkeep.report.lab.page import line_styles_of, render_figures
from tailkeep.report.lab.run import read_lab_run
from tests.report.built_runs import finish, new_run

COLOUR = re.compile(r"#[0-9a-f]{6}")


@pytest.fixture(scope="module")
def figures(numbers):
    return render_figures(read_lab_run(numbers))


def test_every_figure_is_svg_without_anything_that_runs_or_loads(language, hostile):
    for path in (*language.glob("figures/*.svg"), *hostile.glob("figures/*.svg")):
        tree = ET.fromstring(path.read_text(encoding="utf-8"))
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert tags.isdisjoint({"script", "foreignObject", "image", "a"})
        links = [v for e in tree.iter() for k, v in e.attrib.items() if k.endswith("href")]
        assert all(link.startswith("#") for link in links)


def test_every_figure_is_also_a_png_of_a_printable_size(numbers):
    for path in numbers.glob("figures/*.svg"):
        content = path.with_suffix(".png").read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert struct.unpack(">I", content[16:20])[0] >= 600


def test_every_colour_of_a_figure_has_a_dark_counterpart(figures):
    for figure in (figure for group in figures for figure in group.all):
        light, dark = set(COLOUR.findall(figure.light)), set(COLOUR.findall(figure.dark))
        assert light
        assert light.isdisjoint(dark)


def test_no_two_of_32_arms_share_a_line_style():
    styles = [svg.nth_line_style(index) for index in range(32)]
    assert len({(style.colour, str(style.dash)) for style in styles}) == 32
    assert len({style.colour for style in styles[:8]}) == len({style.marker for style in styles[:8]}) == 8


def test_an_arm_keeps_its_colour_in_every_figure(numbers, figures):
    styles = line_styles_of(read_lab_run(numbers))
    for figure in figures[1].headline:
        assert styles["mixture-ce"].colour in figure.light
        assert styles["gaussian-ce"].colour not in figure.light


def test_text_between_dollars_is_drawn_as_it_is(hostile):
    texts = [path.read_text(encoding="utf-8") for path in hostile.glob("figures/*.svg")]
    assert any("$x^2$" in text for text in texts)
    assert not any("\u202e" in text or "\x1b" in text for text in texts)


def test_the_mean_is_drawn_only_where_every_seed_has_a_finite_value(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0, 1), generations=3) as run:
        for seed, row in enumerate([[1.0, float("nan"), 3.0], [3.0, 2.0]]):
            for generation, value in enumerate(row):
                finish(run.generation_dir("a", seed, generation), {"score": value}, learner="custom")
    line = Line(read_lab_run(tmp_path / "r").groups[0].entries_of("a"), "score")
    assert line.generations == [0, 1]
    assert line.mean[0] == 2.0
    assert line.mean[1] != line.mean[1]
    assert (line.low[0], line.high[0], line.end) == (1.0, 3.0, 2.0)


def test_a_metric_without_any_finite_value_has_no_figure(hostile):
    names = {path.name for path in hostile.glob("figures/*.svg")}
    assert "img-src-x-onerror-alert-2-held_out_nll.svg" in names
    assert not any("frac" in name for name in names)


@given(st.lists(st.floats(-1, 2), max_size=8))
def test_labels_are_apart_inside_the_panel_and_in_order(heights):
    placed = svg.spread(heights, 0.125)
    assert all(later - earlier >= 0.125 - 1e-9 for earlier, later in itertools.pairwise(placed))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in placed)


def test_a_label_with_room_stays_where_its_line_ends():
    assert svg.spread([0.2, 0.8], 0.1) == [0.2, 0.8]


@given(st.text(max_size=60))
def test_a_label_is_short_and_keeps_both_ends(text):
    shown = svg.label(text)
    assert len(shown) <= 18
    assert "\n" not in shown
    if len(text) > 30 and text.isascii() and text.isalnum():
        assert text.startswith(shown.split("…")[0])
        assert text.endswith(shown.split("…")[1])
