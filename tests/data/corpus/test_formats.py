"""What a file is: every ending, every compression, and what of a folder is no data."""

import bz2
import gzip
import json
import lzma
import os

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data.corpus import EMPTY, Chat, Layout, Rejected, find_shards, open_shard_io, read_shard
from tailkeep.data.corpus.output_run import check_names
from tailkeep.errors import InputError
from tests.data.corpus.job import carry, copy

TEXTS = ["a pear, and more", 'so-called "bananas"', "two\nlines é", " padded "]
PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


def content_of(kind: str) -> bytes:
    rows = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]
    if kind == "json":
        return json.dumps(rows, indent=1).encode()
    if kind == "csv":
        quoted = [f'{row["id"]},"{row["text"].replace(chr(34), chr(34) * 2)}"\r\n' for row in rows]
        return ("id,text\r\n" + "".join(quoted)).encode()
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def unpacked(path, suffix):
    return {"": bytes, ".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}[suffix](
        path.read_bytes()
    )


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "json", "JSONL", "csv"])
def test_a_file_is_read_as_what_its_ending_says(tmp_path, kind, suffix):
    path = tmp_path / f"x.{kind}{suffix.upper() if kind.isupper() else suffix}"
    path.write_bytes(PACK[suffix](content_of(kind.lower())))
    (shard,) = find_shards(path)
    assert [(record.id, record.texts["text"]) for record in read_shard(shard, Layout())] == [
        (str(number), text) for number, text in enumerate(TEXTS)
    ]


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_what_is_not_edited_is_the_same_bytes_in_every_format(tmp_path, kind, suffix):
    path = tmp_path / f"x.{kind}{suffix}"
    path.write_bytes(PACK[suffix](content_of(kind)))
    assert unpacked(copy(path, tmp_path / "out"), suffix) == content_of(kind)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_compressed_file_that_is_cut_is_damaged_and_never_an_empty_one(tmp_path, kind, suffix):
    path = tmp_path / f"x.{kind}{suffix}"
    packed = PACK[suffix](content_of(kind))
    path.write_bytes(packed[: len(packed) // 2])
    *_, last = read_shard(*find_shards(path), Layout())
    assert isinstance(last, Rejected)
    assert "damaged" in last.reason


def test_objects_line_by_line_are_json_too(tmp_path):
    path = tmp_path / "c4.json.gz"
    path.write_bytes(gzip.compress(content_of("jsonl")))
    assert [record.texts["text"] for record in read_shard(*find_shards(path), Layout())] == TEXTS
    assert gzip.decompress(copy(path, tmp_path / "out").read_bytes()) == content_of("jsonl")


def test_the_layout_can_say_what_files_of_any_ending_are(tmp_path):
    (tmp_path / "part-00000").write_bytes(content_of("jsonl"))
    (tmp_path / "part-00001.gz").write_bytes(gzip.compress(content_of("jsonl")))
    with pytest.raises(InputError, match=r"2 of 2 files have an unknown ending: 'part-00000', 'part-00001.gz'"):
        find_shards(tmp_path)
    layout = Layout(format="jsonl", id_field=None)
    assert [len(list(read_shard(shard, layout))) for shard in find_shards(tmp_path, layout)] == [4, 4]


# JSON arrays


def test_an_edit_in_an_array_changes_the_value_alone(tmp_path):
    text = '\n[ {"text": "a", "n": 1.0},\n  {"text": "b"} , {"text" :"c"}\n]\n\n'
    (tmp_path / "x.json").write_text(text)
    out = copy(tmp_path / "x.json", tmp_path / "out", change=lambda record: {"text": record.texts["text"] * 2})
    assert out.read_text() == text.replace('"a"', '"aa"').replace('"b"', '"bb"').replace('"c"', '"cc"')


@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(st.tuples(st.booleans(), st.sampled_from(["", " ", "\n  "])), max_size=5),
    bad=st.sampled_from(["3", '{"text": 1}', "{'text': 2}", '{"no": [1, {"a": "]"}]}']),
)
def test_a_bad_element_costs_no_other_and_the_rest_is_an_array(tmp_path_factory, items, bad):
    folder = tmp_path_factory.mktemp("in")
    elements = [f'{white}{{"text": "{n}, ]\\""}}{white}' if good else bad for n, (good, white) in enumerate(items)]
    (folder / "x.json").write_text("[" + ",".join(elements) + "]\n")
    (folder / "out").mkdir()
    (shard,) = find_shards(folder / "x.json")
    counts = carry(shard, folder / "out", change=lambda record: record.texts, on_error="skip")
    good = [f'{n}, ]"' for n, (is_good, _) in enumerate(items) if is_good]
    assert [item["text"] for item in json.loads((folder / "out" / shard.documents).read_text())] == good
    assert (counts["written"], counts["rejected"]) == (len(good), len(items) - len(good))


@pytest.mark.parametrize(
    ("text", "number", "reason"),
    [
        ('[{"text": "a"}, {"text": "b"}', 1, "the array does not end"),
        ('[{"text": "a"}, {"text": "b', 1, "the array does not end"),
        ('[{"text": "a"}] {"text": "b"}', 1, "text after the end of the array"),
        ('[{"text": "a"},]', 1, "not JSON"),
    ],
)
def test_an_array_without_its_end_keeps_what_is_whole(tmp_path, text, number, reason):
    (tmp_path / "x.json").write_text(text)
    items = list(read_shard(*find_shards(tmp_path / "x.json"), Layout()))
    assert [hasattr(item, "reason") for item in items] == [False] * number + [True]
    assert reason in items[-1].reason


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_document_longer_than_the_limit_is_skipped_and_measured(tmp_path, kind):
    texts = ["short", "x" * 5000, "last"]
    if kind == "json":
        (tmp_path / "x.json").write_text(json.dumps([{"text": text} for text in texts]))
    else:
        (tmp_path / "x.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in texts))
    items = list(read_shard(*find_shards(tmp_path / f"x.{kind}"), Layout(max_document_bytes=100)))
    assert [getattr(item, "raw", item) is None for item in items] == [False, True, False]
    assert [item.texts["text"] for item in (items[0], items[2])] == ["short", "last"]


def test_the_size_of_a_block_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "x.json").write_bytes(content_of("json"))
    (tmp_path / "x.csv").write_bytes(content_of("csv"))
    monkeypatch.setattr("tailkeep.data.corpus.io._BLOCK", 1)
    for shard in find_shards(tmp_path):
        assert [record.texts["text"] for record in read_shard(shard, Layout())] == TEXTS


# CSV


cells = st.text(st.sampled_from('a,"\n\r\té '), max_size=6)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=4), end=st.sampled_from(["\n", "\r\n"]))
def test_a_csv_file_reads_as_pyarrow_reads_it(tmp_path_factory, rows, end):
    path = tmp_path_factory.mktemp("in") / "x.csv"
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    path.write_bytes(("id,text" + end + end.join(quoted) + end).encode())
    table = pc.read_csv(
        path,
        parse_options=pc.ParseOptions(newlines_in_values=True),
        convert_options=pc.ConvertOptions(column_types={"id": pa.string(), "text": pa.string()}),
    )
    assert table["text"].to_pylist() == [text for _, text in rows]
    records = list(read_shard(*find_shards(path), Layout(id_field=None)))
    assert [record.texts["text"] for record in records] == table["text"].to_pylist()


