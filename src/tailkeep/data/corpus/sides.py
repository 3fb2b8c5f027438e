"""Several corpora in one run, such as an input and a reference, and the totals and the summary of such a run.

Rule: the name of a shard begins with its side, and no file belongs to two sides.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tailkeep.data.corpus.outcome import RunOutcome
from tailkeep.data.corpus.schema import Layout
from tailkeep.data.corpus.shard_io import check_layout_has_effect
from tailkeep.data.corpus.shards import ShardList, find_shards
from tailkeep.errors import InputError
from tailkeep.sanitize import redact


@dataclass(frozen=True)
class CorpusSide:
    """One corpus of a run: the `name` with which its shards begin, what errors call it, and its paths."""

    name: str
    label: str
    paths: Sequence[str]


def find_sides(sides: Iterable[CorpusSide], layout: Layout, *, row_groups: int | None, reason: str) -> ShardList:
    """The shards of all `sides`, side by side; `reason` is the sentence that says why no file may be of two of them.

    Raises:
        InputError: a file is of two sides, or as `find_shards`.
        ConfigError: a key of `layout` has no effect on a side.
    """
    all_shards = ShardList([], {})
    labels: dict[str, str] = {}
    for side in sides:
        shards = find_shards(side.paths, layout, row_groups=row_groups)
        check_layout_has_effect(layout, shards)
        for shard in shards:
            if labels.setdefault(shard.url, side.label) != side.label:
                raise InputError(
                    f"{redact(shard.url)} is both {labels[shard.url]} and {side.label}. {reason} Give different files."
                )
        all_shards += [replace(shard, name=f"{side.name}/{shard.name}") for shard in shards]
        all_shards.ignored += shards.ignored
    return all_shards


@dataclass(frozen=True)
class SummaryOutcome(RunOutcome):
    """The totals over the finished shards of a run that counts words: `counts` are documents, rejected and words.

    Attributes:
        summary: the content of `summary.json`, which holds no path outside of the run and no time; empty until every
            shard is finished.
    """

    summary: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The content of `summary.json`."""
        tree = {"fingerprint": self.fingerprint, "shards": self.shards, **self.summary}
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def lines(self) -> list[str]:
        """The totals, one sentence per line."""
        lines = super().lines()
        if self.finished:
            count = {name: int(value) for name, value in self.counts.items()}
            lines.append(
                f"documents: {count['documents']:,} read, {count['rejected']:,} rejected; {count['words']:,} words"
            )
        return lines
