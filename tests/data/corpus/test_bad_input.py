"""Whatever is wrong with a document: one error with file and line, or a reject, and nothing is lost."""

import base64
import bz2
import gzip
import json
import lzma
import tracemalloc

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep.config import validate
from tailkeep.data.corpus import EMPTY, Chat, Layout, Rejected, find_shards, open_shard_io, read_shard
from tailkeep.errors import ConfigError, InputError
from tests.data.corpus.job import carry, copy, unchanged

GOOD = b'{"text": "good"}\n'
DEEP = b'{"text": ' + b"[" * 9999 + b"]" * 9999 + b"}\n"

BAD_LINES = [
    (b"{not json}\n", "not JSON"),
    (b"{\"text\": 'x'}\n", "not JSON"),
    (b'["text"]\n', "expected an object, got list"),
    (b'{"test": "x"}\n', "the field 'text' is missing; there are ['test']"),
    (b'{"text": null}\n', "the field 'text' is of type NoneType"),
    (b'{"text": 3}\n', "the field 'text' is of type int"),
    (b'{"text": "\xff"}\n', "not UTF-8: byte 0xff at offset 27, line 2"),
    (b'{"text": "x\\ud83d"}\n', "half a surrogate pair at character 1"),
    (b'{"text": "x", "id": true}\n', "the id in 'id' is of type bool"),
    (b'{"text": "x", "id": ""}\n', "the id in 'id' is empty"),
    (b'\xef\xbb\xbf{"text": "x"}\n', "byte order mark|BOM"),
    (b'{"text": "x"\n', "not JSON"),
    (DEEP, "not JSON"),
    (b'{"text": "' + b"x" * 99 + b'"}\n', "exceed max_document_bytes"),
]


def layout(bad: bytes) -> Layout:
    return Layout(max_document_bytes=60 if bad.count(b"x") > 9 else 1 << 20)


@pytest.mark.parametrize(("bad", "reason"), BAD_LINES)
def test_a_bad_line_stops_with_its_file_and_line(tmp_path, bad, reason):
    (tmp_path / "x.jsonl").write_bytes(GOOD + bad + GOOD)
    with pytest.raises(InputError, match=rf"^x\.jsonl, line 2: .*({reason.replace('[', '.').replace(']', '.')})"):
        copy(tmp_path / "x.jsonl", tmp_path / "out", layout=layout(bad))


@pytest.mark.parametrize(("bad", "reason"), BAD_LINES)
def test_a_bad_line_is_set_aside_with_its_bytes_and_the_others_stay(tmp_path, bad, reason):
    (tmp_path / "x.jsonl").write_bytes(GOOD + bad + GOOD)
    (shard,) = find_shards(tmp_path / "x.jsonl")
    counts = carry(shard, tmp_path / "out", change=unchanged, layout=layout(bad), on_error="skip")
    assert counts == {"documents": 3, "written": 2, "edited": 0, "rejected": 1}
    assert (tmp_path / "out" / "documents" / "x.jsonl").read_bytes() == GOOD + GOOD
    (item,) = rejects(tmp_path / "out", "x.jsonl")
    assert item["row"] == 1
    assert (item["offset"], item["length"]) == (len(GOOD), len(bad))
    if "exceed" in reason:
        assert item["base64"] is None
    else:
        assert base64.b64decode(item["base64"]) == bad


LINES = b"".join(b'{"text": "a line with number %d"}\n' % number for number in range(100))


