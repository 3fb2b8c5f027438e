"""The page: everything that a run says, in one HTML file that loads nothing and runs nothing.

Rule: autoescape is on and every text that came from a corpus, a config or a name passes `_safe` first. The style sheet
alone, which is our own, is marked as markup.
"""

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from tailkeep.report import formatting
from tailkeep.report.lab.charts import curve, facets
from tailkeep.report.lab.comparisons import choice_map, findings, leaderboard
from tailkeep.report.lab.csv import tables
from tailkeep.report.lab.distributions import confidence, density, points
from tailkeep.report.lab.paired_differences import AnswerTest, Difference
from tailkeep.report.lab.run import ArmGroup, LabRun, read_lab_run
from tailkeep.report.lab.samples import Prompt, first_middle_last, pictures, prompts, views
from tailkeep.report.lab.sentences import far_edits, sentences, unfinished
from tailkeep.report.lab.stats import GroupSummary, Summary, summarise_run
from tailkeep.report.metric_catalog import LEARNERS, VIEWS, describe, further_names, headline_names
from tailkeep.report.svg import Drawing, LineStyle, Rendered, line_style, render
from tailkeep.runs import Storage, redact
from tailkeep.sanitize import visible

# Every figure of a run: which there are, under which names, with whose pens.
#
# Rule: an arm keeps its pen through all groups, and a figure without a finite number is left out.


@dataclass(frozen=True)
class GroupFigures:
    """The figures of one learner: arms compared, headline and other curves, distributions and images by arm."""

    compared: tuple[Rendered, ...]
    headline: tuple[Rendered, ...]
    further: tuple[Rendered, ...]
    shapes: tuple[Rendered, ...]
    pictures: tuple[Rendered, ...]

    @property
    def all(self) -> tuple[Rendered, ...]:
        """Every figure, in the order of the page."""
        return (*self.compared, *self.headline, *self.shapes, *self.pictures, *self.further)


def line_styles_of(reading: LabRun) -> dict[str, LineStyle]:
    """The pen of each arm, by its place in the config."""
    return {arm: line_style(place) for place, arm in enumerate(reading.arms)}


def draw(reading: LabRun) -> tuple[GroupFigures, ...]:
    """All figures, group by group."""
    pens, names = line_styles_of(reading), _Names()
    return tuple(_group(group, reading.grid, pens, names) for group in reading.groups)


def _group(
    group: ArmGroup, grid: Mapping[str, tuple[str, ...]], pens: Mapping[str, LineStyle], names: "_Names"
) -> GroupFigures:
    def curves(metrics: tuple[str, ...]) -> Iterator[Drawing | None]:
        for metric in metrics:
            name = names.new(group.learner, metric)
            # The lines of a grid's arms in one panel could not be told apart.
            yield facets(group, grid, metric, name) or curve(group, metric, pens, name)

    def shapes(kind: Callable[[ArmGroup, str, LineStyle, str], Drawing | None], word: str) -> Iterator[Drawing | None]:
        return (kind(group, arm, pens[arm], names.new(group.learner, word, arm)) for arm in group.arms)

    def compared(metrics: tuple[str, ...]) -> Iterator[Drawing | None]:
        for metric in metrics:
            name = names.new(group.learner, "map" if grid else "against-first", metric)
            yield choice_map(group, grid, metric, name) if grid else leaderboard(group, metric, name)

    headline = headline_names(group.names)
    by_arm = (("confidence", confidence), ("density", density), ("points", points))
    return GroupFigures(
        _rendered(compared(headline)),
        _rendered(curves(headline)),
        _rendered(curves(further_names(group.names))),
        _rendered(drawing for word, kind in by_arm for drawing in shapes(kind, word)),
        _rendered(shapes(pictures, "images")),
    )


def _rendered(drawings: Iterator[Drawing | None]) -> tuple[Rendered, ...]:
    return tuple(render(drawing) for drawing in drawings if drawing is not None)


