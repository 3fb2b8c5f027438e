"""Large files in parts: the same documents as in the whole file, and outputs that join to the whole output."""

import bz2
import gzip
import io
import json
import lzma
import random
import zlib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data.corpus import Layout, Rejected, find_shards, open_destination, read_shard, text_files
from tailkeep.data.corpus.io import blocks
from tailkeep.data.corpus.large_files import LargeFiles, join_parts
from tailkeep.errors import InputError, StorageError
from tests.data.corpus.job import carry, unchanged

PACK = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}
LINES = "".join(
    [
        "\ufeff" + json.dumps({"id": "first", "text": "Ann saw a cat."}) + "\r\n\n \n",
        *(json.dumps({"id": f"n{number}", "text": "Ben ran. " * (number % 7)}) + "\n" for number in range(40)),
        "no json\n",
        '["a line that is a list"]\n',
        *(json.dumps({"text": f"é {number}"}) + " \n\n" for number in range(20)),
        json.dumps({"text": "x" * 300}) + "\n",
        '\ufeff{"text": "a mark inside a file"}\n',
        '{"text": "the last one has no line break"}',
    ]
).encode()
ROWS = ("\ufeff\nid,text\n" + "".join(f'{n},"one\nline, ""two"" {n}"\n\n' for n in range(30)) + "x,y,z\n").encode()
TEXT = "\n\n".join(["  begins with blanks", "", *(f"A line\nand another {n}" for n in range(30)), ""]).encode()
KINDS = [
    ("x.jsonl", LINES, {}),
    ("x.json", LINES, {}),
    ("x.csv", ROWS, {}),
    ("x.tsv", ROWS.replace(b"id,text", b"id\ttext").replace(b',"', b'\t"'), {}),
    ("x.txt", TEXT, {}),
    ("x.txt", TEXT, {"document_separator": "blank-line"}),
    ("x.txt", TEXT, {"document_separator": "another"}),
]


def write(folder, name, content, ending=""):
    folder.mkdir(exist_ok=True)
    path = folder / (name + ending)
    path.write_bytes(PACK[ending](content))
    (shard,) = find_shards(path)
    return shard


def files_of(layout, part_bytes, folder):
    return LargeFiles(open_destination(folder), "run", layout, part_bytes)


def split_file(shard, layout, part_bytes, folder):
    return files_of(layout, part_bytes, folder).split(shard, folder)


def documents(shard, layout):
    """Everything that is known of the documents of `shard`, but for the part in which they lie."""
    return [
        replace(item, raw=item.raw) if isinstance(item, Rejected) else (item, item.origin)
        for item in read_shard(shard, layout)
    ]


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize(("name", "content", "keys"), KINDS)
def test_parts_hold_the_documents_of_the_file_with_its_rows_and_lines(tmp_path, name, content, keys, ending):
    shard = write(tmp_path / "in", name, content, ending)
    layout = Layout(max_document_bytes=200, **keys)
    expected = documents(shard, layout)
    for part_bytes in (1, 100, 500):
        parts = list(split_file(shard, layout, part_bytes, tmp_path))
        assert len(parts) > 1
        assert [item for part in parts for item in documents(part, layout)] == expected
        for part in parts:
            if part.spool:
                Path(part.spool.path).unlink()
        # Without its spool, as on another machine, a part is read from the file.
        assert [item for part in parts for item in documents(part, layout)] == expected


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_part_ends_with_the_document_in_which_its_bytes_are_full(tmp_path, ending):
    shard = write(tmp_path / "in", "x.jsonl", LINES, ending)
    parts = [unit.part for unit in split_file(shard, Layout(), 500, tmp_path)]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == len(LINES)
    for part in parts[:-1]:
        inside = LINES[part.start : part.stop].rstrip()
        assert part.stop - part.start >= 500
        assert len(inside[: inside.rfind(b"\n") + 1]) < 500
        assert LINES[: part.stop].endswith(b"\n")


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize(("name", "content", "keys"), KINDS)
def test_outputs_of_parts_join_to_the_output_of_the_file(tmp_path, name, content, keys, ending):
    shard, layout = write(tmp_path / "in", name, content, ending), Layout(id_field=None, **keys)
    carry(shard, tmp_path / "whole", change=unchanged, layout=layout, on_error="skip")
    parts = list(split_file(shard, layout, 300, tmp_path))
    for part in parts:
        carry(part, tmp_path / "out", change=unchanged, layout=layout, on_error="skip")
    pieces = [tmp_path / "out" / part.documents for part in parts]
    join_parts(shard, pieces, tmp_path / "joined")
    whole = (tmp_path / "whole" / shard.documents).read_bytes()
    assert unpacked(tmp_path / "joined", shard) == unpacked(tmp_path / "whole" / shard.documents, shard)
    if not ending:
        assert (tmp_path / "joined").read_bytes() == whole
    if ending == ".gz":
        assert count_members((tmp_path / "joined").read_bytes()) == len(parts) > 2


