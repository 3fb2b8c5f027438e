"""The report of a laboratory run: one HTML page that loads nothing and runs nothing, `figures/` and `tables/`.

Rule: autoescape is on, and every text from a corpus, a config or a name passes `_safe` first; only the style sheet is
marked as markup. A report can be rebuilt at any time, and the same generations give the same bytes.
"""

import base64
import itertools
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
from tailkeep.report.lab.charts import plot_curve, plot_facets
from tailkeep.report.lab.comparisons import effect_sentences, plot_effect_map, plot_leaderboard
from tailkeep.report.lab.csv import tables
from tailkeep.report.lab.distributions import plot_confidence, plot_density, plot_points
from tailkeep.report.lab.growth import growth_lines
from tailkeep.report.lab.paired_differences import Difference, McNemarTest
from tailkeep.report.lab.run import ArmGroup, LabRun, read_lab_run
from tailkeep.report.lab.samples import PromptSamples, first_middle_last, plot_images, read_prompts, sample_views
from tailkeep.report.lab.sentences import edit_bound_sentences, sentences, unfinished_lines
from tailkeep.report.lab.stats import GroupSummary, Summary, summarise_run
from tailkeep.report.lab.training import plot_training
from tailkeep.report.metric_catalog import LEARNERS, VIEWS, describe, further_names, headline_names
from tailkeep.report.svg import Drawing, LineStyle, Rendered, nth_line_style, render
from tailkeep.runs import Storage, redact
from tailkeep.sanitize import visible, without_folders


@dataclass(frozen=True)
class GroupFigures:
    """The figures of one learner: comparisons of arms, headline and further curves, distributions and images by arm."""

    comparisons: tuple[Rendered, ...]
    headline: tuple[Rendered, ...]
    further: tuple[Rendered, ...]
    distributions: tuple[Rendered, ...]
    images: tuple[Rendered, ...]

    @property
    def all(self) -> tuple[Rendered, ...]:
        """Every figure, in the order of the page."""
        return (*self.comparisons, *self.headline, *self.distributions, *self.images, *self.further)


def line_styles_of(run: LabRun) -> dict[str, LineStyle]:
    """The line style of each arm, by its index in the config."""
    return {arm: nth_line_style(index) for index, arm in enumerate(run.arms)}


def render_figures(run: LabRun) -> tuple[GroupFigures, ...]:
    """The figures of all groups, without those that have no finite number. An arm has one line style in all of them."""
    line_styles, names = line_styles_of(run), _UniqueNames()
    return tuple(_group(group, run.grid, line_styles, names) for group in run.groups)


def _group(
    group: ArmGroup, grid: Mapping[str, tuple[str, ...]], line_styles: Mapping[str, LineStyle], names: "_UniqueNames"
) -> GroupFigures:
    def curves(metrics: tuple[str, ...]) -> Iterator[Drawing | None]:
        for metric in metrics:
            name = names.new(group.learner, metric)
            # The arms of a grid are too many for one panel.
            yield plot_facets(group, grid, metric, name) or plot_curve(group, metric, line_styles, name)

    def by_arm(plot: Callable[[ArmGroup, str, LineStyle, str], Drawing | None], word: str) -> Iterator[Drawing | None]:
        return (plot(group, arm, line_styles[arm], names.new(group.learner, word, arm)) for arm in group.arms)

    def training_curves() -> Iterator[Drawing | None]:
        yield None if grid else plot_training(group, line_styles, names.new(group.learner, "training"))

    def comparisons(metrics: tuple[str, ...]) -> Iterator[Drawing | None]:
        for metric in metrics:
            name = names.new(group.learner, "effects" if grid else "leaderboard", metric)
            yield plot_effect_map(group, grid, metric, name) if grid else plot_leaderboard(group, metric, name)

    headline = headline_names(group.names)
    kinds = (("confidence", plot_confidence), ("density", plot_density), ("points", plot_points))
    return GroupFigures(
        _rendered(comparisons(headline)),
        _rendered(curves(headline)),
        _rendered(itertools.chain(curves(further_names(group.names)), training_curves())),
        _rendered(drawing for word, plot in kinds for drawing in by_arm(plot, word)),
        _rendered(by_arm(plot_images, "images")),
    )


