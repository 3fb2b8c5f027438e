import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailkeep.config import dump_tree, parse_yaml, read_yaml, validate
from tailkeep.errors import ConfigError, InputError
from tests.config.models import Arm, Focal, Plain, Run, Text, Truncated, World

# What text means


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-1E+5", -1e5),
        ("1.5e3", 1500.0),
        (".5e1", 5.0),
        ("1.e2", 100.0),
        (".85", 0.85),
        ("3.", 3.0),
        ("1_000", 1000),
        ("-7", -7),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("2024-01-01", "2024-01-01"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("'1e-3'", "1e-3"),
        ("=", "="),
        ("<<", "<<"),
        ("[1, a]", [1, "a"]),
        ("{1: x, true: y, null: z}", {"1": "x", "true": "y", "null": "z"}),
    ],
)
def test_a_value_means_what_it_shows(text, value):
    found = parse_yaml(text, source="here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "here, line 5: the key 'c' stands here twice. Keep one."),
        ("a: 1\n'a': 2", "here, line 2: the key 'a' stands here twice. Keep one."),
        ("1: a\n'1': b", "here, line 2: the key '1' stands here twice. Keep one."),
        ("[a]: 1", "here, line 1: a key is a list or a mapping. Write a plain word."),
        ("a: &x 1\nb: *x", "here, line 2: the alias *x is not allowed. Write the value out."),
        ("a: !!python/object:os.system x", "here, line 1: the tag 'tag:yaml.org,2002:python/object:os.system' is not"),
        ("- !!python/object/apply:os.system [ls]", "here, line 1: the tag"),
        ("a: !secret x", "here, line 1: the tag '!secret' is not allowed. Write the plain value."),
        ("!!int x", "here, line 1: the tag 'tag:yaml.org,2002:int' is not allowed."),
        ("!!set {a}", "here, line 1: the tag 'tag:yaml.org,2002:set' is not allowed."),
        ("a: 1\nb: [1", "here, line 2: not YAML (while parsing a flow sequence, expected ',' or ']'"),
        ("a: b: c", "here, line 1: not YAML (mapping values are not allowed here). Correct the line"),
        ("a: 1\n---\nb: 2", "here, line 2: not YAML (expected a single document in the stream"),
        ("a: 1\nb: \x1b", "here, line 2: the character \\x1b is not allowed. Remove it."),
        ("\ta: 1", "here, line 1: not YAML (while scanning for the next token"),
        ("1" * 5000, "here: a number cannot be read"),
    ],
)
def test_text_that_cannot_be_read_is_named_with_its_line(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, source="here")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 10_000, "- " * 10_000, "\n".join(" " * i + "a:" for i in range(99))]
)
def test_very_deep_nesting_is_one_clear_error(text):
    with pytest.raises(ConfigError, match=r"nested deeper than 32 levels. Write it flatter.$"):
        parse_yaml(text, source="here")


def test_an_alias_bomb_is_one_clear_error():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match=r"line 2: the alias \*a0 is not allowed"):
        parse_yaml("\n".join(lines), source="here")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(text=st.text() | st.text(alphabet="ab01:-[]{}&*!#|>'\"%@`?, \n\te.~<=_"))
@settings(deadline=None)
@example(text="'\\ud800'")
def test_any_text_is_a_plain_value_or_a_config_error(text):
    try:
        value = parse_yaml(text, source="here")
    except ConfigError:
        return
    assert isinstance(value, None | bool | int | float | str | list | dict)


# Files


def test_a_file_is_read_as_a_mapping(tmp_path):
    (tmp_path / "run.yaml").write_text("\ufeffseeds: [0, 1]\nlabel: ä\n", encoding="utf-8")
    assert read_yaml(tmp_path / "run.yaml") == {"seeds": [0, 1], "label": "ä"}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", ConfigError, "expected keys and values, got nothing. Write lines such as"),
        (b"- a", ConfigError, "expected keys and values, got list"),
        (b"text", ConfigError, "expected keys and values, got str"),
        (b"a: \xe4", InputError, "not UTF-8 at byte 3. Save the file as UTF-8."),
        (b"a: 1\na: 2", ConfigError, "run.yaml, line 2: the key 'a' stands here twice"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, content, error, message):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(error) as caught:
        read_yaml(tmp_path / "run.yaml")
    assert str(caught.value).startswith(str(tmp_path / "run.yaml"))
    assert message in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*nowhere: No such file or directory. Give the path"):
        read_yaml(tmp_path / "nowhere")
    with pytest.raises(InputError, match="Is a directory"):
        read_yaml(tmp_path)


# Dumps

words = st.text(max_size=30) | st.sampled_from(
    ["1e-3", "no", "1:30", "010", "null", "~", "=", "<<", "2024-01-01", "a: b", "&x", " x", "", "5_0", "1_0.5", "\x85"]
)
losses = (
    st.builds(Plain)
    | st.builds(Truncated, threshold=st.floats(0.01, 0.99))
    | st.builds(Focal, exponent=st.floats(-1e300, 1e300))
)
paths = st.text(min_size=1, max_size=20).map(Path)
data = st.builds(Text, path=paths, text=words) | st.builds(World, people=st.integers())
arms = st.builds(Arm, loss=losses, note=words)
runs = st.builds(
    Run,
    data=data,
    loss=losses,
    extra_loss=st.none() | losses,
    arms=st.dictionaries(words, arms, max_size=3),
    stages=st.lists(arms, max_size=2).map(tuple),
    budget=st.integers() | st.builds(World),
    seeds=st.lists(st.integers(), min_size=1, max_size=3).map(tuple),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    label=st.none() | words,
    out=st.none() | paths,
)


@given(run=runs)
@settings(deadline=None)
def test_what_is_dumped_is_read_back_equal(run):
    assert validate(Run, parse_yaml(dump_tree(run.model_dump(mode="json")), source="dump"), source="dump") == run


@given(tree=st.dictionaries(words, plain))
@settings(deadline=None)
def test_a_tree_that_is_dumped_is_read_back_equal(tree):
    assert parse_yaml(dump_tree(tree), source="dump") == tree


def test_a_dump_repeats_what_is_shared_instead_of_an_alias():
    arm = Arm(loss=Truncated(threshold=0.5))
    text = dump_tree(Run(arms={"a": arm, "b": arm}).model_dump(mode="json"))
    assert text.count("threshold: 0.5") == 2
    assert "&" not in text


def test_a_dump_keeps_the_order_of_fields_and_of_arms():
    text = dump_tree(Run(arms={"z": Arm(), "a": Arm()}).model_dump(mode="json"))
    keys = [line.split(":")[0].strip() for line in text.splitlines()]
    assert keys.index("data") < keys.index("loss") < keys.index("arms") < keys.index("z") < keys.index("a")
