"""Large files in parts: where they are cut, the work on each part, and how the outputs become one file again.

Rules: a part is whole documents, and its bounds follow from the file and `part_bytes` alone. A compressed file is
decompressed once, from its start to its end, and its parts lie on the disk until they are finished. A file is finished
by the manifest of the whole; only then are the manifests and the documents of its parts removed.
"""

import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copyfileobj

from tailkeep.data.corpus.chunks import DELIMITERS
from tailkeep.data.corpus.destination import Destination, write_errors
from tailkeep.data.corpus.manifest import (
    PART,
    Manifest,
    declare_finished,
    fingerprint_of,
    has_outputs,
    input_sha256,
    manifest_name,
    manifest_of,
    read_finished,
    read_manifest,
    sum_counts,
)
from tailkeep.data.corpus.parquet import join_row_groups
from tailkeep.data.corpus.schema import MEGABYTE, Layout
from tailkeep.data.corpus.shards import Bundle, FilePart, Shard, Spool
from tailkeep.data.corpus.text_files import blank_errors, document_spans, open_decompressed

PART_BYTES = 64 * MEGABYTE
"""The plain bytes of a part, by default; a part ends with the document in which they do."""


def _part(shard: Shard, part: FilePart, spool: "_SpoolWriter | None", fault: str = "") -> Shard:
    return replace(shard, part=part, spool=None if spool is None else spool.cut(part.stop, fault))


