"""Draws the figures of pages from the numbers on the page or in docs/results: nothing is typed in by hand.

    python docs/page_figures.py            writes them to docs/figures
    python docs/page_figures.py --check    exits with 1 if a number has changed since

Losses by cost, the memory of an edit, the share of synthetic text by corpus, the forecast's errors by group, the floors
of the package, and pictures of the replication in the manner of the papers: the U-shape of token probabilities, the
range of perplexities, the confidence of a model in its own text.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tailkeep.report.svg import text_width

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
.area{fill-opacity:.22;stroke-width:1.5}.hollow{fill:var(--paper);stroke-width:2.5}text.a,text.b,text.c{stroke:none;font-weight:650}
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
    shape = f'viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}"'
    shape = f'{shape} role="img" aria-label="{escape(label)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {shape}>'
    paper = '<rect class="paper" width="100%" height="100%"/>'
    return f"{head}<style>{STYLE}</style>{paper}" + "\n".join(body) + "</svg>\n"


def legend(series: Sequence[str]) -> list[tuple[float, str, str]]:
    """Of each series where its entry begins, its name and its kind."""
    entries, x = [], 16.0
    for name, kind in zip(series, "abc", strict=False):
        entries.append((x, name, kind))
        x += 40 + text_width(name, bold=True)
    return entries


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
    hollow = " hollow" if len(series) > 1 else ""
    body = [text(16, 30, title, "title")]
    for x, name, kind in legend(series):
        mark = f"{kind}{hollow}" if kind == "a" else kind
        body += [f'<circle cx="{x + 6}" cy="52" r="6" class="{mark}"/>', text(x + 18, 57, name, kind)]
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
            mark = f"{kind}{hollow}" if kind == "a" else kind
            if value is not None:
                body.append(f'<circle cx="{at(value):.1f}" cy="{y}" r="6" class="{mark}"/>')
        if row.note:
            body.append(text(WIDTH - 16, y + 5, row.note, "", "end"))
    return svg(bottom + 56, label, body)


@dataclass(frozen=True)
class Panel:
    """A histogram per series, as shares of its total, over bins of equal width from `start` to `stop`."""

    title: str
    shares: Sequence[Sequence[float]]
    start: float
    stop: float


def histogram(values: Sequence[float], start: float, stop: float, bins: int) -> list[float]:
    """The share of `values` in each of `bins` bins of equal width; what lies outside is in the first or last."""
    counts = [0] * bins
    for value in values:
        counts[min(max(int((value - start) / (stop - start) * bins), 0), bins - 1)] += 1
    return [count / len(values) for count in counts]


def panel_grid(
    title: str,
    axis: str,
    series: Sequence[str],
    panels: Sequence[Panel],
    *,
    ticks: Sequence[tuple[float, str]],
    top: float,
    step: float,
    label: str,
    columns: int = 4,
) -> str:
    """Panels in rows of `columns`, all with one vertical axis from 0 to `top` in steps of `step`, in per cent."""
    width, height, left, gap = (WIDTH - 56) / columns - 14, 150, 56, 14
    body = [text(16, 30, title, "title")]
    for x, name, kind in legend(series):
        body += [f'<rect x="{x}" y="46" width="12" height="12" class="{kind}"/>', text(x + 18, 57, name, kind)]
    rows = math.ceil(len(panels) / columns)
    for number, panel in enumerate(panels):
        origin = left + (number % columns) * (width + gap)
        floor = 108 + height + (number // columns) * (height + 70)
        body.append(text(origin, floor - height - 10, panel.title, "ink"))
        for line in range(round(top / step) + 1):
            y = floor - height * line * step / top
            body.append(f'<path d="M{origin:.1f} {y:.1f}h{width:.1f}" class="grid"/>')
            if number % columns == 0:
                body.append(text(origin - 8, y + 5, f"{100 * line * step:g}", "", "end"))
        for value, words in ticks:
            place = origin + width * (value - panel.start) / (panel.stop - panel.start)
            anchor = {panel.start: "start", panel.stop: "end"}.get(value, "middle")
            body.append(text(place, floor + 20, words, "", anchor))
        for shares, kind in zip(panel.shares, "abc", strict=False):
            bar = width / len(shares)
            path = f"M{origin:.1f} {floor:.1f}" + "".join(
                f"V{floor - height * min(share, top) / top:.1f}h{bar:.2f}" for share in shares
            )
            body.append(f'<path d="{path}V{floor:.1f}" class="{kind} area"/>')
    bottom = 108 + rows * height + (rows - 1) * 70
    body.append(text(WIDTH / 2, bottom + 44, axis, "", "middle"))
    return svg(bottom + 60, label, body)


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


def edit_memory() -> str:
    rows = [
        DotRow(cells[0].partition(",")[0], [number / 1024 for number in map(_mebibytes, cells[1:3])])
        for cells in tables("log/cost-of-corpus-work.md", "A Llama of 2 layers and width 64")
    ]
    return dot_plot(
        "Memory at a vocabulary of 262,144", "peak GiB", ["2,985 tokens", "12,075 tokens"], rows, stop=5, step=1,
        label="Peak memory at a vocabulary of 262,144: tailkeep edit 1.0 to 1.1 GiB, a bare forward pass 1.2, the "
        "published way 4.7, the same for 2,985 and 12,075 tokens",
    )  # fmt: skip


def _mebibytes(cell: str) -> float:
    return float(cell.replace(",", ""))


def synthetic_share() -> str:
    rows = [
        DotRow(f"{cells[0]}, {cells[3]}", [numbers(cells[3])[0], numbers(cells[4])[0]])
        for cells in tables("auditing/synthetic-share.md", "**In-domain**")
    ]
    return dot_plot(
        "Share of synthetic documents: true and estimated", "share of documents, %", ["true", "mean estimate"],
        rows, stop=100, step=20,
        label="Mean estimates of the share of synthetic documents lie within 10 percentage points of the true share "
        "for six corpora",
    )  # fmt: skip


def forecast_errors() -> str:
    rows = []
    for cells in tables("forecast/validation.md", "Without demo's truncated"):
        name = f"{cells[0]} ({cells[3]})"
        rows.append(DotRow(name, [float(cells[6]), float(cells[7]), float(cells[5])], note=f"{float(cells[4]):.2f}"))
    return dot_plot(
        "Error of the forecast and of its two rivals, validation half",
        "mean absolute error of the surviving share (in brackets: points)",
        ["unchanged", "drift alone", "forecast"], rows, stop=0.3, step=0.1, note="in 90 %",
        label="Mean absolute errors by group on the validation half: the forecast is nearer than the unchanged share "
        "in most groups, and nearer than drift alone where a decoder truncates",
    )  # fmt: skip


def replay_selectors() -> str:
    rows = [
        DotRow(cells[0].replace("*", "").replace("`", ""), [float(cells[3]), float(cells[1])], note=cells[2])
        for cells in tables("forecast/replay.md", "prints both tables.")
    ]
    return dot_plot(
        "Real documents replayed beside synthetic text, after three rounds", "share, mean of 12 seeds",
        ["KR-test accuracy", "rare facts stated"], rows, stop=1, step=0.2, note="held-out NLL",
        label="Documents chosen by expected loss or by surplexity keep more rare facts than random ones at 5, 10 and "
        "20 % of the real tokens, and a higher KR-test accuracy",
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
        body.append(text(470, y + 22, words.strip().split("; ")[0]))
        y += 40
    return svg(y + 8, "The floors of the package, from the command line down to the errors", body)


TEXTS = {"wikitext": "WikiText", "pubmedqa": "PubMedQA", "tinystories": "TinyStories", "gsm8k": "GSM8K"}
MODELS = {"smollm2-135m": "SmolLM2 135M", "gemma-3-270m": "Gemma 3 270M"}


def token_probabilities() -> str:
    """ToEdit's U-shape: the probability that each model gives to each token of four human texts."""
    results = json.loads((DOCS / "results" / "p4" / "summary.json").read_text(encoding="utf-8"))

    def shares(model: str, name: str) -> list[float]:
        bins = results[f"{model} {name}"]["histogram"]
        return [sum(bins[place : place + 2]) / sum(bins) for place in range(0, len(bins), 2)]

    return panel_grid(
        "Two models on human text: most tokens are improbable, and many are nearly certain",
        "probability of the token; vertical: share of tokens, %", list(MODELS.values()),
        [Panel(title, [shares(model, name) for model in MODELS], 0, 1) for name, title in TEXTS.items()],
        ticks=[(0, "0"), (0.5, "0.5"), (1, "1")], top=0.5, step=0.1,
        label="Histograms of token probabilities of two models on four human texts. In each the lowest tenth is the "
        "highest bar, from 27 to 46 %, the middle is low, and the highest tenth rises again to 9 to 20 %",
    )  # fmt: skip


