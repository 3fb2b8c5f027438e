import math

import pytest

from tailkeep.report import summarise, write
from tailkeep.report.lab.comparisons import effect_map, findings
from tailkeep.report.lab.run import read_lab_run
from tests.report.built_runs import finish, new_run

GRID = {"decoder": ["greedy", "sample"], "init_from_previous": ["yes", "no"], "loss": ["baseline", "cut", "random"]}


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Three seeds; `cut` lowers the NLL by .5 under greedy decoding in each, and by seed - 1 under sampling."""
    path = tmp_path_factory.mktemp("crossed") / "run"
    arms = [f"{d}-{i}-{loss}" for d in GRID["decoder"] for i in GRID["init_from_previous"] for loss in GRID["loss"]]
    with new_run(path, arms=arms, generations=3, grid=GRID) as run:
        for arm in arms:
            for seed in (0, 1, 2):
                for generation in range(3):
                    change = 0.5 if "greedy" in arm else seed - 1
                    value = 3 + 0.1 * seed + generation - (change if "cut" in arm else 0)
                    finish(run.cell(arm, seed, generation), {"held_out_nll": value}, learner="causal_lm")
    return path


def test_a_map_pairs_seeds_and_tells_what_is_sure(crossed):
    reading = read_lab_run(crossed)
    found = effect_map(reading.groups[0], reading.grid, "held_out_nll")
    assert found.rows == ("greedy · yes", "greedy · no", "sample · yes", "sample · no")
    assert (found.reference, found.columns) == ("baseline", ("cut", "random"))
    fields = {(found.rows[f.row], found.columns[f.column]): f for f in found.fields}
    sure, unsure = fields["greedy · no", "cut"], fields["sample · yes", "cut"]
    assert sure.difference.level.mean == pytest.approx(-0.5)
    assert sure.difference.is_sure
    assert sure.better
    assert unsure.difference.level.mean == pytest.approx(0)
    assert not unsure.difference.is_sure


def test_a_grid_is_told_by_what_is_sure_and_every_arm_is_paired_within_its_circumstance(crossed):
    reading = read_lab_run(crossed)
    (nll,) = findings(reading.groups[0], reading.grid)
    assert nll.startswith(
        "Held-out NLL, each choice against baseline in the same circumstance, paired by seed, is better"
    )
    assert "better in 2 of 8: cut with greedy · yes (−0.500), cut with greedy · no (−0.500). In the others" in nll
    assert {(one.arm, one.base) for one in summarise(crossed).groups[0].differences} == {
        (f"{d}-{i}-{loss}", f"{d}-{i}-baseline")
        for d in GRID["decoder"] for i in GRID["init_from_previous"] for loss in GRID["loss"][1:]
    }  # fmt: skip


def test_without_a_grid_or_a_direction_there_is_no_map(crossed, language):
    reading = read_lab_run(language)
    assert reading.grid == {}
    group = read_lab_run(crossed).groups[0]
    assert effect_map(group, {"loss": ("baseline", "cut")}, "held_out_nll") is None
    assert effect_map(group, GRID, "train_units") is None
    assert effect_map(group, {"a": ("x", "y"), "loss": ("baseline", "cut")}, "held_out_nll") is None


def test_the_page_of_a_grid_has_its_map_and_a_panel_for_each_circumstance(crossed):
    write(crossed)
    page = (crossed / "report.html").read_text(encoding="utf-8")
    assert "Where it helps" in page
    drawn = (crossed / "figures" / "causal_lm-map-held_out_nll.svg").read_text(encoding="utf-8")
    for word in ("greedy · yes", "cut", "-0.500"):
        assert word in drawn
    panels = (crossed / "figures" / "causal_lm-held_out_nll.svg").read_text(encoding="utf-8")
    assert "sample · no" in panels


def test_a_single_seed_has_no_interval_and_is_never_sure(crossed):
    group = read_lab_run(crossed).groups[0]
    assert math.isnan(effect_map(one_seed(group), GRID, "held_out_nll").fields[0].difference.level.low)
    assert not any(field.difference.is_sure for field in effect_map(one_seed(group), GRID, "held_out_nll").fields)


def one_seed(group):
    from dataclasses import replace

    return replace(group, entries=tuple(entry for entry in group.entries if entry.seed == 0))
