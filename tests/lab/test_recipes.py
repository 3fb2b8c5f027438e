"""The recipes that ship with the package: each can be read, says what it shows, and runs."""

import re

import pytest

from tailkeep import lab
from tailkeep.config import parse_yaml, read_yaml
from tailkeep.errors import ConfigError
from tests.runs.faults import FaultyStorage

RECIPES = lab.list_recipes()
REQUIRED = {
    "editing-continual": ["data.path=/abstracts.jsonl", "data.prior.path=/prior", "model.path=/model"],
    "editing-finetune": ["data.path=/records.jsonl", "data.prior.path=/prior", "model.path=/model"],
    "editing-map": ["data.path=/stories.txt", "data.prior.path=/prior"],
    "fortifai-fig6": ["data.path=/wikitext.txt", "model.path=/model"],
    "fortifai-fig7": ["data.path=/wikitext.txt", "model.path=/model"],
    "imagination": [f"data.sources.{name}.path=/{name}" for name in ("wiki", "piqa", "gsm8k")],
    "mnist": ["data.images=/images", "data.labels=/labels"],
    "tinystories": ["data.path=/stories.txt", "model.path=/model"],
    "toedit-pubmedqa": ["data.path=/train.jsonl", "data.prior.path=/prior", "model.path=/model"],
    "wikitext2": ["data.path=/wikitext.txt"],
}
# What other keys of a recipe do nothing without, so that it is refused too.
IN_EFFECT = {
    "fortifai-fig6": ["data.held_out_path=/valid.txt", "data.kr_test=/kr.json"],
    "fortifai-fig7": ["data.held_out_path=/valid.txt", "data.kr_test=/kr.json"],
    "imagination": [
        "data.kr_test=/kr.json",
        *(f"data.downstream.choices.{name}=/{name}" for name in ("piqa", "gsm8k")),
    ],
    "toedit-pubmedqa": ["data.held_out_path=/valid.txt", "data.downstream.choices.pubmedqa=/questions.jsonl"],
    "wikitext2": ["data.held_out_path=/valid.txt", "data.kr_test=/kr.json"],
}
REQUIRED_AT = {("mnist", "full"): ["data.test.images=/test-images", "data.test.labels=/test-labels"]}
SCALES = [(recipe.name, preset) for recipe in RECIPES for preset in read_yaml(recipe.path).get("presets", {})]
by_name = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def loaded(name, *overrides):
    return lab.load(lab.find_recipe(name), overrides=[*REQUIRED.get(name, []), *IN_EFFECT.get(name, []), *overrides])


def test_the_recipes_of_the_first_issue_are_there():
    assert {"demo", "gaussian", "mixture", "tinystories"} <= {recipe.name for recipe in RECIPES}


@by_name
def test_each_arm_of_a_recipe_can_be_selected_alone_and_read_back(recipe):
    tree = read_yaml(recipe.path)
    overrides = [*REQUIRED.get(recipe.name, []), *IN_EFFECT.get(recipe.name, [])]
    for arm in loaded(recipe.name).arms:
        config = lab.load(tree, overrides=overrides, arms=[arm])
        assert list(config.arms) == [arm]
        assert lab.load(parse_yaml(lab.dump(config), source="dump")) == config


def test_a_recipe_that_wants_files_is_refused_without_them():
    for name, keys in REQUIRED.items():
        with pytest.raises(ConfigError) as caught:
            lab.load(lab.find_recipe(name))
        assert all(key.partition("=")[0] in str(caught.value) for key in keys)


@pytest.mark.parametrize(("name", "omitted"), [(name, one) for name, keys in IN_EFFECT.items() for one in keys])
def test_a_recipe_says_which_file_its_other_keys_wait_for(name, omitted):
    overrides = [*REQUIRED[name], *(one for one in IN_EFFECT[name] if one != omitted)]
    with pytest.raises(ConfigError, match=r"has no effect|is no file in choices|names no test"):
        lab.load(lab.find_recipe(name), overrides=overrides)


@by_name
def test_a_recipe_is_called_as_its_file_and_says_what_it_shows(recipe):
    config = loaded(recipe.name)
    assert config.name == recipe.name == recipe.path.stem
    assert config.description == recipe.description
    assert len(recipe.description) > 40


