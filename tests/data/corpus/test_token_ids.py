"""Documents that are lists of token ids, in and out."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep.data.corpus import Layout, Rejected, find_shards, read_shard
from tailkeep.data.corpus.json_text import replace_values
from tests.data.corpus.job import copy

LAYOUT = Layout(token_field="ids")


def second_becomes(new):
    """A change of the document "b" alone."""
    return lambda record: {"ids": new} if record.id == "b" else {}


@pytest.mark.parametrize(
    ("line", "ids", "edited"),
    [
        ('{"n": 1.0, "ids": [1,2, 3 ] }', (1, 9, 3), '{"n": 1.0, "ids": [1,9, 3 ] }'),
        ('{"ids":[1,2,3],"x":[1,2]}', (1, 3), '{"ids":[1,3],"x":[1,2]}'),
        ('{"ids": [ 1, 2, 3 ]}', (), '{"ids": [  ]}'),
        ('{"ids": [7]}', (8,), '{"ids": [8]}'),
        ('{"a": {"ids": [7, 8]}, "ids": [1]}', (5,), '{"a": {"ids": [7, 8]}, "ids": [5]}'),
    ],
)
def test_in_a_line_only_the_ids_change(line, ids, edited):
    assert replace_values(line, {"ids": ids}) == edited


def test_a_list_in_an_object_is_exchanged_too():
    assert replace_values('{"a": {"ids": [7, 8]}}', {"a.ids": (7, 0)}) == '{"a": {"ids": [7, 0]}}'


def test_lines_that_are_not_edited_are_their_original_bytes(tmp_path):
    lines = [b'{"id":"a","ids":[ 1,2 ]}', b'{"id": "b", "ids": [3, 4], "mask": [1, 1]}\r', b'{"ids": [], "id": "c"}']
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(lines))
    out = copy(tmp_path / "x.jsonl", tmp_path / "out", layout=LAYOUT, change=second_becomes((3, 7)))
    assert out.read_bytes() == b"\n".join([lines[0], lines[1].replace(b"4", b"7"), lines[2]])


KINDS = [pa.list_(pa.int32()), pa.list_(pa.int64()), pa.large_list(pa.uint16()), pa.list_(pa.int32(), 3)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_column_keeps_its_type_and_everything_beside_it(tmp_path, kind):
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "ids": pa.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], kind),
            "mask": [[1, 1, 1]] * 3,
            "n": [0.5, None, 1.5],
        }
    ).replace_schema_metadata({"mine": "kept"})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    out = copy(tmp_path / "x.parquet", tmp_path / "out", layout=LAYOUT, change=second_becomes((4, 50, 6)))
    table, edited = pq.read_table(tmp_path / "x.parquet"), pq.read_table(out)
    assert edited.schema.equals(table.schema, check_metadata=True)
    assert edited["ids"].to_pylist() == [[1, 2, 3], [4, 50, 6], [7, 8, 9]]
    assert edited.drop_columns("ids").equals(table.drop_columns("ids"))


def test_lists_may_become_shorter_beside_rows_that_hold_none(tmp_path):
    ids = pa.array([[1, 2, 3], [4, 5, 6], None, [], [7]], pa.list_(pa.int32()))
    table = pa.table({"id": list("abcde"), "ids": ids})
    pq.write_table(table, tmp_path / "x.parquet")
    change = {"a": (1,), "b": (), "e": (9,)}
    out = copy(
        tmp_path / "x.parquet",
        tmp_path / "out",
        layout=LAYOUT,
        change=lambda record: {"ids": change[record.id]} if record.id in change else {},
        on_error="skip",
    )
    # What holds no list is rejected.
    assert pq.read_table(out)["ids"].to_pylist() == [[1], [], [], [9]]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("text", "the field 'ids' is of type str. Give a list of token ids"),
        ([1, "2"], "number 1 of 'ids' is of type str"),
        ([1, 2.0], "number 1 of 'ids' is of type float"),
        ([True], "number 0 of 'ids' is of type bool"),
        ([1, None], "number 1 of 'ids' is of type NoneType"),
        ([5, -1], "number 1 of 'ids' is -1. Token ids are >= 0"),
    ],
)
def test_what_is_no_list_of_ids_is_rejected_with_its_line(tmp_path, value, reason):
    (tmp_path / "x.jsonl").write_text('{"ids": [1]}\n' + json.dumps({"ids": value}) + "\n")
    (shard,) = find_shards(tmp_path / "x.jsonl")
    _, rejected = read_shard(shard, LAYOUT)
    assert isinstance(rejected, Rejected)
    assert rejected.reason.startswith(reason)
    assert rejected.where == "x.jsonl, line 2"


def test_a_row_with_too_many_or_impossible_ids_is_rejected(tmp_path):
    pq.write_table(pa.table({"ids": [[1] * 30, [1] * 25, [1, -2], [1, None]]}), tmp_path / "x.parquet")
    (shard,) = find_shards(tmp_path / "x.parquet")
    long, good, negative, missing = read_shard(shard, Layout(token_field="ids", max_document_bytes=100))
    assert long.reason.startswith("120 bytes exceed max_document_bytes")
    assert good.tokens.ids == (1,) * 25
    assert negative.reason.startswith("number 1 of 'ids' is -2")
    assert (missing.where, missing.reason[:29]) == ("x.parquet, row 3", "number 1 of 'ids' is of type ")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_lists_as_long_as_the_ids_are_told_and_those_that_repeat_them(tmp_path, kind):
    row = {"ids": [5, 6, 7], "mask": [1, 1, 0], "labels": [-100, 6, 7], "other": [1], "weights": [0.5, 1.0, 1.0]}
    path = tmp_path / f"x.{kind}"
    if kind == "jsonl":
        path.write_text(json.dumps(row) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    (shard,) = find_shards(path)
    (record,) = read_shard(shard, LAYOUT)
    assert record.tokens.aligned == ("mask", "labels", "weights")
    assert record.tokens.repeats == ("labels",)
    assert record.texts == {}
    assert record.contents == {"ids": (5, 6, 7)}


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"token_field": "ids", "text_fields": ["text"]}, "have no effect with token_field"),
        ({"token_field": "ids", "chat": {}}, "have no effect with token_field"),
        ({"tokenizer": "some/folder"}, "tokenizer has no effect without token_field"),
    ],
)
def test_choices_that_exclude_each_other_are_refused(layout, message):
    with pytest.raises(ValueError, match=message):
        Layout.model_validate(layout)
