import math
import re
import shutil
from dataclasses import replace

import pytest

from tailkeep.report import summarise, write
from tailkeep.report.lab.comparisons import numbers_of, plot_effect_map, plot_forest, plot_grid_forest, verdict_of
from tailkeep.report.lab.grid import effect_map, effect_maps, effect_sentences, grid_numbers, grid_verdict
from tailkeep.report.lab.run import read_lab_run
from tailkeep.report.lab.stats import summarise_run
from tests.report.built_runs import finish, new_run

GRID = {
    "decoder": ["greedy", "sample"],
    "init_from_previous": ["yes", "no"],
    "loss": ["baseline", "truncated", "random"],
}


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Three seeds; `truncated` lowers the NLL by some .5 under greedy decoding, and by seed - 1 under sampling."""
    path = tmp_path_factory.mktemp("crossed") / "run"
    arms = [f"{d}-{i}-{loss}" for d in GRID["decoder"] for i in GRID["init_from_previous"] for loss in GRID["loss"]]
    with new_run(path, arms=arms, generations=3, grid=GRID) as run:
        for arm in arms:
            for seed in (0, 1, 2):
                for generation in range(3):
                    change = 0.5 + 0.01 * (seed - 1) if "greedy" in arm else seed - 1
                    value = 3 + 0.1 * seed + generation * (1 + 0.01 * seed) - (change if "truncated" in arm else 0)
                    finish(run.generation_dir(arm, seed, generation), {"held_out_nll": value}, learner="causal_lm")
    return path


def test_a_map_pairs_seeds_and_says_what_is_significant(crossed):
    lab_run = read_lab_run(crossed)
    effects = effect_map(summarise_run(lab_run).groups[0], lab_run.grid, "held_out_nll")
    assert effects.rows == ("greedy · yes", "greedy · no", "sample · yes", "sample · no")
    assert (effects.reference, effects.columns) == ("baseline", ("truncated", "random"))
    cells = {(effects.rows[c.row], effects.columns[c.column]): c for c in effects.cells}
    clear, unclear = cells["greedy · no", "truncated"], cells["sample · yes", "truncated"]
    assert clear.difference.final.mean == pytest.approx(-0.5)
    assert clear.difference.is_significant
    assert clear.difference.comparisons == 8
    assert clear.better
    assert unclear.difference.final.mean == pytest.approx(0)
    assert not unclear.difference.is_significant


def test_a_grid_is_summarised_by_counts_and_every_arm_is_paired_within_its_setting(crossed):
    lab_run = read_lab_run(crossed)
    summary = summarise_run(lab_run).groups[0]
    (nll,) = effect_sentences(lab_run.groups[0], summary, lab_run.grid)
    assert nll == (
        "Held-out NLL, each level minus baseline in the same setting, paired by seed, is significantly better in 2 of "
        "8: truncated with greedy · yes (−0.500), truncated with greedy · no (−0.500). The others are not significant, "
        "corrected for 8 comparisons."
    )
    maps = effect_maps(lab_run.groups[0], summary, lab_run.grid)
    assert grid_verdict(maps) == ("Held-out NLL in 4 settings: truncated is significantly better in 2, random in 0.")
    worse, largest, better = grid_numbers(lab_run.groups[0], maps)
    assert (worse.number, better.number) == ("4 of 4", "2 of 4")
    assert largest.number == "−0.500"
    assert largest.words.endswith("truncated − baseline, greedy · yes")
    assert {(one.arm, one.baseline) for one in summarise(crossed).groups[0].differences} == {
        (f"{d}-{i}-{loss}", f"{d}-{i}-baseline")
        for d in GRID["decoder"] for i in GRID["init_from_previous"] for loss in GRID["loss"][1:]
    }  # fmt: skip


def partial_grid(path, gains, *, bases=("mix", "all")):
    """The settings `bases` of three are measured, with the levels of `gains` of a long axis."""
    grid = {"base": ["mix", "all", "new"], "replay": ["none", "a", "b", "c", "d", "e"]}
    arms = [f"{base}-{level}" for base in bases for level in ("none", *gains)]
    with new_run(path, arms=arms, generations=2, grid=grid) as run:
        for arm in arms:
            for seed in (0, 1, 2):
                for generation in (0, 1):
                    gain = gains.get(arm.partition("-")[2], 0) * generation
                    value = 3 + (0.5 + 0.01 * seed) * generation - gain * (1 + 0.01 * seed)
                    finish(run.generation_dir(arm, seed, generation), {"held_out_nll": value}, learner="causal_lm")
    return path


def test_a_partial_grid_counts_what_was_measured_and_names_its_levels(tmp_path):
    path = partial_grid(tmp_path / "r", {"c": 0.3})
    lab_run = read_lab_run(path)
    maps = effect_maps(lab_run.groups[0], summarise_run(lab_run).groups[0], lab_run.grid)
    assert grid_verdict(maps) == "Held-out NLL in 2 settings: c is significantly better in 2."
    worse, _, better = grid_numbers(lab_run.groups[0], maps)
    assert (worse.number, better.number) == ("2 of 2", "2 of 2")
    assert worse.certainty == "95 %, corrected for 2 settings"
    keys = re.findall(r"</svg>(\w+)</span>", write(path).read_text(encoding="utf-8").partition("</header>")[0])
    assert keys == ["none", "c"]


def test_without_a_significant_level_the_verdict_says_so_once(tmp_path):
    lab_run = read_lab_run(partial_grid(tmp_path / "r", {"a": 0.0, "b": 0.0}))
    maps = effect_maps(lab_run.groups[0], summarise_run(lab_run).groups[0], lab_run.grid)
    assert grid_verdict(maps) == "Held-out NLL in 2 settings: a and b do not differ significantly from none in any."


def test_of_many_levels_the_verdict_names_three(tmp_path):
    lab_run = read_lab_run(partial_grid(tmp_path / "r", {"a": 0.0, "b": 0.3, "c": 0.0, "d": 0.0, "e": -0.2}))
    maps = effect_maps(lab_run.groups[0], summarise_run(lab_run).groups[0], lab_run.grid)
    assert grid_verdict(maps) == (
        "Held-out NLL in 2 settings: b is significantly better in 2, e in 0 and worse in 2, a in 0, 2 others in 0."
    )
    figure = plot_effect_map(maps[0], "x")
    assert figure.width == 480
    assert ">mix</text>" in figure.body


def test_a_grid_with_one_seed_reports_no_test(crossed):
    lab_run = read_lab_run(crossed)
    group = replace(lab_run.groups[0], entries=tuple(e for e in lab_run.groups[0].entries if e.seed == 0))
    summary = summarise_run(replace(lab_run, groups=(group,))).groups[0]
    maps = effect_maps(group, summary, lab_run.grid)
    assert grid_verdict(maps) == "Held-out NLL in 4 settings: one seed: no difference can be called significant."
    (largest,) = grid_numbers(group, maps)
    assert largest.certainty == "one seed: no CI"
    (sentence,) = effect_sentences(group, summary, lab_run.grid)
    assert sentence.endswith("paired by seed: one seed: no difference can be called significant.")
    assert "are significant" not in plot_grid_forest(group, maps[0], "x").finding
    assert "Significant" not in plot_forest(group, summary, "x").finding


def test_where_every_difference_is_significant_there_are_no_others(tmp_path):
    lab_run = read_lab_run(partial_grid(tmp_path / "r", {"c": 0.3}))
    (sentence,) = effect_sentences(lab_run.groups[0], summarise_run(lab_run).groups[0], lab_run.grid)
    assert "is significantly better in 2 of 2" in sentence
    assert sentence.endswith("c with all (−0.303). Corrected for 2 comparisons.")


def test_a_single_setting_is_told_by_the_names_of_its_arms(tmp_path):
    """There is nothing to count over: "better in 1 setting" says less than which arms are better."""
    lab_run = read_lab_run(partial_grid(tmp_path / "r", {"a": 0.0, "b": 0.3, "e": -0.2}, bases=["mix"]))
    group, summary = lab_run.groups[0], summarise_run(lab_run).groups[0]
    verdict = verdict_of(group, summary, lab_run.grid)
    assert verdict.startswith("Trained on its own text, the model gets worse. mix-b prevents most of it;")
    assert "mix-e makes it significantly worse" in verdict
    numbers = numbers_of(group, summary, effect_maps(group, summary, lab_run.grid))
    assert not any("settings" in one.words for one in numbers)
    assert numbers[0].words == "Held-out NLL of mix-none, generation 0 to 1"


def test_without_a_grid_or_a_direction_there_is_no_map(crossed, language):
    assert read_lab_run(language).grid == {}
    summary = summarise(crossed).groups[0]
    assert effect_map(summary, {"loss": ("baseline", "truncated")}, "held_out_nll") is None
    assert effect_map(summary, GRID, "train_units") is None
    assert effect_map(summary, {"a": ("x", "y"), "loss": ("baseline", "truncated")}, "held_out_nll") is None


def test_the_page_of_a_grid_has_a_forest_with_a_row_per_setting_and_a_folded_map(crossed):
    page = write(crossed).read_text(encoding="utf-8")
    verdict = "Held\N{NON-BREAKING HYPHEN}out NLL in 4 settings: truncated is significantly better in 2, random in 0."
    assert f"<h1>{verdict}</h1>" in page
    assert "Setting by setting: 1 map" in page
    forest = (crossed / "figures" / "causal_lm-forest-held_out_nll.svg").read_text(encoding="utf-8")
    for word in (">truncated, greedy<", ">random, sample<", ">yes<", ">−0.500<"):
        assert word in forest
    assert forest.count('class="mark ') == 2
    assert "greedy · yes" in (crossed / "figures" / "causal_lm-map-held_out_nll.svg").read_text(encoding="utf-8")


def test_a_single_seed_has_no_interval_and_is_never_significant(crossed):
    lab_run = read_lab_run(crossed)
    group = replace(lab_run.groups[0], entries=tuple(e for e in lab_run.groups[0].entries if e.seed == 0))
    summary = summarise_run(replace(lab_run, groups=(group,))).groups[0]
    cells = effect_map(summary, GRID, "held_out_nll").cells
    assert math.isnan(cells[0].difference.final.low)
    assert not any(cell.difference.is_significant for cell in cells)


def ranked_run(path, arms, *, changes):
    """Three seeds; arm -> its gain in KR-test accuracy by seed over a baseline that loses 0.3."""
    with new_run(path, arms=arms, generations=2) as run:
        for arm in arms:
            for seed in (0, 1, 2):
                for generation in (0, 1):
                    value = 0.9 - generation * (0.3 + 0.001 * seed) + generation * changes.get(arm, (0, 0, 0))[seed]
                    metrics = {"kr_accuracy": value, "train_units": 1.0}
                    finish(run.generation_dir(arm, seed, generation), metrics, learner="causal_lm")
    lab_run = read_lab_run(path)
    return lab_run.groups[0], summarise_run(lab_run).groups[0]


def test_a_forest_of_many_arms_is_sorted_by_effect(tmp_path):
    changes = {"worse": (-0.1, -0.101, -0.102), "better": (0.1, 0.101, 0.102), "unclear": (-0.2, 0.2, 0.03)}
    arms = ("baseline", "worse", "better", "same", "unclear", "other")
    group, summary = ranked_run(tmp_path / "r", arms, changes=changes)
    figure = plot_forest(group, summary, "x")
    order = [arm for arm in arms if f">{arm}</text>" in figure.body]
    places = {arm: figure.body.index(f">{arm}</text>") for arm in order}
    assert sorted(places, key=places.get) == ["better", "unclear", "same", "other", "worse"]
    assert figure.body.count('class="mark ') == 2
    assert "better, KR-test accuracy: +0.10" in figure.finding
    assert "Holm’s correction for 5 arms" in figure.note


def test_the_dotted_line_is_what_the_baseline_lost(tmp_path):
    group, summary = ranked_run(tmp_path / "r", ("baseline", "all"), changes={"all": (0.3, 0.301, 0.302)})
    figure = plot_forest(group, summary, "x")
    # All of the loss prevented: the marker stands on the line of generation 0.
    (line,) = re.findall(r'class="goal" d="M([\d.]+) ', figure.body)
    (place,) = re.findall(r'class="mark r-other"><path d="M([\d.]+) ', figure.body.partition("KR-test accuracy")[2])
    assert float(place) + 1.5 == pytest.approx(float(line), abs=0.11)


@pytest.mark.parametrize("fall", [0.3, -0.3])
def test_better_is_on_the_right_whether_the_baseline_gets_worse_or_better(tmp_path, fall):
    path, changes = tmp_path / "r", {"worse": -0.1, "better": 0.1}
    with new_run(path, arms=("baseline", *changes), generations=2) as run:
        for arm in ("baseline", *changes):
            for seed in (0, 1, 2):
                for generation in (0, 1):
                    value = 0.5 + generation * (changes.get(arm, 0.0) * (1 + 0.01 * seed) - fall * (1 + 0.02 * seed))
                    finish(run.generation_dir(arm, seed, generation), {"kr_accuracy": value}, learner="causal_lm")
    lab_run = read_lab_run(path)
    figure = plot_forest(lab_run.groups[0], summarise_run(lab_run).groups[0], "x")
    assert ("as at" in figure.body) == (fall > 0)
    (zero,) = re.findall(r'class="zero" d="M([\d.]+) ', figure.body)
    places = [float(x) for x in re.findall(r'class="mark r-other"><path d="M([\d.]+) ', figure.body)][-2:]
    assert places[0] < float(zero) < places[1]


def test_a_level_that_some_settings_lack_is_counted_over_those_that_have_it(tmp_path):
    path = partial_grid(tmp_path / "r", {"a": 0.3, "b": 0.0})
    shutil.rmtree(path / "cells" / "all-a")
    lab_run = read_lab_run(path)
    group, summary = lab_run.groups[0], summarise_run(lab_run).groups[0]
    maps = effect_maps(group, summary, lab_run.grid)
    assert grid_verdict(maps) == "Held-out NLL in 2 settings: a is significantly better in 1 of 1, b in 0."
    assert grid_numbers(group, maps)[-1].number == "1 of 1"
