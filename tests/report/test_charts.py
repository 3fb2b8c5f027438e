"""What lines, bands, forests and histograms show, read from the SVG."""

import math
import re

from tailkeep.report.charts import Axis, Histogram, Series, histogram_chart, line_chart
from tailkeep.report.forest import ForestBlock, ForestRow, forest, forest_rows
from tailkeep.report.phrases import BASELINE, REAL_DATA, TRUNCATED
from tailkeep.report.svg import LETTER, WIDTH

NAN = math.nan


def series(label, role, means, lows=None, highs=None, xs=None):
    xs = list(range(len(means))) if xs is None else xs
    nothing = [NAN] * len(means)
    return Series(label, role, xs, means, lows or nothing, highs or nothing, f"{means[-1]:.2f}")


def chart(*lines, **axis):
    return line_chart("x", "T", lines, Axis(**axis), note="n", finding="f").body


def heights(path):
    return [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]


def paths(body, kind):
    return re.findall(rf'<path class="{kind}[^"]*" d="([^"]*)"', body)


def test_a_higher_value_is_drawn_higher_and_the_end_is_labelled():
    body = chart(series("a", BASELINE, [1.0, 0.5, 0.25]))
    (line,) = paths(body, "line")
    ys = heights(line)
    assert ys == sorted(ys)
    assert ">a</text>" in body
    assert ">0.25</text>" in body


def test_a_gap_interrupts_the_line():
    body = chart(series("a", BASELINE, [1.0, 0.9, NAN, 0.7, 0.6]))
    assert len(paths(body, "line")) == 2


def test_a_band_without_bounds_is_not_drawn_and_one_beyond_the_range_is_cut():
    assert not paths(chart(series("a", BASELINE, [0.9, 0.8])), "band")
    body = chart(series("a", BASELINE, [0.9, 0.8], [0.5, 0.5], [1.4, 1.4]), floor=0.0, ceiling=1.0)
    (band,) = paths(body, "band")
    assert min(heights(band)) >= 26


def test_a_band_that_leaves_the_picture_is_said():
    means = [8.0, 7.7]
    for lows, said in (([7.9, 7.5], False), ([7.9, 1.6], True)):
        one = Series("a", BASELINE, [0, 1], means, lows, [8.0, 8.0], "7.7")
        figure = line_chart("n", "t", [one], Axis("modes", floor=0, ceiling=8), note="Note.", finding="")
        assert ("goes on beyond the axis" in figure.note) == said


def test_many_arms_have_their_value_in_the_line_of_their_name():
    body = chart(*(series(f"arm {n}", TRUNCATED, [1.0, n / 10]) for n in range(6)))
    assert ">arm 3 0.30</text>" in body


def row(label, role, mean, low, high, *, significant=False):
    return ForestRow(label, role, mean, low, high, significant, f"{mean:+.2f}", f"{low:.2f} to {high:.2f}")


def test_a_significant_difference_has_a_filled_marker_and_a_long_bar_an_arrow():
    rows = [
        row("clear", REAL_DATA, 0.5, 0.4, 0.6, significant=True),
        row("unclear", TRUNCATED, 0.1, -0.2, 0.4),
        row("wide", BASELINE, 0.1, -9, 9),
    ]
    body = forest("x", "T", [ForestBlock("KR-test accuracy", "", rows, goal=0.5)], note="n", finding="f").body
    legend, _, block = body.partition("KR-test accuracy")
    assert block.count('class="mark ') == 1
    assert block.count('class="hollow ') == 2
    assert block.count('class="arrow ') == 2
    assert legend.count('class="mark ') == 3


def test_a_forest_names_every_arm_in_full():
    """Two names fill a line, two take two lines; the middle, which a label would lose, is where they differ."""
    names = ["truncated-below-the-first-quantile-of-everything", "truncated-below-the-other-quantile-of-everything"]
    names += [f"{letter}{'-edited' * 9}-arm" for letter in "ab"]
    rows = [row(name, TRUNCATED, 0.5, 0.4, 0.6) for name in names]
    figure = forest("x", "T", [ForestBlock("KR-test accuracy", "", rows, goal=0.5)], note="n", finding="f")
    legend = figure.body.partition("as the")[0]
    lines = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="lab r-trunc">([^<]+)<', legend)
    shown = "".join(words for *_, words in lines)
    assert shown == "".join(names)
    assert all(float(x) + LETTER * len(words) <= WIDTH for x, _, words in lines)
    assert len({y for _, y, _ in lines}) == len(lines)
    last = max(float(y) for _, y, _ in lines)
    assert float(re.search(r'y="([\d.]+)"[^>]*>as the<', figure.body).group(1)) > last + 20


