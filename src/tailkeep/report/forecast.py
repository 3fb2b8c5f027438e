"""The report of a forecast: survival by band with 50 and 90 % ribbons, what real data keeps, what was measured.

Rules: it reads `summary.json` alone; every name from a corpus passes the filters of `page_kit`. Survival is a share of
items from 0 to 100 %; a line is a median, hollow points were measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tailkeep.report import formatting
from tailkeep.report.page_kit import KeyNumber, render_template
from tailkeep.report.roles import BASELINE, REAL_DATA, TRUNCATED, Role
from tailkeep.report.svg import (
    LETTER,
    WIDTH,
    Figure,
    Scale,
    UniqueNames,
    label,
    linear,
    marker,
    path,
    spread,
    text,
    tick_texts,
    ticks,
)
from tailkeep.runs import RunDirectory, Storage, read_sealed

_TOP, _FOOT, _HEIGHT = 26.0, 46.0, 330.0
_ROW = 30.0


@dataclass(frozen=True)
class SurvivalLine:
    """One line: quantiles p5, p25, p50, p75, p95 at each generation, and `measured` (generation, share) points.

    `opacity` sets lines of one role apart; `ribbons` 1 draws the central 50 %, 2 also the central 90 %.
    """

    label: str
    role: Role
    generations: Sequence[float]
    quantiles: Sequence[Sequence[float]]
    measured: Sequence[tuple[float, float]] = ()
    opacity: float = 1.0
    ribbons: int = 2


def survival_chart(
    name: str,
    title: str,
    lines: Sequence[SurvivalLine],
    *,
    note: str,
    finding: str,
    goal: tuple[float, str] | None = None,
) -> Figure:
    """The lines over generations, with their ribbons, direct labels at their ends, and a dotted line at the `goal`."""
    ends = [f"{100 * line.quantiles[-1][2]:.0f} %" for line in lines]
    longest = max(len(label(line.label, 17)) for line in lines)
    left, right = 50.0, WIDTH - min(LETTER * (longest + 6) + 14, 190)
    last = max(line.generations[-1] for line in lines)
    x, y = linear((0, last), (left, right)), linear((0, 1), (_HEIGHT - _FOOT, _TOP))
    parts = [text(0, 13, "% of the items that are still written", "axis")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(path([(left, y(share)), (right, y(share))], "grid"))
        parts.append(text(left - 8, y(share) + 4.5, f"{100 * share:.0f}", "tick", "end"))
    values = [value for value in ticks(0, last, 6) if float(value).is_integer()]
    for value, word in zip(values, tick_texts(values), strict=True):
        parts.append(text(x(value), _HEIGHT - _FOOT + 20, word, "tick", "middle"))
    parts.append(text((left + right) / 2, _HEIGHT - 8, "generation", "axis", "middle"))
    parts += [_draw_line(line, x, y) for line in lines]
    if goal:
        parts.append(path([(left, y(goal[0])), (right, y(goal[0]))], "ref"))
        parts.append(text(WIDTH, 13, goal[1], "axis", "end"))
    heights = spread([y(line.quantiles[-1][2]) for line in lines], 17, _TOP, _HEIGHT - _FOOT)
    for line, end, height in zip(lines, ends, heights, strict=True):
        parts.append(
            f'<g class="{line.role.css}">{text(right + 8, height + 4.5, f"{label(line.label, 17)}  {end}", "val")}</g>'
        )
    return Figure(name, title, note, finding, _HEIGHT, "".join(parts))


def _draw_line(line: SurvivalLine, x: Scale, y: Scale) -> str:
    parts = []
    for low, high in ((1, 3), (0, 4))[: line.ribbons]:
        pairs = list(zip(line.generations, line.quantiles, strict=True))
        upper = [(x(g), y(values[high])) for g, values in pairs]
        lower = [(x(g), y(values[low])) for g, values in reversed(pairs)]
        parts.append(path([*upper, *lower], f"band {line.role.css}", closed=True))
    points = [(x(g), y(values[2])) for g, values in zip(line.generations, line.quantiles, strict=True)]
    parts.append(path(points, f"line {line.role.css}"))
    parts += [marker(line.role, x(g), y(share), filled=False) for g, share in line.measured]
    return f'<g opacity="{line.opacity:g}">{"".join(parts)}</g>'


def exponent_chart(
    name: str, title: str, rows: Sequence[tuple[str, float, float, float]], role: Role, *, note: str, finding: str
) -> Figure:
    """One row (label, b, low, high) per text around the line b = 1; a filled marker where the interval excludes 1."""
    height = _TOP + _ROW * len(rows) + _FOOT
    low, high = min(0.9, *(row[2] for row in rows)), max(1.1, *(row[3] for row in rows))
    left, right = 130.0, WIDTH - LETTER * len("0.00 (0.00 to 0.00)") - 14
    x = linear((low, high), (left, right))
    parts = [path([(x(1), _TOP - 6), (x(1), height - _FOOT)], "zero"), text(x(1), 13, "drift alone", "axis", "middle")]
    for number, (words, value, lower, upper) in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        parts.append(text(0, y + 4.5, label(words, 15), "row"))
        parts.append(f'<g class="{role.css}">{path([(x(lower), y), (x(upper), y)], "whisk")}</g>')
        parts.append(marker(role, x(value), y, filled=not lower <= 1 <= upper))
        parts.append(text(WIDTH, y + 4.5, f"{value:.2f} ({lower:.2f} to {upper:.2f})", "num", "end"))
    values = ticks(low, high, 5)
    for value, word in zip(values, tick_texts(values), strict=True):
        parts.append(text(x(value), height - _FOOT + 18, word, "tick", "middle"))
    parts.append(text((left + right) / 2, height - 8, "selection exponent b", "axis", "middle"))
    return Figure(name, title, note, finding, height, "".join(parts))


Tree = Mapping[str, Any]
_RIBBONS = "Line: median; ribbons, if wide enough to see: central 50 %, of the rarest also the central 90 %."
_CHARTS = 6


def read_forecast(path: Path | str) -> Tree:
    """The summary of the forecast at `path`; empty if it is not finished.

    Raises:
        InputError: there is no run at `path`, or its summary cannot be read.
    """
    summary = RunDirectory.open(Path(path)).path / "summary.json"
    if not summary.is_file():
        return {}
    return read_sealed(summary, advice="Run the forecast again.")


def show_forecast(path: Path | str, console: Console) -> None:
    """Print what the forecast at `path` says.

    Raises:
        InputError: there is no run at `path`, or its summary cannot be read.
    """
    tree = read_forecast(path)
    if not tree:
        console.print("The forecast is not finished. Run the same command again to continue.")
    for sentence in tree.get("sentences", ()):
        console.print(formatting.terminal_text(sentence))


def write_forecast(path: Path | str) -> Path:
    """Write (or rewrite) the report of the forecast at `path`, and return the page's path.

    Raises:
        InputError: there is no run at `path`, or its summary cannot be read.
        StorageError: the file system refused a write.
    """
    directory, tree = RunDirectory.open(Path(path)), read_forecast(path)
    figures = forecast_figures(tree)
    html = render_template(
        "forecast.html",
        run={"name": directory.path.resolve().name},
        record=directory.record,
        sentences=list(tree.get("sentences", ())),
        numbers=_numbers(tree),
        figures=figures,
        tables=list(_tables(tree)),
    )
    storage = Storage()
    for figure in figures:
        storage.write_text(directory.path / "figures" / f"{figure.name}.svg", figure.file)
    storage.write_text(directory.path / "report.html", html)
    return directory.path / "report.html"


def forecast_figures(tree: Tree) -> list[Figure]:
    """The figures of a summary, the main one first."""
    names = UniqueNames()
    if "chains" in tree:
        return list(_chain_figures(tree["chains"], names))
    return [figure for name, part in tree.get("items", {}).items() for figure in _item_figures(name, part, tree, names)]


def _item_figures(name: str, part: Tree, tree: Tree, names: UniqueNames) -> Iterator[Figure]:
    for side, synthetic in part["synthetic"].items():
        lines = [
            _line(
                _times(band),
                BASELINE,
                curve,
                2,
                [(1, synthetic["round_1"][band]["alive"])],
                1 - 0.2 * number,
                ribbons=2 - min(number, 1),
            )
            for number, (band, curve) in enumerate(_curves(synthetic["forecast"], "replace").items())
        ]
        if lines:
            title = f"What is left of {name}, without real data: {side}"
            yield _survival(
                names.new("forecast", name, side), title, lines, "Hollow: measured in the text. " + _RIBBONS
            )
    drift = [
        _line(_times(band), BASELINE, curve, 0, (), 1 - 0.2 * number, ribbons=2 - min(number, 1))
        for number, (band, curve) in enumerate(_curves(part["drift"], "replace").items())
    ]
    if drift:
        yield _survival(
            names.new("forecast", name, "drift"),
            f"What drift alone leaves of {name}, without real data",
            drift,
            f"By how often they occur in the real text. Drift alone is an unbiased sampler: a reference, no forecast. "
            f"{_RIBBONS}",
        )
    rarest = next(iter(_curves(part["drift"], "replace")), None)
    mixtures = [
        _line(
            _regime_label(curve),
            REAL_DATA if curve["regime"] != "replace" else BASELINE,
            curve,
            0,
            (),
            1.0,
        )
        for curve in part["drift"]
        if curve["band"] == rarest and curve["regime"] in {"replace", "mix", "accumulate"}
    ]
    if rarest and len(mixtures) > 1:
        goal = (tree["tail"]["keep"], f"dotted: {100 * tree['tail']['keep']:.0f} % to keep")
        yield _survival(
            names.new("forecast", name, "real data"),
            f"What real data keeps of {name} that occur {_times(rarest)}",
            mixtures,
            "Drift alone, with a share of real data in each training set, and with all of it kept (accumulate).",
            goal,
        )
    rows = [
        (side, *(synthetic["exponent"][key] for key in ("value", "low", "high")))
        for side, synthetic in part["synthetic"].items()
    ]
    if rows:
        worst = max(rows, key=lambda row: row[1])
        yield exponent_chart(
            names.new("forecast", name, "exponent"), f"Selection of {name} by text", rows, TRUNCATED,
            note="b above 1: rare items are written less often than their share; 95 % CI by resampling documents. "
            "Filled: the CI excludes 1.",
            finding=f"The largest exponent is {worst[1]:.2f} ({worst[2]:.2f} to {worst[3]:.2f}), of {worst[0]}.",
        )  # fmt: skip


def _times(band: str) -> str:
    return "once" if band == "1" else f"{band} times"


def _curves(curves: Sequence[Tree], regime: str) -> dict[str, Tree]:
    return {curve["band"]: curve for curve in curves if curve["regime"] == regime}


def _regime_label(curve: Tree) -> str:
    if curve["regime"] == "mix":
        return f"{100 * curve['real_share']:.0f} % real"
    return {"replace": "no real data", "accumulate": "all kept"}[curve["regime"]]


def _line(
    words: str,
    role: Role,
    curve: Tree,
    first: int,
    measured: Sequence[tuple[float, float]],
    opacity: float,
    *,
    ribbons: int = 0,
) -> SurvivalLine:
    """`first` is the generation of the first quantiles, or 0 to begin with every item alive in generation 0."""
    quantiles = curve["quantiles"] if first else [[1.0] * 5, *curve["quantiles"]]
    generations = list(range(first, first + len(quantiles)))
    return SurvivalLine(words, role, generations, quantiles, measured, opacity, ribbons)


def _survival(
    name: str, title: str, lines: Sequence[SurvivalLine], note: str, goal: tuple[float, str] | None = None
) -> Figure:
    ends = ", ".join(f"{line.label} {100 * line.quantiles[-1][2]:.0f} %" for line in lines)
    finding = f"{title}: after {lines[0].generations[-1]} generations {ends}."
    return survival_chart(name, title, lines, note=note, finding=finding, goal=goal)


def _chain_figures(points: Sequence[Tree], names: UniqueNames) -> Iterator[Figure]:
    groups: dict[tuple[str, str, int], list[Tree]] = {}
    for point in points:
        groups.setdefault((point["chain"], point["kind"], point["measured"]), []).append(point)
    for (chain, kind, measured), members in list(groups.items())[:_CHARTS]:
        lines = []
        for number, band in enumerate(dict.fromkeys(point["band"] for point in members)):
            rows = [point for point in members if point["band"] == band]
            generations = [measured + point["ahead"] for point in rows]
            truths = [(float(g), point["truth"]) for g, point in zip(generations, rows, strict=True)]
            quantiles = [point["quantiles"] for point in rows]
            lines.append(
                SurvivalLine(
                    _times(band), BASELINE, generations, quantiles, truths, 1 - 0.2 * number, 2 - min(number, 1)
                )
            )
        after = "1 measured round" if measured == 1 else f"{measured} measured rounds"
        title = f"{chain}: {kind}, after {after}"
        yield _survival(
            names.new("forecast", chain, kind, f"{measured}"), title, lines, f"Hollow: measured later. {_RIBBONS}"
        )


def _numbers(tree: Tree) -> list[KeyNumber]:
    """What is left of the rarest band, what real data keeps of it, and which share of real data the tail needs."""
    if not tree.get("items"):
        return []
    name, part = next(iter(tree["items"].items()))
    curves = _curves(part["drift"], "replace")
    if not curves:
        return []
    band, curve = next(iter(curves.items()))
    bare, accumulated = (one["quantiles"][-1] for one in (curve, _curves(part["drift"], "accumulate")[band]))
    tail, share = tree["tail"], part["required_real_share"]
    held = f"{100 * tail['keep']:.0f} % of {name} that occur "
    held += "once" if tail["max_count"] == 1 else f"at most {tail['max_count']} times"
    of_models = [(side, _curves(text["forecast"], "replace")) for side, text in part["synthetic"].items()]
    side, model = next(((side, some[band]["quantiles"][-1]) for side, some in of_models if band in some), ("", bare))
    left_by, more = (side, f"; drift alone: {100 * bare[2]:.0f}") if side else ("drift alone", "")
    return [
        KeyNumber(
            BASELINE,
            f"{100 * model[2]:.0f}",
            "%",
            f"of {name} that occur {_times(band)} are left by {left_by} after {tree['generations']} generations",
            f"90 %: {100 * model[0]:.0f} to {100 * model[4]:.0f}{more}",
        ),
        KeyNumber(
            REAL_DATA,
            f"{100 * accumulated[2]:.0f}",
            "%",
            "of them with all real data kept beside all synthetic text",
            f"drift alone, 90 %: {100 * accumulated[0]:.0f} to {100 * accumulated[4]:.0f}",
        ),
        KeyNumber(
            REAL_DATA,
            formatting.DASH if share is None else f"{100 * share:.0f}",
            "" if share is None else "%",
            f"real data in each training set hold {held}",
            "no share does" if share is None else "drift alone",
        ),
    ]


def _tables(tree: Tree) -> Iterator[dict[str, Any]]:
    """Survival at the last generation by regime and band."""
    for name, part in tree.get("items", {}).items():
        texts = [("drift alone", part["drift"])]
        texts += [(side, synthetic["forecast"]) for side, synthetic in part["synthetic"].items()]
        for source, curves in texts:
            bands = list(dict.fromkeys(curve["band"] for curve in curves))
            rows: dict[str, dict[str, str]] = {}
            for curve in curves:
                regime = curve["regime"] + (f" {100 * curve['real_share']:.0f} %" if curve["real_share"] else "")
                low, middle, high = (100 * curve["quantiles"][-1][index] for index in (0, 2, 4))
                rows.setdefault(regime, {})[curve["band"]] = f"{middle:.0f} % ({low:.0f} to {high:.0f})"
            if rows:
                yield {"title": f"{name}, {source}", "bands": bands, "rows": rows}
