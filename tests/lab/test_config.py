import pytest

from tailkeep.errors import ConfigError, InputError
from tailkeep.lab import dump, find_recipe, list_recipes, load
from tests.lab.test_recipes import IN_EFFECT, REQUIRED

GAUSSIAN = {"learner": "gaussian"}
LANGUAGE = {"learner": "causal_lm", "data": {"name": "world"}, "model": {"name": "scratch"}}
WITH_PRESETS = {
    **GAUSSIAN,
    "preset": "quick",
    "generations": 7,
    "record_every": 2,
    "presets": {"quick": {"generations": 3}, "full": {"generations": 70, "seeds": [0, 1]}, "file": None},
}


CUT = {
    **GAUSSIAN,
    "truncate": {"name": "density"},
    "arms": {"baseline": {"truncate": None}, "cut-0.5": {"truncate": {"threshold": 0.5}}, "cut-0.9": {}},
}


def lines_of(tree, *, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load(tree, overrides=overrides)
    return str(caught.value).splitlines()


# Base and arms


def test_without_arms_the_base_is_the_one_arm():
    assert list(load(GAUSSIAN).arms) == ["baseline"]
    assert load({**GAUSSIAN, "arms": None}) == load({**GAUSSIAN, "arms": {}}) == load(GAUSSIAN)


def test_an_arm_is_the_base_with_its_own_keys_on_top():
    tree = {**GAUSSIAN, "generations": 3, "data": {"size": 10, "chains": 2}}
    config = load({**tree, "arms": {"a": {}, "b": {"generations": 9, "data": {"size": 20}}, "c": None}})
    assert config.arms["a"] == config.arms["c"]
    assert (config.arms["a"].generations, config.arms["a"].data.size) == (3, 10)
    assert (config.arms["b"].generations, config.arms["b"].data.size) == (9, 20)
    assert config.arms["b"].data.chains == 2


def test_an_arm_with_another_learner_takes_nothing_of_the_base():
    tree = {**LANGUAGE, "generations": 2, "arms": {"text": {}, "numbers": {"learner": "gaussian"}}}
    config = load(tree)
    assert config.arms["text"].generations == 2
    assert config.arms["numbers"] == load(GAUSSIAN).arms["baseline"]


def test_a_kind_that_an_arm_changes_takes_no_keys_of_the_old_kind():
    tree = {**GAUSSIAN, "truncate": {"name": "density", "threshold": 0.5}}
    arms = load({**tree, "arms": {"a": {"truncate": {"name": "relative"}}, "b": {"truncate": None}}}).arms
    assert arms["a"].truncate.width == 0.0125
    assert arms["b"].truncate is None


# Precedence


def test_the_chosen_scale_beats_the_file_and_an_override_beats_both():
    assert load(WITH_PRESETS).arms["baseline"].generations == 3
    assert load(WITH_PRESETS, overrides=["preset=full"]).arms["baseline"].generations == 70
    assert load(WITH_PRESETS, overrides=["preset=full"]).seeds == (0, 1)
    assert load(WITH_PRESETS, overrides=["preset=file"]).arms["baseline"].generations == 7
    assert load(WITH_PRESETS, overrides=["generations=5"]).arms["baseline"].generations == 5
    assert load(WITH_PRESETS, overrides=["preset=full", "generations=5"]).arms["baseline"].record_every == 2


def test_an_override_of_the_base_reaches_the_arms_that_set_the_key_themselves():
    tree = {**GAUSSIAN, "arms": {"a": {}, "b": {"generations": 9}}}
    arms = load(tree, overrides=["generations=4"]).arms
    assert (arms["a"].generations, arms["b"].generations) == (4, 4)


def test_the_base_of_a_scale_reaches_the_arms_that_set_the_key_themselves():
    tree = {**WITH_PRESETS, "arms": {"a": {}, "b": {"generations": 9}}}
    assert {arm.generations for arm in load(tree).arms.values()} == {3}


def test_within_one_source_an_arm_beats_the_base():
    tree = {**GAUSSIAN, "arms": {"a": {}, "b": {}}}
    arms = load(tree, overrides=["generations=4", "arms.b.generations=6"]).arms
    assert (arms["a"].generations, arms["b"].generations) == (4, 6)


def test_an_override_of_the_base_leaves_arms_with_another_learner_alone():
    tree = {**LANGUAGE, "arms": {"text": {}, "numbers": {"learner": "gaussian", "generations": 9}}}
    arms = load(tree, overrides=["training.epochs=1", "generations=2"]).arms
    assert (arms["text"].generations, arms["text"].training.epochs) == (2, 1)
    assert arms["numbers"].generations == 9


def test_a_scale_can_add_an_arm():
    tree = {
        **GAUSSIAN,
        "arms": {"a": {}},
        "preset": "full",
        "presets": {"full": {"arms": {"wide": {"data": {"std": 2}}}}},
    }
    assert list(load(tree).arms) == ["a", "wide"]
    assert load(tree).arms["wide"].data.std == 2
    assert load(tree, overrides=["arms.wide.data.std=3"]).arms["wide"].data.std == 3


def test_the_arm_of_a_source_without_arms_is_called_baseline():
    assert load(GAUSSIAN, overrides=["arms.baseline.data.std=2"]) == load(GAUSSIAN, overrides=["data.std=2"])


def test_another_learner_from_an_override_takes_nothing_of_the_files_base():
    config = load({**LANGUAGE, "generations": 3}, overrides=["learner=gaussian"])
    assert config.arms["baseline"] == load(GAUSSIAN).arms["baseline"]


def test_what_an_arm_sets_is_not_dropped_silently_when_the_learner_changes():
    tree = {**GAUSSIAN, "arms": {"a": {"truncate": {"name": "density"}}}}
    (line,) = lines_of(tree, overrides=["learner=mixture"])
    assert "unknown key 'arms.a.truncate'" in line


# The choice of arms


def test_arms_are_chosen_by_name_and_keep_the_order_of_the_source():
    tree = {**GAUSSIAN, "arms": {"b": {}, "a": {"generations": 2}, "c": {}}}
    assert list(load(tree, arms=["c", "b"]).arms) == ["b", "c"]
    assert load(tree, arms=["a"]).arms["a"] == load(tree).arms["a"]
    assert load(tree, arms=[]) == load(tree)
    assert list(load(GAUSSIAN, arms=["baseline"]).arms) == ["baseline"]


def test_an_arm_of_the_chosen_scale_can_be_chosen():
    tree = {**GAUSSIAN, "arms": {"a": {}}, "preset": "full", "presets": {"full": {"arms": {"b": {}}}}}
    assert list(load(tree, arms=["b"]).arms) == ["b"]


@pytest.mark.parametrize(
    ("name", "hint"), [("basline", "Did you mean 'baseline'?"), ("", "Known: baseline, cut-0.5, cut-0.9.")]
)
def test_an_arm_that_is_not_there_cannot_be_chosen(name, hint):
    with pytest.raises(ConfigError) as caught:
        load(CUT, arms=["baseline", name])
    assert str(caught.value) == f"--arms: there is no arm {name!r}. {hint}"


def test_a_fault_of_an_arm_that_is_not_chosen_is_no_obstacle():
    tree = {**GAUSSIAN, "arms": {"a": {}, "b": {"generations": 0}}}
    assert list(load(tree, arms=["a"]).arms) == ["a"]


# Overrides of arms


def test_an_arm_whose_name_holds_a_dot_is_overridden_in_quotes():
    arms = load(CUT, overrides=['arms."cut-0.5".truncate.threshold=0.6']).arms
    assert arms["cut-0.5"].truncate.threshold == 0.6
    assert arms["cut-0.9"] == load(CUT).arms["cut-0.9"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms.basline.generations=2", "--set arms.basline: there is no such arm. Did you mean 'baseline'? New ones"),
        (
            "arms.z.generations=2",
            "--set arms.z: there is no such arm. Known: baseline, cut-0.5, cut-0.9. New ones go into",
        ),
        ("arms={baseline: {generations: 2}, z: {}}", "--set arms.z: there is no such arm."),
        ('arms."z.1".generations=2', '--set arms."z.1": there is no such arm.'),
        (
            "arms.cut-0.9.generations=2",
            "--set arms.cut-0: there is no such arm. Put a name with a dot in double quotes: "
            "--set 'arms.\"cut-0.5\".KEY=VALUE'.",
        ),
        (
            "arms.baseline=null",
            "--set arms.baseline=null: it sets no key of the arm. To choose arms, name them: --arms NAME,",
        ),
        ("arms.baseline=", "--set arms.baseline=null: it sets no key of the arm."),
        ("arms.baseline=7", "--set arms.baseline=7: it sets no key of the arm."),
        ("arms={baseline: {}}", "--set arms.baseline={}: it sets no key of the arm. To choose arms, name them: --arms"),
        (
            "arms=[baseline]",
            '--set arms=["baseline"]: it sets no key of an arm. To choose arms, name them: --arms NAME,NAME.',
        ),
        ("arms=baseline", '--set arms="baseline": it sets no key of an arm.'),
        ("arms={}", "--set arms={}: it sets no key of an arm."),
        ("arms=null", "--set arms=null: it sets no key of an arm."),
    ],
)
def test_an_override_that_would_add_an_arm_or_change_none_is_refused(override, message):
    (line,) = lines_of(CUT, overrides=[override])
    assert line.startswith(message)


