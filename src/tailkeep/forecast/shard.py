"""The counts of one shard of the real or a synthetic text, written as files.

    items/<n>-<group>/<key>.parquet   n-grams by hash: count, document frequency
    rejects/<key>.jsonl               unreadable documents

Rule: the files are a pure function of the shard and the configuration, and can be merged in any order.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tailkeep.data.corpus import Shard
from tailkeep.data.shard_documents import DocumentReader
from tailkeep.forecast.config import ForecastConfig
from tailkeep.forecast.counts import GROUPS, GroupedCounter
from tailkeep.workers import limited_threads

_MEGABYTE = 1 << 20
CORPUS = "corpus"
"""The side of the real text; every other side is a synthetic one."""


def side_of(key: str) -> str:
    """The side of a shard, by its name or key."""
    return key.partition("/")[0]


def num_groups(side: str) -> int:
    """The groups of documents on this side."""
    return 1 if side == CORPUS else GROUPS


class ShardCounts:
    """A `ShardFunction`. The name of a shard begins with its side."""

    def __init__(self, config: ForecastConfig) -> None:
        self._config = config

    def __call__(self, shard: Shard, folder: Path) -> Mapping[str, int]:
        """Count `shard` into files below `folder`. Return the numbers of documents, rejects, words and n-grams."""
        config = self._config
        with limited_threads(config.num_threads), tempfile.TemporaryDirectory(prefix="tailkeep-") as temporary:
            side = side_of(shard.name)
            memory = config.memory_mb * _MEGABYTE // 2
            counter = GroupedCounter(config.max_n, num_groups(side), memory, Path(temporary))
            reader = DocumentReader(shard, config.layout, folder, config.on_error)
            for document in reader.documents(replace(shard, name=shard.name.partition("/")[2])):
                counter.add(document)
            totals = counter.finish()
            for (length, group), table in counter.tables.items():
                path = folder / "items" / f"{length}-{group}" / f"{shard.key}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                table.write(path)
        words = sum(number for name, number in totals.items() if name.startswith("items/1/"))
        return {"documents": reader.read, "rejected": reader.rejected, "words": words, **totals}
