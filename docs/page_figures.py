"""Draws the figures of pages whose numbers stand on the page: the tables are read, nothing is typed in by hand.

    python docs/page_figures.py            writes them to docs/figures
    python docs/page_figures.py --check    exits with 1 if a table has changed since

Losses by cost, the share of synthetic text by corpus, the forecast's errors by group, and the floors of the package.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
STYLE = """
svg{--paper:#fff;--ink:#1c2024;--muted:#59616b;--hair:#dfe3e8;--a:#d04a10;--b:#24292f;--c:#0a6fc0;
--box:#f3f5f7}
@media (prefers-color-scheme:dark){svg{--paper:#14171b;--ink:#eceff3;--muted:#a3abb5;--hair:#2f353c;
--a:#ff7f45;--b:#eceff3;--c:#6bb8ff;--box:#20252b}}
text{font:15px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--muted)}
.title{font-size:18px;font-weight:650;fill:var(--ink)}.ink{fill:var(--ink)}.bold{font-weight:650;fill:var(--ink)}
.paper{fill:var(--paper)}.grid{stroke:var(--hair)}.range{stroke-width:2}.box{fill:var(--box);stroke:var(--hair)}
.a{fill:var(--a);stroke:var(--a)}.b{fill:var(--b);stroke:var(--b)}.c{fill:var(--c);stroke:var(--c)}
.hollow{fill:var(--paper);stroke-width:2.5}text.a,text.b,text.c{stroke:none;font-weight:650}
"""
WIDTH, LABELS, ROW, TOP = 900, 370, 27, 88


@dataclass(frozen=True)
class DotRow:
    """A row of a dot plot: its label, a value per series (None: none), a range of the last, a note behind it."""

    label: str
    values: Sequence[float | None]
    bounds: tuple[float, float] | None = None
    note: str = ""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def svg(height: float, label: str, body: list[str], width: int = WIDTH) -> str:
    shape = f'viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(label)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {shape}>'
    paper = '<rect class="paper" width="100%" height="100%"/>'
    return f"{head}<style>{STYLE}</style>{paper}" + "\n".join(body) + "</svg>\n"


def dot_plot(
    title: str,
    axis: str,
    series: Sequence[str],
    rows: Sequence[DotRow],
    *,
    stop: float,
    step: float,
    label: str,
    note: str = "",
) -> str:
    """Rows with a mark per series over an axis from 0 to `stop`; the first series is hollow."""
    right = WIDTH - 150 if note else WIDTH - 30

    def at(value: float) -> float:
        return LABELS + (right - LABELS) * min(value, stop) / stop

    bottom = TOP + ROW * len(rows)
    body = [text(16, 30, title, "title")]
    x = 16.0
    for name, kind in zip(series, "abc", strict=False):
        hollow = " hollow" if kind == "a" and len(series) > 1 else ""
        body += [f'<circle cx="{x + 6}" cy="52" r="6" class="{kind}{hollow}"/>', text(x + 18, 57, name, kind)]
        x += 46 + 8 * len(name)
    for number in range(round(stop / step) + 1):
        value = number * step
        body += [
            f'<path d="M{at(value):.1f} {TOP - 8}V{bottom}" class="grid"/>',
            text(at(value), bottom + 20, f"{value:g}", "", "middle"),
        ]
    body.append(text((LABELS + right) / 2, bottom + 42, axis, "", "middle"))
    if note:
        body.append(text(WIDTH - 16, TOP - 12, note, "", "end"))
    for number, row in enumerate(rows):
        y = TOP + ROW * (number + 0.5)
        body.append(text(LABELS - 14, y + 5, row.label, "ink", "end"))
        kinds = "abc"[: len(row.values)]
        if row.bounds:
            body.append(f'<path d="M{at(row.bounds[0]):.1f} {y}H{at(row.bounds[1]):.1f}" class="range {kinds[-1]}"/>')
        for value, kind in zip(row.values, kinds, strict=True):
            hollow = " hollow" if kind == "a" and len(series) > 1 else ""
            if value is not None:
                body.append(f'<circle cx="{at(value):.1f}" cy="{y}" r="6" class="{kind}{hollow}"/>')
        if row.note:
            body.append(text(WIDTH - 16, y + 5, row.note, "", "end"))
    return svg(bottom + 56, label, body)


def tables(page: str, after: str) -> list[list[str]]:
    """The rows of the first table behind the words `after` on a page, its head left out."""
    lines = (DOCS / page).read_text(encoding="utf-8").split(after, 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def numbers(cell: str) -> list[float]:
    return [float(one) for one in re.findall(r"-?\d*\.?\d+", cell)]


def cost_of_losses() -> str:
    rows = []
    for cells in tables("log/cost-of-losses.md", "One NVIDIA H200"):
        middle, low, high = numbers(cells[4])
        rows.append(DotRow(cells[0], [middle], (low, high), f"{numbers(cells[5])[0]:.2f}"))
    return dot_plot(
        "The loss on one H200, forward and backward, vocabulary 131,072",
        "time relative to the fastest exact cross-entropy, median and range",
        [], rows, stop=5, step=1, note="memory, relative",
        label="Time of the losses on one H200, vocabulary 131,072: torch.compile 1.00, tailkeep fused 1.09 with all "
        "tokens kept and 0.81 with half, Liger 1.38, cut-cross-entropy 4.32",
    )  # fmt: skip


def synthetic_share() -> str:
    rows = [
        DotRow(f"{cells[0]}, {cells[3]}", [numbers(cells[3])[0], numbers(cells[4])[0]])
        for cells in tables("auditing/synthetic-share.md", "**In-domain**")
    ]
    return dot_plot(
        "Share of synthetic documents: true and estimated", "share of documents, %", ["true", "mean estimate"],
        rows, stop=100, step=20,
        label="Mean estimates of the share of synthetic documents lie within 10 percentage points of the true share "
        "for five corpora",
    )  # fmt: skip


def forecast_errors() -> str:
    rows = []
    for cells in tables("forecast/validation.md", "| of drift alone | 0.103"):
        name = f"{cells[0]} ({cells[3]})"
        rows.append(DotRow(name, [float(cells[6]), float(cells[7]), float(cells[5])], note=f"{float(cells[4]):.2f}"))
    return dot_plot(
        "Error of the forecast and of its two rivals, validation half",
        "mean absolute error of the surviving share (in brackets: points)",
        ["unchanged", "drift alone", "forecast"], rows, stop=0.3, step=0.1, note="in 90 %",
        label="Mean absolute errors by group on the validation half: the forecast is nearer than the unchanged share "
        "in most groups, and nearer than drift alone where a decoder truncates",
    )  # fmt: skip


def floors() -> str:
    """The floors of the package, from the block of docs/architecture.md."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    block = page.split("## Floors")[1].split("```")[1].strip("\n")
    body = [text(16, 30, "Imports go down, never up or sideways", "title")]
    y = 48.0
    for line in block.splitlines():
        rooms, _, words = line.partition("   ")
        parts = [one.strip() for one in rooms.split("|")]
        share = 440 / len(parts)
        for number, room in enumerate(parts):
            x = 16 + share * number
            body += [
                f'<rect class="box" x="{x:.0f}" y="{y:.0f}" width="{share - 6:.0f}" height="34" rx="4"/>',
                text(x + (share - 6) / 2, y + 22, room, "bold", "middle"),
            ]
        body.append(text(470, y + 22, re.split(r" \| |; ", words.strip())[0]))
        y += 40
    return svg(y + 8, "The floors of the package, from the command line down to the errors", body)


FIGURES = {
    "cost-of-losses": cost_of_losses,
    "synthetic-share": synthetic_share,
    "forecast-errors": forecast_errors,
    "floors": floors,
}


def main() -> None:
    """Draw the figures, or check them."""
    changed = []
    for name, draw in FIGURES.items():
        path = DOCS / "figures" / f"{name}.svg"
        picture = draw()
        if not path.exists() or path.read_text(encoding="utf-8") != picture:
            changed.append(path.name)
            if "--check" not in sys.argv[1:]:
                path.write_text(picture, encoding="utf-8")
    if "--check" in sys.argv[1:] and changed:
        sys.exit(f"{', '.join(changed)}: the tables have changed. Run python docs/page_figures.py")


if __name__ == "__main__":
    main()
