import numpy as np
import pytest

from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.lab.training import plot_training, training_lines
from tailkeep.report.svg import nth_line_style
from tailkeep.runs import GenerationDir
from tailkeep.runs.training_curve import COLUMNS, write_training_curve

STEPS = [1, 2, 4]


def curve(cross_entropy, *, kept=1.0, rates=(1.0, 1.0, 1.0), steps=STEPS):
    rows = dict(zip(COLUMNS, (steps, cross_entropy, cross_entropy, [kept] * len(steps), rates), strict=True))
    return {name: list(column) for name, column in rows.items()}


def entry(folder, *, arm="baseline", seed=0, generation=0, tables, speeds=None):
    directory = GenerationDir(arm, seed, generation, folder / arm / str(seed) / str(generation))
    if speeds is not None:
        write_training_curve(directory, "model", tables["loss_curve"], speeds)
    return Entry(directory, "causal_lm", {}, tables)


def group(*entries):
    return ArmGroup("causal_lm", tuple(dict.fromkeys(entry.arm for entry in entries)), entries)


def test_a_line_is_the_mean_over_seeds_at_shares_of_the_training(tmp_path):
    first = entry(tmp_path, generation=2, tables={"loss_curve": curve([4, 3, 2])})
    second = entry(tmp_path, seed=1, generation=2, tables={"loss_curve": curve([6, 4], steps=[4, 8], rates=(1, 1))})
    (line,) = training_lines([first, second])
    assert line.positions == pytest.approx([2.25, 2.5, 3.0])
    # The second seed has its readings at one half and at the end.
    assert line.columns["cross_entropy"] == pytest.approx([5.0, 4.5, 3.0])


def test_members_of_an_ecosystem_count_alike(tmp_path):
    tables = {"loss_curve.a": curve([4, 3, 2]), "loss_curve.b": curve([6, 5, 4]), "confidence": {"edges": []}}
    (line,) = training_lines([entry(tmp_path, tables=tables)])
    assert line.columns["cross_entropy"] == pytest.approx([5, 4, 3])


def test_only_panels_that_tell_something_are_drawn(tmp_path):
    constant = entry(tmp_path, tables={"loss_curve": curve([4, 3, 2])}, speeds=[90, 100, 110])
    styles = {"baseline": nth_line_style(0)}
    drawing = plot_training(group(constant), styles, "training")
    assert "cross-entropy, nats/token, tokens/s." in drawing.caption
    assert [panel.get_ylabel() for panel in drawing.build().axes] == ["cross-entropy, nats/token", "tokens/s"]
    varied = entry(tmp_path, tables={"loss_curve": curve([4, 3, 2], kept=0.5, rates=(1, 0.5, 0.1))})
    caption = plot_training(group(varied), styles, "training").caption
    assert "kept share, learning rate, tokens/s" in caption


def test_each_generation_has_a_line_that_begins_at_its_mark(tmp_path):
    entries = [entry(tmp_path, generation=g, tables={"loss_curve": curve([4, 3, 2 + g])}) for g in (1, 0)]
    drawing = plot_training(group(*entries), {"baseline": nth_line_style(0)}, "training")
    lines = drawing.build().axes[0].get_lines()
    assert [tuple(np.round(line.get_xdata()[[0, -1]], 2)) for line in lines] == [(0.25, 1.0), (1.25, 2.0)]
    assert drawing.alt.endswith("baseline ends at 3.")


def test_learners_without_a_curve_have_no_figure(tmp_path):
    assert plot_training(group(entry(tmp_path, tables={})), {"baseline": nth_line_style(0)}, "training") is None
