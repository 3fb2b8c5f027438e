"""`tailkeep world`: its files, and what it refuses. The prior's own training is tested with the language models."""

import pytest

from tailkeep.data import World, WorldConfig
from tailkeep.errors import ConfigError, InputError, StorageError
from tailkeep.lab import write_world
from tests.runs.faults import content, every_fault, interrupt, with_fault

SMALL = {"people": 12, "documents": 30}


def make_world(out, **keys):
    return write_world(out, {**SMALL, **keys}, prior=False)


def test_the_folder_holds_the_worlds_own_texts_and_questions(tmp_path):
    paths = make_world(tmp_path / "world")
    assert [path.name for path in paths] == ["corpus.txt", "held_out.txt", "kr_test.json"]
    world = World(WorldConfig(**SMALL))
    assert paths[0].read_text() == "\n".join(world.corpus()) + "\n"
    assert paths[1].read_text() == "\n".join(world.held_out()) + "\n"


def test_a_world_is_a_function_of_its_keys(tmp_path):
    for name in ("a", "b"):
        make_world(tmp_path / name)
    make_world(tmp_path / "c", seed=1)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


def test_an_empty_folder_is_filled(tmp_path):
    assert len(make_world(tmp_path)) == 3


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_text("mine")])
def test_a_folder_of_other_things_is_left_as_it_is(tmp_path, make):
    make(tmp_path / "mine")
    before = content(tmp_path)
    with pytest.raises(InputError, match="is not empty"):
        make_world(tmp_path)
    assert content(tmp_path) == before


def test_a_file_is_not_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file"):
        make_world(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unknown_key_is_answered_with_its_neighbour(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key 'peple'\. Did you mean 'people'"):
        make_world(tmp_path / "world", peple=3)
    assert not (tmp_path / "world").exists()


def test_after_a_fault_there_is_nothing_or_the_whole_world(tmp_path):
    make_world(tmp_path / "whole")
    for fault in every_fault(5, ("full", "killed")):
        out = tmp_path / f"{fault.n}-{fault.kind}-{fault.half}"
        interrupt(lambda storage, out=out: write_world(out, SMALL, prior=False, storage=storage), fault)
        assert not out.exists() or content(out) == content(tmp_path / "whole")


def test_a_full_disk_is_one_clear_error(tmp_path):
    with pytest.raises(StorageError, match="No space left on device"):
        write_world(tmp_path / "world", SMALL, prior=False, storage=with_fault(1, "full"))