def _rendered(drawings: Iterator[Drawing | None]) -> tuple[Rendered, ...]:
    return tuple(render(drawing) for drawing in drawings if drawing is not None)


class _UniqueNames:
    """Unique file names made of the names of learners, metrics and arms, which may hold any character."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def new(self, *words: str) -> str:
        base = "-".join(re.sub(r"[^a-z0-9_.]+", "-", word.lower()).strip("-.")[:60] or "x" for word in words)
        name, number = base, 1
        while name in self._used:
            number += 1
            name = f"{base}-{number}"
        self._used.add(name)
        return name


_MAX_PROMPTS = 3
_EQUAL_WITHIN = 0.01
_MAX_UNIT_COLUMNS = 8


@dataclass(frozen=True)
class ViewSamples:
    """The sample texts of one group by one decoder."""

    view: str
    prompts: tuple[PromptSamples, ...]


@dataclass(frozen=True)
class TrainingUnits:
    """Training units (mean over seeds) of each arm at some generations, and the largest spread between arms.

    `spread` is the largest (max / min - 1) of any generation. Whole batches cannot meet a budget exactly, so up to 1 %
    counts as equal.
    """

    generations: tuple[int, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]
    spread: float

    @property
    def verdict(self) -> str:
        """Whether the arms trained equally, as a sentence."""
        if self.spread == 0:
            return "All arms trained equally."
        if self.spread <= _EQUAL_WITHIN:
            return f"All arms trained equally, to within {self.spread:.1%}.".replace("%", "\u202f%")
        return "The arms did not train equally, which may explain a part of the differences."


@dataclass(frozen=True)
class Section:
    """The section of one learner."""

    anchor: str
    group: GroupSummary
    sentences: tuple[str, ...]
    figures: GroupFigures
    samples: tuple[ViewSamples, ...]
    units: TrainingUnits | None
    mcnemar: tuple[McNemarTest, ...]


def render_page(run: LabRun, summary: Summary, figures: Sequence[GroupFigures]) -> str:
    """The HTML of the report."""
    groups = zip(run.groups, summary.groups, figures, strict=True)
    record = run.directory.record
    html: str = _template().render(
        style=style_sheet(),
        run=run,
        record=record,
        sections=[_section(n, *some, run.grid) for n, some in enumerate(groups, 1)],
        line_styles=line_styles_of(run),
        growth=growth_lines(record.history),
        unfinished=unfinished_lines(run.unfinished),
        timings=_timings(run),
    )
    return html


def _section(
    number: int, group: ArmGroup, summary: GroupSummary, figures: GroupFigures, grid: Mapping[str, Sequence[str]]
) -> Section:
    samples = tuple(ViewSamples(view, read_prompts(group, view, most=_MAX_PROMPTS)) for view in sample_views(group))
    # A grid has too many arms to name each in a sentence.
    effects = effect_sentences(group, grid)
    lines = (*effects, *edit_bound_sentences(summary)) if effects else sentences(summary)
    return Section(f"learner-{number}", summary, lines, figures, samples, _units(group), _last(summary.mcnemar))


def _last(tests: Sequence[McNemarTest]) -> tuple[McNemarTest, ...]:
    """The last test of each arm and seed."""
    return tuple({(one.arm, one.seed): one for one in sorted(tests, key=lambda one: one.generation)}.values())


def _units(group: ArmGroup) -> TrainingUnits | None:
    series = {arm: group.series(arm, "train_units") for arm in group.arms}
    means = {arm: _means(by_seed) for arm, by_seed in series.items() if by_seed}
    if not means:
        return None
    recorded = sorted({generation for row in means.values() for generation in row})
    generations = first_middle_last(recorded, _MAX_UNIT_COLUMNS)
    rows = tuple((arm, tuple(row.get(g, float("nan")) for g in generations)) for arm, row in means.items())
    values = [[row[g] for row in means.values() if g in row] for g in recorded]
    return TrainingUnits(generations, rows, spread=max(max(at) / max(min(at), 1.0) - 1 for at in values))


def _means(by_seed: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    generations = sorted({generation for row in by_seed.values() for generation in row})
    values = {g: [row[g] for row in by_seed.values() if g in row] for g in generations}
    return {g: sum(row) / len(row) for g, row in values.items()}


def _timings(run: LabRun) -> tuple[tuple[str, dict[str, float], float], ...]:
    """For each arm the seconds of each phase and in total, over its finished generations."""
    totals: dict[str, dict[str, float]] = {}
    for group in run.groups:
        for entry in group.entries:
            of_arm = totals.setdefault(entry.arm, {})
            for phase, seconds in entry.directory.timings().items():
                of_arm[phase] = of_arm.get(phase, 0.0) + seconds
    return tuple((arm, phases, sum(phases.values())) for arm, phases in totals.items() if phases)


def style_sheet() -> Markup:
    """The style sheet of every page, which is trusted."""
    return Markup(read_template("page.css"))  # noqa: S704


def new_environment() -> Environment:
    """A Jinja environment with autoescape and the filters for untrusted text."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(read_template),
    )
    filters: dict[str, Callable[..., Any]] = {
        "safe_text": _safe,
        "one_line": lambda text: _safe(text, newline=" "),
        "data": _data,
        "without_folders": without_folders,
        "count": formatting.count,
        "groupby_arm": _by_arm,
        "duration": _duration,
    }
    environment.filters |= filters
    return environment


