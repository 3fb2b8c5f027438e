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
    assert len(config.arms) == 3 * 2 * 2 == len({tuple(arm.split("_")) for arm in config.arms})
    for arm, chosen in config.arms.items():
        decoder, loss, editing = arm.split("_")
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


EDIT_SIZES = ["seeds=[0]", "training.epochs=0.3", "measuring.samples=4", "measuring.new_tokens=8", "device=cpu"]


@pytest.mark.slow
def test_the_map_of_edits_tells_what_each_edit_of_real_stories_flags_and_changes(real_data, tmp_path):
    inputs = [f"data.path={real_data}/text/tinystories.txt", f"data.prior.path={real_data}/priors/stories260k"]
    rules = ("unedited", "over-0.99", "over-0.99-at-random", "under-0.01")
    arms = [f"top-8-t-1-{original}-{rule}" for original in ("staying", "going") for rule in rules]
    config = lab.load("editing-map", overrides=[*EDIT_SIZES, "data.limit=20", *inputs], arms=[*arms, "written"])
    lab.run(config, tmp_path / "run")
    rows = {row["arm"]: row for row in rows_of(tmp_path / "run")}
    assert rows.keys() == config.arms.keys()
    flagged, changed = ({arm: row.get(f"{what}_share") for arm, row in rows.items()} for what in ("flagged", "changed"))
    assert flagged["written"] is flagged["top-8-t-1-going-unedited"] is None
    for original in ("staying", "going"):
        sure, control = (f"top-8-t-1-{original}-{rule}" for rule in rules[1:3])
        assert 0.1 < flagged[sure] == flagged[control] < 0.3
        assert changed[sure] < changed[control] or original == "going"
    assert changed["top-8-t-1-staying-over-0.99"] < 0.02 * flagged["top-8-t-1-staying-over-0.99"]
    assert changed["top-8-t-1-going-over-0.99"] == pytest.approx(flagged["top-8-t-1-going-over-0.99"], rel=0.01)
    assert report.write(tmp_path / "run").exists()


@pytest.mark.slow
def test_answers_are_fine_tuned_on_and_text_is_trained_on_further(model_folder, tmp_path):
    path = tmp_path / "records.jsonl"
    records = [{"question": f"Who was at {n}?", "answer": text, "text": text} for n, text in enumerate(STORIES)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    inputs = [f"data.path={path}", f"model.path={model_folder}", f"data.prior.path={model_folder}"]
    sizes = [*EDIT_SIZES, "training.block=32", "measuring.prompt_tokens=2", "writing.form.new_tokens=16"]
    arms = ("unedited", "over-0.99-going", "written", "untrained")
    for recipe in ("editing-finetune", "editing-continual"):
        config = lab.load(recipe, overrides=[*sizes, *inputs], arms=arms)
        lab.run(config, tmp_path / recipe)
        rows = {row["arm"]: row for row in rows_of(tmp_path / recipe)}
        assert rows.keys() == config.arms.keys()
        # A model that is sure of nothing flags nothing, so the edited text is the text.
        assert rows["over-0.99-going"]["train_units"] == rows["unedited"]["train_units"]
        assert rows["over-0.99-going"]["held_out_nll"] == rows["unedited"]["held_out_nll"]
        assert rows["untrained"]["train_steps"] == 1