# Faults


def test_a_fault_that_an_override_brings_in_is_told_as_its_own():
    tree = {**GAUSSIAN, "data": {"std": 0}, "num_threads": 0, "arms": {"a": {}, "b": {}}}
    lines = lines_of(tree, overrides=["num_threads=0", "generatons=2", "arms.b.data.size=0"])
    assert [line.split(" ")[:2] for line in lines] == [
        ["config:", "num_threads:"], ["config:", "data.std:"], ["--set:", "arms.b.data.size:"], ["--set:", "unknown"],
    ]  # fmt: skip
    assert lines[3] == "--set: unknown key 'generatons'. Did you mean 'generations'?"


def test_a_value_that_an_override_makes_worse_is_told_as_the_overrides():
    (line,) = lines_of({**GAUSSIAN, "generations": 0}, overrides=["generations=-1"])
    assert line.startswith("--set: generations: ")
    assert line.endswith("(received -1)")


def test_an_unknown_key_at_the_top_is_answered_with_the_keys_of_run_and_study():
    (line,) = lines_of({**GAUSSIAN, "zzz": 1, "arms": {"a": {}, "b": {"learner": "mixture"}}})
    assert line == (
        "config: unknown key 'zzz'. Known: arms, data, description, device, extends, generations, grid, keep_models, "
        "learner, metrics, name, num_threads, preset, presets, record_every, regime, seeds, truncate."
    )
    assert lines_of({**GAUSSIAN, "sedes": [1], "arms": {"a": {}, "b": {}}}) == [
        "config: unknown key 'sedes'. Did you mean 'seeds'?"
    ]


