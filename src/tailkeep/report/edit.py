"""The run directory of an edit, read and shown on a terminal: the counts of its finished shards, and edits in context.

Rule: it reads files only; every text from a corpus or a name is a `Text` of visible characters.
"""

import json
import posixpath
import re
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
from tailkeep.data.corpus import PART, Layout, Record, find_shards, read_shard
from tailkeep.errors import InputError
from tailkeep.report import formatting
from tailkeep.report.formatting import terminal_text
from tailkeep.runs import RunDirectory, RunRecord
from tailkeep.runs.storage import files_below

CONTEXT = 40
_BAR = 16


@dataclass(frozen=True)
class ShownEdit:
    """An edit: the text and its probability before and after; a deletion has no new probability."""

    old: str
    new: str
    old_p: float
    new_p: float | None


@dataclass(frozen=True)
class EditedText:
    """One string of a document: `edits`, and the `unchanged` texts around them, one more than there are edits.

    It ends before the first edit that was not read. Without the edited text every item of `unchanged` is empty.
    """

    document: str
    edits: tuple[ShownEdit, ...]
    unchanged: tuple[str, ...]


_RULES = {
    "toedit": "resampled from the prior: tokens with p ≥ {threshold:g} under it",
    "low": "{action}d: tokens with p < {threshold:g} under the prior",
    "band": "resampled from the prior: tokens with {low:g} ≤ p < {high:g} under it",
    "random": "resampled from the prior: {percent:.3g} % of all tokens, whatever their p",
}


@dataclass(frozen=True)
class EditRun:
    """The edit run at `path`.

    Attributes:
        complete: whether every shard is finished and the output is checked.
        shards: the counts of each finished shard.
        rule: what the edit did to which tokens, half a sentence.
        failures: the errors of unfinished shards, by shard.
        texts: some edited strings.
        rejects: some rejected documents.
    """

    path: Path
    record: RunRecord
    complete: bool
    rule: str
    shards: Mapping[str, Mapping[str, int]]
    failures: Mapping[str, str]
    texts: tuple[EditedText, ...]
    rejects: tuple[Mapping[str, Any], ...]

    @property
    def planned(self) -> int:
        """The number of shards of the run; parts that were joined count as one."""
        return self.finished if self.complete else int(self.record.sources["input"]["shards"])

    @property
    def finished(self) -> int:
        """How many of them are finished; the parts of a large file that is not are none."""
        return sum(not re.search(f"/{PART}$", name) for name in self.shards)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    @property
    def counts(self) -> dict[str, int]:
        """The sum of the counts of all finished shards."""
        total: dict[str, int] = {}
        for counts in self.shards.values():
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        return total

    @property
    def bands(self) -> list[str]:
        """The lower bound of each probability band, ascending."""
        return sorted((name.partition("/")[2] for name in self.counts if name.startswith("tokens/")), key=float)


