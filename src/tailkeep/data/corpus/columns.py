"""Arrow columns in which single strings or lists of ids are exchanged. Rule: all around them is the array as before.

A path leads through structs by name and through lists by number to a string, or to a list of whole numbers.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailkeep.data.corpus.layout import Content
from tailkeep.errors import InputError

Edit = tuple[int, Sequence[str], Content]
"""The row, the rest of the path and what is new there."""


def replace_in_table(table: pa.Table, edits: dict[int, dict[str, Content]]) -> pa.Table:
    """`table` with what is at each path of each row exchanged: {row: {path: content}}."""
    by_column: dict[str, list[Edit]] = defaultdict(list)
    for row, contents in edits.items():
        for path, content in contents.items():
            column, *rest = path.split(".")
            by_column[column].append((row, rest, content))
    for column, found in by_column.items():
        index = table.schema.get_field_index(column)
        table = table.set_column(index, table.schema.field(index), _replace_chunked(table.column(index), found))
    return table


def _replace_chunked(column: pa.ChunkedArray, edits: list[Edit]) -> pa.ChunkedArray:
    # Chunk by chunk: joined, the strings of a large row group no longer fit their 32-bit offsets.
    chunks, start = [], 0
    for chunk in column.chunks:
        inside = [(row - start, rest, text) for row, rest, text in edits if start <= row < start + len(chunk)]
        chunks.append(_replace(chunk, inside) if inside else chunk)
        start += len(chunk)
    return pa.chunked_array(chunks, type=column.type)


def _replace(array: pa.Array, edits: list[Edit]) -> pa.Array:
    kind = array.type
    if pa.types.is_struct(kind):
        return _replace_in_struct(array, edits)
    if edits and not any(rest for _, rest, _ in edits) and is_list(kind):
        return _replace_lists(array, edits)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _replace_in_list(array, edits)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        values = array.to_pylist()
        for row, _, text in edits:
            values[row] = text
        return pa.array(values, type=kind)
    raise InputError(f"text in a column of type {kind} cannot be exchanged. Store it as string, in structs or lists.")


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists that can be exchanged."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _replace_lists(array: pa.Array, edits: list[Edit]) -> pa.Array:
    """Lists of whole numbers in place of those of some rows, of which each may be shorter."""
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        # Only here are nulls as wide as any other row.
        loose = _replace_lists(array.cast(pa.list_(kind.value_field)), edits)
        return loose.cast(kind)
    values = array.flatten()
    offsets = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(array), 0).to_numpy())])
    lengths, pieces, done = np.diff(offsets), [], 0
    for row, _, ids in sorted(edits, key=lambda edit: edit[0]):
        pieces += [values.slice(done, offsets[row] - done), pa.array(ids, type=kind.value_type)]
        done, lengths[row] = offsets[row + 1], len(ids)
    merged = pa.concat_arrays([*pieces, values.slice(done)])
    width = pa.int64() if pa.types.is_large_list(kind) else pa.int32()
    bounds = pa.array(np.concatenate([[0], np.cumsum(lengths)]), type=width)
    return type(array).from_arrays(bounds, merged, type=kind, mask=array.is_null())


def _replace_in_struct(array: pa.StructArray, edits: list[Edit]) -> pa.StructArray:
    by_field: dict[str, list[Edit]] = defaultdict(list)
    for row, (name, *rest), text in edits:
        by_field[name].append((row, rest, text))
    fields = list(array.type)
    children = [
        _replace(array.field(index), by_field[field.name]) if field.name in by_field else array.field(index)
        for index, field in enumerate(fields)
    ]
    return pa.StructArray.from_arrays(children, fields=fields, mask=array.is_null())


def _replace_in_list(array: pa.ListArray, edits: list[Edit]) -> pa.ListArray:
    values = array.flatten()
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_pylist()
    offsets = [0]
    for length in lengths:
        offsets.append(offsets[-1] + length)
    inner: list[Edit] = [(offsets[row] + int(number), rest, text) for row, (number, *rest), text in edits]
    width = pa.int64() if pa.types.is_large_list(array.type) else pa.int32()
    return type(array).from_arrays(
        pa.array(offsets, type=width), _replace(values, inner), type=array.type, mask=array.is_null()
    )
