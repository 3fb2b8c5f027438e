"""What an edit of a corpus did, on a terminal: totals, the bands of probability, and edits in their context.

Rule: texts reach the console as `Text` of visible characters, never as markup.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tailkeep.report import numbers
from tailkeep.report.edit_reading import EditedText, EditReading, read_edit
from tailkeep.runs import redact
from tailkeep.visible import visible

_CONTEXT = 40
_BAR = 16


def show_edits(path: Path | str, console: Console, *, edits: int = 20) -> None:
    """Print what the edit at `path` did, and `edits` of its edits, from shards that lie evenly among all.

    Raises:
        InputError: there is no run of an edit at `path`, or one of its files cannot be read.
    """
    reading = read_edit(path, edits=edits)
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
    return f"{part / whole:.2%}" if whole else numbers.DASH


def _band_table(reading: EditReading) -> Table:
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