@by_name
def test_a_recipe_begins_with_how_long_it_takes_here(recipe):
    header = [line for line in recipe.path.read_text().splitlines()[:8] if line.startswith("#")]
    assert re.search(r"\d+(\.\d+)?\s*(s|min|seconds?|minutes?|hours?|h)\b", " ".join(header)), header


@by_name
def test_a_recipe_studies_three_seeds_at_least(recipe):
    assert len(loaded(recipe.name).seeds) >= 3


@by_name
def test_a_recipe_takes_a_quick_and_a_full_scale_or_those_of_a_replication(recipe):
    presets = {preset for name, preset in SCALES if name == recipe.name}
    assert presets >= {"quick", "full"} or presets == {"smoke", "cpu", "gpu"}


@pytest.mark.parametrize(("name", "preset"), SCALES)
def test_a_recipe_can_be_read_at_every_scale(name, preset):
    assert loaded(name, f"preset={preset}", *REQUIRED_AT.get((name, preset), [])).preset == preset


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("gaussian", ["generations=5", "record_every=2", "data.size=10", "data.chains=3"]),
        ("mixture", ["generations=3", "record_every=1", "data.size=60", "data.modes=4", "components=4"]),
        ("mixture-sweep", ["generations=2", "record_every=1", "data.size=60", "data.modes=4", "components=4"]),
        ("gaussian-theory", ["generations=3", "record_every=2", "data.chains=3"]),
        ("regression", ["generations=3", "record_every=1", "data.size=30", "data.chains=3"]),
    ],
)
def test_a_recipe_of_numbers_runs_small(name, overrides, tmp_path):
    if name.startswith("mixture"):
        pytest.importorskip("sklearn")
    config = loaded(name, "seeds=[0]", *overrides)
    directory = lab.run(config, tmp_path, storage=FaultyStorage())
    last = {arm: study.generations - 1 for arm, study in config.arms.items()}
    assert {
        arm: directory.generation_dir(arm, 0, generation).done for arm, generation in last.items()
    } == dict.fromkeys(config.arms, True)
    assert len({cell.arm for cell in directory.generation_dirs()}) == len(config.arms) >= 4


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES if recipe.name not in REQUIRED])
def test_a_recipe_without_required_keys_needs_no_file(name):
    assert lab.load(lab.find_recipe(name))


def test_the_required_keys_of_tinystories_are_named_when_they_are_missing():
    with pytest.raises(ConfigError) as caught:
        lab.load(lab.find_recipe("tinystories"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "the key 'data.path' is missing" in lines[0]
    assert "--set model.path=" in lines[1]


def test_a_recipe_that_is_not_there_is_answered_with_its_neighbour():
    with pytest.raises(ConfigError, match=r"no recipe is called 'gausian'\. Did you mean 'gaussian'\? Or give a path"):
        lab.find_recipe("gausian")


def test_a_word_near_no_recipe_is_answered_with_all_of_them():
    with pytest.raises(
        ConfigError, match=rf"no recipe is called 'xyz'\. Known: {', '.join(recipe.name for recipe in RECIPES)}\. Or"
    ):
        lab.find_recipe("xyz")


def test_a_recipes_name_stands_for_its_file(tmp_path):
    assert lab.load("gaussian") == lab.load(lab.find_recipe("gaussian"))
    path = tmp_path / "own.yaml"
    path.write_text("learner: gaussian\n")
    assert lab.load(str(path)) == lab.load(path)


def test_a_yaml_file_is_its_own_recipe(tmp_path):
    assert lab.find_recipe(str(tmp_path / "own.yml")) == tmp_path / "own.yml"


@pytest.mark.parametrize(("recipe", "preset"), SCALES)
def test_no_two_arms_of_a_preset_are_the_same(recipe, preset):
    arms = loaded(recipe, f"preset={preset}", *REQUIRED_AT.get((recipe, preset), [])).arms
    for name, arm in arms.items():
        equal = [other for other, keys in arms.items() if keys == arm]
        # A grid of edits has its unedited text once for each setting.
        assert equal == [name] or all("unedited" in other for other in equal)
