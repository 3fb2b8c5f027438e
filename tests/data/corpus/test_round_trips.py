"""Every format, in and out: what is not edited is the same bytes, and what is edited changes nothing else."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data.corpus import Chat, Layout, find_shards, open_shard_io, read_shard
from tests.data.corpus.job import copy

# Texts in a JSON of any spelling


def characters():
    return st.characters(exclude_categories=["Cs"])


def spelled(character: str, style: int) -> str:
    """One character of a literal, as itself or as one of its escapes."""
    plain = json.dumps(character, ensure_ascii=False)[1:-1]
    if style == 0:
        return plain
    units = character.encode("utf-16-be")
    text = "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
    return text if style == 1 else text[:2] + text[2:].replace("d", "D").replace("e", "E")


literals = st.lists(st.tuples(characters(), st.integers(0, 2)), max_size=12).map(
    lambda items: '"' + "".join(spelled(*item) for item in items) + '"'
)
space = st.text(" \t\r", max_size=2)
names = st.sampled_from([json.dumps(name) for name in ("text", "a", "é", "b.c", "")])
scalars = st.one_of(literals, st.sampled_from(["null", "true", "-0", "1e400", "12345678901234567890", "1.10", "NaN"]))


@st.composite
def values(draw, depth=2):
    if depth == 0 or draw(st.booleans()):
        return draw(scalars)
    return draw(members(depth=depth - 1)) if draw(st.booleans()) else draw(lists(depth=depth - 1))


@st.composite
def lists(draw, depth):
    inner = [draw(space) + draw(values(depth=depth)) + draw(space) for _ in range(draw(st.integers(0, 3)))]
    return "[" + (",".join(inner) or draw(space)) + "]"


@st.composite
def members(draw, depth):
    items = draw(st.lists(st.tuples(names, values(depth=depth)), max_size=3))
    inner = [draw(space) + name + draw(space) + ":" + draw(space) + value + draw(space) for name, value in items]
    return "{" + (",".join(inner) or draw(space)) + "}"


@st.composite
def lines(draw):
    """An object as (before, literal, behind): the literal is that of its last "text"; earlier ones may be there."""
    around = draw(members(depth=2))
    comma = "," if around[1:-1].strip() else ""
    head = draw(space) + around[:-1] + comma + draw(space) + '"text"' + draw(space) + ":" + draw(space)
    others = draw(st.sampled_from(["", ', "b.c" : "x"', ',"texts":{"text":"x"}']))
    return head, draw(literals), draw(space) + others + "}" + draw(space)


@st.composite
def files(draw):
    """A byte order mark or none, and lines with what stands between them."""
    gaps = st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"])
    inner = draw(st.lists(st.tuples(lines(), gaps), max_size=2))
    return draw(st.sampled_from(["", "\ufeff"])), [*inner, (draw(lines()), draw(st.sampled_from(["", "\n", "\r\n"])))]


@settings(max_examples=150, deadline=None)
@given(file=files())
def test_an_unedited_jsonl_file_is_returned_byte_for_byte(tmp_path_factory, file):
    folder = tmp_path_factory.mktemp("in")
    mark, pairs = file
    content = (mark + "".join("".join(line) + gap for line, gap in pairs)).encode()
    (folder / "x.jsonl").write_bytes(content)
    assert copy(folder / "x.jsonl", folder / "out", layout=Layout(id_field=None)).read_bytes() == content


@settings(max_examples=150, deadline=None)
@given(file=files(), new=st.text(characters(), max_size=9))
def test_in_an_edited_line_only_the_literal_changes(tmp_path_factory, file, new):
    folder = tmp_path_factory.mktemp("in")
    mark, pairs = file
    (folder / "x.jsonl").write_bytes((mark + "".join("".join(line) + gap for line, gap in pairs)).encode())
    out = copy(folder / "x.jsonl", folder / "out", layout=Layout(id_field=None), change=lambda _: {"text": new})
    text = out.read_bytes().decode()
    assert text.startswith(mark)
    at = len(mark)
    for (before, literal, behind), gap in pairs:
        assert text[at : at + len(before)] == before
        value, end = json.JSONDecoder().raw_decode(text, at + len(before))
        assert value == new
        if json.loads(literal) == new:
            assert text[at + len(before) : end] == literal
        assert text[end : end + len(behind + gap)] == behind + gap
        at = end + len(behind + gap)
    assert at == len(text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"text": "caf\\u00e9"}', '{"text": "th\\u00e9"}'),
        ('{"text": "café"}', '{"text": "thé"}'),
        ('{"t": "é", "text": "cafe"}', '{"t": "é", "text": "thé"}'),
        ('{"t": "\\u00e9", "text": "cafe"}', '{"t": "\\u00e9", "text": "th\\u00e9"}'),
        ('{"t": "\\u0009", "text": "cafe"}', '{"t": "\\u0009", "text": "th\\u00e9"}'),
        ('{"t": "\\\\u00e9é", "text": "cafe"}', '{"t": "\\\\u00e9é", "text": "thé"}'),
        ('{"text": "a", "text" :\t"b" , "z": 1.0}', '{"text": "a", "text" :\t"th\\u00e9" , "z": 1.0}'),
    ],
)
def test_a_new_literal_is_spelled_as_the_old_one_or_its_line(tmp_path, line, expected):
    (tmp_path / "x.jsonl").write_text(line)
    out = copy(tmp_path / "x.jsonl", tmp_path / "out", change=lambda record: {"text": "thé"})
    assert out.read_text() == expected


def test_a_dotted_path_leads_into_objects_and_lists(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": [{"b": "no"}, {"b": "no"},  {"b": "old", "b.c": "no"}], "id": 7}')
    layout = Layout(text_fields=("a.2.b",))
    (record,) = read_shard(find_shards(tmp_path / "x.jsonl")[0], layout)
    assert (record.id, record.texts) == ("7", {"a.2.b": "old"})
    out = copy(tmp_path / "x.jsonl", tmp_path / "out", layout=layout, change=lambda record: {"a.2.b": "new"})
    assert out.read_text() == '{"a": [{"b": "no"}, {"b": "no"},  {"b": "new", "b.c": "no"}], "id": 7}'


CHAT = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi", "name": "x"},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "assistant", "content": "bye"},
]


def test_of_a_chat_only_the_assistants_turns_are_edited_and_the_others_are_context(tmp_path):
    line = json.dumps({"id": "c", "messages": CHAT})
    (tmp_path / "x.jsonl").write_text(line)
    layout = Layout(chat=Chat())
    (record,) = read_shard(find_shards(tmp_path / "x.jsonl")[0], layout)
    assert [(field.role, field.text, field.editable) for field in record.fields] == [
        ("user", "hello", False),
        ("assistant", "hi", True),
        ("assistant", "bye", True),
    ]
    out = copy(tmp_path / "x.jsonl", tmp_path / "out", layout=layout, change=lambda _: {"messages.1.content": "hey"})
    assert out.read_text() == line.replace('"hi"', '"hey"')


def test_of_an_instruction_record_the_prompt_is_read_first_and_never_edited(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"output": "four", "instruction": "2+2"}')
    (record,) = read_shard(
        find_shards(tmp_path / "x.jsonl")[0], Layout(text_fields=("output",), prompt_fields=("instruction",))
    )
    assert [field.text for field in record.fields] == ["2+2", "four"]
    assert record.texts == {"output": "four"}


# Compression


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst", "txt.gz", "txt.zst"])
def test_compressed_files_keep_their_content_and_two_outputs_their_bytes(tmp_path, ending):
    content = b'{"text": "a"}\n{"text": "b"}\r\n\n' * 999
    path = tmp_path / f"x.{ending}"
    with pa.output_stream(path, compression="gzip" if ending.endswith("gz") else "zstd") as file:
        file.write(content)
    layout = Layout(id_field=None)
    one, two = (copy(path, tmp_path / name, layout=layout) for name in ("one", "two"))
    with pa.input_stream(one, compression="gzip" if ending.endswith("gz") else "zstd") as file:
        assert file.read() == content
    assert one.read_bytes() == two.read_bytes()


def test_a_gzip_output_carries_no_time_and_no_name(tmp_path):
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(b"a", mtime=99))
    data = copy(tmp_path / "x.txt.gz", tmp_path / "out").read_bytes()
    assert data[3] == 0
    assert data[4:8] == bytes(4)


# Plain text


@settings(max_examples=200, deadline=None)
@given(
    text=st.text("aé\n\r \t-\u3000\ufeff\x1c", min_size=1),
    document=st.sampled_from(["line", "file", "blank-line", "--", "\n-\n", "é"]),
)
def test_unedited_plain_text_is_returned_byte_for_byte_however_it_is_cut(tmp_path_factory, text, document):
    folder = tmp_path_factory.mktemp("in")
    (folder / "x.txt").write_bytes(text.encode())
    layout = Layout(document_separator=document)
    items = list(read_shard(find_shards(folder / "x.txt")[0], layout))
    texts = [item.texts[""] for item in items if hasattr(item, "texts")]
    assert all(text and text.strip() == text for text in texts)
    assert copy(folder / "x.txt", folder / "out", layout=layout).read_bytes() == text.encode()


@pytest.mark.parametrize(
    ("document", "texts"),
    [
        ("line", ["one", "two", "three", "-- four"]),
        ("file", ["one\ntwo\r\n\r\n three\n-- four"]),
        ("blank-line", ["one\ntwo", "three\n-- four"]),
        ("--", ["one\ntwo\r\n\r\n three", "four"]),
    ],
)
def test_text_is_cut_as_asked_and_an_edit_leaves_what_stands_around_it(tmp_path, document, texts):
    content = "\ufeffone\ntwo\r\n\r\n three\n-- four"
    (tmp_path / "x.txt").write_bytes(content.encode())
    layout = Layout(document_separator=document)
    records = list(read_shard(find_shards(tmp_path / "x.txt")[0], layout))
    assert [record.texts[""] for record in records] == texts
    assert [record.id for record in records] == [f"x.txt:{row}" for row in range(len(texts))]
    out = copy(
        tmp_path / "x.txt", tmp_path / "out", layout=layout, change=lambda _: {"": _.texts[""].replace("our", "ive")}
    )
    assert out.read_bytes().decode() == content.replace("our", "ive")


@pytest.mark.parametrize(
    ("document", "new"),
    [
        ("line", "a\nb"),
        ("line", ""),
        ("line", "a "),
        ("blank-line", "a\n\nb"),
        ("--", "a--b"),
        ("--", "a-"),
        ("file", ""),
    ],
)
def test_a_text_that_would_no_longer_be_one_document_is_refused(tmp_path, document, new):
    (tmp_path / "x.txt").write_bytes(b"one--two--")
    (shard,) = find_shards(tmp_path / "x.txt")
    with open_shard_io(shard, Layout(document_separator=document), tmp_path / "out") as shard_io:
        for record in shard_io.records():
            assert "no longer this one document" in shard_io.format_error(record, {"": new})
            assert shard_io.format_error(record, {"": "three"}) == ""
            shard_io.write(record, record.texts)


# Parquet


def tables(folder):
    chat = pa.list_(pa.struct([("role", pa.string()), ("content", pa.large_string()), ("n", pa.float32())]))
    schema = pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("text", pa.string(), metadata={"of": "field"}),
            pa.field("nested", pa.struct([("deep", pa.struct([("text", pa.string())])), ("when", pa.timestamp("ns"))])),
            pa.field("messages", chat),
            pa.field("kind", pa.dictionary(pa.int32(), pa.string())),
        ],
        metadata={"made": "by a test"},
    )
    rows = [
        {
            "id": n,
            "text": f"text {n}",
            "nested": {"deep": {"text": f"deep {n}"}, "when": n},
            "messages": [{"role": "user", "content": "q", "n": 0.5}, {"role": "assistant", "content": f"c{n}"}][
                : n + 1
            ],
            "kind": "ab"[n % 2],
        }
        for n in range(7)
    ]
    table = pa.Table.from_pylist(rows, schema)
    pq.write_table(
        table, folder / "x.parquet", row_group_size=3, compression={"id": "NONE", "text": "GZIP", "kind": "ZSTD"}
    )
    return table


LAYOUTS = [
    Layout(),
    Layout(text_fields=("nested.deep.text",)),
    Layout(chat=Chat()),
    Layout(text_fields=("kind",), prompt_fields=("text",)),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parquet_keeps_values_schema_metadata_row_groups_and_compression(tmp_path, layout):
    table = tables(tmp_path)
    out = copy(tmp_path / "x.parquet", tmp_path / "out", layout=layout, change=lambda record: record.texts)
    before, after = pq.ParquetFile(tmp_path / "x.parquet"), pq.ParquetFile(out)
    assert after.read().equals(table)
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.metadata.metadata.keys() == before.metadata.metadata.keys()
    assert [rows(after, n) for n in range(3)] == [3, 3, 1]
    assert compressions(after) == compressions(before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_edit_in_parquet_changes_one_string(tmp_path, layout):
    table = tables(tmp_path)
    expected = table.to_pylist()

    def change(record):
        return {path: "b" if text == "a" else f"new {text}" for path, text in record.texts.items() if record.row == 4}

    record = list(read_shard(find_shards(tmp_path / "x.parquet")[0], layout))[4]
    for path in change(record):
        *way, last = path.split(".")
        place = expected[4]
        for key in way:
            place = place[int(key)] if key.isdigit() else place[key]
        place[last] = "b" if place[last] == "a" else f"new {place[last]}"
    out = copy(tmp_path / "x.parquet", tmp_path / "out", layout=layout, change=change)
    assert pq.read_table(out).to_pylist() == expected
    assert pq.read_schema(out).equals(pq.read_schema(tmp_path / "x.parquet"), check_metadata=True)


def test_the_mark_stands_in_the_metadata_of_parquet(tmp_path):
    tables(tmp_path)
    (shard,) = find_shards(tmp_path / "x.parquet")
    with open_shard_io(shard, Layout(), tmp_path / "out", metadata={"tailkeep.edit": "{}"}) as shard_io:
        for record in shard_io.records():
            shard_io.write(record, record.texts)
    metadata = pq.read_schema(tmp_path / "out" / shard.documents).metadata
    assert metadata == {b"made": b"by a test", b"tailkeep.edit": b"{}"}


def rows(file, number):
    return file.metadata.row_group(number).num_rows


def compressions(file):
    group = file.metadata.row_group(0)
    return [group.column(index).compression for index in range(group.num_columns)]