def test_a_fault_of_the_base_is_told_once_whatever_the_arms_are_called():
    (line,) = lines_of({**CUT, "generations": 0})
    assert line.startswith("config: generations: ")


def test_a_fault_of_the_base_is_told_once_under_its_own_key():
    arms = {"a": {}, "b": {"record_every": 2}, "c": {"data": {"size": 5}}}
    assert lines_of({**GAUSSIAN, "genrations": 2, "arms": arms}) == [
        "config: unknown key 'genrations'. Did you mean 'generations'?"
    ]
    (line,) = lines_of({**GAUSSIAN, "data": {"std": 0}, "arms": arms})
    assert line.startswith("config: data.std: ")


def test_a_fault_of_an_arm_is_told_under_the_arms_key():
    arms = {"a": {}, "b": {"generations": 0}}
    (line,) = lines_of({**GAUSSIAN, "arms": arms})
    assert line.startswith("config: arms.b.generations: ")
    assert line.endswith("(received 0)")


def test_faults_of_base_and_arms_stand_beside_each_other():
    arms = {"a": {}, "b": {"generations": -1}, "c": {}}
    lines = lines_of({**GAUSSIAN, "generations": 0, "arms": arms})
    assert [line.split(": ")[1] for line in lines] == ["generations", "arms.b.generations"]


