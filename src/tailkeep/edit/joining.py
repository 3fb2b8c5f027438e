"""Parquet files that were edited in parts: which parts are finished, and the whole file out of them.

Rule: parts are taken away only when the manifest of the whole tells all that theirs did.
"""

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tailkeep.data.corpus import (
    Destination,
    Manifest,
    OpenRun,
    Shard,
    fingerprint_of,
    finished,
    input_sha256,
    join_parts,
    total,
)
from tailkeep.runs import RunRecord

_PARTS = "parts/"


def finished_by(shard: Shard, record: RunRecord, destination: Destination) -> Manifest | None:
    """The manifest that tells of `shard`: that of the file of which it is a part, else its own."""
    # In this order: what is left of the parts behind a joined file must not count twice.
    for unit in dict.fromkeys((_whole(shard), shard)):
        if found := finished(unit, destination, fingerprint=fingerprint_of(unit, record.sources)):
            return found
    return None


def join_files(shards: Sequence[Shard], record: RunRecord, opened: OpenRun) -> None:
    """Put each file together of which all parts are finished."""
    files: dict[str, list[Shard]] = defaultdict(list)
    for shard in shards:
        if shard.row_groups is not None:
            files[shard.name].append(shard)
    for parts in files.values():
        whole = _whole(parts[0])
        fingerprint = fingerprint_of(whole, record.sources)
        if not finished(whole, opened.destination, fingerprint=fingerprint):
            manifests = [found for part in parts if (found := finished_by(part, record, opened.destination))]
            assert len(manifests) == len(parts), "only finished parts make a file"
            _join(whole, manifests, fingerprint, opened)
        for part in parts:
            opened.destination.remove(f"manifests/{part.key}.json")
            opened.destination.remove(part.documents)


def _join(whole: Shard, manifests: Sequence[Manifest], fingerprint: str, opened: OpenRun) -> None:
    outputs = {name: output for manifest in manifests for name, output in manifest.outputs.items()}
    parts = [name for name in outputs if name.startswith(_PARTS)]

    def fill(folder: Path) -> None:
        target = folder / whole.documents
        target.parent.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as copies:
            join_parts([opened.local(name, Path(copies)) for name in parts], target)

    # Without text there is nothing to join.
    joined = opened.destination.publish(whole.key, fill) if parts else {}
    kept = {name: output for name, output in outputs.items() if name not in parts}
    manifest = Manifest(
        shard=whole.key,
        fingerprint=fingerprint,
        input=input_sha256(whole),
        counts=total(manifests),
        outputs={**kept, **joined},
    )
    opened.destination.write_text(f"manifests/{whole.key}.json", manifest.text())


def _whole(shard: Shard) -> Shard:
    return replace(shard, row_groups=None)
