import os
from pathlib import Path

import pytest

from tailkeep.errors import StorageError
from tailkeep.runs import Storage
from tests.runs.faults import Fault, FaultyStorage, content, count_operations, every_fault, interrupt, with_fault


def two_files(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "a.txt").write_text("first file")
    (folder / "inner" / "b.bin").write_bytes(bytes(range(64)))


def test_text_is_written_as_utf_8_without_translation_of_line_ends(tmp_path):
    Storage().write_text(tmp_path / "new" / "deep" / "text", "ä\r\n€\n")
    assert (tmp_path / "new" / "deep" / "text").read_bytes() == "ä\r\n€\n".encode()


def test_bytes_replace_what_was_there(tmp_path):
    Storage().write_bytes(tmp_path / "file", b"a longer old content")
    Storage().write_bytes(tmp_path / "file", b"\x00\xff")
    assert content(tmp_path) == {"file": b"\x00\xff"}


def test_a_folder_holds_all_that_was_filled_in_and_nothing_temporary(tmp_path):
    Storage().write_folder(tmp_path / "model", two_files)
    expected = {"model": None, "model/a.txt": b"first file", "model/inner": None}
    assert content(tmp_path) == {**expected, "model/inner/b.bin": bytes(range(64))}


def test_a_folder_is_not_written_over_another(tmp_path):
    Storage().write_folder(tmp_path / "model", two_files)
    with pytest.raises(AssertionError, match="remove_folder comes first"):
        Storage().write_folder(tmp_path / "model", two_files)


def test_an_empty_folder_gives_way_to_a_filled_one(tmp_path):
    (tmp_path / "model").mkdir()
    Storage().write_folder(tmp_path / "model", two_files)
    assert (tmp_path / "model" / "a.txt").read_text() == "first file"


def test_a_folder_that_is_not_there_is_removed_already(tmp_path):
    Storage().remove_folder(tmp_path / "model")
    assert content(tmp_path) == {}


def test_removing_leftovers_spares_every_finished_name(tmp_path):
    Storage().write_text(tmp_path / "kept" / "partial", "whole")
    (tmp_path / "kept" / "model.partial" / "inner.partial").mkdir(parents=True)
    (tmp_path / "dangling.partial").symlink_to(tmp_path / "nowhere")
    Storage().remove_partial(tmp_path)
    assert content(tmp_path) == {"kept": None, "kept/partial": b"whole"}


def test_a_leftover_link_to_a_folder_is_removed_and_the_folder_stays(tmp_path):
    Storage().write_text(tmp_path / "outside" / "file", "mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.partial").symlink_to(tmp_path / "outside", target_is_directory=True)
    Storage().remove_partial(tmp_path / "run")
    assert content(tmp_path) == {"outside": None, "outside/file": b"mine", "run": None}


def test_a_file_is_flushed_before_its_rename_and_its_folder_after(tmp_path):
    storage = FaultyStorage()
    storage.write_text(tmp_path / "file", "text")
    partial = tmp_path / "file.partial"
    assert storage.log == [
        ("write", partial),
        ("fsync", partial),
        ("rename", tmp_path / "file"),
        ("fsync", tmp_path),
    ]


def test_every_name_inside_a_folder_is_flushed_before_its_rename(tmp_path):
    storage = FaultyStorage()
    storage.write_folder(tmp_path / "new" / "model", two_files)
    partial = tmp_path / "new" / "model.partial"
    assert storage.log == [
        ("make", tmp_path / "new"),
        ("fsync", tmp_path),
        ("make", partial),
        ("fill", partial),
        ("fsync", partial / "a.txt"),
        ("fsync", partial / "inner"),
        ("fsync", partial / "inner" / "b.bin"),
        ("fsync", partial),
        ("rename", tmp_path / "new" / "model"),
        ("fsync", tmp_path / "new"),
    ]