def test_in_an_edited_row_only_the_field_changes(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'id,text,note\r\n1,plain,"a ""b"", c"\r\n\r\n2,"quoted",\r\n3,x,y\r\n')
    new = {"1": 'a, "b"', "2": "y", "3": "x"}
    out = copy(tmp_path / "x.csv", tmp_path / "out", change=lambda record: {"text": new[record.id]})
    assert out.read_bytes() == (b'id,text,note\r\n1,"a, ""b""","a ""b"", c"\r\n\r\n2,"y",\r\n3,x,y\r\n')


def test_a_row_of_another_length_is_rejected_alone_and_the_names_stay(tmp_path):
    (tmp_path / "x.tsv").write_text("id\ttext\n1\ta\n2\tb\tc\n3\t\td\n")
    (shard,) = find_shards(tmp_path / "x.tsv")
    (tmp_path / "out").mkdir()
    counts = carry(shard, tmp_path / "out", change=lambda record: record.texts, on_error="skip")
    assert (counts["written"], counts["rejected"]) == (1, 2)
    assert (tmp_path / "out" / shard.documents).read_text() == "id\ttext\n1\ta\n"
    with pytest.raises(InputError, match=r"x\.tsv, line 3: 3 fields where the first row names 2"):
        copy(tmp_path / "x.tsv", tmp_path / "stopped")