def read_all(folder, name, content, **options):
    """The documents, the reasons of the others, and whether one of these is torn."""
    (folder / name).write_bytes(content)
    (shard,) = find_shards(folder / name)
    items = list(read_shard(shard, Layout(**options)))
    rejected = [item for item in items if isinstance(item, Rejected)]
    return len(items) - len(rejected), [item.reason for item in rejected], any(item.torn for item in rejected)


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
@pytest.mark.parametrize("place", ["start", "middle"])
def test_damage_in_a_later_stream_of_a_file_is_told(tmp_path, ending, pack, place):
    """As pbzip2 and `cat a.bz2 b.bz2` make them; the standard library ends there as if the file did."""
    first, second = pack(LINES), bytearray(pack(LINES))
    assert read_all(tmp_path, f"whole.jsonl.{ending}", first + second) == (200, [], False)
    second[0 if place == "start" else len(second) // 2] ^= 0xFF
    documents, reasons, is_torn = read_all(tmp_path, f"x.jsonl.{ending}", first + second)
    assert documents >= 100
    assert is_torn
    assert "damaged" in reasons[-1]


@pytest.mark.parametrize(("ending", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_nul_bytes_behind_a_stream_are_no_damage_and_alone_they_are(tmp_path, ending, pack):
    packed = pack(LINES) + b"\0" * 8 + pack(LINES) + b"\0" * 70_000
    assert read_all(tmp_path, f"x.jsonl.{ending}", packed) == (200, [], False)
    assert read_all(tmp_path, f"y.jsonl.{ending}", b"\0" * 4096)[2]
    assert read_all(tmp_path, f"z.jsonl.{ending}", b"") == (0, [], False)


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_what_stands_before_the_damage_of_a_file_is_kept(tmp_path, ending):
    numbers = np.random.default_rng(0).integers(0, 10**9, 60_000)
    lines = b"".join(b'{"text": "%d"}\n' % number for number in numbers)
    pack = {"gz": gzip.compress, "bz2": lambda data: bz2.compress(data, 1), "xz": lzma.compress}[ending]
    packed = bytearray(pack(lines))
    packed[len(packed) * 9 // 10] ^= 0xFF
    documents, reasons, is_torn = read_all(tmp_path, f"x.jsonl.{ending}", bytes(packed))
    # Bytes behind the damage may come out as garbage before it is found.
    assert is_torn
    assert "damaged" in reasons[-1]
    assert documents > 40_000


def test_what_stands_before_the_damage_of_a_zstd_file_is_kept(tmp_path):
    numbers = np.random.default_rng(0).integers(0, 10**9, 20_000)
    lines = b"".join(b'{"text": "%d"}\n' % number for number in numbers)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(lines)
    whole = sink.getvalue().to_pybytes()
    documents, reasons, is_torn = read_all(tmp_path, "x.jsonl.zst", whole[: len(whole) * 9 // 10])
    assert (is_torn, len(reasons)) == (True, 1)
    assert documents > 15_000


@pytest.mark.parametrize("rows", [b"id,text\r1,hello\r2,world\r", b"id,text\r1,hello\n2,world\n"])
def test_rows_that_end_with_a_carriage_return_alone_are_told(tmp_path, rows):
    expected = "the row of names holds a carriage return, which ends no row. Save the file with line feeds (LF or CRLF)"
    for name, content in (("x.csv", rows), ("x.csv.gz", gzip.compress(rows))):
        assert read_all(tmp_path, name, content) == (0, [expected], True)


def test_a_quoted_name_may_hold_a_carriage_return(tmp_path):
    assert read_all(tmp_path, "x.csv", b'text,"a\rb"\r\nhello,1\r\n') == (1, [], False)


def test_a_row_of_names_that_is_too_long_loses_the_file_and_says_so(tmp_path):
    names = ",".join(["text", *(f"column{number}" for number in range(100))])
    rows = names + "\n" + ("x," * 100 + "y\n") * 50
    documents, (reason,), is_torn = read_all(tmp_path, "x.csv", rows.encode(), max_document_bytes=500)
    assert (documents, is_torn) == (0, True)
    assert reason == f"the row of names has {len(names) + 1} bytes, which exceed max_document_bytes. Raise it"


def test_empty_rows_are_held_up_to_the_limit_alone(tmp_path):
    rows = b"text\na\n" + b"\n" * 99 + b"b\n"
    assert read_all(tmp_path, "x.csv", rows, max_document_bytes=100)[0] == 2
    with pytest.raises(InputError, match="white space"):
        read_all(tmp_path, "y.csv", b"text\na\n" + b"\n" * 101 + b"b\n", max_document_bytes=100)


@pytest.mark.parametrize("extra", ["id", "source"])
def test_an_optional_column_that_occurs_twice_is_told(tmp_path, extra):
    table = pa.table([["one"], ["a"], ["b"]], names=["text", extra, extra])
    pq.write_table(table, tmp_path / "x.parquet")
    (shard,) = find_shards(tmp_path / "x.parquet")
    (item,) = read_shard(shard, Layout(), extra="source")
    assert item.reason == f"the column {extra!r} occurs twice. Rename one of the two"


def test_a_byte_order_mark_at_the_start_of_a_file_is_no_part_of_a_document(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert copy(tmp_path / "x.jsonl", tmp_path / "out").read_bytes() == b"\xef\xbb\xbf" + GOOD


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "x.txt.gz"])
@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_a_file_without_a_document_passes_through_and_is_counted(tmp_path, name, content):
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    (shard,) = find_shards(tmp_path / name)
    counts = carry(shard, tmp_path / "out")
    assert counts == {"documents": 0, "written": 0, "edited": 0, "rejected": 0, EMPTY: 1}
    out = (tmp_path / "out" / shard.documents).read_bytes()
    assert (gzip.decompress(out) if name.endswith("gz") else out) == content


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("lost", [1, 5, 2000])
def test_of_a_torn_file_every_whole_document_is_kept(tmp_path, ending, lost):
    lines = [json.dumps({"text": base64.b85encode(bytes([n % 251, n % 7]) * 99).decode()}) + "\n" for n in range(9999)]
    path = tmp_path / f"x.jsonl.{ending}"
    with pa.output_stream(path, compression="gzip" if ending == "gz" else "zstd") as file:
        file.write("".join(lines).encode())
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(InputError, match=rf"^x.jsonl.{ending}, line \d+: damaged (gzip|zstd) data"):
        copy(path, tmp_path / "out")
    out = copy(path, tmp_path / "skipped", on_error="skip")
    with pa.input_stream(out, compression="gzip" if ending == "gz" else "zstd") as file:
        text = file.read().decode()
    assert text
    assert "".join(lines).startswith(text)
    assert text.endswith("\n")
    (item,) = rejects(tmp_path / "skipped", path.name)
    assert ("".join(lines)[len(text) :]).startswith(base64.b64decode(item["base64"]).decode())


def test_damage_in_the_middle_of_a_gzip_file_is_seen(tmp_path):
    content = bytearray(gzip.compress(b'{"text": "a"}\n' * 10))
    content[-6] ^= 1  # the checksum
    (tmp_path / "x.jsonl.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"line 11: damaged gzip data \(CRC"):
        copy(tmp_path / "x.jsonl.gz", tmp_path / "out")


# Parquet


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_rows_without_text_are_rejected_with_their_number_in_the_file(tmp_path):
    path = parquet(tmp_path / "x.parquet", text=["a", "b", None, "d", None, None])
    with pytest.raises(InputError, match=r"^x\.parquet, row 2: the field 'text' is of type NoneType"):
        copy(path, tmp_path / "out")
    out = copy(path, tmp_path / "skipped", on_error="skip")
    assert pq.read_table(out).to_pylist() == [{"text": "a"}, {"text": "b"}, {"text": "d"}]
    assert [item["row"] for item in rejects(tmp_path / "skipped", "x.parquet")] == [2, 4, 5]


def test_a_column_that_is_missing_is_named_beside_those_that_are_there(tmp_path):
    path = parquet(tmp_path / "x.parquet", content=["a"])
    with pytest.raises(InputError, match=r"row 0: the column 'text' is missing; there are \['content'\]"):
        copy(path, tmp_path / "out")
    assert pq.read_table(copy(path, tmp_path / "skipped", on_error="skip")).num_rows == 0


def shouted(record):
    return {"text": record.texts["text"].upper()}


@pytest.mark.parametrize(("change", "kept"), [(unchanged, ["a", "c"]), (shouted, ["A", "C"])])
def test_text_that_is_not_utf8_is_rejected_alone(tmp_path, change, kept):
    strings = pa.array([b"a", b"\xff", b"c"], pa.binary()).view(pa.string())
    path = parquet(tmp_path / "x.parquet", text=strings)
    out = copy(path, tmp_path / "out", on_error="skip", change=change)
    assert pq.read_table(out).column("text").to_pylist() == kept
    (item,) = rejects(tmp_path / "out", "x.parquet")
    assert (item["row"], item["reason"][:22]) == (1, "text that is not UTF-8")


@pytest.mark.parametrize("stop", [3, 100, -1])
def test_a_torn_parquet_file_is_one_reject(tmp_path, stop):
    path = parquet(tmp_path / "x.parquet", text=["a"] * 99)
    path.write_bytes(path.read_bytes()[:stop])
    with pytest.raises(InputError, match=r"^x\.parquet: not a whole parquet file"):
        copy(path, tmp_path / "out")
    assert not copy(path, tmp_path / "skipped", on_error="skip").exists()
    assert len(rejects(tmp_path / "skipped", "x.parquet")) == 1
    assert [shard.row_groups for shard in find_shards(path, row_groups=1)] == [None]


def test_a_damaged_row_group_costs_its_rows_and_no_others(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"]}), path, row_group_size=1, compression="zstd")
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    out = copy(path, tmp_path / "out", on_error="skip")
    assert pq.read_table(out).to_pylist() == [{"text": "a"}, {"text": "c"}]
    assert [item["row"] for item in rejects(tmp_path / "out", "x.parquet")] == [1]


# Counts, ids and memory


def test_a_document_that_is_neither_written_nor_rejected_is_noticed(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(GOOD * 2)
    (shard,) = find_shards(tmp_path / "x.jsonl")

    def forget() -> None:
        with open_shard_io(shard, Layout(), tmp_path / "out") as shard_io:
            for record in shard_io.records():
                if record.row:
                    shard_io.write(record, {})

    with pytest.raises(AssertionError, match="2 documents were read, 1 written, 0 rejected"):
        forget()


def test_a_document_that_the_caller_rejects_keeps_its_bytes(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(GOOD * 2)
    (shard,) = find_shards(tmp_path / "x.jsonl")
    with open_shard_io(shard, Layout(), tmp_path / "out", on_error="skip") as shard_io:
        for record in shard_io.records():
            shard_io.reject(record, "too dull") if record.row else shard_io.write(record, {})
    (item,) = rejects(tmp_path / "out", "x.jsonl")
    assert item["reason"] == "too dull"
    assert base64.b64decode(item["base64"]) == GOOD.strip()


def test_two_documents_of_one_file_with_one_id_are_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n{"id": "1", "text": "c"}\n')
    with pytest.raises(InputError, match=r"the same id: x\.jsonl, document 0, and x\.jsonl, document 2, from 0"):
        copy(tmp_path / "x.jsonl", tmp_path / "out")
    copy(tmp_path / "x.jsonl", tmp_path / "numbered", layout=Layout(id_field=None))


@pytest.mark.parametrize("document", ["line", "--", "blank-line"])
def test_a_document_that_is_too_long_is_never_held_whole(tmp_path, document):
    limit, long = 1 << 20, 64 << 20
    with (tmp_path / "x.txt").open("wb") as file:
        file.write(b"first\n\n--\n")
        for _ in range(long >> 16):
            file.write((b"x" * 99 + b" ") * 655 + b"." * 36)
        file.write(b"\n\n--\nlast")
    (shard,) = find_shards(tmp_path / "x.txt")
    tracemalloc.start()
    items = list(read_shard(shard, Layout(document_separator=document, max_document_bytes=limit)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ["exceed max_document_bytes" in getattr(item, "reason", "") for item in items].count(True) == 1
    assert items[0].texts[""] == "first"
    assert items[-1].texts[""].endswith("last")
    assert peak < 8 * limit


def test_the_limit_alone_decides_what_is_too_long(tmp_path):
    for length in (99, 100, 101):
        (tmp_path / "x.txt").write_bytes(b"a\n" + b"x" * length + b"\nb")
        (shard,) = find_shards(tmp_path / "x.txt")
        items = list(read_shard(shard, Layout(max_document_bytes=100)))
        assert [hasattr(item, "reason") for item in items] == [False, length > 100, False]


# Settings and stores


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"text_fields": []}, "text_fields"),
        ({"document_separator": ""}, "document_separator"),
        ({"chat": {}, "text_fields": ["a"]}, "have no effect with chat"),
        ({"text_fields": ["a"], "prompt_fields": ["a"]}, "named twice"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(tree, message):
    with pytest.raises(ConfigError, match=message):
        validate(Layout, tree, source="a test")


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ("hi", "'messages' is of type str. Give a list of turns"),
        ([{"content": "hi"}], "'messages.0.role' is missing"),
        ([{"role": "assistant", "content": [{"type": "text"}]}], "'messages.0.content.0.text' is missing"),
        ([{"role": "assistant", "content": [3]}], "'messages.0.content.0' is of type int"),
        (["hi"], "'messages.0.role' is missing; its parent is of type str"),
    ],
)
def test_a_chat_that_is_none_is_refused(tmp_path, turns, reason):
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": turns}))
    with pytest.raises(InputError, match=reason):
        copy(tmp_path / "x.jsonl", tmp_path / "out", layout=Layout(chat=Chat()))


def test_a_store_that_refuses_to_read_is_no_reject(tmp_path, monkeypatch):
    fsspec.filesystem("memory").pipe_file("/gone/x.jsonl", GOOD)
    (shard,) = find_shards("memory://gone/x.jsonl")
    fsspec.filesystem("memory").rm("/gone", recursive=True)
    with pytest.raises(InputError, match=r"cannot read x\.jsonl"):
        carry(shard, tmp_path / "out", on_error="skip")


def rejects(out, name):
    return [json.loads(line) for line in (out / "rejects" / f"{name}.jsonl").read_text().splitlines()]


def test_a_parquet_footer_that_counts_other_rows_is_damage(tmp_path, monkeypatch):
    pq.write_table(pa.table({"text": ["a", "b", "c", "d"]}), tmp_path / "x.parquet", row_group_size=2)
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda file, number: read(file, number).slice(0, 2 - number))
    *records, bad = read_shard(*find_shards(tmp_path / "x.parquet"), Layout())
    assert [record.row for record in records] == [0, 1]
    assert (bad.row, bad.torn) == (2, True)
    assert "damaged parquet data: 1 rows where the footer says 2" in bad.reason
