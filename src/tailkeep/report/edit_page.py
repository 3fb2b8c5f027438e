"""The page of an edit: one HTML file that loads nothing and runs nothing.

Rule: autoescape is on and every text that came from a corpus or a name passes the filters of `page`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailkeep.report.edit_reading import Change, EditedText, EditReading, read_edit
from tailkeep.report.edits import share, totals
from tailkeep.report.page import new_environment, own_text, style_sheet
from tailkeep.runs import Storage

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
    reading = read_edit(path, edits=_EDITS, rejects=_REJECTS)
    (storage or Storage()).write_text(reading.path / "report.html", edit_page(reading))
    return reading.path / "report.html"


def edit_page(reading: EditReading) -> str:
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


def _bars(reading: EditReading) -> Iterator[dict[str, Any]]:
    counts = reading.counts
    most = max([1, *(counts[f"{kind}/{band}"] for band in reading.bands for kind in ("tokens", "after"))])
    for band in reading.bands:
        before, after = (round(_HEIGHT * counts[f"{kind}/{band}"] / most, 1) for kind in ("tokens", "after"))
        yield {"band": band, "before": before, "after": after}


def _bands(reading: EditReading) -> Iterator[list[str]]:
    counts = reading.counts
    for band in reading.bands:
        tokens, flagged, after = (counts[f"{kind}/{band}"] for kind in ("tokens", "flagged", "after"))
        changed = counts[f"changed/{band}"] + counts[f"deleted/{band}"]
        shares = share(tokens, counts["tokens"]), share(flagged, tokens), share(changed, tokens)
        yield [band, f"{tokens:,}", *shares, f"{after:,}"]


def _pieces(text: EditedText) -> list[tuple[str, Change | None]]:
    """What was kept, shortened, each with the change that follows it."""
    return [(_shortened(kept), change) for kept, change in zip(text.kept, (*text.changes, None), strict=True)]


def _shortened(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} … {text[-half:]}"


def _shards(reading: EditReading) -> Iterator[list[str]]:
    for name, counts in list(reading.shards.items())[:_SHARDS]:
        changed = counts["changed"] + counts["deleted"]
        numbers = (f"{counts[kind]:,}" for kind in ("documents", "edited", "rejected", "tokens"))
        yield [name, *numbers, share(counts["flagged"], counts["tokens"]), share(changed, counts["tokens"])]
