"""What is finished: one manifest per shard, written by `declare_finished` when all else of the shard is there.

    manifests/<key>.json   fingerprint, size, time and sha256 of the input, counts, bytes and sha256 of each output,
                           sha256 of all this

Rule: an output counts by its manifest, never by being there. A manifest whose own sha256 is wrong is none.
"""

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq

from tailkeep.config import Settings, validate
from tailkeep.data.corpus.destination import Destination, Output, open_destination
from tailkeep.data.corpus.io import TruncatedFileError, open_input, open_parquet
from tailkeep.data.corpus.shards import Shard
from tailkeep.data.corpus.text_files import open_decompressed
from tailkeep.errors import ConfigError, FingerprintError, InputError
from tailkeep.runs import hash_tree
from tailkeep.runs.storage import files_below

# Whether an input is still what a finished shard was made of.
#
#
# Rule: a time is no content. A file of the recorded size and time is the one that was read; any other is read again and
# counts by its bytes, so that a copy elsewhere is as good as the original.


PART = r"\d{12,}-\d{12,}"
"""What the key of a part of a large file ends with: a regular expression."""
_BLOCK = 1 << 20
_SHOWN = 12


@lru_cache(maxsize=1024)
def input_sha256(shard: Shard) -> str:
    """The sha256 of the bytes of `shard`; of row groups that of theirs alone, of another part that of its plain bytes.

    Reading them once more costs little beside a forward pass over what they say. Within a run it is done once, since
    all parts of a joined file ask for the whole; `clear_input_hashes` begins the next.

    Raises:
        InputError: the file cannot be read.
    """
    digest = hashlib.sha256()
    if shard.part is not None:
        with open_decompressed(shard) as stream, suppress(TruncatedFileError):
            for block in stream:
                digest.update(block)
        return digest.hexdigest()
    start, stop = (0, None) if shard.row_groups is None else _range(shard, *shard.row_groups)
    with open_input(shard.url, shard.name) as file:
        file.seek(start)
        for block in _blocks(file, sys.maxsize if stop is None else stop - start):
            digest.update(block)
    return digest.hexdigest()


def clear_input_hashes() -> None:
    """Read every input anew from now on: many stores tell times in whole seconds, so they name no content."""
    input_sha256.cache_clear()


def check_unchanged(shard: Shard, manifest: "Manifest") -> None:
    """Refuse `shard` if its bytes are others than those from which it was finished.

    Raises:
        FingerprintError: they are.
    """
    if shard.changed is not None and (shard.size, shard.changed) == (manifest.input_bytes, manifest.input_changed):
        return
    if (now := input_sha256(shard)) != manifest.input:
        raise FingerprintError(
            f"{shard.name} is no longer what was read: its sha256 was {manifest.input[:_SHOWN]} and is {now[:_SHOWN]}. "
            "Put the file back, or give a new --out."
        )


def _range(shard: Shard, first: int, last: int) -> tuple[int, int]:
    """Where the bytes of the row groups from `first` to `last` (excluded) begin and end."""
    with open_parquet(shard.url, shard.name) as file:
        starts, ends = zip(*(_span(file, number) for number in range(first, last)), strict=True)
    return min(starts), max(ends)


def _span(file: pq.ParquetFile, number: int) -> tuple[int, int]:
    group = file.metadata.row_group(number)
    columns = [group.column(index) for index in range(group.num_columns)]
    # A dictionary, if there is one, stands before the data.
    starts = [
        min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset) for column in columns
    ]
    sizes = [column.total_compressed_size for column in columns]
    return min(starts), max(start + size for start, size in zip(starts, sizes, strict=True))


def _blocks(file: IO[bytes], remaining: int) -> Iterator[bytes]:
    while remaining and (block := file.read(min(remaining, _BLOCK))):
        remaining -= len(block)
        yield block


BundleFunction = Callable[[Sequence[Shard], Path], Sequence[Mapping[str, int | float]]]
"""Makes the output of shards in files below a folder, and returns counts for each, which add up over shards.

Of several shards the files are their documents or <kind>/<key>.<ending>, where a kind may have folders.
"""


class Manifest(Settings):
    """What the work on one shard has left, by paths below the output.

    `input` is the sha256 of what was read, `input_bytes` and `input_changed` the size and the time of its file.
    """

    shard: str
    fingerprint: str
    input: str
    input_bytes: int
    input_changed: float | None
    counts: dict[str, int | float]
    outputs: dict[str, Output]
    sha256: str = ""

    def text(self) -> str:
        """The manifest as JSON, one key a line, the same text for the same content."""
        tree = {**self.model_dump(mode="json"), "sha256": self._content_sha256()}
        return json.dumps(tree, indent=2, ensure_ascii=False, sort_keys=True) + "\n"

    @property
    def units(self) -> list[str]:
        """The keys under which the outputs stand: of the parts of a large file, else that of the shard."""
        pattern = re.compile(rf"/{re.escape(self.shard)}/({PART})\.")
        parts = {match[1] for name in self.outputs if (match := pattern.search(name))}
        return [f"{self.shard}/{part}" for part in sorted(parts)] or [self.shard]

    def files(self, kind: str) -> list[str]:
        """The names of its outputs of one kind, such as `counts`: several of a large file.

        The tables of a bundle are those of its first file.
        """
        return sorted(name for name in self.outputs if name.startswith(f"{kind}/"))

    @property
    def is_whole(self) -> bool:
        """Whether the content has the recorded sha256."""
        return self.sha256 == self._content_sha256()

    def _content_sha256(self) -> str:
        return hash_tree(self.model_dump(mode="json", exclude={"sha256"}))