def unpacked(path, shard):
    with path.open("rb") as file:
        return b"".join(blocks(file, shard.compression))


def count_members(content):
    file, count = io.BytesIO(content), 0
    while file.tell() < len(content):
        reader = zlib.decompressobj(31)
        rest = file.read()
        reader.decompress(rest)
        file.seek(len(content) - len(reader.unused_data))
        count += 1
    return count


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b" ")), max_size=30),
    part_bytes=st.integers(1, 60),
    separator=st.sampled_from(["line", "blank-line", "ab"]),
)
def test_any_bytes_are_cut_into_parts_without_loss(tmp_path_factory, lines, part_bytes, separator):
    folder = tmp_path_factory.mktemp("any")
    shard, layout = write(folder, "x.txt", b"\n".join(lines)), Layout(document_separator=separator)
    parts = list(split_file(shard, layout, part_bytes, folder))
    assert [item for part in parts for item in documents(part, layout)] == documents(shard, layout)
    read = []
    for part in parts:
        with text_files.open_decompressed(part) as stream:
            read.append(b"".join(stream))
    assert b"".join(read) == b"\n".join(lines)


def test_a_file_shorter_than_a_part_is_itself(tmp_path):
    shard = write(tmp_path / "in", "x.jsonl", LINES)
    assert list(split_file(shard, Layout(), len(LINES), tmp_path)) == [shard]
    (packed,) = split_file(write(tmp_path / "in", "x.jsonl", LINES, ".gz"), Layout(), len(LINES), tmp_path)
    assert (packed.key, packed.part, packed.documents) == ("x.jsonl.gz", None, "documents/x.jsonl.gz")


def test_an_array_and_a_text_that_is_one_document_are_one_part(tmp_path):
    array = write(tmp_path / "in", "x.json", json.dumps([{"text": "a"}] * 50).encode(), ".gz")
    assert list(split_file(array, Layout(), 10, tmp_path)) == [array]
    text = write(tmp_path / "in", "x.txt", TEXT)
    assert not files_of(Layout(document_separator="file"), 10, tmp_path).may_have_parts(text)
    assert files_of(Layout(), 10, tmp_path).may_have_parts(text)
    assert not files_of(Layout(), len(TEXT), tmp_path).may_have_parts(text)


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".xz"])
def test_a_compressed_file_that_breaks_off_is_torn_in_its_last_part_only(tmp_path, ending):
    draw = random.Random(0)
    content = b"".join(json.dumps({"text": draw.randbytes(1000).hex()}).encode() + b"\n" for _ in range(2000))
    shard = write(tmp_path / "in", "x.jsonl", content, ending)
    path = Path(shard.url)
    path.write_bytes(path.read_bytes()[:-100])
    (shard,) = find_shards(path)
    expected = documents(shard, Layout())
    parts = list(split_file(shard, Layout(), 500_000, tmp_path))
    assert len(parts) > 3
    assert [item for part in parts for item in documents(part, Layout())] == expected
    assert expected[-1].torn
    for part in parts:
        Path(part.spool.path).unlink()
    assert documents(parts[-1], Layout())[-1].torn


def test_a_compressed_file_is_decompressed_once_and_little_of_it_lies_on_the_disk(tmp_path, monkeypatch):
    shard = write(tmp_path / "in", "x.jsonl", LINES * 40, ".gz")
    opened = []
    read = text_files.blocks
    monkeypatch.setattr(text_files, "blocks", lambda *args: opened.append(args[1]) or read(*args))
    for part in split_file(shard, Layout(), 5000, tmp_path):
        list(read_shard(part, Layout()))
        assert sum(path.is_file() for path in tmp_path.iterdir()) == 2  # the part and what follows it
        Path(part.spool.path).unlink()
    assert opened.count("gz") == 1
    assert opened.count("none") > 10
    assert sum(path.is_file() for path in tmp_path.iterdir()) == 0


def test_a_full_disk_under_the_spool_is_one_line(tmp_path):
    shard = write(tmp_path / "in", "x.jsonl", LINES, ".gz")
    with pytest.raises(StorageError, match="cannot write"):
        list(split_file(shard, Layout(), 500, tmp_path / "missing"))


def test_more_white_space_than_a_document_may_be_long_is_named_by_file_and_line(tmp_path):
    shard = write(tmp_path / "in", "x.jsonl", b'{"text": "a"}\n' + b"\n" * 200 + b'{"text": "b"}\n')
    with pytest.raises(InputError, match=r"x\.jsonl, line \d+: more than 50 bytes of consecutive white"):
        list(split_file(shard, Layout(max_document_bytes=50), 5, tmp_path))