def test_a_missing_learner_is_told_with_the_kinds_there_are():
    (line,) = lines_of({"generations": 3, "arms": {"a": {}, "b": {}}})
    assert "the key 'learner' is missing" in line
    assert "gaussian, mixture" in line


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({**GAUSSIAN, "seeds": [0, 0]}, r"seeds: a seed is listed twice; keep one \(received \[0, 0\]\)"),
        ({**GAUSSIAN, "seeds": []}, r"seeds: expected a list of whole numbers, such as \[0, 1, 2\] \(received \[\]\)"),
        ({**GAUSSIAN, "seeds": 0}, r"seeds: expected a list of whole numbers, such as \[0, 1, 2\] \(received 0\)"),
        ({**GAUSSIAN, "seeds": "01"}, r"seeds: expected a list of whole numbers.*received \"01\""),
        ({**GAUSSIAN, "seeds": [-1]}, r"seeds\.0: .*received -1"),
        ({**GAUSSIAN, "num_threads": 0}, r"num_threads: .*received 0"),
        ({**GAUSSIAN, "keep_models": "lsat"}, r"'lsat' is unknown\. Did you mean 'last'"),
        ({**GAUSSIAN, "keepmodels": "last"}, r"unknown key 'keepmodels'\. Did you mean 'keep_models'"),
        ({"learner": "gausian"}, r"'gausian' is unknown\. Did you mean 'gaussian'"),
        ({**GAUSSIAN, "regime": {"name": "replce"}}, r"'replce' is unknown\. Did you mean 'replace'"),
        ({**GAUSSIAN, "regime": {"name": "mix"}}, r"the key 'regime\.real_share' is missing"),
        ({**GAUSSIAN, "regime": {"name": "mix", "real_share": 1.1}}, r"regime\.real_share: .*received 1\.1"),
        ({**GAUSSIAN, "regime": {"name": "regenerate", "fractions": 0}}, r"regime\.fractions"),
        ({**LANGUAGE, "loss": {"name": "truncated", "threshold": 0}}, r"loss\.threshold: .*greater than 0"),
        ({**LANGUAGE, "loss": {"name": "truncated", "threshold": 1.5}}, r"loss\.threshold: .*received 1\.5"),
        ({**LANGUAGE, "loss": {"name": "truncated", "treshold": 0.9}}, r"'loss\.treshold'\. Did you mean 'threshold'"),
        ({**GAUSSIAN, "arms": [1]}, r"arms: expected a mapping of names to keys"),
        ({**GAUSSIAN, "arms": {"a": 3}}, r"arms: expected a mapping of names to keys"),
        ({**GAUSSIAN, "presets": [1]}, r"presets: expected a mapping of names to keys"),
        ({**WITH_PRESETS, "preset": "huge"}, r"preset: 'huge' is unknown\. Known: quick, full, file"),
        ({**WITH_PRESETS, "preset": None}, r"preset: None is unknown\. Known: quick"),
        ({**WITH_PRESETS, "preset": ["quick"]}, r"preset: \['quick'\] is unknown\. Known: quick"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(tree, message):
    with pytest.raises(ConfigError, match=message):
        load(tree)


def test_a_scale_of_a_configuration_that_offers_none_is_refused():
    with pytest.raises(ConfigError, match=r"preset: 'full' is unknown\. It has no presets"):
        load(GAUSSIAN, overrides=["preset=full"])


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "-a", "ä", "a.partial", "x" * 61, "a\n"])
def test_an_arms_name_that_cannot_name_a_folder_is_refused(name):
    (line,) = lines_of({**GAUSSIAN, "arms": {name: {}}})
    assert "an arm's name becomes a folder" in line


@pytest.mark.parametrize("name", ["a", "0", "density-0.85", "A_b", "x" * 60, "partial"])
def test_an_arms_name_may_have_letters_digits_dots_and_dashes(name):
    assert list(load({**GAUSSIAN, "arms": {name: {}}}).arms) == [name]


# Files


def test_a_fault_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("learner: gaussian\ngeneratoins: 3\n")
    with pytest.raises(ConfigError, match=r"own\.yaml: unknown key 'generatoins'"):
        load(path)


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.yaml"):
        load(tmp_path / "none.yaml")


# Dumping


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_a_dumped_recipe_is_read_back_to_the_same_configuration(recipe, tmp_path):
    config = load(find_recipe(recipe.name), overrides=[*REQUIRED.get(recipe.name, []), *IN_EFFECT.get(recipe.name, [])])
    (tmp_path / "dumped.yaml").write_text(dump(config))
    assert load(tmp_path / "dumped.yaml") == config


def test_what_all_arms_share_is_dumped_once():
    text = dump(load({**GAUSSIAN, "generations": 8, "arms": {"a": {}, "b": {"record_every": 3}}}))
    assert text.count("generations: 8") == 1
    assert text.count("learner: gaussian") == 1
    assert text.count("record_every") == 2


def test_arms_of_different_kinds_are_dumped_whole():
    config = load({**LANGUAGE, "arms": {"a": {}, "b": {"learner": "gaussian"}, "c": {"learner": "mixture"}}})
    text = dump(config)
    assert text.count("learner: ") == 3


def test_an_override_of_a_dumped_configuration_still_works(tmp_path):
    (tmp_path / "dumped.yaml").write_text(dump(load({**WITH_PRESETS, "arms": {"a": {}, "b": {"record_every": 3}}})))
    config = load(tmp_path / "dumped.yaml", overrides=["generations=2"])
    assert config.preset == "quick"
    assert {arm.generations for arm in config.arms.values()} == {2}
    with pytest.raises(ConfigError, match="preset"):
        load(tmp_path / "dumped.yaml", overrides=["preset=full"])


def test_a_device_that_nothing_here_computes_on_is_refused():
    with pytest.raises(ConfigError, match="'cuda' has no effect"):
        load({**GAUSSIAN, "device": "cuda"})


def text_study(**data):
    return {"learner": "causal_lm", "data": {"name": "text", **data}, "model": {"name": "scratch"}}