def test_ticks_of_small_logarithmic_values_are_not_rounded():
    one = Series("a", BASELINE, [0, 1], [2e-5, 4e-5], [NAN] * 2, [NAN] * 2, "")
    body = line_chart("n", "t", [one], Axis(log=True), note="", finding="").body
    words = re.findall(r'class="tick" text-anchor="end">([^<]+)<', body)
    assert {"2.5e-5", "3.0e-5", "3.5e-5"} <= set(words)


def test_better_is_to_the_right_also_where_lower_is_better():
    def place(goal, *, flipped):
        block = ForestBlock("t", "", [row("a", REAL_DATA, -1.0, -1.2, -0.8)], goal=goal, flipped=flipped)
        body = forest("x", "T", [block], note="n", finding="f").body.partition(">t</text>")[2]
        (x,) = re.findall(r'class="hollow r-real"><path d="M([\d.]+)', body)
        return float(x)

    assert place(-2.0, flipped=True) > place(None, flipped=False)
    assert place(None, flipped=True) > place(2.0, flipped=False)


def test_the_second_histogram_is_grey_and_shares_the_axis():
    one = Histogram("this", BASELINE, [0, 1, 2], [75, 25])
    two = Histogram("reference", REAL_DATA, [0, 1, 2], [50, 50])
    body = histogram_chart("x", "T", [one, two], unit="%", x_label="p", note="n", finding="f").body
    assert len(paths(body, "ghost")) == 1
    first = heights(paths(body, "step r-base")[0])
    second = heights(paths(body, "step r-real")[0])
    assert first[0] < second[0] == second[-1] < first[-1]


def test_a_reference_at_the_top_has_its_label_above_the_line():
    one = Series("a", BASELINE, [0, 1], [1.0, 0.4], [math.nan] * 2, [math.nan] * 2, "0.40")
    figure = line_chart("n", "t", [one], Axis("share", references=((1.0, "real data, 1"),)), note="", finding="")
    line = re.search(r'class="ref" d="M[\d.]+ ([\d.]+)L', figure.body)
    words = re.search(r'y="([\d.]+)" class="axis over">real data, 1', figure.body)
    unit = re.search(r'y="([\d.]+)" class="axis">share', figure.body)
    assert float(line.group(1)) - 8 < float(words.group(1)) < float(line.group(1))
    assert float(words.group(1)) - float(unit.group(1)) > 13


def test_differences_on_one_side_use_the_width_of_the_plot():
    def places(*means):
        rows = [
            ForestRow(f"arm-{n}", TRUNCATED, m, m - 0.01, m + 0.01, True, "+0.5", "+0.4 to +0.6")
            for n, m in enumerate(means)
        ]
        body = forest_rows("n", "t", [ForestBlock("KR-test accuracy", "", rows, goal=1.0)], note="", finding="").body
        zero, goal = (float(re.search(rf'class="{kind}" d="M([\d.]+) ', body).group(1)) for kind in ("zero", "goal"))
        return zero, goal

    zero, goal = places(0.4, 0.9)
    wider = goal - zero
    zero, goal = places(-0.7, 1.7)
    assert wider > 2 * (goal - zero)


def test_worse_ends_and_better_begins_at_the_baseline():
    rows = [ForestRow("arm", TRUNCATED, 0.4, 0.3, 0.5, True, "+0.4", "+0.3 to +0.5")]
    body = forest_rows("n", "t", [ForestBlock("KR-test accuracy", "", rows, goal=1.0)], note="", finding="").body
    zero = float(re.search(r'class="zero" d="M([\d.]+) ', body).group(1))
    worse, better = (
        float(re.search(rf'x="([\d.]+)"[^>]*>{words}', body).group(1)) for words in ("← worse", "better →")
    )
    assert worse < zero < better
    assert re.search(r'text-anchor="end">← worse', body)


def test_a_long_value_leaves_room_for_the_name_within_the_figure():
    nothing = [math.nan] * 2
    series = [
        Series(f"accumulate-{n}-and-more", REAL_DATA, [0, 1], [0.0, 1.0], nothing, nothing, "20,100 at 200")
        for n in range(5)
    ]
    body = line_chart("n", "t", series, Axis(), note="", finding="").body
    shown = re.findall(r'x="([\d.]+)"[^>]*class="sig r-real">([^<]+)<', body)
    assert len(shown) == 5
    assert all(float(x) + 9.6 * len(words) <= 480 for x, words in shown)
    assert all(words.endswith("20,100 at 200") for _, words in shown)


def test_a_single_generation_has_its_ci_as_a_bar():
    one = Series("a", BASELINE, [0], [0.5], [0.4], [0.6], "0.50")
    body = line_chart("n", "t", [one], Axis("share"), note="", finding="").body
    assert body.count('class="whisk r-base"') == 1
    assert 'class="band' not in body