class _Names:
    """File names, each given once: what a learner or metric is called may hold anything, a file name may not."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def new(self, *words: str) -> str:
        base = "-".join(re.sub(r"[^a-z0-9_.]+", "-", word.lower()).strip("-.")[:60] or "x" for word in words)
        name, number = base, 1
        while name in self._given:
            number += 1
            name = f"{base}-{number}"
        self._given.add(name)
        return name


_PROMPTS = 3
_EQUAL_WITHIN = 0.01
_MOST_UNIT_COLUMNS = 8
# Of an absolute path that is a YAML value, all but its last two parts, and never the name of a user.
_FOLDERS = re.compile(
    r"""(?m)(?:(?<=[:-] )|(?<=[:-] ['"]))/(?:(?:home|Users)/[^/\n]+(?=/))?[^\n]*?(?=(?:/[^/\n]+){1,2}$)"""
)


@dataclass(frozen=True)
class Samples:
    """The sample texts of one group through one decoder."""

    view: str
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class Units:
    """Training units (mean over seeds) of each arm at some generations, and how far apart the arms are at most.

    `spread` is the largest (most / least - 1) of any generation. A whole number of batches cannot hit a budget exactly,
    so up to 1 % counts as equal.
    """

    generations: tuple[int, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]
    spread: float

    @property
    def verdict(self) -> str:
        """In words."""
        if self.spread == 0:
            return "All arms trained equally."
        if self.spread <= _EQUAL_WITHIN:
            return f"All arms trained equally, to within {self.spread:.1%}.".replace("%", "\u202f%")
        return "The arms did not train equally; read the comparison with that in mind."


@dataclass(frozen=True)
class Section:
    """What the page says about one learner."""

    anchor: str
    group: GroupSummary
    sentences: tuple[str, ...]
    figures: GroupFigures
    samples: tuple[Samples, ...]
    units: Units | None
    answers: tuple[AnswerTest, ...]


def page(reading: LabRun, summary: Summary, figures: Sequence[GroupFigures]) -> str:
    """The HTML of the report."""
    groups = zip(reading.groups, summary.groups, figures, strict=True)
    record = reading.run.record
    html: str = _template().render(
        style=style_sheet(),
        reading=reading,
        record=record,
        sections=[_section(n, *some, reading.grid) for n, some in enumerate(groups, 1)],
        pens=line_styles_of(reading),
        unfinished=unfinished(reading.missing),
        timings=_timings(reading),
    )
    return html


def _section(
    place: int, group: ArmGroup, summary: GroupSummary, figures: GroupFigures, grid: Mapping[str, Sequence[str]]
) -> Section:
    samples = tuple(Samples(view, prompts(group, view, most=_PROMPTS)) for view in views(group))
    # Sentences that name every arm of a grid are not read by anyone.
    found = findings(group, grid)
    told = (*found, *far_edits(summary)) if found else sentences(summary)
    return Section(f"learner-{place}", summary, told, figures, samples, _units(group), _newest(summary.answers))


def _newest(answers: Sequence[AnswerTest]) -> tuple[AnswerTest, ...]:
    """Of each arm and seed the last."""
    return tuple({(one.arm, one.seed): one for one in sorted(answers, key=lambda one: one.generation)}.values())


def _units(group: ArmGroup) -> Units | None:
    series = {arm: group.series(arm, "train_units") for arm in group.arms}
    means = {arm: _means(by_seed) for arm, by_seed in series.items() if by_seed}
    if not means:
        return None
    recorded = sorted({generation for row in means.values() for generation in row})
    generations = first_middle_last(recorded, _MOST_UNIT_COLUMNS)
    rows = tuple((arm, tuple(row.get(g, float("nan")) for g in generations)) for arm, row in means.items())
    values = [[row[g] for row in means.values() if g in row] for g in recorded]
    return Units(generations, rows, spread=max(max(at) / max(min(at), 1.0) - 1 for at in values))


def _means(by_seed: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    generations = sorted({generation for row in by_seed.values() for generation in row})
    found = {g: [row[g] for row in by_seed.values() if g in row] for g in generations}
    return {g: sum(values) / len(values) for g, values in found.items()}


def _timings(reading: LabRun) -> tuple[tuple[str, dict[str, float], float], ...]:
    """For each arm the seconds of each phase and of all, over its finished cells."""
    totals: dict[str, dict[str, float]] = {}
    for group in reading.groups:
        for entry in group.entries:
            of_arm = totals.setdefault(entry.arm, {})
            for phase, seconds in entry.cell.timings().items():
                of_arm[phase] = of_arm.get(phase, 0.0) + seconds
    return tuple((arm, phases, sum(phases.values())) for arm, phases in totals.items() if phases)


def style_sheet() -> Markup:
    """The style of every page, which is our own file."""
    return Markup(own_text("page.css"))  # noqa: S704


def new_environment() -> Environment:
    """Templates with autoescape, and the filters that every foreign text passes."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(own_text),
    )
    filters: dict[str, Callable[..., Any]] = {
        "safe_text": _safe,
        "one_line": lambda text: _safe(text, newline=" "),
        "data": _data,
        "without_folders": _without_folders,
        "count": formatting.count,
        "groupby_arm": _by_arm,
        "duration": _duration,
    }
    environment.filters |= filters
    return environment


def _template() -> Any:
    environment = new_environment()
    environment.globals |= {
        "numbers": formatting,
        "describe": describe,
        "learner_title": lambda learner: LEARNERS.get(learner, learner),
        "swatch": _swatch,
        "zip": lambda *columns: zip(*columns, strict=True),
        "view_name": lambda view: VIEWS.get(view, f"decoder {visible(view)}"),
    }
    return environment.from_string(own_text("page.html"))


def _by_arm(differences: Sequence[Difference]) -> list[tuple[str, list[Difference]]]:
    """In their order, which is by arm."""
    return [(arm, list(row)) for arm, row in groupby(differences, key=lambda one: one.arm)]


def _safe(text: object, newline: str = "\n") -> str:
    return visible(redact(str(text)), newline=newline)


def _without_folders(config: str) -> str:
    """`config` with absolute paths cut to their last two parts: a page travels, its machine's folders need not."""
    return _FOLDERS.sub("…", config)


def _data(content: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(content.encode()).decode()


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def own_text(name: str) -> str:
    """The content of a file of this room."""
    return resources.files("tailkeep.report").joinpath(name).read_text(encoding="utf-8")


def _swatch(line_style: LineStyle) -> str:
    """The dash pattern of a pen for an inline SVG line of width 2.4."""
    return "" if line_style.dash == "solid" else " ".join(f"{2.4 * length:g}" for length in line_style.dash[1])


# The report's files: report.html, figures/, tables/.
#
# Rule: all of them can be rebuilt from finished cells at any time, and the same cells give the same bytes.


def write(path: Path | str, *, storage: Storage | None = None) -> Path:
    """Write (or write anew) the report of the run at `path`, finished or not, and return the page's path.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
        StorageError: the file system refused a write.
    """
    reading = read_lab_run(path)
    folder = reading.run.path
    storage = storage or reading.run.storage
    summary = summarise_run(reading)
    figures = draw(reading)
    rendered = [figure for group in figures for figure in group.all]
    images = {f"{figure.drawing.name}.svg": figure.file.encode() for figure in rendered}
    images |= {f"{figure.drawing.name}.png": figure.png for figure in rendered}
    numbers = {name: text.encode() for name, text in tables(reading, summary).items()}
    _replace(storage, folder / "figures", images)
    _replace(storage, folder / "tables", numbers)
    storage.write_text(folder / "report.html", page(reading, summary, figures))
    return folder / "report.html"


def _replace(storage: Storage, folder: Path, files: Mapping[str, bytes]) -> None:
    def fill(into: Path) -> None:
        for name, content in files.items():
            (into / name).write_bytes(content)

    if folder.exists():
        storage.remove_folder(folder)
    storage.write_folder(folder, fill)