def test_files_and_folders_are_really_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system has no /proc to look descriptors up in")
    Storage().write_text(tmp_path / "file", "text")
    assert flushed == [str(tmp_path / "file.partial"), str(tmp_path)]


def failing_fsync(number):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_system_that_cannot_flush_folders_still_flushes_files(tmp_path, monkeypatch):
    from errno import EINVAL

    monkeypatch.setattr(os, "fsync", failing_fsync(EINVAL))
    Storage()._fsync(tmp_path)
    (tmp_path / "file").write_text("text")
    with pytest.raises(OSError, match="Invalid argument"):
        Storage()._fsync(tmp_path / "file")


def test_a_failed_flush_of_a_folder_is_an_error(tmp_path, monkeypatch):
    from errno import EIO

    monkeypatch.setattr(os, "fsync", failing_fsync(EIO))
    with pytest.raises(OSError, match="Input/output error"):
        Storage()._fsync(tmp_path)


@pytest.mark.parametrize(("kind", "reason"), [("full", "No space left on device"), ("read-only", "Read-only file")])
def test_a_refused_write_says_what_why_and_what_to_do(tmp_path, kind, reason):
    with pytest.raises(StorageError) as caught:
        with_fault(1, kind).write_text(tmp_path / "file", "text")
    message = str(caught.value)
    assert message.startswith(f"cannot write {tmp_path / 'file'}: {reason}")
    assert "run the same command again" in message


def test_a_full_disk_that_a_rust_library_reports_is_a_full_disk(tmp_path):
    def fill(folder):
        raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(StorageError, match="No space left on device"):
        Storage().write_folder(tmp_path / "model", fill)


def test_an_error_of_the_filling_code_passes_unchanged(tmp_path):
    def fill(folder):
        raise ValueError("not finite")

    with pytest.raises(ValueError, match=r"^not finite$"):
        Storage().write_folder(tmp_path / "model", fill)
    assert not (tmp_path / "model").exists()


def write_over(folder):
    return lambda storage: storage.write_text(folder / "file", "the new content")


def write_new(folder):
    # A phase looks for its name first, as the laboratory does.
    return lambda storage: (folder / "model").exists() or storage.write_folder(folder / "model", two_files)


def remove(folder):
    return lambda storage: storage.remove_folder(folder / "old")


def prepared(folder):
    folder.mkdir()
    (folder / "file").write_text("the old content")
    (folder / "old").mkdir()
    two_files(folder / "old")
    return content(folder)


def total_of(action, folder):
    prepared(folder)
    return count_operations(action(folder))


@pytest.mark.parametrize("action", [write_over, write_new, remove])
def test_after_any_fault_a_name_is_old_or_new_and_a_rerun_finishes(action, tmp_path):
    total = total_of(action, tmp_path / "undisturbed")
    new = content(tmp_path / "undisturbed")
    for number, fault in enumerate(every_fault(total)):
        folder = tmp_path / str(number)
        old = prepared(folder)
        interrupt(action(folder), fault)
        whole = {name: data for name, data in content(folder).items() if ".partial" not in name}
        assert whole in (old, new), fault
        Storage().remove_partial(folder)
        action(folder)(FaultyStorage())
        assert content(folder) == new, fault


def test_the_fault_leaves_half_of_what_it_was_asked_for(tmp_path):
    interrupt(lambda storage: storage.write_text(tmp_path / "file", "12345678"), Fault(1, "killed", half=True))
    assert content(tmp_path) == {"file.partial": b"1234"}


def test_a_fault_beyond_the_last_operation_is_reported(tmp_path):
    with pytest.raises(AssertionError, match="has only 4 operations"):
        interrupt(lambda storage: storage.write_text(tmp_path / "file", "text"), Fault(5, "full"))


def test_what_has_failed_once_stays_failed(tmp_path):
    storage = with_fault(2, "full")
    for _ in range(2):
        with pytest.raises(StorageError):
            storage.write_text(tmp_path / "file", "text")
    assert not (tmp_path / "file").exists()