def read_edit_run(path: Path | str, *, edits: int, rejects: int = 0) -> EditRun:
    """Read the run at `path` with at most `edits` edits and `rejects` rejects, from evenly spaced shards.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    directory = RunDirectory.open(Path(path))
    shards = {}
    for file in files_below(directory.path / "manifests", ".json"):
        (tree,) = _lines(file, whole=True)
        shards[str(tree["shard"])] = tree["counts"]
    failures = {}
    for file in files_below(directory.path / "failures", ".json"):
        (tree,) = _lines(file, whole=True)
        if tree["fingerprint"] == directory.record.fingerprint and tree["shard"] not in shards:
            failures[str(tree["shard"])] = str(tree["error"])
    texts = [
        text
        for name, items in _sample(directory.path / "edits", edits)
        for text in _in_context(directory.path, name, items)
    ]
    rejected = [item for _, items in _sample(directory.path / "rejects", rejects) for item in items[:-1]]
    complete = (directory.path / "summary.json").is_file()
    rule = _rule_words(directory.config_tree().get("rule"))
    return EditRun(directory.path, directory.record, complete, rule, shards, failures, tuple(texts), tuple(rejected))


def _rule_words(rule: Mapping[str, Any] | None) -> str:
    if rule is None:
        return "tokens that were flagged and resampled from the prior"
    words = _RULES[rule["name"]].format(**rule, percent=100 * rule.get("share", 0))
    below = rule.get("delete_below")
    return words if below is None else f"{words}; deleted: those with p < {below:g}"


def _sample(folder: Path, most: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """At most `most` lines of evenly spaced logs below `folder`: (shard, its first lines and the next one).

    The next line is {} at the end of a log.
    """
    logs = [log for log in files_below(folder, ".jsonl") if log.stat().st_size]
    count = min(most, len(logs))
    for number in range(count):
        log = logs[number * len(logs) // count]
        share = most * (number + 1) // count - most * number // count
        yield (
            log.relative_to(folder).as_posix().removesuffix(".jsonl"),
            list(islice(chain(_lines(log), [{}]), share + 1)),
        )


def _in_context(path: Path, name: str, items: Sequence[Mapping[str, Any]]) -> Iterator[EditedText]:
    *sampled, following = items
    texts = _edited_texts(path, name, {item["document"] for item in sampled})
    for (document, field), group in groupby(sampled, key=lambda item: (item["document"], item["path"])):
        continued = following and (following["document"], following["path"]) == (document, field)
        end = following["start"] if continued else None
        yield _split_at_edits(document, texts.get(document, {}).get(field, ""), list(group), end)


def _split_at_edits(document: str, text: str, items: Sequence[Mapping[str, Any]], end: int | None) -> EditedText:
    """The edited `text` split at its edits, up to the character `end` of the original; None for all of it."""
    edits = tuple(ShownEdit(item["old"], item["new"], item["old_p"], item["new_p"]) for item in items)
    unchanged, done, shift = [], 0, 0
    for item in items:
        start = item["start"] + shift
        stop = start + len(item["new"])
        shift += len(item["new"]) - len(item["old"])
        # Ids that count rows are shifted after a rejected document; then there is no context to show.
        if text[start:stop] != item["new"] or not text:
            return EditedText(document, edits, ("",) * (len(items) + 1))
        unchanged.append(text[done:start])
        done = stop
    return EditedText(document, edits, (*unchanged, text[done : None if end is None else end + shift]))


def _edited_texts(path: Path, name: str, ids: set[str]) -> dict[str, dict[str, str]]:
    """document -> field -> edited string, for the documents `ids` of the shard `name` that exist."""
    # Of a file that was edited in parts, each has a log of its own.
    if not (path / "documents" / name).is_file():
        name = posixpath.dirname(name)
    if not (path / "documents" / name).is_file():
        return {}
    layout = validate(Layout, read_yaml(path / "config.yaml").get("layout", {}), source=str(path / "config.yaml"))
    (shard,) = (shard for shard in find_shards(path / "documents", layout) if shard.name == name)
    texts: dict[str, dict[str, str]] = {}
    for record in read_shard(shard, layout):
        if isinstance(record, Record) and record.id in ids:
            texts[record.id] = record.texts
        if len(texts) == len(ids):
            break
    return texts


def _lines(path: Path, *, whole: bool = False) -> Iterator[dict[str, Any]]:
    """The JSON of each line of a file, or with `whole` of the file."""
    try:
        with path.open(encoding="utf-8") as file:
            for text in [file.read()] if whole else file:
                yield json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}. Give the directory of a complete run.") from None


def show_edits(path: Path | str, console: Console, *, edits: int = 20) -> None:
    """Print the counts of the edit at `path` and `edits` of its edits, from evenly spaced shards.

    Raises:
        InputError: there is no edit run at `path`, or one of its files cannot be read.
    """
    run = read_edit_run(path, edits=edits)
    console.print(terminal_text(f"{run.name}: an edit, fingerprint {run.record.fingerprint[:12]}", "bold"))
    for shard, error in run.failures.items():
        console.print(terminal_text(f"failed: {error if error.startswith(shard) else f'{shard}: {error}'}", "red"))
    if not run.shards:
        console.print(Text("No shard is finished yet."))
        return
    progress = "finished" if run.complete else f"{run.finished} of {run.planned} shards are finished"
    console.print(Text(f"{progress}; {totals(run.counts)}"))
    console.print(_band_table(run))
    for text in run.texts:
        for line in _edit_lines(text):
            console.print(Padding(line, (0, 0, 1, 0)))


def totals(counts: Mapping[str, int]) -> str:
    """The totals as a sentence; flagged tokens need not be changed."""
    changed = counts["changed"] + counts["deleted"]
    return (
        f"{counts['documents']:,} documents, {counts['edited']:,} edited, {counts['rejected']:,} rejected; "
        f"{counts['tokens']:,} tokens, {share(counts['flagged'], counts['tokens'])} flagged, "
        f"{share(changed, counts['tokens'])} changed"
    )


def share(part: int, whole: int) -> str:
    """`part` / `whole` in per cent; a part is never 0.00%."""
    if not whole:
        return formatting.DASH
    percent = 100 * part / whole
    return f"{formatting.number(percent, digits=1) if 0 < percent < 0.005 else f'{percent:.2f}'}%"


def _band_table(run: EditRun) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in ("p from", "tokens", "share", "flagged", "changed", "after"):
        table.add_column(heading, justify="right")
    table.add_column("before")
    counts = run.counts
    most = max(*(counts[f"tokens/{band}"] for band in run.bands), 1)
    for band in run.bands:
        tokens, flagged = counts[f"tokens/{band}"], counts[f"flagged/{band}"]
        changed = counts[f"changed/{band}"] + counts[f"deleted/{band}"]
        shares = [share(tokens, counts["tokens"]), share(flagged, tokens), share(changed, tokens)]
        bar = "█" * round(_BAR * tokens / most)
        table.add_row(band, f"{tokens:,}", *shares, f"{counts[f'after/{band}']:,}", Text(bar, "dim"))
    return table


def context_before(unchanged: str) -> str:
    """The end of the text before an edit, from the beginning of a word where there is one."""
    end = unchanged[-CONTEXT:]
    return end if len(unchanged) <= CONTEXT or " " not in end.rstrip(" ") else end.partition(" ")[2]


def context_after(unchanged: str) -> str:
    """The beginning of the text after an edit, to the end of a word where there is one."""
    start = unchanged[:CONTEXT]
    return start if len(unchanged) <= CONTEXT or " " not in start.lstrip(" ") else start.rpartition(" ")[0]


def _edit_lines(text: EditedText) -> Iterator[Text]:
    for edit, before, after in zip(text.edits, text.unchanged, text.unchanged[1:], strict=False):
        line = terminal_text(f"{text.document}  ", "dim").append_text(terminal_text(context_before(before))).append("[")
        # Brackets, since a log or a pipe has no colours.
        line.append_text(terminal_text(edit.old, "red strike")).append("→")
        line.append_text(terminal_text(edit.new or "(deleted)", "green")).append("]")
        line.append_text(terminal_text(context_after(after)))
        new_p = "" if edit.new_p is None else f" → {edit.new_p:.3g}"
        yield line.append(f"  p {edit.old_p:.4g}{new_p}", "cyan")
