"""The documents of a corpus with their places. Rule: a place is the number of the document over all inputs, from 0."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tailkeep.data.corpus import Layout, Rejected, find_shards, read_shard
from tailkeep.errors import InputError


@dataclass(frozen=True, slots=True)
class Document:
    """A text and its place; of plain text cut by lines the place is the line in all files together."""

    location: int
    text: str


def read_corpus(inputs: Sequence[str], layout: Layout) -> Iterator[Document]:
    """The documents of `inputs`, shard after shard by name.

    Raises:
        InputError: nothing is there, or a document cannot be read.
    """
    offset = 0
    for shard in find_shards(inputs):
        row = -1
        for item in read_shard(shard, layout):
            if isinstance(item, Rejected):
                raise InputError(f"{item.where}: {item.reason}. Give files whose documents can all be read.")
            row = item.row
            yield Document(offset + row, "\n".join(item.texts.values()))
        offset += row + 1