@pytest.mark.parametrize(("name", "content"), [("x.csv", b""), ("x.csv", b"id,text\n"), ("x.json", b" [ ]\n")])
def test_names_or_brackets_alone_are_a_file_without_a_document(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (shard,) = find_shards(tmp_path / name)
    (tmp_path / "out").mkdir()
    assert carry(shard, tmp_path / "out")[EMPTY] == 1
    assert (tmp_path / "out" / shard.documents).read_bytes() == content


# Columns


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
)
def test_text_is_read_and_edited_in_every_type_of_column(tmp_path, kind):
    texts = ["a pear", "é", "b"]
    binary = kind in (pa.binary(), pa.large_binary())
    pq.write_table(
        pa.table({"text": pa.array([t.encode() if binary else t for t in texts], kind)}), tmp_path / "x.parquet"
    )
    out = copy(tmp_path / "x.parquet", tmp_path / "out", change=lambda record: {"text": record.texts["text"] + "!"})
    new = [value.decode() if binary else value for value in pq.read_table(out)["text"].to_pylist()]
    assert new == ["a pear!", "é!", "b!"]
    assert pq.read_schema(out).field("text").type == pq.read_schema(tmp_path / "x.parquet").field("text").type


def test_binary_text_that_is_not_utf8_is_one_reject(tmp_path):
    pq.write_table(pa.table({"text": pa.array([b"a", b"\xff"])}), tmp_path / "x.parquet")
    good, bad = read_shard(*find_shards(tmp_path / "x.parquet"), Layout())
    assert good.texts == {"text": "a"}
    assert "not UTF-8 at byte 0" in bad.reason


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.string(), 2)])
def test_a_list_of_texts_is_several_texts_of_one_document(tmp_path, kind):
    pq.write_table(pa.table({"text": pa.array([["a", "b"], ["c", "d"]], kind)}), tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text('{"text": ["a", "b"]}\n{"text": ["c", "d"]}\n')
    for name in ("x.parquet", "x.jsonl"):
        first, _ = read_shard(*find_shards(tmp_path / name), Layout())
        assert first.texts == {"text.0": "a", "text.1": "b"}
    out = copy(
        tmp_path / "x.parquet",
        tmp_path / "o",
        change=lambda record: {path: text * 2 for path, text in record.texts.items()},
    )
    assert pq.read_table(out)["text"].to_pylist() == [["aa", "bb"], ["cc", "dd"]]
    out = copy(
        tmp_path / "x.jsonl", tmp_path / "o", change=lambda record: {"text.1": "B", "text.0": record.texts["text.0"]}
    )
    assert out.read_text() == '{"text": ["a", "B"]}\n{"text": ["c", "B"]}\n'


def test_of_the_parts_of_a_message_those_of_text_are_read(tmp_path):
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "!"},
    ]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": parts}]
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": turns}))
    (record,) = read_shard(*find_shards(tmp_path / "x.jsonl"), Layout(chat=Chat()))
    assert record.texts == {"messages.1.content.0.text": "look", "messages.1.content.2.text": "!"}
    assert [field.text for field in record.fields if not field.editable] == ["look", "!"]


# Folders


