"""Choices of a layout that would do nothing for the files at hand. Rule: they are refused before any work."""

from collections.abc import Sequence
from itertools import islice

from tailkeep.data.corpus.layout import Layout, Record
from tailkeep.data.corpus.passage import read_shard
from tailkeep.data.corpus.shards import Shard
from tailkeep.errors import ConfigError

_SHARDS = 8
_DOCUMENTS = 100
_DEFAULT = Layout()


def refuse_idle_layout(layout: Layout, shards: Sequence[Shard]) -> None:
    """Refuse a `document` without plain text, a `token_field` with it, an `id_field` that no first document has.

    The defaults are never refused: they need not fit every corpus.

    Raises:
        ConfigError: one of them would do nothing.
        InputError: a file cannot be read at all.
    """
    if layout.document != _DEFAULT.document and not any(shard.kind == "txt" for shard in shards):
        raise ConfigError(
            f"layout.document: {layout.document!r} is for plain text, and no input file is (.txt, .txt.gz, .txt.zst). "
            "Leave it out."
        )
    if layout.token_field and (texts := [shard.name for shard in shards if shard.kind == "txt"]):
        raise ConfigError(
            f"layout.token_field: {texts[0]} is plain text and has no field. Give jsonl or parquet, or no token_field."
        )
    if layout.id_field in (None, _DEFAULT.id_field):
        return
    read = 0
    for number in range(min(_SHARDS, len(shards))):
        shard = shards[number * len(shards) // min(_SHARDS, len(shards))]
        for item in islice(read_shard(shard, layout), _DOCUMENTS):
            if isinstance(item, Record):
                read += 1
                if item.id != f"{shard.name}:{item.row}":
                    return
    if read:
        raise ConfigError(
            f"layout.id_field: none of the first {read} documents has the field {layout.id_field!r}. Name the field "
            "that holds the id, or leave it out."
        )
