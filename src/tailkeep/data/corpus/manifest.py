"""What is finished: one manifest a shard, written when all else of the shard is there.

    manifests/<key>.json   fingerprint, sha256 of the input, counts, bytes and sha256 of each output

Rule: an output counts by its manifest, never by being there.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tailkeep.config import Settings, validate
from tailkeep.data.corpus.destination import Destination, Output
from tailkeep.data.corpus.shards import Shard
from tailkeep.data.corpus.unchanged import input_sha256, refuse_changed
from tailkeep.errors import ConfigError
from tailkeep.runs import hash_tree

ShardFunction = Callable[[Shard, Path], Mapping[str, int | float]]
"""Makes the output of a shard in files below a folder and returns counts, which add up over shards."""


class Manifest(Settings):
    """What the work on one shard has left, by paths below the output."""

    shard: str
    fingerprint: str
    input: str
    counts: dict[str, int | float]
    outputs: dict[str, Output]

    def text(self) -> str:
        """The manifest as JSON, one key a line, the same text for the same content."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def fingerprint_of(shard: Shard, sources: Mapping[str, Any]) -> str:
    """The hash of all that decides the output of `shard`: `sources`, and what of the shard does."""
    return hash_tree({"sources": sources, **shard.sources()})


def finish_shard(shard: Shard, work: ShardFunction, destination: Destination, *, fingerprint: str) -> Manifest:
    """Run `work` on `shard`, publish its files, then its manifest. Done again it leaves the same bytes.

    Raises:
        StorageError: the store refused; the shard has no manifest of this work.
    """
    counts: dict[str, int | float] = {}

    def fill(folder: Path) -> None:
        counts.update(work(shard, folder))

    old, source = _read(shard, destination), input_sha256(shard)
    outputs = destination.publish(shard.key, fill)
    for stale in sorted(old.outputs.keys() - outputs.keys()) if old else ():
        destination.remove(stale)
    manifest = Manifest(shard=shard.key, fingerprint=fingerprint, input=source, counts=counts, outputs=outputs)
    destination.write_text(_name(shard), manifest.text())
    return manifest


def finished(shard: Shard, destination: Destination, *, fingerprint: str, verify: bool = False) -> Manifest | None:
    """The manifest of `shard`, if it is of this fingerprint and its outputs are there with the recorded size.

    With `verify`, they are read and must have the recorded sha256 too.

    Raises:
        FingerprintError: the input has changed since.
    """
    manifest = _read(shard, destination)
    if manifest is None or manifest.fingerprint != fingerprint:
        return None
    for name, output in manifest.outputs.items():
        if destination.size(name) != output.bytes or (verify and destination.sha256(name) != output.sha256):
            return None
    refuse_changed(shard, manifest.input, finished=destination.modified(_name(shard)))
    return manifest


def total(manifests: Iterable[Manifest]) -> dict[str, int | float]:
    """The counts of all of them, added up."""
    counts: Counter[str] = Counter()
    for manifest in manifests:
        for name, count in manifest.counts.items():
            counts[name] += count  # type: ignore[assignment]  # a Counter adds up floats as well
    return dict(sorted(counts.items()))


def _name(shard: Shard) -> str:
    return f"manifests/{shard.key}.json"


def _read(shard: Shard, destination: Destination) -> Manifest | None:
    """The manifest of `shard`, or None if there is none or it is not whole: then the work is done again."""
    text = destination.read_text(_name(shard))
    if text is None:
        return None
    try:
        return validate(Manifest, json.loads(text), source=_name(shard))
    except (ConfigError, ValueError):
        return None
