"""What an audit has found so far. Rule: the summary holds no path outside of the run and no moment in time."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tailkeep.data.corpus import Rejects


@dataclass(frozen=True)
class Outcome:
    """The totals of an audit's finished shards, and once all are, its summary.

    Attributes:
        fingerprint: of the run.
        shards: how many the run has, over all tasks.
        finished: how many of them are finished.
        counts: of the finished ones: documents, rejected, words.
        rejects: what the rejected documents say.
        summary: see `summary.json`; nothing before every shard is finished.
    """

    fingerprint: str
    shards: int
    finished: int
    counts: Mapping[str, int | float]
    rejects: Rejects = field(default_factory=Rejects)
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every shard is finished."""
        return self.finished == self.shards

    @property
    def rejected(self) -> int:
        """How many documents are rejected."""
        return int(self.counts.get("rejected", 0))

    @property
    def flagged(self) -> list[str]:
        """The statistics that passed their corrected level."""
        comparison = self.summary.get("comparison") or {"tests": []}
        return [test["name"] for test in comparison["tests"] if test["flagged"]]

    def text(self) -> str:
        """The content of `summary.json`."""
        tree = {"fingerprint": self.fingerprint, "shards": self.shards, **self.summary}
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def lines(self) -> list[str]:
        """The findings in words."""
        found = [f"{self.finished} of {self.shards} shards are finished"]
        if self.finished:
            count = {name: int(value) for name, value in self.counts.items()}
            found.append(
                f"documents: {count['documents']:,} read, {count['rejected']:,} rejected; {count['words']:,} words"
            )
        found += [
            f"{'[flagged] ' if finding['flagged'] else ''}{finding['sentence']}"
            for finding in self.summary.get("findings", ())
        ]
        for advice in self.summary.get("mixing", ()):
            weight = "" if advice["real_weight"] is None else f" (weight of real data {advice['real_weight']:.2f})"
            found.append(f"mixing: {advice['rule']}{weight}; {advice['source']}; under: {advice['assumes']}")
        if command := self.summary.get("lab_command"):
            found.append(f"to ask a model, in the output's folder: {command}")
        return found

    def warnings(self) -> list[str]:
        """What should be looked at."""
        return [f"{name} is torn: all behind the damage is lost. Copy the file again" for name in self.rejects.torn]
