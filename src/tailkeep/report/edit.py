"""The page of an edit: one HTML file that loads nothing and runs nothing.

Rule: autoescape is on and every text that came from a corpus or a name passes the filters of `page`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tailkeep.config import read_yaml, validate
from tailkeep.data.corpus import Layout, Record, find_shards, read_shard
from tailkeep.errors import InputError
from tailkeep.report import formatting
from tailkeep.report.lab.page import new_environment, own_text, style_sheet
from tailkeep.runs import RunDirectory, RunRecord, Storage, redact
from tailkeep.sanitize import visible

# The run of an edit as the report sees it: what its finished shards count, and some documents with their edits.
#
# Rule: files are all that is known. A run that has not ended is read like one that has; nothing here writes.


@dataclass(frozen=True)
class ShownChange:
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
    changes: tuple[ShownChange, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True)
class EditRun:
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


def read_edit_run(path: Path | str, *, edits: int, rejects: int = 0) -> EditRun:
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
    return EditRun(run.path, run.record, complete, shards, failures, tuple(texts), tuple(rejected))


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
    changes = tuple(ShownChange(item["old"], item["new"], item["old_p"], item["new_p"]) for item in items)
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


# What an edit of a corpus did, on a terminal: totals, the bands of probability, and edits in their context.
#
# Rule: texts reach the console as `Text` of visible characters, never as markup.


_CONTEXT = 40
_BAR = 16


def show_edits(path: Path | str, console: Console, *, edits: int = 20) -> None:
    """Print what the edit at `path` did, and `edits` of its edits, from shards that lie evenly among all.

    Raises:
        InputError: there is no run of an edit at `path`, or one of its files cannot be read.
    """
    reading = read_edit_run(path, edits=edits)
    console.print(_plain(f"{reading.name}: an edit, fingerprint {reading.record.fingerprint[:12]}", "bold"))
    for shard, error in reading.failures.items():
        console.print(_plain(f"failed: {shard}: {error}", "red"))
    if not reading.shards:
        console.print(Text("No shard is finished yet."))
        return
    progress = "finished" if reading.complete else f"{len(reading.shards)} of {reading.planned} shards are finished"
    console.print(Text(f"{progress}; {totals(reading.counts)}"))
    console.print(_band_table(reading))
    for text in reading.texts:
        for line in _changes(text):
            console.print(Padding(line, (0, 0, 1, 0)))


def totals(counts: Mapping[str, int]) -> str:
    """The totals in words; flagged and changed are told apart."""
    changed = counts["changed"] + counts["deleted"]
    return (
        f"{counts['documents']:,} documents, {counts['edited']:,} edited, {counts['rejected']:,} rejected; "
        f"{counts['tokens']:,} tokens, {share(counts['flagged'], counts['tokens'])} flagged, "
        f"{share(changed, counts['tokens'])} changed"
    )


def share(part: int, whole: int) -> str:
    """`part` of `whole` in per cent."""
    return f"{part / whole:.2%}" if whole else formatting.DASH


def _band_table(reading: EditRun) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in ("p from", "tokens", "share", "flagged", "changed", "after"):
        table.add_column(heading, justify="right")
    table.add_column("before")
    counts = reading.counts
    most = max(*(counts[f"tokens/{band}"] for band in reading.bands), 1)
    for band in reading.bands:
        tokens, flagged = counts[f"tokens/{band}"], counts[f"flagged/{band}"]
        changed = counts[f"changed/{band}"] + counts[f"deleted/{band}"]
        shares = [share(tokens, counts["tokens"]), share(flagged, tokens), share(changed, tokens)]
        bar = "█" * round(_BAR * tokens / most)
        table.add_row(band, f"{tokens:,}", *shares, f"{counts[f'after/{band}']:,}", Text(bar, "dim"))
    return table


def _changes(text: EditedText) -> Iterator[Text]:
    for change, before, after in zip(text.changes, text.kept, text.kept[1:], strict=False):
        line = _plain(f"{text.document}  ", "dim").append_text(_plain(before[-_CONTEXT:])).append("[")
        # Brackets too: in a log or a pipe there is no colour that would tell where an edit ends.
        line.append_text(_plain(change.old, "red strike")).append("→")
        line.append_text(_plain(change.new or "(deleted)", "green")).append("]").append_text(_plain(after[:_CONTEXT]))
        new_p = "" if change.new_p is None else f" → {change.new_p:.3g}"
        yield line.append(f"  p {change.old_p:.4g}{new_p}", "cyan")


def _plain(text: str, style: str = "") -> Text:
    return Text(visible(redact(text), newline=" "), style=style)


_EDITS = 40
_REJECTS = 20
_SHARDS = 200
_LONGEST = 400
_HEIGHT = 180


def write_edits(path: Path | str, *, storage: Storage | None = None) -> Path:
    """Write (or write anew) the report of the edit at `path`, finished or not, and return the page's path.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
        StorageError: the file system refused a write.
    """
    reading = read_edit_run(path, edits=_EDITS, rejects=_REJECTS)
    (storage or Storage()).write_text(reading.path / "report.html", edit_page(reading))
    return reading.path / "report.html"


def edit_page(reading: EditRun) -> str:
    """The HTML of the report."""
    counts = reading.counts
    refused = {name.partition("/")[2]: count for name, count in sorted(counts.items()) if name.startswith("refused/")}
    html: str = (
        new_environment()
        .from_string(own_text("edits.html"))
        .render(
            style=style_sheet(),
            reading=reading,
            record=reading.record,
            totals=totals(counts) if counts else "",
            bars=list(_bars(reading)),
            bands=list(_bands(reading)),
            refused=", ".join(f"{reason} {count:,}" for reason, count in refused.items()),
            texts=[
                {"document": text.document, "changes": text.changes, "pieces": _pieces(text)}
                for text in reading.texts
                if any(text.kept)
            ],
            shards=list(_shards(reading)),
            more=max(0, len(reading.shards) - _SHARDS),
        )
    )
    return html


def _bars(reading: EditRun) -> Iterator[dict[str, Any]]:
    counts = reading.counts
    most = max([1, *(counts[f"{kind}/{band}"] for band in reading.bands for kind in ("tokens", "after"))])
    for band in reading.bands:
        before, after = (round(_HEIGHT * counts[f"{kind}/{band}"] / most, 1) for kind in ("tokens", "after"))
        yield {"band": band, "before": before, "after": after}


def _bands(reading: EditRun) -> Iterator[list[str]]:
    counts = reading.counts
    for band in reading.bands:
        tokens, flagged, after = (counts[f"{kind}/{band}"] for kind in ("tokens", "flagged", "after"))
        changed = counts[f"changed/{band}"] + counts[f"deleted/{band}"]
        shares = share(tokens, counts["tokens"]), share(flagged, tokens), share(changed, tokens)
        yield [band, f"{tokens:,}", *shares, f"{after:,}"]


def _pieces(text: EditedText) -> list[tuple[str, ShownChange | None]]:
    """What was kept, shortened, each with the change that follows it."""
    return [(_shortened(kept), change) for kept, change in zip(text.kept, (*text.changes, None), strict=True)]


def _shortened(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} … {text[-half:]}"


def _shards(reading: EditRun) -> Iterator[list[str]]:
    for name, counts in list(reading.shards.items())[:_SHARDS]:
        changed = counts["changed"] + counts["deleted"]
        numbers = (f"{counts[kind]:,}" for kind in ("documents", "edited", "rejected", "tokens"))
        yield [name, *numbers, share(counts["flagged"], counts["tokens"]), share(changed, counts["tokens"])]
