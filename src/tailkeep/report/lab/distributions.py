"""Distributions of one arm, generation by generation: confidence histograms, densities, points.

Rule: a table of an unexpected shape is skipped; the rest of the report does not depend on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.lab.samples import first_middle_last
from tailkeep.report.svg import HAIR, INK, MUTED, SMALL, Drawing, LineStyle, canvas, draw_legend, label_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_POINTS = 300
_CEILING = 2.5


@dataclass(frozen=True)
class TableColumns:
    """Equally long columns of one table, at one generation."""

    generation: int
    values: Mapping[str, Sequence[float]]


def plot_confidence(group: ArmGroup, arm: str, line_style: LineStyle, name: str) -> Drawing | None:
    """Token probabilities at the first and the last generation, on held-out text and on the model's own samples."""
    tables = _summed(group.entries_of(arm))
    if not tables:
        return None
    ends = [tables[0], tables[-1]] if len(tables) > 1 else tables
    first, last = ends[0], ends[-1]
    top_bin = [100 * table.values["common"][-1] / max(1.0, sum(table.values["common"])) for table in ends]
    return Drawing(
        name=name,
        title=f"Confidence of {arm}",
        caption="Distribution of the probability that the model assigns to each token, all seeds pooled.",
        alt=f"Confidence of {arm} on its own samples: the most confident bin holds {top_bin[0]:.0f} % of the tokens at "
        f"generation {first.generation} and {top_bin[-1]:.0f} % at generation {last.generation}.",
        build=lambda: _confidence(ends, arm, line_style),
    )


def plot_density(group: ArmGroup, arm: str, line_style: LineStyle, name: str) -> Drawing | None:
    """The fitted density at up to five generations, over the real one."""
    tables = _first_seed(group, arm, "density", ("x", "model", "real"))
    if not tables:
        return None
    return Drawing(
        name=name,
        title=f"Density of {arm}",
        caption="Fitted density of the first seed (of one chain, or along the first axis), darker with each "
        "generation; dashed: the real density.",
        alt=f"Density of {arm} at generations {_listed(tables)}; its peak goes from "
        f"{max(tables[0].values['model']):.2f} to {max(tables[-1].values['model']):.2f}, "
        f"the real one's is {max(tables[0].values['real']):.2f}.",
        build=lambda: _density(tables, arm, line_style),
    )


def plot_points(group: ArmGroup, arm: str, line_style: LineStyle, name: str) -> Drawing | None:
    """Samples of the model over the real centres, at up to four generations."""
    tables = _first_seed(group, arm, "points", ("x", "y"), most=4)
    centres = _first_seed(group, arm, "centres", ("x", "y"), most=4)
    if not tables or not centres:
        return None
    return Drawing(
        name=name,
        title=f"Samples of {arm}",
        caption=f"Up to {_MAX_POINTS} samples of the first seed; crosses mark the real modes.",
        alt=f"Samples of {arm} over the {len(centres[0].values['x'])} real modes at generations {_listed(tables)}.",
        build=lambda: _points(tables, centres[0], arm, line_style),
    )


def _confidence(tables: Sequence[TableColumns], arm: str, line_style: LineStyle) -> "Figure":
    figure, panels = canvas(f"Confidence of {arm}", columns=2)
    first, last = tables[0], tables[-1]
    for panel, column, words in zip(panels, ("real", "common"), ("held-out text", "its own samples"), strict=True):
        edges = list(first.values["edges"])
        if last is not first:
            panel.stairs(_shares(first.values[column]), edges, fill=True, color=HAIR)
        panel.stairs(_shares(last.values[column]), edges, color=line_style.colour, linewidth=1.5)
        panel.set_xlim(0, 1)
        panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        panel.set_title(words, fontsize=SMALL, color=MUTED)
        label_axes(panel, x="probability")
    top = max(max(_shares(table.values[c])) for table in tables for c in ("real", "common"))
    for panel in panels:
        panel.set_ylim(0, 1.05 * top if top > 0 else 1)
    panels[1].set_yticklabels([])
    label_axes(panels[0], x="probability", y="% of tokens")
    lines = [(f"generation {last.generation}", line_style.colour, 1.0)]
    if last is not first:
        lines.insert(0, (f"generation {first.generation}", MUTED, 1.0))
    draw_legend(panels[0], lines, x=0.5, ha="center")
    return figure


