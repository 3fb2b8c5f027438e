"""An input counts by its bytes: what changed is refused, what was copied or only touched is not."""

import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep.config import validate
from tailkeep.data.corpus import Manifest, find_shards, open_destination, read_finished
from tailkeep.data.corpus.io import changed_at
from tailkeep.data.corpus.manifest import clear_input_hashes, input_sha256
from tailkeep.errors import FingerprintError
from tests.data.corpus.job import carry, finish_alone


@pytest.fixture(autouse=True)
def each_run_reads_anew():
    clear_input_hashes()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "in" / "x.txt"
    path.parent.mkdir()
    path.write_text("Ann saw a cat.\n")
    return path


def done(path, out):
    (shard,) = find_shards(path)
    return read_finished(shard, open_destination(out), fingerprint="f")


@pytest.fixture
def out(file, tmp_path):
    (shard,) = find_shards(file)
    finish_alone(shard, carry, open_destination(tmp_path / "out"), fingerprint="f")
    clear_input_hashes()
    return tmp_path / "out"


def test_other_bytes_of_the_same_size_are_refused_and_the_old_ones_are_taken_again(file, out):
    file.write_text("Ann saw a dog.\n")
    with pytest.raises(FingerprintError, match=r"x\.txt is no longer what was read: its sha256 was \w{12} and is"):
        done(file, out)
    clear_input_hashes()
    file.write_text("Ann saw a cat.\n")
    assert done(file, out)


def test_other_bytes_with_an_old_time_are_refused(file, out):
    stamp = file.stat()
    file.with_name("other").write_text("Ann saw a dog.\n")
    os.utime(file.with_name("other"), ns=(stamp.st_atime_ns, stamp.st_mtime_ns - 3600 * 10**9))
    file.with_name("other").rename(file)
    with pytest.raises(FingerprintError, match="no longer what was read"):
        done(file, out)


def test_a_copy_elsewhere_goes_on(file, out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(file, tmp_path / "elsewhere" / "x.txt")
    assert done(tmp_path / "elsewhere" / "x.txt", out)


def test_a_file_of_the_recorded_size_and_time_is_not_read_again(file, out, monkeypatch):
    monkeypatch.setattr("tailkeep.data.corpus.manifest.open_input", None)
    assert done(file, out)


def test_a_whole_second_that_has_just_passed_names_no_content():
    now = datetime.now(UTC).replace(microsecond=0)
    assert changed_at({"LastModified": now}) is None
    old = now - timedelta(hours=1)
    assert changed_at({"LastModified": old}) == old.timestamp()
    # A disk that tells fractions of a second tells one content from the next.
    fine = now + timedelta(microseconds=1500)
    assert changed_at({"mtime": fine.timestamp(), "created": fine.timestamp()}) == fine.timestamp()
    assert changed_at({"size": 3}) is None


def test_a_clock_that_jumped_and_a_copied_output_certify_nothing(file, out, tmp_path):
    # The file changed an hour before its manifest, by a clock that has jumped since.
    file.write_text("Ann saw a dog.\n")
    shutil.copytree(out, tmp_path / "copy")
    later = file.stat().st_mtime + 3600
    os.utime(tmp_path / "copy" / "manifests" / "x.txt.json", (later, later))
    with pytest.raises(FingerprintError, match="no longer what was read"):
        done(file, tmp_path / "copy")


def test_a_manifest_with_another_bit_is_none(file, out):
    manifest = out / "manifests" / "x.txt.json"
    content = manifest.read_bytes()
    (shard,) = find_shards(file)
    work = []
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1
        manifest.write_bytes(flipped)
        work.append(read_finished(shard, open_destination(out), fingerprint="f"))
    whole = validate(Manifest, json.loads(content), source="a test")
    # A bit of the white space between values changes nothing of what is said.
    assert all(item is None or item == whole for item in work)
    assert sum(item is None for item in work) > 0.6 * len(content)


def test_a_row_group_that_changed_is_told_from_those_that_did_not(tmp_path):
    path = tmp_path / "x.parquet"
    hashes = []
    for last in ("same", "diff"):
        pq.write_table(pa.table({"text": ["Ann", "Ben", last]}), path, row_group_size=1, compression="none")
        hashes.append([input_sha256(shard) for shard in find_shards(path, row_groups=1)])
        clear_input_hashes()
    before, after = hashes
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False]
    assert len(set(after)) == 3
