import math

import pytest

from tailkeep.report import summarise, write
from tailkeep.report.lab.comparisons import effect_map, effect_sentences
from tailkeep.report.lab.run import read_lab_run
from tests.report.built_runs import finish, new_run

GRID = {
    "decoder": ["greedy", "sample"],
    "init_from_previous": ["yes", "no"],
    "loss": ["baseline", "truncated", "random"],
}


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Three seeds; `truncated` lowers the NLL by .5 under greedy decoding in each, and by seed - 1 under sampling."""
    path = tmp_path_factory.mktemp("crossed") / "run"
    arms = [f"{d}-{i}-{loss}" for d in GRID["decoder"] for i in GRID["init_from_previous"] for loss in GRID["loss"]]
    with new_run(path, arms=arms, generations=3, grid=GRID) as run:
        for arm in arms:
            for seed in (0, 1, 2):
                for generation in range(3):
                    change = 0.5 if "greedy" in arm else seed - 1
                    value = 3 + 0.1 * seed + generation - (change if "truncated" in arm else 0)
                    finish(run.generation_dir(arm, seed, generation), {"held_out_nll": value}, learner="causal_lm")
    return path


def test_a_map_pairs_seeds_and_says_what_is_significant(crossed):
    lab_run = read_lab_run(crossed)
    effects = effect_map(lab_run.groups[0], lab_run.grid, "held_out_nll")
    assert effects.rows == ("greedy · yes", "greedy · no", "sample · yes", "sample · no")
    assert (effects.reference, effects.columns) == ("baseline", ("truncated", "random"))
    cells = {(effects.rows[c.row], effects.columns[c.column]): c for c in effects.cells}
    clear, unclear = cells["greedy · no", "truncated"], cells["sample · yes", "truncated"]
    assert clear.difference.final.mean == pytest.approx(-0.5)
    assert clear.difference.is_significant
    assert clear.better
    assert unclear.difference.final.mean == pytest.approx(0)
    assert not unclear.difference.is_significant


def test_a_grid_is_summarised_by_significant_effects_and_every_arm_is_paired_within_its_setting(crossed):
    lab_run = read_lab_run(crossed)
    (nll,) = effect_sentences(lab_run.groups[0], lab_run.grid)
    assert nll == (
        "Held-out NLL, each level minus baseline in the same setting, paired by seed, is significantly better in 2 of "
        "8: truncated with greedy · yes (−0.500), truncated with greedy · no (−0.500). In the others the 95 % CI "
        "includes 0."
    )
    assert {(one.arm, one.baseline) for one in summarise(crossed).groups[0].differences} == {
        (f"{d}-{i}-{loss}", f"{d}-{i}-baseline")
        for d in GRID["decoder"] for i in GRID["init_from_previous"] for loss in GRID["loss"][1:]
    }  # fmt: skip


def test_without_a_grid_or_a_direction_there_is_no_map(crossed, language):
    lab_run = read_lab_run(language)
    assert lab_run.grid == {}
    group = read_lab_run(crossed).groups[0]
    assert effect_map(group, {"loss": ("baseline", "truncated")}, "held_out_nll") is None
    assert effect_map(group, GRID, "train_units") is None
    assert effect_map(group, {"a": ("x", "y"), "loss": ("baseline", "truncated")}, "held_out_nll") is None


def test_the_page_of_a_grid_has_its_map_and_a_panel_for_each_circumstance(crossed):
    write(crossed)
    page = (crossed / "report.html").read_text(encoding="utf-8")
    assert "Effect of each level" in page
    svg = (crossed / "figures" / "causal_lm-effects-held_out_nll.svg").read_text(encoding="utf-8")
    for word in ("greedy · yes", "truncated", "-0.500"):
        assert word in svg
    panels = (crossed / "figures" / "causal_lm-held_out_nll.svg").read_text(encoding="utf-8")
    assert "sample · no" in panels


def test_a_single_seed_has_no_interval_and_is_never_significant(crossed):
    group = read_lab_run(crossed).groups[0]
    assert math.isnan(effect_map(one_seed(group), GRID, "held_out_nll").cells[0].difference.final.low)
    assert not any(cell.difference.is_significant for cell in effect_map(one_seed(group), GRID, "held_out_nll").cells)


def one_seed(group):
    from dataclasses import replace

    return replace(group, entries=tuple(entry for entry in group.entries if entry.seed == 0))
