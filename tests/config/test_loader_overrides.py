import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.config import dotted, merge, parse_assignments, validate
from tailkeep.errors import ConfigError
from tests.config.models import Run


def test_assignments_are_yaml_values_below_dotted_keys():
    tree = parse_assignments(["a.b=1e-3", "a.c=[x, 1]", " a . d = {e: no}", "label=a=b", "empty="])
    assert tree == {"a": {"b": 1e-3, "c": ["x", 1], "d": {"e": "no"}}, "label": "a=b", "empty": None}


def test_the_last_of_two_assignments_wins():
    assert parse_assignments(["a=1", "a=2"]) == {"a": 2}
    assert parse_assignments(["a=1", "a.b=2"]) == {"a": {"b": 2}}


def test_a_key_in_double_quotes_may_hold_dots():
    assert parse_assignments(['arms."cut-0.9".loss.threshold=.8']) == {
        "arms": {"cut-0.9": {"loss": {"threshold": 0.8}}}
    }
    assert parse_assignments([' "a.b" . c ="x.y"', '"d"=1']) == {"a.b": {"c": "x.y"}, "d": 1}


@given(st.lists(st.text("ab.=", min_size=1), min_size=1))
def test_a_dotted_path_is_read_back_to_its_keys(keys):
    tree = parse_assignments([f"{dotted(keys)}=leaf"])
    for key in keys:
        tree = tree[key]
    assert tree == "leaf"


@pytest.mark.parametrize("assignment", ["a", "=1", "a..b=1", ".a=1", "a.=1", "", '""=1', '"a=1', 'a"b"=1', '"a"b=1'])
def test_an_assignment_without_a_key_or_a_value_is_shown(assignment):
    with pytest.raises(ConfigError, match=r"Write it as key.subkey=value.$") as caught:
        parse_assignments([assignment])
    assert repr(assignment) in str(caught.value)


def test_a_value_that_is_not_yaml_names_its_assignment():
    with pytest.raises(ConfigError, match=r"^--set a.b, line 1: not YAML"):
        parse_assignments(["a.b=[1"])


@pytest.mark.parametrize("value", ["### Response:", "/data/run #1/x.txt", "[1, 2] # two", " ", "\n", "---"])
def test_a_value_of_which_yaml_would_drop_a_part_is_refused_with_the_quotes_that_keep_it(value):
    with pytest.raises(ConfigError, match=r"^--set a\.b: YAML would drop .* Put a text in quotes: --set ") as caught:
        parse_assignments([f"a.b={value}"])
    (suggested,) = shlex.split(str(caught.value).rpartition("--set ")[2])
    assert parse_assignments([suggested]) == {"a": {"b": value}}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("a#b", "a#b"),
        ("'# b'", "# b"),
        ('["# b", c#d]', ["# b", "c#d"]),
        ("https://host/#x", "https://host/#x"),
        ("", None),
        ("~", None),
        ('" "', " "),
    ],
)
def test_a_hash_inside_a_word_or_in_quotes_is_no_comment(value, read):
    assert parse_assignments([f"a={value}"]) == {"a": read}


def test_a_secret_in_a_refused_value_is_not_shown():
    with pytest.raises(ConfigError) as caught:
        parse_assignments(["hub.token=hf_0123456789abcdefghij # mine"])
    assert "hf_0123456789" not in str(caught.value)


def test_override_wins_over_file_and_file_over_default():
    file = {"rate": 0.1, "regime": "accumulate"}
    run = validate(Run, merge(file, parse_assignments(["rate=0.5"])), source="here")
    assert (run.rate, run.regime, run.seeds) == (0.5, "accumulate", (0,))


def test_a_mapping_is_merged_key_by_key():
    assert merge({"a": {"b": 1, "c": {"d": 2}}, "e": 3}, {"a": {"c": {"f": 4}}}) == {
        "a": {"b": 1, "c": {"d": 2, "f": 4}},
        "e": 3,
    }


def test_a_mapping_of_another_name_replaces_the_old_one_whole():
    base = {"loss": {"name": "focal", "exponent": 2}}
    assert merge(base, {"loss": {"name": "truncated"}}) == {"loss": {"name": "truncated"}}
    assert merge(base, {"loss": {"name": "focal", "x": 1}}) == {"loss": {"name": "focal", "exponent": 2, "x": 1}}
    assert merge(base, {"loss": {"exponent": 3}}) == {"loss": {"name": "focal", "exponent": 3}}


def test_the_name_of_the_whole_run_replaces_nothing_else():
    assert merge({"name": "demo", "rate": 1}, {"name": "mine"}) == {"name": "mine", "rate": 1}


def test_what_is_no_mapping_replaces_and_is_replaced():
    assert merge({"a": {"b": 1}}, {"a": None}) == {"a": None}
    assert merge({"a": [1]}, {"a": {"b": 1}}) == {"a": {"b": 1}}


trees = st.dictionaries(
    st.sampled_from("abc"), st.recursive(st.integers(), lambda t: st.dictionaries(st.sampled_from(["a", "name"]), t))
)


@given(base=trees, override=trees)
def test_merging_is_idempotent_has_a_neutral_element_and_changes_neither_side(base, override):
    before = repr((base, override))
    merged = merge(base, override)
    assert merge(merged, override) == merged
    assert merge(base, {}) == base
    assert merge({}, override) == override
    assert repr((base, override)) == before
