import pytest

from tailkeep.errors import ConfigError
from tailkeep.lab import dump, load
from tailkeep.lab.config import parse

GRID = {
    "learner": "gaussian",
    "generations": 3,
    "grid": {
        "size": {"few": {"data": {"size": 20}}, "many": {"data": {"size": 500}}},
        "cut": {"baseline": None, "cut-0.85": {"truncate": {"name": "density", "threshold": 0.85}}},
    },
}


def test_a_grid_is_an_arm_for_each_combination_in_the_order_of_its_axes():
    config = load(GRID)
    assert list(config.arms) == ["few-baseline", "few-cut-0.85", "many-baseline", "many-cut-0.85"]
    assert config.grid == {"size": ("few", "many"), "cut": ("baseline", "cut-0.85")}
    arm = config.arms["many-cut-0.85"]
    assert (arm.data.size, arm.truncate.threshold, arm.generations) == (500, 0.85, 3)
    assert config.arms["few-baseline"].truncate is None


def test_arms_of_ones_own_stand_beside_those_of_a_grid_and_override_them():
    config = load({**GRID, "arms": {"few-baseline": {"generations": 9}, "other": {"record_every": 2}}})
    assert list(config.arms)[-1] == "other"
    assert config.arms["few-baseline"].generations == 9
    assert config.arms["few-baseline"].data.size == 20


def test_a_scale_adds_levels_and_an_override_changes_one_arm():
    tree = {**GRID, "presets": {"full": {"grid": {"size": {"most": {"data": {"size": 9000}}}}}}}
    config = load(tree, overrides=["preset=full", "arms.most-baseline.generations=7"])
    assert len(config.arms) == 6
    assert config.arms["most-baseline"].generations == 7


def test_a_dumped_grid_is_read_back_to_the_same_configuration():
    config = load(GRID)
    assert load(read_yaml_text(dump(config))) == config


def read_yaml_text(text):
    from tailkeep.config import parse_yaml

    return parse_yaml(text, source="dump")


def test_chosen_arms_of_a_grid_keep_its_axes():
    config = load(GRID, arms=["few-baseline", "few-cut-0.85"])
    assert list(config.arms) == ["few-baseline", "few-cut-0.85"]
    assert config.grid["size"] == ("few", "many")


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"a": {"x": 3}}, "expected a mapping of axes to levels to keys"),
        ({"a": {"x": {}}, "b": ["y"]}, "expected a mapping of axes to levels to keys"),
        ([1], "expected a mapping of axes to levels to keys"),
        ({"a": {"x-y": {}, "x": {}}, "b": {"z": {}, "y-z": {}}}, "two combinations are called 'x-y-z'"),
        ({"a": ["x", "y"]}, "no arm here is one of its combinations"),
        ({"a": {"bad name": {}}}, "an arm's name becomes a folder"),
    ],
)
def test_a_grid_that_cannot_be_crossed_is_refused(grid, message):
    with pytest.raises(ConfigError, match=message):
        load({"learner": "gaussian", "grid": grid, "arms": {"baseline": {}}})


def test_an_override_of_a_grid_says_what_to_write():
    with pytest.raises(ConfigError, match=r"--set arms\.NAME\.KEY=VALUE"):
        parse(GRID, {"grid": {"size": {}}}, name="config")