@pytest.fixture
def folder(tmp_path):
    for name in (
        *(
            "a.txt",
            "deep/b.jsonl",
            "_SUCCESS",
            "deep/.b.jsonl.crc",
            ".hidden",
            "c.txt.part",
            "README.md",
            "dataset_info.json",
        ),
        *("_temporary/0/d.txt", "sub/LICENSE"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text": "x"}')
    return tmp_path


IGNORED = {"markers": 3, "hidden": 2, "unfinished": 1, "documentation": 2}


def test_what_is_no_data_is_ignored_and_counted_by_kind(folder):
    shards = find_shards(folder)
    assert [shard.name for shard in shards] == ["a.txt", "deep/b.jsonl"]
    assert shards.ignored == IGNORED


def test_a_folder_and_a_glob_of_all_in_it_agree(folder):
    for pattern in (f"{folder}/*", f"{folder}/**"):
        shards = find_shards(pattern)
        assert [shard.name for shard in shards] == ["a.txt", "deep/b.jsonl"]
    assert find_shards([folder, f"{folder}/*.txt"]).ignored == IGNORED


def test_what_may_be_data_and_is_not_read_is_an_error_unless_it_is_to_be_ignored(folder):
    for name in ("e.arrow", "f.zip", "deep/g", "h.bin"):
        (folder / name).write_bytes(b"")
    for inputs in (folder, f"{folder}/**"):
        with pytest.raises(
            InputError, match=r"4 of 6 files .* 'deep/g', 'e\.arrow', 'f\.zip' and 1 more.*--format.*--ignore"
        ):
            find_shards(inputs)
        shards = find_shards(inputs, Layout(ignore=("*.arrow", "deep/g", "*.zip", "h.*")))
        assert [shard.name for shard in shards] == ["a.txt", "deep/b.jsonl"]
        assert shards.ignored["matched by --ignore"] == 4


def test_a_file_that_is_named_is_read_whatever_its_name(folder):
    assert [shard.name for shard in find_shards(folder / ".hidden", Layout(format="jsonl"))] == [".hidden"]
    assert [shard.name for shard in find_shards(folder / "dataset_info.json")] == ["dataset_info.json"]
    with pytest.raises(InputError, match="unknown ending"):
        find_shards(folder / "_SUCCESS")


def test_an_underscore_hides_a_marker_but_no_data(folder):
    (folder / "_first.jsonl").write_text('{"text": "x"}')
    assert [shard.name for shard in find_shards(folder)] == ["_first.jsonl", "a.txt", "deep/b.jsonl"]


def test_a_format_reads_files_of_other_kinds_but_no_markers(tmp_path):
    for name in ("pkg/__init__.py", "pkg/a.py", "b.html", "README.md", "_SUCCESS", "pkg/__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("print('x')")
    shards = find_shards(tmp_path, Layout(format="txt"))
    assert [shard.name for shard in shards] == ["b.html", "pkg/__init__.py", "pkg/a.py"]
    assert shards.ignored == {"markers": 2, "documentation": 1}
    with pytest.raises(InputError, match=r"matches no file that is data.*--format \(layout.format\)"):
        find_shards(tmp_path / "pkg")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_under_another_name_is_told(tmp_path, compress):
    ending = {"gzip": ".gz", "bz2": ".bz2", "lzma": ".xz"}[compress.__module__]
    (tmp_path / "x.jsonl").write_bytes(compress(b'{"text": "x"}\n' * 20))
    (bad, *_) = read_shard(*find_shards(tmp_path / "x.jsonl"), Layout())
    assert f"The file begins like {ending}: name it so, as in NAME{ending}" in bad.reason


def test_an_empty_parquet_file_keeps_its_schema(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string()), "n": pa.array([], pa.int64())}), tmp_path / "x.parquet")
    (shard,) = find_shards(tmp_path / "x.parquet")
    with open_shard_io(shard, Layout(), tmp_path / "out") as shard_io:
        assert list(shard_io.records()) == []
    assert shard_io.counts()[EMPTY] == 1
    assert pq.read_schema(tmp_path / "out" / shard.documents).equals(pq.read_schema(tmp_path / "x.parquet"))


# Names and kinds that no output can carry


def test_a_pipe_is_no_input_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "x.jsonl")
    for inputs in (tmp_path / "x.jsonl", tmp_path, f"{tmp_path}/*"):
        with pytest.raises(InputError, match=r"x\.jsonl is no regular file, such as a pipe"):
            find_shards(inputs)


def test_a_name_that_is_not_utf8_is_named(tmp_path):
    path = os.fsencode(tmp_path) + b"/b\xff.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"text": "a"}\n')
    with pytest.raises(InputError, match="the name is not UTF-8"):
        find_shards(tmp_path)


def test_a_name_without_space_for_an_ending_is_refused_before_any_work(tmp_path):
    (tmp_path / f"{'x' * 235}.jsonl").write_bytes(b'{"text": "a"}\n')
    with pytest.raises(InputError, match=r"a name of 241 bytes; outputs add an ending, so at most 239"):
        check_names(find_shards(tmp_path))
