"""The packaged recipes that train language models, smoke-run: their own files, with sizes cut down."""

import json
import shutil
import sys

import pytest

from tailkeep import lab, report
from tailkeep.config import read_yaml
from tailkeep.data import Question, write_questions
from tests.lab.causal_lm.tiny import STORIES
from tests.runs.faults import content

DEMO = [
    "seeds=[0]", "generations=2", "data.people=4", "data.documents=40", "training.epochs=0.2", "training.block=16",
    "generation.form.new_tokens=24", "evaluation.samples=6", "evaluation.new_tokens=24", "device=cpu",
    "arms.gaussian-baseline.generations=3", "arms.gaussian-truncated.generations=3",
]  # fmt: skip
STORY_SIZES = [
    "seeds=[0]", "generations=2", "regime.fractions=2", "training.block=8", "generation.form.context=6",
    "generation.form.new_tokens=4", "evaluation.samples=4", "evaluation.new_tokens=6", "evaluation.prompt_tokens=2",
    "device=cpu",
]  # fmt: skip


CHAIN_SIZES = [
    *STORY_SIZES, "training.epochs=1", "generation.decoder.repetition_penalty=3", "tokenizer.train.vocab_size=300",
    "model.config.hidden_size=16", "model.config.intermediate_size=32", "model.config.num_attention_heads=2",
    "model.config.num_key_value_heads=1", "model.config.head_dim=8",
]  # fmt: skip
WORLD_SIZES = [
    "seeds=[0]", "generations=2", "data.people=4", "data.documents=40", "training.epochs=0.4", "training.block=16",
    "generation.form.new_tokens=24", "evaluation.samples=6", "evaluation.new_tokens=24", "device=cpu",
]  # fmt: skip


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory):
    """A finished demo, shrunken."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    lab.run(lab.load(lab.find_recipe("demo"), overrides=DEMO), folder)
    return folder


def test_the_demo_compares_language_models_and_gaussians_in_one_report(demo_run):
    config = lab.load("demo", overrides=DEMO)
    page = report.write(demo_run)
    rows = rows_of(demo_run)
    assert {row["arm"] for row in rows} == set(config.arms)
    assert {row["learner"] for row in rows} == {"causal_lm", "gaussian"}
    assert all("kr_accuracy" in row for row in rows if row["learner"] == "causal_lm")
    assert all(arm in page.read_text(encoding="utf-8") for arm in config.arms)


@pytest.mark.slow
def test_a_remedy_of_ones_own_joins_a_finished_demo_by_one_command(demo_run, tmp_path, monkeypatch, tailkeep):
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command extends it
    shutil.copytree(demo_run, tmp_path / "run")
    before = content(tmp_path / "run" / "cells")
    file = tmp_path / "remedy.yaml"
    file.write_text("extends: demo\narms: {remedy: {loss: {name: truncated, threshold: 0.5}}}\n", encoding="utf-8")
    overrides = [word for change in DEMO for word in ("--set", change)]
    code, printed, _ = tailkeep("lab", file, "--out", tmp_path / "run", "--workers", "1", *overrides)
    after = content(tmp_path / "run" / "cells")
    assert code == 0
    # Not even a time of the other arms has changed.
    assert before == {name: what for name, what in after.items() if not name.startswith("remedy")}
    assert {name for name in after if name.endswith("DONE")} - before.keys() == {"remedy/0/0/DONE", "remedy/0/1/DONE"}
    table = [line.split() for line in printed.splitlines()]
    assert all(any(words[:1] == [arm] for words in table) for arm in ("baseline", "truncated", "accumulate", "remedy"))
    assert "arm remedy added" in printed


def write_wikitext(folder):
    """A text of two articles, its held-out text and a question about each article."""
    halves = STORIES[:21], STORIES[21:]
    text = "".join(f" \n = {name} = \n \n" + "\n".join(half) + "\n" for name, half in zip("AB", halves, strict=True))
    (folder / "text.txt").write_text(text)
    (folder / "valid.txt").write_text(text)
    # The titles stand in lines 1 and 25.
    questions = [
        Question("It's so", f"{who} saw a red cat.", f"{who} saw no cat.", n) for who, n in (("Ann", 1), ("Dov", 25))
    ]
    write_questions(folder / "kr.json", questions)
    return [f"data.path={folder}/text.txt", f"data.held_out_path={folder}/valid.txt", f"data.kr_test={folder}/kr.json"]


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_wikitext2_asks_its_questions_by_fraction_of_any_architecture(tmp_path, architecture):
    sizes = [*CHAIN_SIZES, *write_wikitext(tmp_path), f"model.type={architecture}", "data.kr_form=wikitext"]
    config = lab.load("wikitext2", overrides=sizes, arms=["baseline", "random-matched"])
    run = lab.run(config, tmp_path / "run")
    for row in rows_of(run.path):
        assert (row["kr_fraction_0.items"], row["kr_fraction_1.items"]) == (1, 1)
        assert (row["kr_straddling"], row["kr_outside"], row["kr_reformed"]) == (0, 0, 2)
    page = report.write(run.path).read_text(encoding="utf-8")
    assert "The same questions, one by one" in page


@pytest.mark.slow
def test_wikitext2_runs_on_the_real_text(real_data, tmp_path):
    text = real_data / "text"
    inputs = {
        "data.path": text / "wikitext2_train_prefix.txt",
        "data.held_out_path": text / "wikitext2_valid.txt",
        "data.kr_test": real_data / "kr_test" / "wikitext2_train_prefix.json",
    }
    sizes = [*(f"{key}={path}" for key, path in inputs.items()), "seeds=[0]", "generations=2", "training.epochs=0.2"]
    config = lab.load("wikitext2", overrides=[*sizes, "data.limit=60", "data.held_out_limit=20", "device=cpu"])
    run = lab.run(config, tmp_path / "run")
    rows = rows_of(run.path)
    assert len(rows) == 2 * len(config.arms)
    for row in rows:
        in_fractions = sum(row[f"kr_fraction_{part}.items"] for part in range(3) if f"kr_fraction_{part}" in row)
        assert in_fractions + row["kr_straddling"] == row["kr_items"] == 1264 - row["kr_outside"]


@pytest.mark.slow
def test_imagination_runs_on_real_text_questions_and_sums(real_data, tmp_path):
    benchmarks = real_data / "benchmarks"
    files = {"piqa": benchmarks / "piqa.jsonl", "gsm8k": benchmarks / "gsm8k_train.jsonl"}
    inputs = {f"data.sources.{name}.path": path for name, path in files.items()}
    inputs |= {f"data.downstream.choices.{name}": path for name, path in files.items()}
    inputs["data.sources.wiki.path"] = real_data / "text" / "wikitext2_train_prefix.txt"
    inputs["data.kr_test"] = real_data / "kr_test" / "wikitext2_train_prefix.json"
    inputs["data.downstream.blimp"] = benchmarks / "blimp.zip"
    sizes = [*(f"{key}={path}" for key, path in inputs.items()), "seeds=[0]", "generations=2", "training.epochs=0.2"]
    sizes += [f"data.sources.{name}.limit=40" for name in ("wiki", *files)]
    sizes += ["data.downstream.pairs=1", "data.downstream.limit=10", "device=cpu"]
    config = lab.load("imagination", overrides=sizes, arms=["baseline", "truncated-0.9"])
    rows = rows_of(lab.run(config, tmp_path / "run").path)
    assert len(rows) == 4
    for row in rows:
        assert {name for name in row if name.startswith("downstream.") and name.count(".") == 1} == {
            "downstream.blimp", "downstream.piqa", "downstream.gsm8k",
        }  # fmt: skip
        assert row["downstream.gsm8k.items"] == 10


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["quick", "full"])
def test_tinystories_runs_on_any_model_and_text(model_folder, tmp_path, preset):
    text = tmp_path / "stories.txt"
    text.write_text("<|endoftext|>".join(STORIES), encoding="utf-8")
    recipe = read_yaml(lab.find_recipe("tinystories"))
    for arm in recipe["arms"].values():
        arm["training"]["epochs"] = 1
    inputs = [f"data.path={text}", f"model.path={model_folder}", f"preset={preset}"]
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
    for arm, selected_arm in config.arms.items():
        decoder, loss, editing = arm.rsplit("-", 2)
        assert (selected_arm.generation.decoder.name == "matched") == (decoder == "matched")
        assert (selected_arm.loss.name == "truncated") == (loss == "truncated")
        assert selected_arm.regime.name == editing
    arms = ["sample-baseline-replace", "matched-baseline-edit", "min-p-truncated-edit", "matched-truncated-replace"]
    config = lab.load("decoding", overrides=WORLD_SIZES, arms=arms)
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
    assert max(change["low-rate"], change["extrapolate"]) < change["baseline"]


@pytest.mark.slow
def test_all_selections_have_as_many_candidates_and_say_what_became_of_them(tmp_path):
    config = lab.load(lab.find_recipe("selection"), overrides=WORLD_SIZES)
    lab.run(config, tmp_path / "run")
    rows = [row for row in rows_of(tmp_path / "run") if row["generation"] == 1]
    selected = {row["arm"]: row for row in rows if "candidates" in row}
    assert config.arms.keys() - selected.keys() == {"baseline", "accumulate"}
    # Of hardly trained models nothing may be true, or stated at all.
    assert len({(row["candidates"], str(row["candidate_true_share"])) for row in selected.values()}) == 1
    assert selected["random"]["candidates"] == 160
    assert report.write(tmp_path / "run").exists()


def test_chosen_and_random_documents_are_replayed_at_one_budget(tmp_path):
    arms = ["mix-random-25", "mix-extinction-20", "accumulate-golden-20", "baseline"]
    config = lab.load("replay", overrides=["preset=smoke", "device=cpu"], arms=arms)
    lab.run(config, tmp_path / "run")
    rows = {row["arm"]: row for row in rows_of(tmp_path / "run") if row["generation"] == 1}
    assert rows.keys() == set(arms)
    assert {arm for arm, row in rows.items() if row.get("replayed_share", 1) <= 0.2} == set(arms[1:3])
    assert 0.2 < rows["mix-random-25"]["replayed_share"] <= 0.25
    page = report.write(tmp_path / "run").read_text(encoding="utf-8")
    assert "20\xa0% of the real tokens are replayed, chosen by extinction" in page


def test_every_budget_of_the_replay_recipe_is_that_of_its_name():
    config = lab.load("replay")
    for name, arm in config.arms.items():
        if "-" in name:
            base, choice, percent = name.split("-")
            assert (arm.regime.base, arm.regime.real_budget) == (base, int(percent) / 100)
            assert arm.regime.by.name == ("random" if choice == "golden" else choice)
            assert (arm.regime.real_weight == "golden") == (choice == "golden")
    assert len(config.arms) == 2 * 17 + 2
    assert len(config.seeds) == 12


@pytest.mark.slow
def test_ecosystems_are_compared_with_a_single_lineage_in_one_table(tmp_path):
    sizes = [*WORLD_SIZES, *(f"arms.single.{override}" for override in WORLD_SIZES[1:-1])]
    config = lab.load(lab.find_recipe("ecosystem"), overrides=sizes)
    lab.run(config, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert {row["learner"] for row in rows} == {"causal_lm"}
    assert {row["arm"]: row.get("members", 1) for row in rows} == {
        "single": 1, "twins-part": 2, "families-part": 2, "families-pool": 2, "sizes-pool": 2,
    }  # fmt: skip
    units = {row["arm"]: row["train_units"] for row in rows if row["generation"] == 0}
    assert all(value == pytest.approx(units["single"], rel=0.2) for value in units.values())
    assert report.write(tmp_path / "run").exists()


@pytest.mark.slow
def test_the_automatic_threshold_stands_beside_fixed_ones_under_every_decoder(tmp_path):
    config = lab.load(lab.find_recipe("threshold"), overrides=WORLD_SIZES)
    assert all(arm.data.calibration for arm in config.arms.values()), "arms train on the same text"
    lab.run(config, tmp_path / "run")
    selected_arm = {row["arm"]: row["threshold"] for row in rows_of(tmp_path / "run") if "threshold" in row}
    assert selected_arm.keys() == {f"{decoder}-automatic" for decoder in ("greedy", "nucleus", "sample")}


EDIT_SIZES = ["seeds=[0]", "training.epochs=0.3", "evaluation.samples=4", "evaluation.new_tokens=8", "device=cpu"]


@pytest.mark.slow
def test_the_map_of_edits_tells_what_each_edit_of_real_stories_flags_and_changes(real_data, tmp_path):
    inputs = [f"data.path={real_data}/text/tinystories.txt", f"data.prior.path={real_data}/priors/stories260k"]
    rules = ("unedited", "over-0.99", "over-0.99-random", "under-0.01")
    arms = [f"top-8-t-1-{original}-{rule}" for original in ("included", "excluded") for rule in rules]
    config = lab.load("editing-map", overrides=[*EDIT_SIZES, "data.limit=20", *inputs], arms=[*arms, "synthetic"])
    lab.run(config, tmp_path / "run")
    rows = {row["arm"]: row for row in rows_of(tmp_path / "run")}
    assert rows.keys() == config.arms.keys()
    flagged, changed = ({arm: row.get(f"{what}_share") for arm, row in rows.items()} for what in ("flagged", "changed"))
    assert flagged["synthetic"] is flagged["top-8-t-1-excluded-unedited"] is None
    for original in ("included", "excluded"):
        sure, control = (f"top-8-t-1-{original}-{rule}" for rule in rules[1:3])
        assert 0.1 < flagged[sure] == flagged[control] < 0.3
        assert changed[sure] < changed[control] or original == "excluded"
    assert changed["top-8-t-1-included-over-0.99"] < 0.02 * flagged["top-8-t-1-included-over-0.99"]
    assert changed["top-8-t-1-excluded-over-0.99"] == pytest.approx(flagged["top-8-t-1-excluded-over-0.99"], rel=0.01)
    assert report.write(tmp_path / "run").exists()


@pytest.mark.slow
def test_answers_are_fine_tuned_on_and_text_is_trained_on_further(model_folder, tmp_path):
    path = tmp_path / "records.jsonl"
    records = [{"question": f"Who was at {n}?", "answer": text, "text": text} for n, text in enumerate(STORIES)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    inputs = [f"data.path={path}", f"model.path={model_folder}", f"data.prior.path={model_folder}"]
    sizes = [*EDIT_SIZES, "training.block=32", "generation.form.new_tokens=8", "evaluation.prompt_tokens=2"]
    arms = ("unedited", "over-0.99-excluded", "synthetic", "untrained")
    for recipe in ("editing-finetune", "editing-continual"):
        config = lab.load(recipe, overrides=[*sizes, *inputs], arms=arms)
        lab.run(config, tmp_path / recipe)
        rows = {row["arm"]: row for row in rows_of(tmp_path / recipe)}
        assert rows.keys() == config.arms.keys()
        # A model that is sure of nothing flags nothing, so the edited text is the text.
        assert rows["over-0.99-excluded"]["train_units"] == rows["unedited"]["train_units"]
        assert rows["over-0.99-excluded"]["held_out_nll"] == rows["unedited"]["held_out_nll"]
        assert rows["untrained"]["train_steps"] == 1


@pytest.mark.slow
def test_heirs_of_the_stopping_recipe_train_as_little_as_they_are_told(tmp_path):
    config = lab.load(lab.find_recipe("stopping"), overrides=[*WORLD_SIZES, "training.epochs=4"])
    lab.run(config, tmp_path / "run")
    units = {row["arm"]: row["train_units"] for row in rows_of(tmp_path / "run") if row["generation"] == 1}
    assert units.keys() == config.arms.keys()
    assert units["finetune-third-epoch"] < units["finetune-1-epoch"] < units["finetune-3-epochs"] <= units["baseline"]
    assert report.write(tmp_path / "run").exists()


REPLICATION_SIZES = [
    "preset=smoke", "seeds=[1]", "training.block=8", "generation.form.context=6", "generation.form.new_tokens=2",
    "evaluation.samples=4", "evaluation.prompt_tokens=2", "evaluation.new_tokens=4", "device=cpu",
]  # fmt: skip


def test_fortifai_fig6_ends_with_margins_paired_by_question(model_folder, tmp_path):
    inputs = [*write_wikitext(tmp_path), f"model.path={model_folder}"]
    config = lab.load("fortifai-fig6", overrides=[*REPLICATION_SIZES, *inputs])
    path = lab.run(config, tmp_path / "run").path
    rows = {(row["arm"], row["generation"]): row for row in rows_of(path)}
    assert rows.keys() == {(arm, generation) for arm in config.arms for generation in (0, 1)}
    assert rows["stop", 1]["train_steps"] == 1 < rows["baseline", 1]["train_steps"]
    # Arms that differ later share generation 0.
    assert rows["stop", 0]["held_out_nll"] == rows["baseline", 0]["held_out_nll"]
    assert "The KR-test, paired by question" in report.write(path).read_text(encoding="utf-8")


def test_fortifai_fig7_trains_its_control_on_the_new_fraction_alone(model_folder, tmp_path):
    inputs = [*write_wikitext(tmp_path), f"model.path={model_folder}"]
    config = lab.load("fortifai-fig7", overrides=[*REPLICATION_SIZES, *inputs], arms=["baseline", "fresh-only"])
    rows = {(row["arm"], row["generation"]): row for row in rows_of(lab.run(config, tmp_path / "run").path)}
    assert rows["fresh-only", 1]["train_units"] < rows["baseline", 1]["train_units"]
    assert "kr_fraction_0" in rows["baseline", 1]


def test_toedit_pubmedqa_answers_about_abstracts_that_it_was_not_trained_on(model_folder, tmp_path):
    abstracts = [{"id": str(n), "text": " ".join(STORIES[n : n + 3])} for n in range(8)]
    asked = {"query": "Question: Is Ann here?\nAnswer:", "choices": ["yes", "no", "maybe"], "gold": 0}
    questions = [{"id": str(n), **asked, "query_without_context": "Answer:"} for n in range(4)]
    for name, items in (("train", abstracts), ("questions", questions)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    (tmp_path / "valid.txt").write_text("\n\n".join(STORIES), encoding="utf-8")
    inputs = [
        f"data.path={tmp_path}/train.jsonl", f"data.downstream.choices.pubmedqa={tmp_path}/questions.jsonl",
        f"data.held_out_path={tmp_path}/valid.txt", f"model.path={model_folder}", f"data.prior.path={model_folder}",
    ]  # fmt: skip
    # The tiny model is near the uniform distribution over its 300 tokens, so that half of all tokens are below 1/300.
    arms = ["unedited", "unedited-reordered", "base", "deleted", "deleted-at-random"]
    rules = [f"arms.{arm}.data.external_edit.rule.threshold={1 / 300}" for arm in arms[3:]]
    config = lab.load("toedit-pubmedqa", overrides=[*REPLICATION_SIZES, *inputs, *rules], arms=arms)
    rows = {row["arm"]: row for row in rows_of(lab.run(config, tmp_path / "run").path)}
    assert rows["base"]["train_steps"] == 1
    assert {row["downstream.pubmedqa.items"] for row in rows.values()} == {4}
    assert rows["unedited"]["held_out_nll"] != rows["unedited-reordered"]["held_out_nll"]
    assert rows["deleted"]["changed_share"] > 0.1
    assert rows["deleted"]["changed_share"] == pytest.approx(rows["deleted-at-random"]["changed_share"])
    assert rows["deleted"]["held_out_nll"] != rows["deleted-at-random"]["held_out_nll"]