def test_a_share_beside_a_file_of_held_out_text_is_refused_with_the_way_out():
    tree = text_study(path="a.txt", held_out=0.2)
    with pytest.raises(ConfigError, match=r"held_out has no effect beside held_out_path\. Set data\.held_out=null"):
        load(tree, overrides=["data.held_out_path=b.txt"])
    data = load(tree, overrides=["data.held_out_path=b.txt", "data.held_out=null"]).arms["baseline"].data
    assert (str(data.held_out_path), data.held_out) == ("b.txt", None)


@pytest.mark.parametrize("paths", [{"path": "a.jsonl"}, {"path": "a.jsonl", "held_out_path": "b.jsonl"}])
def test_a_separator_that_no_file_is_cut_at_is_refused_with_the_way_out(paths):
    tree = text_study(separator="line", **paths)
    with pytest.raises(ConfigError, match=r"separator has no effect on records.*Set data\.separator=null"):
        load(tree)
    assert load(tree, overrides=["data.separator=null"]) == load(text_study(**paths))


@pytest.mark.parametrize("paths", [("a.txt", "b.jsonl"), ("a.jsonl", "b.txt")])
def test_a_separator_may_be_for_one_of_two_files(paths):
    tree = text_study(path=paths[0], held_out_path=paths[1], separator="line")
    assert load(tree).arms["baseline"].data.separator == "line"


# What a configuration extends


def test_a_configuration_that_extends_another_adds_arms_and_sets_keys(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "learner: gaussian\ngenerations: 4\narms: {baseline: {}, all: {generations: 5}}\n"
    )
    base = str(tmp_path / "base.yaml")
    config = load({"extends": base, "seeds": [7], "arms": {"mine": {"generations": 6}, "all": {"record_every": 2}}})
    assert {name: (arm.generations, arm.record_every) for name, arm in config.arms.items()} == {
        "baseline": (4, 1),
        "all": (5, 2),
        "mine": (6, 1),
    }
    assert config.seeds == (7,)
    assert load({"extends": base}) == load(tmp_path / "base.yaml")
    assert load({"extends": base, "generations": 3}) == load(tmp_path / "base.yaml", overrides=["generations=3"])


def test_it_has_the_presets_of_both():
    config = load({"extends": "demo", "arms": {"mine": {}}}, overrides=["preset=full"])
    full = load("demo", overrides=["preset=full"])
    assert config.arms["mine"] == config.arms["baseline"] == full.arms["baseline"]
    tree = {"extends": "demo", "preset": "less", "presets": {"less": {"seeds": [0]}}}
    assert load(tree).seeds == (0,)


def test_keys_of_its_own_win_over_the_other_and_over_the_presets_of_the_other(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "learner: gaussian\ngenerations: 9\npreset: quick\n"
        "presets: {quick: {generations: 4, record_every: 2}, full: {generations: 8}}\narms: {baseline: {}}\n"
    )
    tree = {"extends": str(tmp_path / "base.yaml"), "generations": 2, "arms": {"mine": {"generations": 3}}}
    for overrides in ([], ["preset=full"]):
        config = load(tree, overrides=overrides)
        assert {name: arm.generations for name, arm in config.arms.items()} == {"baseline": 2, "mine": 3}
    assert load(tree).arms["mine"].record_every == 2
    assert load(tree, overrides=["preset=full"]).arms["mine"].record_every == 1
    # A preset of the same name here lies over the keys here.
    more = {**tree, "presets": {"full": {"generations": 7}}}
    assert load(more, overrides=["preset=full"]).arms["baseline"].generations == 7
    assert load(more).preset == "quick"


def test_it_takes_the_grid_of_the_other_and_adds_arms_to_it():
    grid = load("truncation-map")
    config = load({"extends": "truncation-map", "arms": {"mine": {}}})
    assert (list(config.arms), config.grid) == ([*grid.arms, "mine"], grid.grid)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"extends": "dem"}, "no recipe is called 'dem'. Did you mean 'demo'?"),
        ({"extends": "SELF"}, "extends: SELF extends demo itself. Extend that one."),
        (
            {"extends": "demo", "grid": {"loss": {"a": {}}}},
            "config: grid: a configuration that extends another has none.",
        ),
        ({"extend": "demo", **GAUSSIAN}, "unknown key 'extend'. Did you mean 'extends'?"),
    ],
)
def test_what_cannot_be_extended_is_refused(tree, message, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("extends: demo\n")
    tree = {key: str(path) if value == "SELF" else value for key, value in tree.items()}
    with pytest.raises(ConfigError) as caught:
        load(tree)
    assert message.replace("SELF", str(path)) in str(caught.value)
