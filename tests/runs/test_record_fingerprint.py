import math
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tailkeep
from tailkeep.errors import InputError
from tailkeep.runs import hash_path, hash_tree, read_sealed, sealed_text, versions
from tailkeep.runs.record import differences

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
trees = st.dictionaries(
    st.text(max_size=4),
    st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)),
    max_size=4,
)


def folder_of(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def test_the_hash_of_a_file_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert hash_path(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_hash_of_an_empty_tree_is_the_sha256_of_two_braces():
    assert hash_tree({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_moved_folder_keeps_its_hash(tmp_path):
    folder = folder_of(tmp_path / "old", {"a": b"1", "deep/er/b": b"2"})
    before = hash_path(folder)
    shutil.move(folder, tmp_path / "new")
    assert hash_path(tmp_path / "new") == before


def test_a_link_to_a_file_counts_as_its_content(tmp_path):
    folder_of(tmp_path / "blobs", {"4f2a": b"weights"})
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model").symlink_to(tmp_path / "blobs" / "4f2a")
    assert hash_path(tmp_path / "snapshot") == hash_path(folder_of(tmp_path / "plain", {"model": b"weights"}))


def test_what_lies_behind_a_link_to_a_folder_counts_and_a_link_to_a_folder_above_ends(tmp_path):
    elsewhere = folder_of(tmp_path / "elsewhere", {"weights": b"1"})
    folder = folder_of(tmp_path / "model", {"config": b"{}"})
    (folder / "sub").symlink_to(elsewhere, target_is_directory=True)
    before = hash_path(folder)
    assert before == hash_path(folder_of(tmp_path / "plain", {"config": b"{}", "sub/weights": b"1"}))
    (elsewhere / "weights").write_bytes(b"2")
    changed = hash_path(folder)
    assert changed != before
    (folder / "again").symlink_to(folder, target_is_directory=True)
    assert hash_path(folder) == changed


BASE = {"a": b"1", "b": b"22"}


@pytest.mark.parametrize(
    "other",
    [
        {"a": b"2", "b": b"22"},
        {"a": b"1", "c": b"22"},
        {"a": b"1", "d/b": b"22"},
        {"a": b"1"},
        {"a": b"1", "b": b"22", "c": b""},
        {"a": b"12", "b": b"2"},
        {"a": b"1b\x0022"},
    ],
)
def test_any_other_folder_has_another_hash(tmp_path, other):
    assert hash_path(folder_of(tmp_path / "one", BASE)) != hash_path(folder_of(tmp_path / "two", other))


@given(content=st.binary(min_size=1, max_size=64), position=st.integers(min_value=0), change=st.integers(1, 255))
@settings(deadline=None, max_examples=50)
def test_one_changed_byte_changes_the_hash(tmp_path_factory, content, position, change):
    folder = tmp_path_factory.mktemp("bytes")
    changed = bytearray(content)
    changed[position % len(content)] ^= change
    (folder / "one").write_bytes(content)
    (folder / "two").write_bytes(changed)
    assert hash_path(folder / "one") != hash_path(folder / "two")


def test_a_name_that_is_not_utf_8_can_be_hashed(tmp_path):
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    assert len(hash_path(tmp_path)) == 64


def test_a_path_with_nothing_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere does not exist. Give the path"):
        hash_path(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_read_is_no_empty_folder(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "data", {"closed/a": b"1"})
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"cannot read .*closed: Permission denied"):
        hash_path(folder)


@given(tree=trees)
@settings(deadline=None)
def test_the_order_of_keys_does_not_enter_the_hash(tree):
    assert hash_tree(dict(reversed(tree.items()))) == hash_tree(tree)


@given(old=trees, new=trees)
@settings(deadline=None)
def test_two_trees_differ_in_their_hash_exactly_when_a_difference_is_listed(old, new):
    assert bool(list(differences(old, new))) == (hash_tree(old) != hash_tree(new))
    assert list(differences(old, old)) == []


@pytest.mark.parametrize("value", [Path("a"), {1, 2}, object(), b"bytes"])
def test_a_value_without_a_plain_form_is_refused(value):
    with pytest.raises(TypeError):
        hash_tree({"key": value})


def test_a_tuple_is_no_difference_from_the_list_that_it_is_read_back_as():
    assert list(differences({"seeds": [0, 1]}, {"seeds": (0, 1)})) == []
    assert hash_tree({"seeds": [0, 1]}) == hash_tree({"seeds": (0, 1)})


def test_differences_name_the_leaf_and_both_values():
    old = {"config": {"seeds": [0], "gone": None, "same": 1}, "model": "a"}
    new = {"config": {"seeds": [1], "same": 1}, "model": {"name": "a"}}
    assert list(differences(old, new)) == [
        "config.gone: null there, nothing here",
        "config.seeds: [0] there, [1] here",
        'model: "a" there, {"name": "a"} here',
    ]


def test_a_long_or_wild_value_is_shown_short_and_escaped():
    (line,) = differences({"a": "x" * 500}, {"a": "\x1b[2J\u202e"})
    assert line.endswith('... there, "\\u001b[2J\\u202e" here')
    assert len(line) < 150


def test_zero_and_minus_zero_are_told_apart():
    assert hash_tree({"a": 0.0}) != hash_tree({"a": math.copysign(0.0, -1)})


def test_versions_name_what_is_installed_and_pass_over_the_rest():
    found = versions("pydantic", "no-such-package-anywhere")
    assert found["tailkeep"] == tailkeep.__version__
    assert set(found) == {"tailkeep", "python", "pydantic"}


@given(st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)))
def test_a_sealed_tree_is_read_as_it_was_written(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "sealed.json"
    path.write_text(sealed_text(tree), encoding="utf-8")
    assert read_sealed(path, advice="") == tree


def test_another_number_in_a_sealed_tree_is_refused_with_the_advice(tmp_path):
    path = tmp_path / "x.json"
    for text in (sealed_text({"a": 1}).replace("1", "2", 1), '{"a": 1}', "[]", "{"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"x\.json.* Run it again\."):
            read_sealed(path, advice="Run it again.")
