import math
from typing import Any

import pytest
from pydantic import Field, ValidationError

from tailkeep.config import Settings, suggest, validate
from tailkeep.errors import ConfigError
from tests.config.models import Run


def fault(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(Run, tree, source="here")
    return str(caught.value)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"sedes": [0]}, "here: unknown key 'sedes'. Did you mean 'seeds'?"),
        (
            {"loss": {"name": "truncated", "treshold": 0.5}},
            "here: unknown key 'loss.treshold'. Did you mean 'threshold'?",
        ),
        # a key of another kind of loss is no suggestion
        ({"loss": {"name": "focal", "treshold": 0.5}}, "here: unknown key 'loss.treshold'. Known: exponent, name."),
        ({"loss": {"name": "focall"}}, "here: loss.name: 'focall' is unknown. Did you mean 'focal'?"),
        ({"loss": {"name": "x"}}, "here: loss.name: 'x' is unknown. Known: plain, truncated, focal."),
        (
            {"loss": {"threshold": 0.5}},
            "here: the key 'loss.name' is missing; it says which kind this is. Known: plain, truncated, focal.",
        ),
        ({"extra_loss": {}}, "here: the key 'extra_loss.name' is missing; it says which kind this is. Known: plain,"),
        (
            {"data": {"name": "text"}},
            "here: the key 'data.path' is missing. Set it in the file, or with --set data.path=...",
        ),
        # a field with the name of its own kind
        ({"data": {"name": "text", "text": "x"}}, "here: the key 'data.path' is missing."),
        ({"data": {"name": "text", "text": 1, "path": "x"}}, "here: data.text: Input should be a valid string"),
        (
            {"extra_loss": {"name": "focal", "exponet": 1}},
            "here: unknown key 'extra_loss.exponet'. Did you mean 'exponent'?",
        ),
        ({"arms": {"a": {"loss": {"name": "focal", "exponent": "x"}}}}, "here: arms.a.loss.exponent: Input should be"),
        ({"arms": {"text": {"nte": ""}}}, "here: unknown key 'arms.text.nte'. Did you mean 'note'?"),
        ({"arms": {"a.b": {"nte": ""}}}, "here: unknown key 'arms.\"a.b\".nte'. Did you mean 'note'?"),
        ({"stages": [{}, {"nte": ""}]}, "here: unknown key 'stages.1.nte'. Did you mean 'note'?"),
        # kinds within kinds, told apart by another key than `name`
        (
            {"studies": {"a": {"learner": "small", "loss": {"name": "truncated", "threshold": 2}}}},
            "here: studies.a.loss.threshold: Input should be less than 1 (received 2)",
        ),
        (
            {"studies": {"a": {"learner": "large", "inner": {"name": "text"}}}},
            "here: the key 'studies.a.inner.path' is",
        ),
        (
            {"studies": {"small": {"learner": "small", "los": 1}}},
            "here: unknown key 'studies.small.los'. Did you mean 'loss'?",
        ),
        ({"studies": {"a": {"learner": "smal"}}}, "here: studies.a.learner: 'smal' is unknown. Did you mean 'small'?"),
        (
            {"studies": {"a": {}}},
            "here: the key 'studies.a.learner' is missing; it says which kind this is. Known: small, large.",
        ),
        ({"arms": {"a": 3}}, "here: arms.a: Input should be keys and values (received 3)"),
        ({"arms": [1]}, "here: arms: Input should be keys and values (received [1])"),
        ({"loss": 3}, "here: loss: Input should be"),
        ({"budget": {"people": "x"}}, "here: budget: Input should be a valid integer"),
        (
            {"loss": {"name": "truncated", "threshold": 1.5}},
            "here: loss.threshold: Input should be less than 1 (received 1.5)",
        ),
        ({"regime": "acumulate"}, "here: regime: 'acumulate' is unknown. Did you mean 'accumulate'?"),
        ({"regime": "x"}, "here: regime: 'x' is unknown. Known: replace, accumulate."),
        ({"regime": 3}, "here: regime: Input should be 'replace' or 'accumulate' (received 3)"),
        ({"seeds": []}, "here: seeds: at least one seed is needed. Write seeds: [0] (received [])"),
        ({"seeds": [0, "x"]}, "here: seeds.1: Input should be a valid integer"),
        ({"rate": math.nan}, "here: rate: Input should be a finite number (received NaN)"),
        ({"rate": -math.inf}, "here: rate: Input should be a finite number (received -Infinity)"),
        ({"\x1b[2J": 1}, "here: unknown key '\\x1b[2J'."),
        ({"arms": {"a\u202eb": 3}}, "here: arms.a\\u202eb: Input should be keys and values"),
        (
            {"rate": "x" * 999},
            'here: rate: Input should be a valid number, unable to parse string as a number (received "xx',
        ),
    ],
)
def test_a_fault_names_the_key_the_value_and_what_would_do(tree, message):
    assert fault(tree).startswith(message)


def test_every_fault_has_its_own_line():
    lines = fault({"sedes": 1, "rate": "x", "data": {"name": "text"}}).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("here: ") for line in lines)


def test_keys_that_the_caller_takes_elsewhere_are_suggested_at_the_top_alone():
    def told(tree):
        with pytest.raises(ConfigError) as caught:
            validate(Run, tree, source="here", also_known=["generations"])
        return str(caught.value)

    assert told({"generatons": 1}) == "here: unknown key 'generatons'. Did you mean 'generations'?"
    assert told({"zzz": 1}).startswith("here: unknown key 'zzz'. Known: arms, budget, data, extra_loss, generations, ")
    assert "generations" not in told({"data": {"name": "world", "generatons": 1}})


def test_a_suggestion_is_the_neighbour_or_all_there_are():
    assert suggest("ab", ["aab", "ccc"]) == " Did you mean 'aab'?"
    assert suggest("x", ["aa", "bb"]) == " Known: aa, bb."
    assert suggest("x", []) == " Remove it."


def test_a_member_of_a_plain_union_is_named_by_the_users_key():
    assert "here: the key" not in fault({"budget": {"people": "x"}})
    assert "here: budget.people: Input should be a valid integer" in fault({"budget": {"people": "x"}})


def test_a_long_value_is_cut():
    assert len(fault({"rate": "x" * 9999})) < 400


def test_a_credential_is_not_shown_in_a_fault():
    assert "hunter2" not in fault({"hub_token": ["hunter2"]})
    assert "hunter2" not in fault({"rate": "https://me:hunter2@host"})
    assert "hunter2" not in fault({"rate": {"password": "hunter2"}})


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Run().rate = 2.0  # type: ignore[misc]


def test_settings_refuse_numbers_that_are_not_finite_in_python_too():
    with pytest.raises(ValidationError, match="finite"):
        Run(rate=math.inf)


def test_a_wrong_default_is_refused():
    class Wrong(Settings):
        share: float = Field(2.0, le=1)

    with pytest.raises(ConfigError, match="share: Input should be less than or equal to 1"):
        validate(Wrong, {}, source="here")
