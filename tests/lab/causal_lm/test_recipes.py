"""The packaged recipes that train language models, smoke-run: their own files, with sizes cut down."""

import json

import pytest

from tailkeep import lab, report
from tailkeep.config import read_yaml
from tests.lab.causal_lm.tiny import STORIES

DEMO = [
    "seeds=[0]", "generations=2", "data.people=4", "data.documents=40", "training.epochs=0.2", "training.block=16",
    "writing.form.new_tokens=24", "measuring.samples=6", "measuring.new_tokens=24", "device=cpu",
    "arms.gaussian-plain.generations=3", "arms.gaussian-truncated.generations=3",
]  # fmt: skip
STORY_SIZES = [
    "seeds=[0]", "generations=2", "regime.fractions=2", "training.block=8", "writing.form.context=6",
    "writing.form.new_tokens=4", "measuring.samples=4", "measuring.new_tokens=6", "measuring.prompt_tokens=2",
    "device=cpu",
]  # fmt: skip


WORLD_SIZES = [
    "seeds=[0]", "generations=2", "data.people=4", "data.documents=40", "training.epochs=0.4", "training.block=16",
    "writing.form.new_tokens=24", "measuring.samples=6", "measuring.new_tokens=24", "device=cpu",
]  # fmt: skip


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_demo_compares_language_models_and_gaussians_in_one_report(tmp_path):
    config = lab.load(lab.find_recipe("demo"), overrides=DEMO)
    lab.run(config, tmp_path / "run")
    page = report.write(tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert {row["arm"] for row in rows} == set(config.arms)
    assert {row["learner"] for row in rows} == {"causal_lm", "gaussian"}
    assert all("kr_accuracy" in row for row in rows if row["learner"] == "causal_lm")
    assert all(arm in page.read_text(encoding="utf-8") for arm in config.arms)


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["quick", "full"])
def test_tinystories_runs_on_any_model_and_text(model_folder, tmp_path, scale):
    text = tmp_path / "stories.txt"
    text.write_text("<|endoftext|>".join(STORIES), encoding="utf-8")
    recipe = read_yaml(lab.find_recipe("tinystories"))
    for arm in recipe["arms"].values():
        arm["training"]["epochs"] = 1
    inputs = [f"data.path={text}", f"model.path={model_folder}", f"scale={scale}"]
    config = lab.load(recipe, overrides=[*STORY_SIZES, *inputs])
    lab.run(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert len(rows) == 2 * len(config.arms) == 16
    # An untrained model is sure of nothing, so whether anything is truncated is no matter of the recipe.
    assert all(row["kept_fraction"] == 1 for row in rows if "truncated" not in row["arm"])


@pytest.mark.slow
def test_decoders_losses_and_editing_are_crossed_completely(tmp_path):
    config = lab.load(lab.find_recipe("decoding"), overrides=WORLD_SIZES)
    assert len(config.arms) == 5 * 2 * 2 == len({tuple(arm.split("-")) for arm in config.arms})
    for arm, chosen in config.arms.items():
        decoder, loss, editing = arm.split("-")
        assert (chosen.writing.decoder.name == "matched") == (decoder == "matched")
        assert (chosen.loss.name == "truncated") == (loss == "truncated")
        assert chosen.regime.name == editing
    lab.run(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert {row["arm"] for row in rows if "decoder_temperature" in row} == {a for a in config.arms if "matched" in a}
    assert {row["arm"] for row in rows if "flagged_share" in row} == {a for a in config.arms if a.endswith("edit")}
    assert report.write(tmp_path / "run").exists()


@pytest.mark.slow
def test_remedies_in_weight_space_run_beside_their_rivals(tmp_path):
    config = lab.load(lab.find_recipe("weight-space"), overrides=WORLD_SIZES)
    lab.run(config, tmp_path / "run")
    change = {row["arm"]: row["weight_change"] for row in rows_of(tmp_path / "run") if row["generation"] == 1}
    assert change.keys() == config.arms.keys()
    assert max(change["low-rate"], change["extrapolate"]) < change["plain"]


@pytest.mark.slow
def test_all_selections_have_as_many_candidates_and_say_what_became_of_them(tmp_path):
    config = lab.load(lab.find_recipe("selection"), overrides=WORLD_SIZES)
    lab.run(config, tmp_path / "run")
    rows = [row for row in rows_of(tmp_path / "run") if row["generation"] == 1]
    selected = {row["arm"]: row for row in rows if "candidates" in row}
    assert config.arms.keys() - selected.keys() == {"plain", "accumulate"}
    # Of hardly trained models nothing may be true, or stated at all.
    assert len({(row["candidates"], str(row["candidate_true_share"])) for row in selected.values()}) == 1
    assert selected["random"]["candidates"] == 160
    assert report.write(tmp_path / "run").exists()


@pytest.mark.slow
def test_ecosystems_are_compared_with_a_single_lineage_in_one_table(tmp_path):
    sizes = [*WORLD_SIZES, *(f"arms.single.{override}" for override in WORLD_SIZES[1:-1])]
    config = lab.load(lab.find_recipe("ecosystem"), overrides=sizes)
    lab.run(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert {row["learner"] for row in rows} == {"causal_lm"}
    assert {row["arm"]: row.get("members", 1) for row in rows} == {
        "single": 1, "twins-part": 2, "families-part": 2, "families-pool": 2,
    }  # fmt: skip
    units = {row["arm"]: row["train_units"] for row in rows if row["generation"] == 0}
    assert all(value == pytest.approx(units["single"], rel=0.2) for value in units.values())
    assert report.write(tmp_path / "run").exists()


@pytest.mark.slow
def test_the_automatic_threshold_stands_beside_fixed_ones_under_every_decoder(tmp_path):
    config = lab.load(lab.find_recipe("threshold"), overrides=WORLD_SIZES)
    assert all(arm.data.calibration for arm in config.arms.values()), "arms train on the same text"
    lab.run(config, tmp_path / "run")
    chosen = {row["arm"]: row["threshold"] for row in rows_of(tmp_path / "run") if "threshold" in row}
    assert chosen.keys() == {f"{decoder}-automatic" for decoder in ("greedy", "nucleus", "sample")}
