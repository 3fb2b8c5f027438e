"""Figures are one SVG each: coloured by classes, safe, and with the same bytes for the same numbers."""

import base64
import itertools
import re
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.report import svg
from tailkeep.report.phrases import BASELINE, CONTROL, EDITED, MOVES_LITTLE, OTHER, REAL_DATA, TRUNCATED

ROLES = (BASELINE, TRUNCATED, REAL_DATA, EDITED, MOVES_LITTLE, OTHER, CONTROL)


def figures_of(*runs):
    return [path for run in runs for path in sorted(run.glob("figures/*.svg"))]


def test_every_figure_is_svg_without_anything_that_runs_or_loads(language, numbers, hostile):
    paths = figures_of(language, numbers, hostile)
    assert len(paths) > 20
    for path in paths:
        tree = ET.fromstring(path.read_text(encoding="utf-8"))
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert tags.isdisjoint({"script", "foreignObject", "image", "a"})
        assert not any(key.startswith("on") for element in tree.iter() for key in element.attrib)


def test_colours_stand_in_the_style_sheet_only(language, numbers):
    for path in figures_of(language, numbers):
        content = path.read_text(encoding="utf-8")
        body = content.partition("</style>")[2]
        assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(|stroke=|fill=", body), path.name


def test_a_file_says_what_it_shows_and_paints_its_own_paper(language):
    for path in figures_of(language):
        content = path.read_text(encoding="utf-8")
        assert '<rect class="paper"' in content
        assert len(content.partition("<title>")[2].partition("</title>")[0]) > 20


def test_every_role_has_a_colour_for_light_dark_and_paper_and_a_marker_of_its_own():
    style = svg.figure_style()
    for role in ROLES:
        (variable,) = re.findall(rf"\.{role.css}\{{--c:var\((--[a-z]+)\)", style)
        assert len(re.findall(rf"{variable}:#", style)) == 3
    assert len({role.marker for role in ROLES}) == len({role.css for role in ROLES}) == len(ROLES)
    shapes = {re.sub(r' class="[^"]*"', "", svg.marker(role, 0, 0)) for role in ROLES}
    assert len(shapes) == len(ROLES)


def test_text_between_dollars_is_drawn_as_it_is_and_direction_marks_are_visible(hostile):
    texts = [path.read_text(encoding="utf-8") for path in figures_of(hostile)]
    assert any("$x^2$" in content for content in texts)
    assert not any("\u202e" in content or "\x1b" in content for content in texts)
    assert not any("<script>" in content or "<img" in content for content in texts)


def test_credentials_are_not_drawn():
    assert "a1B2a1B2" not in svg.text(0, 0, "hf_" + "a1B2" * 8)


@given(st.lists(st.floats(-10, 110), max_size=8))
def test_labels_are_apart_inside_the_range_and_keep_their_order(heights):
    places = svg.spread(heights, 12.5, 0, 100)
    ordered = sorted(places)
    assert all(later - earlier >= 12.5 - 1e-9 for earlier, later in itertools.pairwise(ordered))
    assert all(-1e-9 <= place <= 100 + 1e-9 for place in places)
    for (one, first), (two, second) in itertools.combinations(zip(heights, places, strict=True), 2):
        assert first <= second or one >= two


@given(st.lists(st.text("ab-", min_size=1, max_size=60), unique=True, max_size=6), st.integers(9, 20))
def test_different_names_never_have_one_label(names, longest):
    shown = svg.distinct_labels(names, [longest] * len(names))
    assert len(set(shown)) == len(names)
    assert all(len(words) <= longest for words in shown)


def test_names_that_differ_in_the_middle_are_cut_where_they_agree():
    names = ["truncated-one-and-nothing-here", "truncated-two-and-nothing-here", "baseline"]
    assert svg.distinct_labels(names, [18] * 3) == ["…d-one-an…ing-here", "…d-two-an…ing-here", "baseline"]


def test_a_label_with_room_stays_where_its_line_ends():
    assert svg.spread([80, 20], 10, 0, 100) == [80, 20]


@given(st.text(max_size=60))
def test_a_label_is_short_and_keeps_both_ends(content):
    shown = svg.label(content)
    assert len(shown) <= 18
    assert "\n" not in shown


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_few_inside_and_differ_as_texts(low, reach):
    values = svg.ticks(low, low + reach)
    assert len(values) <= 9
    assert all(low - 1e-6 * reach <= value <= low + reach * (1 + 1e-6) for value in values)
    texts = svg.tick_texts(values)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(("low", "high"), [(0.9, 3.1), (1e-3, 5), (1, 1e6), (2.1, 2.2)])
def test_logarithmic_ticks_lie_inside(low, high):
    values = svg.log_ticks(low, high)
    assert len(values) >= 2
    assert all(low <= value <= high * (1 + 1e-9) for value in values)


def test_a_domain_is_widened_to_round_numbers_but_not_beyond_the_possible_range():
    assert svg.nice_domain(0.47, 0.93, floor=0, ceiling=1) == pytest.approx((0.4, 1.0))
    low, high = svg.nice_domain(0.6498427716254, 0.6498427716256)
    assert high - low > 0.01
    low, high = svg.nice_domain(1.0, 1.0, floor=0, ceiling=1)
    assert low < 1 == high


def test_an_image_keeps_its_grey_values():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    content = svg.png(pixels)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    data = content[content.index(b"IDAT") + 4 : content.index(b"IEND") - 8]
    rows = zlib.decompress(data)
    assert [list(rows[1 + 5 * n : 5 + 5 * n]) for n in range(3)] == pixels.tolist()
    drawn = svg.image(0, 0, 4, 3, pixels)
    assert base64.b64decode(drawn.partition("base64,")[2].partition('"')[0]) == content


def test_file_names_are_portable_and_unique():
    names = svg.UniqueNames()
    unique = [names.new(*words) for words in (("a/../b",), ("A b",), ("a b",), ("",), ("漢字",), ("x" * 300,))]
    assert unique[:3] == ["a-..-b", "a-b", "a-b-2"]
    assert len(set(unique)) == len(unique)
    assert all(len(name) < 80 and "/" not in name and not name.startswith(".") for name in unique)