def perplexity_ranges() -> str:
    """ToEdit's ranges of perplexity: documents of people and of models, matched in length, under each model."""
    pairs = {
        "squad_gpt2-xl": "gpt2-xl", "squad_gpt-j-6B": "gpt-j-6B", "pubmed_gpt-4": "gpt-4 answers",
        "writing_gpt-4": "gpt-4 stories",
    }  # fmt: skip
    low, high = math.log(6), math.log(500)
    panels = []
    for model, short in zip(MODELS, ("SmolLM2", "Gemma"), strict=True):
        for name, writer in pairs.items():
            path = DOCS / "results" / "p7" / f"{model}-{name}.json"
            sides = json.loads(path.read_text(encoding="utf-8"))
            shares = [histogram(sides[side]["nll"], low, high, 22) for side in ("synthetic", "human")]
            panels.append(Panel(f"{writer}, {short}", shares, low, high))
    return panel_grid(
        "Synthetic documents are more probable, and spread less in three of four files",
        "perplexity of a document under the model that is named; vertical: share of documents, %",
        ["synthetic", "human"], panels,
        ticks=[(math.log(value), str(value)) for value in (10, 30, 100, 300)], top=0.4, step=0.1,
        label="Histograms of the perplexity of documents by people and by models, four files under two models. The "
        "synthetic documents lie further left in each of the eight panels",
    )  # fmt: skip