def fingerprint_of(shard: Shard, run: str) -> str:
    """The hash of all that decides the output of `shard`: the fingerprint of the `run`, and what of the shard does."""
    return hash_tree({"run": run, **shard.sources()})


def finish_bundle(
    shards: Sequence[Shard], work: BundleFunction, destination: Destination, *, fingerprints: Sequence[str]
) -> list[Manifest]:
    """Run `work` on `shards`, publish all their files, then all their manifests. Done again it leaves the same bytes.

    Raises:
        StorageError: the store refused; a shard that has a manifest of this work is finished.
    """
    counts: list[Mapping[str, int | float]] = []

    def fill(folder: Path) -> None:
        counts.extend(work(shards, folder))

    old = [read_manifest(shard.key, destination) for shard in shards]
    sources = [input_sha256(shard) for shard in shards]
    outputs = _by_shard(shards, destination.publish(fill))
    for manifest, named in zip(old, outputs, strict=True):
        for stale in sorted(manifest.outputs.keys() - named.keys()) if manifest else ():
            destination.remove(stale)
    manifests = [
        manifest_of(shard, fingerprint=fingerprint, source=source, counts=totals, outputs=named)
        for shard, fingerprint, source, totals, named in zip(
            shards, fingerprints, sources, counts, outputs, strict=True
        )
    ]
    declare_finished(manifests, destination)
    return manifests


def _by_shard(shards: Sequence[Shard], outputs: dict[str, Output]) -> list[dict[str, Output]]:
    """The outputs of each shard."""
    if len(shards) == 1:
        return [outputs]
    documents = {shard.documents: shard.key for shard in shards}
    by_key: dict[str, dict[str, Output]] = {shard.key: {} for shard in shards}
    for name, output in outputs.items():
        key = documents.get(name) or name.partition("/")[2].rpartition(".")[0]
        while key and key not in by_key:
            key = key.partition("/")[2]
        by_key[key][name] = output
    return list(by_key.values())


def manifest_of(
    shard: Shard,
    *,
    fingerprint: str,
    source: str,
    counts: Mapping[str, int | float],
    outputs: Mapping[str, Output],
) -> Manifest:
    """The manifest of `shard`, whose bytes have the sha256 `source`."""
    manifest = Manifest(
        shard=shard.key,
        fingerprint=fingerprint,
        input=source,
        input_bytes=shard.size,
        input_changed=shard.changed,
        counts=dict(counts),
        outputs=dict(outputs),
    )
    return manifest.model_copy(update={"sha256": manifest._content_sha256()})


def declare_finished(manifests: Iterable[Manifest], destination: Destination) -> None:
    """Declare the shards of `manifests` finished: write them, after all their outputs. Nothing else does."""
    destination.write_texts({manifest_name(manifest.shard): manifest.text() for manifest in manifests})


def read_finished(shard: Shard, destination: Destination, *, fingerprint: str, verify: bool = False) -> Manifest | None:
    """The manifest of `shard`, if it is of this fingerprint and its outputs are there with the recorded size.

    With `verify`, they are read and must have the recorded sha256 too.

    Raises:
        FingerprintError: the input has changed since.
    """
    manifest = read_manifest(shard.key, destination)
    if manifest is None or manifest.fingerprint != fingerprint or not has_outputs(manifest, destination, verify=verify):
        return None
    check_unchanged(shard, manifest)
    return manifest


def has_outputs(manifest: Manifest, destination: Destination, *, verify: bool) -> bool:
    """Whether the outputs of `manifest` are there with the recorded size; with `verify`, with the sha256 too."""
    return all(
        destination.size(name) == output.bytes and (not verify or destination.sha256(name) == output.sha256)
        for name, output in manifest.outputs.items()
    )


def check_recorded(root: Path, files: Iterable[Path]) -> None:
    """Check that `files` of the run in the folder `root` have the size and the sha256 that its manifests record.

    Raises:
        InputError: one has not.
    """
    destination, recorded = open_destination(str(root)), dict[str, Output]()
    for path in files_below(root / "manifests", ".json"):
        manifest = read_manifest(path.relative_to(root / "manifests").as_posix().removesuffix(".json"), destination)
        recorded |= manifest.outputs if manifest else {}
    for file in files:
        if recorded.get(file.relative_to(root).as_posix()) != Output.of(file):
            raise InputError(
                f"{file} is damaged: its sha256 is not the one in its manifest. Run the same command again with "
                "--verify, which makes it again."
            )


def sum_counts(manifests: Iterable[Manifest]) -> dict[str, int | float]:
    """The counts of all of them, added up."""
    counts: Counter[str] = Counter()
    for manifest in manifests:
        for name, count in manifest.counts.items():
            counts[name] += count  # type: ignore[assignment]  # a Counter adds up floats as well
    return dict(sorted(counts.items()))


def manifest_name(key: str) -> str:
    """The name of the manifest of the shard `key` below the output."""
    return f"manifests/{key}.json"


def read_manifest(key: str, destination: Destination) -> Manifest | None:
    """The manifest of the shard `key`, or None if there is none or it is not whole: then the work is done again."""
    content = destination.read(manifest_name(key))
    if content is None:
        return None
    try:
        manifest = validate(Manifest, json.loads(content.decode("utf-8")), source=manifest_name(key))
    except (ConfigError, ValueError, RecursionError):
        return None
    return manifest if manifest.is_whole else None