def _density(tables: Sequence[TableColumns], arm: str, line_style: LineStyle) -> "Figure":
    figure, (panel,) = canvas(f"Density of {arm}")
    real = tables[0]
    for table, opacity in zip(tables, _ramp(len(tables)), strict=True):
        panel.plot(table.values["x"], table.values["model"], color=line_style.colour, alpha=opacity, linewidth=1.4)
    panel.plot(real.values["x"], real.values["real"], color=INK, linestyle=(0, (4, 2)), linewidth=1.1)
    tallest = max(real.values["real"])
    peak = max(max(table.values["model"]) for table in tables)
    clipped = tallest > 0 and peak > _CEILING * tallest
    panel.set_ylim(0, _CEILING * tallest if clipped else 1.08 * max(peak, tallest, 1e-9))
    panel.set_xlim(min(real.values["x"]), max(real.values["x"]))
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    label_axes(panel, x="x (clipped above)" if clipped else "x")
    lines = [
        (f"generation {t.generation}", line_style.colour, o) for t, o in zip(tables, _ramp(len(tables)), strict=True)
    ]
    draw_legend(panel, [*lines, ("real", INK, 1.0)], x=0.99, ha="right")
    return figure


def _points(tables: Sequence[TableColumns], centres: TableColumns, arm: str, line_style: LineStyle) -> "Figure":
    side = 1 if len(tables) == 1 else 2
    rows = -(-len(tables) // side)
    figure, panels = canvas(f"Samples of {arm}", rows=rows, columns=side, height=2.1 * rows + 0.4)
    xs, ys = list(centres.values["x"]), list(centres.values["y"])
    margin = 0.3 * max(max(xs) - min(xs), max(ys) - min(ys), 1.0)
    for panel in panels[len(tables) :]:
        panel.set_axis_off()
    for panel, table in zip(panels, tables, strict=False):
        across, up = table.values["x"][:_MAX_POINTS], table.values["y"][:_MAX_POINTS]
        panel.plot(across, up, ".", color=line_style.colour, alpha=0.45, markersize=3, markeredgewidth=0)
        panel.plot(xs, ys, "+", color=INK, markersize=6, markeredgewidth=0.9)
        panel.set_xlim(min(xs) - margin, max(xs) + margin)
        panel.set_ylim(min(ys) - margin, max(ys) + margin)
        panel.set_aspect("equal")
        panel.set_xticks([])
        panel.set_yticks([])
        for spine in panel.spines.values():
            spine.set_visible(True)
            spine.set_linewidth(0.6)
        panel.set_title(f"generation {table.generation}", fontsize=SMALL, color=MUTED)
    return figure


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    return [100 * count / total if total > 0 else 0.0 for count in counts]


def _ramp(count: int) -> list[float]:
    return [1.0] if count == 1 else [0.35 + 0.65 * n / (count - 1) for n in range(count)]


def _listed(tables: Sequence[TableColumns]) -> str:
    return ", ".join(str(table.generation) for table in tables)


def _summed(entries: Sequence[Entry]) -> list[TableColumns]:
    """The confidence counts of all seeds together, for each generation that every seed has recorded."""
    seeds = len({entry.seed for entry in entries})
    by_generation: dict[int, list[Mapping[str, Sequence[float]]]] = {}
    for entry in entries:
        bins = _columns(entry.tables.get("confidence"), ("real", "common"))
        edges = _columns(entry.tables.get("confidence"), ("edges",))
        if bins and edges and len(edges["edges"]) == len(bins["real"]) + 1:
            by_generation.setdefault(entry.generation, []).append({**bins, **edges})
    return [
        TableColumns(
            generation,
            {
                "edges": tables[0]["edges"],
                **{c: [sum(some) for some in zip(*(t[c] for t in tables), strict=True)] for c in ("real", "common")},
            },
        )
        for generation, tables in sorted(by_generation.items())
        if len(tables) == seeds and len({tuple(t["edges"]) for t in tables}) == 1
    ]


def _first_seed(group: ArmGroup, arm: str, table: str, names: tuple[str, ...], most: int = 5) -> list[TableColumns]:
    entries = group.entries_of(arm)
    seed = entries[0].seed
    stored = {e.generation: _columns(e.tables.get(table), names) for e in entries if e.seed == seed}
    valid = {generation: columns for generation, columns in stored.items() if columns}
    return [TableColumns(generation, valid[generation]) for generation in first_middle_last(sorted(valid), most)]


def _columns(table: Any, names: tuple[str, ...]) -> dict[str, list[float]] | None:
    """The columns `names` of a stored table, if all are present, of one length and finite."""
    if not isinstance(table, Mapping) or not all(isinstance(table.get(name), list) for name in names):
        return None
    columns = {name: table[name] for name in names}
    numeric = all(isinstance(v, int | float) and abs(v) < 1e300 for column in columns.values() for v in column)
    if not numeric or len({len(column) for column in columns.values()}) != 1 or not columns[names[0]]:
        return None
    return {name: [float(v) for v in column] for name, column in columns.items()}