def _template() -> Any:
    environment = new_environment()
    environment.globals |= {
        "formatting": formatting,
        "describe": describe,
        "learner_title": lambda learner: LEARNERS.get(learner, learner),
        "swatch": _swatch,
        "zip": lambda *columns: zip(*columns, strict=True),
        "view_name": lambda view: VIEWS.get(view, f"decoder {visible(view)}"),
    }
    return environment.from_string(read_template("page.html"))


def _by_arm(differences: Sequence[Difference]) -> list[tuple[str, list[Difference]]]:
    """`differences`, which are in the order of the arms, by arm."""
    return [(arm, list(row)) for arm, row in groupby(differences, key=lambda one: one.arm)]


def _safe(text: object, newline: str = "\n") -> str:
    return visible(redact(str(text)), newline=newline)


def _data(content: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(content.encode()).decode()


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def read_template(name: str) -> str:
    """The text of a template or style sheet of this package."""
    return resources.files("tailkeep.report").joinpath(name).read_text(encoding="utf-8")


def _swatch(line_style: LineStyle) -> str:
    """The dash pattern of a line style for an inline SVG line of width 2.4."""
    return "" if line_style.dash == "solid" else " ".join(f"{2.4 * length:g}" for length in line_style.dash[1])


def write(path: Path | str, *, storage: Storage | None = None) -> Path:
    """Write (or rewrite) the report of the run at `path`, finished or not, and return the page's path.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
        StorageError: the file system refused a write.
    """
    run = read_lab_run(path)
    folder = run.directory.path
    storage = storage or run.directory.storage
    summary = summarise_run(run)
    figures = render_figures(run)
    rendered = [figure for group in figures for figure in group.all]
    images = {f"{figure.drawing.name}.svg": figure.file.encode() for figure in rendered}
    images |= {f"{figure.drawing.name}.png": figure.png for figure in rendered}
    csv_files = {name: text.encode() for name, text in tables(run, summary).items()}
    _replace(storage, folder / "figures", images)
    _replace(storage, folder / "tables", csv_files)
    storage.write_text(folder / "report.html", render_page(run, summary, figures))
    return folder / "report.html"


def _replace(storage: Storage, folder: Path, files: Mapping[str, bytes]) -> None:
    def fill(into: Path) -> None:
        for name, content in files.items():
            (into / name).write_bytes(content)

    if folder.exists():
        storage.remove_folder(folder)
    storage.write_folder(folder, fill)
