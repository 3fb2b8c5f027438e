"""The run of an edit as the report sees it: what its finished shards count, and some documents with their edits.

Rule: files are all that is known. A run that has not ended is read like one that has; nothing here writes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from tailkeep.config import read_yaml, validate
from tailkeep.data.corpus import Layout, Record, find_shards, read_shard
from tailkeep.errors import InputError
from tailkeep.runs import RunDirectory, RunRecord


@dataclass(frozen=True)
class Change:
    """An edit: the text and the probability before and after; a deletion has no new probability."""

    old: str
    new: str
    old_p: float
    new_p: float | None


@dataclass(frozen=True)
class EditedText:
    """One string of a document: `kept` texts with `changes` between them, so there is one text more.

    It ends where an edit comes that was not read. Without the edited text at hand, all of `kept` is empty.
    """

    document: str
    changes: tuple[Change, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True)
class EditReading:
    """What is known of the run at `path`.

    Attributes:
        complete: whether every shard is finished and the whole is checked.
        shards: the counts of each finished shard.
        failures: what stopped the work on shards that are not finished, by their names.
        texts: some edited strings.
        rejects: some rejected documents.
    """

    path: Path
    record: RunRecord
    complete: bool
    shards: Mapping[str, Mapping[str, int]]
    failures: Mapping[str, str]
    texts: tuple[EditedText, ...]
    rejects: tuple[Mapping[str, Any], ...]

    @property
    def planned(self) -> int:
        """How many shards the run has; parts that were joined since count as one."""
        return len(self.shards) if self.complete else int(self.record.sources["input"]["shards"])

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def counts(self) -> dict[str, int]:
        """The counts of all finished shards, added up."""
        total: dict[str, int] = {}
        for counts in self.shards.values():
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        return total

    @property
    def bands(self) -> list[str]:
        """The lowest probability of each band, ascending."""
        return sorted((name.partition("/")[2] for name in self.counts if name.startswith("tokens/")), key=float)


def read_edit(path: Path | str, *, edits: int, rejects: int = 0) -> EditReading:
    """Read the run at `path`, with at most so many edits and rejects, from shards that lie evenly among all.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    run = RunDirectory.open(Path(path))
    shards = {}
    for file in sorted((run.path / "manifests").rglob("*.json")):
        (tree,) = _lines(file, whole=True)
        shards[str(tree["shard"])] = tree["counts"]
    failures = {}
    for file in sorted((run.path / "failures").rglob("*.json")):
        (tree,) = _lines(file, whole=True)
        if tree["fingerprint"] == run.record.fingerprint and tree["shard"] not in shards:
            failures[str(tree["shard"])] = str(tree["error"])
    texts = [text for name, items in _sample(run.path / "edits", edits) for text in _in_context(run.path, name, items)]
    rejected = [item for _, items in _sample(run.path / "rejects", rejects) for item in items[:-1]]
    complete = (run.path / "summary.json").is_file()
    return EditReading(run.path, run.record, complete, shards, failures, tuple(texts), tuple(rejected))


def _sample(folder: Path, most: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The first lines of some logs below `folder`, at most so many in all, with the names of their shards.

    Behind them stands the line that follows, or an empty one.
    """
    logs = [log for log in sorted(folder.rglob("*.jsonl")) if log.stat().st_size]
    count = min(most, len(logs))
    for number in range(count):
        log = logs[number * len(logs) // count]
        share = most * (number + 1) // count - most * number // count
        yield (
            log.relative_to(folder).as_posix().removesuffix(".jsonl"),
            list(islice(chain(_lines(log), [{}]), share + 1)),
        )


def _in_context(path: Path, name: str, items: Sequence[Mapping[str, Any]]) -> Iterator[EditedText]:
    *own, following = items
    texts = _edited_texts(path, name, {item["document"] for item in own})
    for (document, field), group in groupby(own, key=lambda item: (item["document"], item["path"])):
        goes_on = following and (following["document"], following["path"]) == (document, field)
        end = following["start"] if goes_on else None
        yield _cut(document, texts.get(document, {}).get(field, ""), list(group), end)


def _cut(document: str, text: str, items: Sequence[Mapping[str, Any]], end: int | None) -> EditedText:
    """The pieces of the edited `text` up to the character `end` of the original, None for all of it."""
    changes = tuple(Change(item["old"], item["new"], item["old_p"], item["new_p"]) for item in items)
    kept, done, shift = [], 0, 0
    for item in items:
        start = item["start"] + shift
        stop = start + len(item["new"])
        shift += len(item["new"]) - len(item["old"])
        # Ids that count rows are others behind a rejected document; then there is no context to show.
        if text[start:stop] != item["new"] or not text:
            return EditedText(document, changes, ("",) * (len(items) + 1))
        kept.append(text[done:start])
        done = stop
    return EditedText(document, changes, (*kept, text[done : None if end is None else end + shift]))


def _edited_texts(path: Path, name: str, ids: set[str]) -> dict[str, dict[str, str]]:
    """The edited strings of the documents `ids` of the shard `name`, as far as they are there."""
    if not (path / "documents" / name).is_file():
        return {}
    layout = validate(Layout, read_yaml(path / "config.yaml").get("layout", {}), source=str(path / "config.yaml"))
    (shard,) = (shard for shard in find_shards(path / "documents") if shard.name == name)
    found: dict[str, dict[str, str]] = {}
    for record in read_shard(shard, layout):
        if isinstance(record, Record) and record.id in ids:
            found[record.id] = record.texts
        if len(found) == len(ids):
            break
    return found


def _lines(path: Path, *, whole: bool = False) -> Iterator[dict[str, Any]]:
    """The JSON of each line of a file, or of all of it."""
    try:
        with path.open(encoding="utf-8") as file:
            for text in [file.read()] if whole else file:
                yield json.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}. Give a directory with a whole run.") from None
