"""The report of a forecast: survival by band with 50 and 90 % ribbons, what real data keeps, what was measured.

Rule: it reads `summary.json` alone; every name from a corpus passes the filters of `page_kit`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tailkeep.report import formatting
from tailkeep.report.forecast_charts import SurvivalLine, exponent_chart, survival_chart
from tailkeep.report.formatting import counted
from tailkeep.report.page_kit import KeyNumber, render_template
from tailkeep.report.phrases import BASELINE, REAL_DATA, TRUNCATED, Role
from tailkeep.report.svg import Figure, UniqueNames
from tailkeep.runs import RunDirectory, Storage, read_sealed

Tree = Mapping[str, Any]
_RIBBONS = "Line: median; ribbons, if wide enough to see: central 50 and 90 %."
_REGIMES = {
    "replace": "without real data",
    "mix": "real data mixed in",
    "accumulate": "all text kept",
    "accumulate_subsample": "all text kept, at a fixed size",
    "regenerate": "real data in parts",
}
"""How the page calls a regime, before its name in brackets."""
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
    groups = _figure_groups(tree)
    html = render_template(
        "forecast.html",
        run={"name": directory.path.resolve().name},
        record=directory.record,
        verdict=_verdict(tree),
        sentences=list(tree.get("sentences", ())),
        keys=_keys(tree),
        numbers=_score_numbers(tree) if "chains" in tree else _numbers(tree),
        groups=groups,
        num_omitted=max(0, len(_chain_groups(tree.get("chains", ()))) - _CHARTS),
        tables=list(_tables(tree)),
    )
    storage = Storage()
    for figure in (figure for _, figures in groups for figure in figures):
        storage.write_text(directory.path / "figures" / f"{figure.name}.svg", figure.file)
    storage.write_text(directory.path / "report.html", html)
    return directory.path / "report.html"


def forecast_figures(tree: Tree) -> list[Figure]:
    """The figures of a summary, the main one first."""
    return [figure for _, figures in _figure_groups(tree) for figure in figures]


def _figure_groups(tree: Tree) -> list[tuple[str, list[Figure]]]:
    """The figures by the items that they count, each group with its heading; a single group has none."""
    names = UniqueNames()
    if "chains" in tree:
        return [("", list(_chain_figures(tree["chains"], names)))]
    groups = [
        (name[0].upper() + name[1:], list(_item_figures(name, part, tree, names)))
        for name, part in tree.get("items", {}).items()
    ]
    return groups if len(groups) > 1 else [("", [figure for _, figures in groups for figure in figures])]


def _item_figures(name: str, part: Tree, tree: Tree, names: UniqueNames) -> Iterator[Figure]:
    for side, synthetic in part["synthetic"].items():
        lines = [
            _line(
                _times(band),
                TRUNCATED,
                curve,
                2,
                [(1, synthetic["round_1"][band]["alive"])],
                1 - 0.2 * number,
                ribbons=2,
            )
            for number, (band, curve) in enumerate(_curves(synthetic["forecast"], "replace").items())
        ]
        if lines:
            title = f"What is left of {name}, without real data: {side}"
            yield _survival(
                names.new("forecast", name, side), title, lines, "Hollow: measured in the text. " + _RIBBONS
            )
    drift = [
        _line(_times(band), BASELINE, curve, 0, (), 1 - 0.2 * number, ribbons=2)
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
    sides = [(side, synthetic["exponent"]) for side, synthetic in part["synthetic"].items()]
    if sides:
        worst = max((_exponent_row(*pair) for pair in sides), key=lambda row: row[1])
        rows = [
            _exponent_row(words, b)
            for side, synthetic in part["synthetic"].items()
            for words, b in ((side, synthetic["exponent"]), *_ranges(synthetic))
        ]
        yield exponent_chart(
            names.new("forecast", name, "exponent"), f"How a text selects against rare {name}", rows, TRUNCATED,
            note="b above 1: rare items are written less often than their share; of all counts, and of low and high "
            "ones apart; 95 % CI by a jackknife over documents. Filled: the CI excludes 1.",
            finding=f"The largest exponent is {worst[1]:.2f} ({worst[2]:.2f} to {worst[3]:.2f}), of {worst[0]}.",
        )  # fmt: skip


def _exponent_row(words: str, b: Tree) -> tuple[str, float, float, float]:
    return (words, b["value"], b["low"], b["high"])


def _ranges(synthetic: Tree) -> Iterator[tuple[str, Tree]]:
    """b of the lower and the higher counts apart: a line that bends has two."""
    return ((f"counts {counts}", b) for counts, b in synthetic["exponent_by_range"].items())


def _times(band: str) -> str:
    return "once" if band == "1" else f"{band} times"


def _curves(curves: Sequence[Tree], regime: str) -> dict[str, Tree]:
    return {curve["band"]: curve for curve in curves if curve["regime"] == regime}


def _regime_label(curve: Tree) -> str:
    if curve["regime"] == "mix":
        return f"{100 * curve['real_share']:g} % real"
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
    ends = ", ".join(f"{line.label} {formatting.percent(line.quantiles[-1][2])}" for line in lines)
    finding = f"{title}: after {counted(lines[0].generations[-1], 'generation')} {ends}."
    return survival_chart(name, title, lines, note=note, finding=finding, goal=goal)


def _chain_groups(points: Sequence[Tree]) -> dict[tuple[str, str, int], list[Tree]]:
    groups: dict[tuple[str, str, int], list[Tree]] = {}
    for point in points:
        groups.setdefault((point["chain"], point["kind"], point["measured"]), []).append(point)
    return groups


def _chain_figures(points: Sequence[Tree], names: UniqueNames) -> Iterator[Figure]:
    for (chain, kind, measured), members in list(_chain_groups(points).items())[:_CHARTS]:
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
        title = f"{chain}: {kind}, after {counted(measured, 'measured round')}"
        if not members[0]["validated"]:
            title += " (not validated)"
        yield _survival(
            names.new("forecast", chain, kind, f"{measured}"), title, lines, f"Hollow: measured later. {_RIBBONS}"
        )


def _verdict(tree: Tree) -> str:
    """The first sentence; of the chains of a run what the forecasts from their first round were worth."""
    if not tree.get("scores"):
        return next(iter(tree.get("sentences", ())), "")
    score = tree["scores"][0]
    return (
        f"From {counted(score['measured'], 'measured round')}, 90 % intervals contain "
        f"{formatting.percent(score['covered'])} of "
        f"{score['measurements']:,} later measurements; the mean error is {100 * score['error']:.0f} percentage "
        f"points, of drift alone {100 * score['drift']:.0f}, of no further change {100 * score['unchanged']:.0f}."
    )


def _keys(tree: Tree) -> list[tuple[Role, str, str]]:
    """What stands on the page in a colour of its own."""
    drift = (BASELINE, "drift alone", "each generation resamples the last one’s text: a reference, no model")
    if "chains" in tree:
        return [(BASELINE, "forecast", "from the first rounds of each chain; the stronger a line, the rarer its items")]
    if not tree.get("items"):
        return []
    real = (REAL_DATA, "real data", "a share of each training set, or all of it kept beside the synthetic text")
    sides = [side for part in tree["items"].values() for side in part["synthetic"]]
    text = (TRUNCATED, "the synthetic text", "the forecast from it, and how much less often it writes what is rare")
    return [drift, real, *([text] if sides else [])]


def _score_numbers(tree: Tree) -> list[KeyNumber]:
    """How wrong the forecasts from each number of rounds were, and how often their intervals were right."""
    numbers = []
    for score in tree.get("scores", ()):
        words = f"mean error of survival from {counted(score['measured'], 'measured round')}"
        rivals = f"drift alone {100 * score['drift']:.1f}, unchanged {100 * score['unchanged']:.1f}"
        numbers.append(KeyNumber(BASELINE, f"{100 * score['error']:.1f}", "percentage points", words, rivals))
    if scores := tree.get("scores"):
        last = scores[-1]
        rounds = counted(last["measured"], "measured round")
        words = f"of {last['measurements']:,} later measurements in the 90 % intervals, from {rounds}"
        number, _, unit = formatting.percent(last["covered"]).rpartition(" ")
        numbers.append(KeyNumber(BASELINE, number, unit, words, "all chains, items and bands"))
    return numbers


def _numbers(tree: Tree) -> list[KeyNumber]:
    """What is left of the rarest band, what real data keeps of it, and which share of real data the tail needs."""
    if not tree.get("items"):
        return []
    name, part = next(iter(tree["items"].items()))
    if not part["tail"]:
        return []
    tail, share = tree["tail"], part["required_real_share"]
    rare = f"{name} that occur " + ("once" if tail["max_count"] == 1 else f"at most {tail['max_count']} times")
    accumulated = part["tail"]["accumulate"]["quantiles"][-1]
    return [
        _survival_number(name, rare, part, tree["generations"]),
        KeyNumber(
            REAL_DATA,
            _number(accumulated[2]),
            "%",
            f"of {rare} with all real data kept beside all synthetic text, after "
            f"{counted(tree['generations'], 'generation')}",
            f"drift alone, 90 %: {100 * accumulated[0]:.0f} to {100 * accumulated[4]:.0f}",
        ),
        KeyNumber(
            REAL_DATA,
            formatting.DASH if share is None else _number(share),
            "" if share is None else "%",
            f"real data in each training set hold {100 * tail['keep']:.0f} % of {rare}",
            "no share does" if share is None else "drift alone",
        ),
    ]


def _survival_number(name: str, rare: str, part: Tree, generations: int) -> KeyNumber:
    """What the first text that has a forecast leaves of the rarest band; without one, what drift alone leaves."""
    for side, text in part["synthetic"].items():
        for band, curve in list(_curves(text["forecast"], "replace").items())[:1]:
            low, _, middle, _, high = curve["quantiles"][-1]
            last = len(curve["quantiles"]) + 1
            drift = _curves(part["drift"], "replace")[band]["quantiles"][last - 1][2]
            doubt = "; check the text first" if text["warning"] else ""
            return KeyNumber(
                TRUNCATED,
                _number(middle),
                "%",
                f"of {name} that occur {_times(band)} are left by {side} after {counted(last, 'generation')}",
                f"90 %: {100 * low:.0f} to {100 * high:.0f}; drift alone: {_number(drift)}{doubt}",
            )
    low, _, middle, _, high = part["tail"]["replace"]["quantiles"][-1]
    words = f"of {rare} are left by drift alone after {counted(generations, 'generation')}"
    return KeyNumber(BASELINE, _number(middle), "%", words, f"90 %: {100 * low:.0f} to {100 * high:.0f}")


def _number(share: float) -> str:
    """A share in per cent without its unit, such as `16` or `< 1`."""
    return formatting.percent(share).removesuffix(" %")


def _tables(tree: Tree) -> Iterator[dict[str, Any]]:
    """Survival at the last generation by regime and band."""
    for name, part in tree.get("items", {}).items():
        texts = [("drift alone", part["drift"])]
        texts += [(side, synthetic["forecast"]) for side, synthetic in part["synthetic"].items()]
        for source, curves in texts:
            bands = list(dict.fromkeys(_times(curve["band"]) for curve in curves))
            rows: dict[str, dict[str, str]] = {}
            for curve in curves:
                share = f", {100 * curve['real_share']:g} %" if curve["real_share"] else ""
                regime = f"{_REGIMES[curve['regime']]}{share} ({curve['regime']})"
                low, middle, high = (100 * curve["quantiles"][-1][index] for index in (0, 2, 4))
                rows.setdefault(regime, {})[_times(curve["band"])] = f"{middle:.0f} % ({low:.0f} to {high:.0f})"
            if rows:
                yield {"title": f"{name}, {source}", "bands": bands, "rows": rows}
