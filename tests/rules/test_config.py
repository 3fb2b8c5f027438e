"""The config of an edit, and its errors."""

import pytest
from pydantic import TypeAdapter, ValidationError

from tailkeep.rules import Band, Low, Protection, Random, Rule, Sampler, ToEdit, check_has_effect


def test_the_defaults_are_the_papers():
    assert ToEdit().threshold == 0.99
    assert ToEdit().delete_below is None
    assert Sampler() == Sampler(top_k=8, temperature=1, top_p=None, exclude_original=False, max_attempts=1)
    assert Protection().model_dump(exclude_defaults=True) == {}


@pytest.mark.parametrize(
    ("tree", "rule"),
    [
        ({"name": "toedit"}, ToEdit()),
        ({"name": "low", "action": "delete"}, Low(action="delete")),
        ({"name": "band", "low": 0.2, "high": 0.4}, Band(low=0.2, high=0.4)),
        ({"name": "random", "share": 0.1}, Random(share=0.1)),
    ],
)
def test_a_rule_is_chosen_by_name(tree, rule):
    assert TypeAdapter(Rule).validate_python(tree) == rule


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (ToEdit, {"threshold": 0}, "greater than 0"),
        (ToEdit, {"threshold": 1.5}, "less than or equal to 1"),
        (ToEdit, {"threshold": 0.5, "delete_below": 0.6}, "above threshold"),
        (Low, {"action": "drop"}, "resample"),
        (Band, {"low": 0.4, "high": 0.4}, "no p is in"),
        (Random, {"share": 0}, "greater than 0"),
        (Sampler, {"top_k": 0}, "greater than or equal to 1"),
        (Sampler, {"temperature": 0}, "greater than 0"),
        (Sampler, {"temperature": float("nan")}, "finite"),
        (Sampler, {"top_p": 1}, "less than 1"),
        (Sampler, {"exclude_original": True, "max_attempts": 2}, "no effect"),
        (Protection, {"guard": "rust"}, "python"),
        (Protection, {"prompt_until": ""}, "at least 1 character"),
    ],
)
def test_an_option_that_is_invalid_or_has_no_effect_is_an_error(model, values, message):
    with pytest.raises(ValidationError, match=message):
        model(**values)


@pytest.mark.parametrize(
    ("rule", "sampler"),
    [
        (ToEdit(threshold=0.9), Sampler(top_p=0.9)),
        (ToEdit(threshold=0.9), Sampler(top_k=1)),
        (Band(low=0.99, high=1), Sampler(top_p=0.9)),
        (Band(low=0.9, high=1), Sampler(top_k=1, temperature=2)),
    ],
)
def test_a_sampler_that_leaves_only_the_original_is_refused(rule, sampler):
    with pytest.raises(ValueError, match="nothing would change"):
        check_has_effect(rule, sampler)


@pytest.mark.parametrize(
    ("rule", "sampler"),
    [
        # Below 1/2 another token may be the most probable.
        (ToEdit(threshold=0.3), Sampler(top_p=0.25)),
        (ToEdit(threshold=0.3), Sampler(top_k=1)),
        (Band(low=0.2, high=0.9), Sampler(top_k=1)),
        (ToEdit(threshold=0.9), Sampler(top_p=0.9, temperature=2)),
        (ToEdit(threshold=0.9), Sampler(top_k=1, exclude_original=True)),
        (Low(), Sampler(top_k=1)),
    ],
)
def test_a_sampler_that_can_change_something_is_not_refused(rule, sampler):
    check_has_effect(rule, sampler)