class _SpoolWriter:
    """Copies a stream to files below `folder`, which are cut where parts end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = self._start = 0
        self._open(b"")

    def copy(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        """The blocks of `stream`; each is on the disk before it is yielded."""
        for block in stream:
            with write_errors(str(self._folder)):
                self._file.write(block)
            yield block

    def cut(self, at: int, fault: str = "") -> Spool:
        """The file with the bytes before `at`, counted from the start of the stream; the others begin the next one."""
        path, length = Path(self._file.name), at - self._start
        with write_errors(str(self._folder)), self._file:
            self._file.seek(length)
            rest = self._file.read()
            self._file.truncate(length)
        self._start = at
        self._open(rest)
        return Spool(str(path), fault)

    def close(self) -> None:
        """Delete what was not cut."""
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)

    def _open(self, content: bytes) -> None:
        path = self._folder / str(self._number)
        self._number += 1
        with write_errors(str(self._folder)):
            self._file = path.open("w+b")  # closed by `cut` or `close`
            self._file.write(content)


def join_parts(shard: Shard, parts: Sequence[Path], path: Path) -> None:
    """Write the outputs of the parts of `shard`, in order, to one file.

    Of a compressed format each part is a member or frame of its own, and these can be concatenated.
    """
    if shard.kind == "parquet":
        join_row_groups(parts, path)
        return
    with path.open("wb") as file:
        for part in parts:
            with part.open("rb") as content:
                copyfileobj(content, file)


_PARTS = "parts/"


@dataclass(frozen=True)
class LargeFiles:
    """The parts of large files in the run with the fingerprint `run`, whose documents lie as `layout` says."""

    destination: Destination
    run: str
    layout: Layout
    part_bytes: int

    def may_have_parts(self, shard: Shard) -> bool:
        """Whether `shard` is a file that may be longer than a part; of a compressed one that shows when it is read."""
        is_part = shard.part is not None or shard.row_groups is not None or shard.spool is not None
        is_one_document = shard.kind == "txt" and self.layout.document_separator == "file"
        if is_part or is_one_document or shard.kind == "parquet":
            return False
        return shard.compression != "none" or shard.size > self.part_bytes

    def split(self, shard: Shard, folder: Path) -> Generator[Shard]:
        """The parts of `shard` in order, or `shard` itself if it is one. An array of JSON is one part.

        Of a compressed file, each comes with a spool below `folder`; whoever is done with it deletes it.

        Raises:
            InputError: the file cannot be read.
            StorageError: there is no space for a spool.
        """
        with open_decompressed(shard) as stream, blank_errors(shard, self.layout), ExitStack() as stack:
            spool = None if shard.compression == "none" else stack.enter_context(closing(_SpoolWriter(folder)))
            copied = stream if spool is None else spool.copy(stream)
            is_array, spans = document_spans(copied, shard, self.layout, self.layout.max_document_bytes)
            if is_array:
                yield shard
                return
            start = end = row = 0
            line = 1
            names, fault = b"", ""
            for number, span in enumerate(spans):
                if span.chunk is None:
                    end += len(span.before) + len(span.after)
                    break
                if shard.kind in DELIMITERS and not number:
                    names = span.before
                if end - start >= self.part_bytes:
                    yield _part(shard, FilePart(start, end, row, line, names), spool)
                    start, row, line = end, number, span.chunk.line
                end += len(span.before) + span.chunk.length + len(span.after)
                # What is wrong with the bytes themselves is found again in the copy.
                fault = span.chunk.fault if span.chunk.is_torn else ""
            if start:
                yield _part(shard, FilePart(start, end, row, line, names), spool, fault)
            else:
                yield shard if spool is None else replace(shard, spool=spool.cut(end, fault))

    def finished_manifest(self, unit: Shard) -> Manifest | None:
        """The manifest of `unit`, a part or a file, if it is finished."""
        return read_finished(unit, self.destination, fingerprint=fingerprint_of(unit, self.run))

    def finish(self, shard: Shard, work: Callable[[Shard], Manifest]) -> Manifest:
        """Do `work` on `shard`, part by part if it is that long, and join the parts."""
        if not self.may_have_parts(shard):
            return work(shard)
        manifests = []
        with self.destination.scratch() as folder, closing(self.split(shard, folder)) as units:
            for unit in units:
                manifest = self.finished_manifest(unit) or work(unit)
                remove_spool(unit)
                if unit.part is None:
                    return manifest
                manifests.append(manifest)
        return self.join(shard, manifests)

    def join(self, shard: Shard, manifests: Sequence[Manifest]) -> Manifest:
        """Make the outputs of the parts, by their `manifests` in order, those of `shard`, and declare it finished."""
        manifest = join_file(shard, manifests, self.destination, fingerprint_of(shard, self.run))
        self.remove_parts(manifest)
        return manifest

    def remove_damaged(self, shard: Shard) -> list[str]:
        """The keys of the finished parts of `shard` of whose outputs one has other bytes; they are so no longer."""
        damaged = []
        for name in self.destination.names(f"manifests/{shard.name}"):
            key = f"{shard.name}/{name.removesuffix('.json')}"
            if not re.fullmatch(rf"{PART}\.json", name) or not (manifest := read_manifest(key, self.destination)):
                continue
            if not has_outputs(manifest, self.destination, verify=True):
                self.destination.remove(manifest_name(key))
                damaged.append(key)
        return damaged

    def remove_parts(self, manifest: Manifest) -> None:
        """Remove what parts leave behind the `manifest` of their file."""
        for key in manifest.units if manifest.units != [manifest.shard] else ():
            self.destination.remove(manifest_name(key))
            self.destination.remove(f"{_PARTS}{key}")


def remove_spool(unit: Shard) -> None:
    """Delete the spool of `unit`, if it has one."""
    if unit.spool is not None:
        Path(unit.spool.path).unlink(missing_ok=True)


def join_file(whole: Shard, manifests: Sequence[Manifest], destination: Destination, fingerprint: str) -> Manifest:
    """Publish the documents of the parts of `whole` as one file, and declare it finished by one manifest."""
    outputs = {name: entry for manifest in manifests for name, entry in manifest.outputs.items()}
    parts = [name for name in outputs if name.startswith(_PARTS)]

    def fill(folder: Path) -> None:
        target = folder / whole.documents
        target.parent.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="tailkeep-") as copies:
            join_parts(whole, [destination.local(name, Path(copies)) for name in parts], target)

    # Without text there is nothing to join.
    joined = destination.publish(fill) if parts else {}
    other_outputs = {name: entry for name, entry in outputs.items() if name not in parts}
    manifest = manifest_of(
        whole,
        fingerprint=fingerprint,
        source=input_sha256(whole),
        counts=sum_counts(manifests),
        outputs={**other_outputs, **joined},
    )
    declare_finished([manifest], destination)
    return manifest


@dataclass(eq=False)
class _FileInWork:
    """A file whose parts are handed out: their manifests by key, in order, None for those at work."""

    shard: Shard
    manifests: dict[str, Manifest | None] = field(default_factory=dict)
    is_split: bool = False


class PartQueue:
    """The bundles that remain, each large file as its parts, in which several processes can be at work at once.

    `units` hands out the work; `take` must get the result of each. A compressed file that is smaller than a
    part even so is handed out whole: its worker sees how long it is.
    """

    def __init__(self, bundles: Iterable[Bundle], files: LargeFiles, folder: Path) -> None:
        self._bundles, self._files, self._folder = bundles, files, folder
        self._by_part: dict[str, _FileInWork] = {}
        self.finished: list[Shard] = []
        """The files that are finished by now."""

    def units(self) -> Generator[Bundle]:
        """The units of work, each a bundle or a part; close it before `folder` goes."""
        for bundle in self._bundles:
            shard = bundle.shards[0]
            is_one = len(bundle.shards) == 1 and shard.size > self._files.part_bytes
            if not is_one or not self._files.may_have_parts(shard):
                yield bundle
                continue
            file = _FileInWork(shard)
            with closing(self._files.split(shard, self._folder)) as units:
                for unit in units:
                    manifest = self._files.finished_manifest(unit)
                    if unit.part is not None:
                        file.manifests[unit.key] = manifest
                        self._by_part[unit.key] = file
                    if manifest is None:
                        yield Bundle((unit,))
                    else:
                        remove_spool(unit)
            file.is_split = True
            self._join_if_finished(file)

    def take(self, bundle: Bundle, manifests: Sequence[Manifest]) -> None:
        """Take the `manifests` of the finished `bundle`."""
        for unit, manifest in zip(bundle.shards, manifests, strict=True):
            remove_spool(unit)
            if unit.part is None:
                self.finished.append(unit)
                continue
            file = self._by_part[unit.key]
            file.manifests[unit.key] = manifest
            self._join_if_finished(file)

    def _join_if_finished(self, file: _FileInWork) -> None:
        manifests = [manifest for manifest in file.manifests.values() if manifest is not None]
        if file.is_split and manifests and len(manifests) == len(file.manifests):
            self._files.join(file.shard, manifests)
            self.finished.append(file.shard)
            self._by_part = {key: other for key, other in self._by_part.items() if other is not file}
