"""What a journal keeps of interrupted work, and what of a damaged one is believed."""

import pytest

from tailkeep.errors import StorageError
from tailkeep.runs.storage import keep_journal, read_journal, write_journal

KEYS = [b"first", b"second", b"third", b"fourth"]


class KillError(Exception):
    """A kill."""


def work(path, keys, *, stop=None):
    """What is computed anew of the results of `keys`; with `stop` the work breaks before that many."""
    computed = []
    with keep_journal(path):
        for number, key in enumerate(keys):
            if number == stop:
                raise KillError
            if (result := read_journal(key)) is None:
                computed.append(key)
                write_journal(key, result := key.upper() * 100)
            assert result == key.upper() * 100
    return computed


def interrupted(path, *, after):
    with pytest.raises(KillError):
        work(path, KEYS, stop=after)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "x.journal"


@pytest.mark.parametrize("after", [0, 1, 3])
def test_interrupted_work_goes_on_where_it_stopped_and_leaves_nothing(path, after):
    assert work(interrupted(path, after=after), KEYS) == KEYS[after:]
    assert not path.exists()


def test_work_that_is_interrupted_twice_goes_on_from_the_second_time(path):
    interrupted(path, after=1)
    assert work(interrupted(path, after=3), KEYS) == KEYS[3:]


def test_work_without_slow_results_opens_no_file(path):
    with keep_journal(path):
        pass
    assert not path.parent.exists()


def test_outside_of_a_journal_nothing_is_kept():
    assert work(None, KEYS) == KEYS


def test_a_torn_entry_is_computed_anew(path):
    interrupted(path, after=3)
    path.write_bytes(path.read_bytes()[:-1])
    assert work(path, KEYS) == KEYS[2:]


def test_no_flipped_bit_of_a_journal_is_believed(path):
    interrupted(path, after=2)
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        # `work` checks every result.
        assert work(path, KEYS) in (KEYS, KEYS[1:]), at


def test_after_an_entry_of_another_key_the_rest_is_computed_anew(path):
    interrupted(path, after=3)
    assert work(path, [KEYS[0], b"other", KEYS[2]]) == [b"other", KEYS[2]]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot use .*x\.journal: .* Nothing finished is lost"):
        work(tmp_path / "file" / "x.journal", KEYS)
