import pytest

from tailkeep.report.lab.curves import plot_training, training_lines
from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.svg import UniqueNames
from tailkeep.runs import GenerationDir
from tailkeep.runs.generation_dir import COLUMNS, write_training_curve

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


def test_only_columns_that_tell_something_are_drawn(tmp_path):
    constant = entry(tmp_path, tables={"loss_curve": curve([4, 3, 2])}, speeds=[90, 100, 110])
    figures = plot_training(group(constant), ["baseline"], UniqueNames())
    assert [figure.title for figure in figures] == ["Cross-entropy in training", "Speed of training"]
    varied = entry(tmp_path, tables={"loss_curve": curve([4, 3, 2], kept=0.5, rates=(1, 0.5, 0.1))})
    titles = [figure.title for figure in plot_training(group(varied), ["baseline"], UniqueNames())]
    assert {"Share of tokens that the loss keeps", "Learning rate"} <= set(titles)


def test_each_generation_has_a_line_of_its_own(tmp_path):
    entries = [entry(tmp_path, generation=g, tables={"loss_curve": curve([4, 3, 2 + g])}) for g in (1, 0)]
    first, *_ = plot_training(group(*entries), ["baseline"], UniqueNames())
    assert first.body.count('class="line ') == 2
    assert first.finding.endswith("baseline ends at 3.00.")


def test_learners_without_a_curve_have_no_figure(tmp_path):
    assert plot_training(group(entry(tmp_path, tables={})), ["baseline"], UniqueNames()) == ()
