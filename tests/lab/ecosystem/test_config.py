import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tests.lab.ecosystem.small import ecosystem, load, member


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("one", 0.5)], "members: an ecosystem needs two or more, got 1. Add members, or use learner causal_lm"),
        ([member("one", 0.5), member("two", 0.4)], r"members: their shares sum to 0\.9\. Make them sum to 1"),
        ([member("one", 0.5), member("one", 0.5)], "members: the name 'one' is used twice"),
        ([member("one", 1.0), member("two", 0.5)], r"members\.0\.share"),
        ([member("a/b", 0.5), member("two", 0.5)], "a member's name becomes a folder"),
        ([{"name": "one", "share": 0.5}, member("two", 0.5)], r"members\.0\.model"),
    ],
)
def test_members_that_make_no_ecosystem_are_refused(tmp_path, members, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "text", members=members)


def test_shares_that_sum_to_one_but_for_rounding_are_taken(tmp_path):
    assert len(load(tmp_path / "text", members=[member(name, 1 / 3) for name in "abc"]).members) == 3


def test_a_model_beside_the_members_is_an_unknown_key(tmp_path):
    tree = {**ecosystem(tmp_path / "text"), "model": member("one", 0.5)["model"]}
    with pytest.raises(ConfigError, match="unknown key 'model'"):
        lab.load(tree)


def test_an_ecosystem_has_nothing_to_edit(tmp_path):
    with pytest.raises(ConfigError, match=r"which this learner's models cannot\. Use learner causal_lm"):
        load(tmp_path / "text", regime={"name": "edit"})


def test_an_ecosystem_has_no_single_first_model(tmp_path):
    with pytest.raises(ConfigError, match=r"evaluation\.first_model is for single models"):
        load(tmp_path / "text", evaluation={"first_model": True})


def test_an_ecosystem_has_no_downstream_tests(tmp_path):
    (tmp_path / "text").write_text("x")
    with pytest.raises(ConfigError, match=r"data\.downstream is for single models"):
        lab.load(ecosystem(tmp_path / "text"), overrides=["data.downstream.choices.a=/a"])


def test_what_is_dumped_is_what_was_loaded(tmp_path):
    config = lab.load(ecosystem(tmp_path / "text"))
    path = tmp_path / "dumped.yaml"
    path.write_text(lab.dump(config), encoding="utf-8")
    assert lab.load(path) == config