def own_confidence() -> str:
    """ForTIFAI's figure 1: the confidence of a model in its own text, in unseen real text and in what it trained on."""
    scores = json.loads((DOCS / "results" / "p1" / "smollm2-135m.json").read_text(encoding="utf-8"))

    def panel(reader: str) -> Panel:
        texts = [scores[reader][name] for name in (f"{reader}/sample", "unseen", "trained")]
        title = "not fine-tuned" if reader == "base" else f"fine-tuned, {reader.replace('-', ' ')}"
        return Panel(title, [histogram(text, 0, 1, 20) for text in texts], 0, 1)

    return panel_grid(
        "SmolLM2 on its own text and on real text, before and after fine-tuning",
        "mean probability of a block of 128 tokens; vertical: share of blocks, %",
        ["its own text, T = 1", "real text, unseen", "real text, trained on"],
        [panel(reader) for reader in scores],
        ticks=[(0, "0"), (0.5, "0.5"), (1, "1")], top=1, step=0.25,
        label="Histograms of the confidence of a model. Not fine-tuned, it is more confident on real text than on its "
        "own. Each fine-tuned model is more confident on all texts: on its own a little more than on unseen real text, "
        "and most on what it was trained on",
    )  # fmt: skip


FIGURES: dict[str, Callable[[], str]] = {
    "cost-of-losses": cost_of_losses,
    "edit-memory": edit_memory,
    "synthetic-share": synthetic_share,
    "forecast-errors": forecast_errors,
    "floors": floors,
    "token-probabilities": token_probabilities,
    "perplexity-ranges": perplexity_ranges,
    "own-confidence": own_confidence,
    "replay-selectors": replay_selectors,
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
        sys.exit(f"{', '.join(changed)}: the numbers have changed. Run python docs/page_figures.py")


if __name__ == "__main__":
    main()
