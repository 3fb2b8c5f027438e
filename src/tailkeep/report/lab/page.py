"""The report of a laboratory run: one HTML page that loads nothing and runs nothing, `figures/` and `tables/`.

Rule: the first screen holds the verdict, the key, three numbers, the main picture and the forest. A report can be
rebuilt at any time, and the same generations give the same bytes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailkeep.metrics import Interval
from tailkeep.report.lab.comparisons import numbers_of, plot_effect_map, plot_forest, plot_grid_forest, verdict_of
from tailkeep.report.lab.csv import tables
from tailkeep.report.lab.curves import arms_in_picture, plot_curve, plot_failures, plot_training
from tailkeep.report.lab.distributions import plot_confidence, plot_density, plot_first_model, plot_points
from tailkeep.report.lab.grid import effect_maps
from tailkeep.report.lab.paired_differences import GroupMargins, McNemarTest
from tailkeep.report.lab.run import ArmGroup, LabRun, read_lab_run, settings_of
from tailkeep.report.lab.samples import PromptSamples, plot_images, plot_tail, read_prompts, sample_views
from tailkeep.report.lab.sentences import (
    TrainingUnits,
    caveats,
    growth_lines,
    training_units,
    unfinished_lines,
)
from tailkeep.report.lab.stats import GroupSummary, Summary, summarise_run
from tailkeep.report.metric_catalog import VIEWS, split_view, words_of
from tailkeep.report.page_kit import KeyNumber, render_template
from tailkeep.report.phrases import Role, phrase_of
from tailkeep.report.svg import Figure, UniqueNames
from tailkeep.runs import Storage
from tailkeep.runs.metric import Metric
from tailkeep.sanitize import visible, without_folders

_MAX_PROMPTS, _MAX_COLUMNS, _MAX_KEYS = 3, 4, 8


@dataclass(frozen=True)
class GroupFigures:
    """The figures of one learner in the order of the page: first screen, tail, failures, folded ones."""

    first: tuple[Figure, ...]
    tail: tuple[Figure, ...]
    failure: tuple[Figure, ...]
    maps: tuple[Figure, ...]
    further: tuple[Figure, ...]

    @property
    def all(self) -> tuple[Figure, ...]:
        """Every figure."""
        return (*self.first, *self.tail, *self.failure, *self.maps, *self.further)


def render_figures(run: LabRun, summary: Summary) -> tuple[GroupFigures, ...]:
    """The figures of all groups, without those that have no finite number."""
    names = UniqueNames()
    pairs = zip(run.groups, summary.groups, strict=True)
    return tuple(_figures(group, of_group, run.grid, names) for group, of_group in pairs)


def _figures(
    group: ArmGroup, summary: GroupSummary, grid: Mapping[str, tuple[str, ...]], names: UniqueNames
) -> GroupFigures:
    catalog = group.catalog

    def curves(metrics: Sequence[str], height: float = 300) -> Iterator[Figure | None]:
        for metric in metrics:
            name = names.new(group.learner, metric)
            yield plot_curve(
                group, metric, summary.differences, name, title=catalog.describe(metric).heading, height=height
            )

    mains = catalog.main_metrics(group.names)
    few = columns_of(group, summary)
    maps = effect_maps(group, summary, grid)
    if maps:
        first: list[Figure | None] = [
            plot_grid_forest(group, one, names.new(group.learner, "forest", one.metric)) for one in maps
        ]
        few = tuple(arm for arm in few if group.baseline_of(arm) == group.arms[0])
    else:
        first = [*curves(mains[:1], 400), plot_forest(group, summary, names.new(group.learner, "forest"))]
    divergence = [m for m in summary.metrics if split_view(m)[1].startswith("kl_") and m not in mains[:1]][:1]
    tail = [
        plot_tail(group, few, names.new(group.learner, "tail")),
        plot_confidence(group, few, names.new(group.learner, "confidence")),
        plot_first_model(group, few, names.new(group.learner, "first-model")),
        plot_density(group, few, names.new(group.learner, "density")),
        plot_points(group, few, names.new(group.learner, "points")),
        plot_images(group, few, names.new(group.learner, "images")),
    ]
    if maps:
        failure: list[Figure | None] = []
        rest = list(summary.metrics)
    else:
        times = plot_failures(group, summary, names.new(group.learner, "failure"))
        failure = [times, *curves(divergence)]
        rest = [name for name in summary.metrics if name not in {*mains[:1], *divergence}]
    return GroupFigures(
        _existing(first),
        _existing(tail),
        _existing(failure),
        _existing([plot_effect_map(one, names.new(group.learner, "map", one.metric)) for one in maps]),
        _existing(
            [
                *curves(rest),
                plot_confidence(group, few, names.new(group.learner, "confidence-held-out"), held_out=True),
                *curves([name for name in catalog.further_names(group.names) if _varies(group, name)]),
                *(() if maps else plot_training(group, columns_of(group, summary), names)),
            ]
        ),
    )


def _varies(group: ArmGroup, metric: str) -> bool:
    """Whether the metric differs at all, between arms, seeds or generations, by more than rounding.

    A single generation shows everything.
    """
    values = [entry.metrics[metric] for entry in group.entries if math.isfinite(entry.metrics.get(metric, math.nan))]
    if len(group.generations()) == 1 or not values:
        return True
    return max(values) - min(values) > 1e-9 * max(map(abs, values))


def _existing(figures: Sequence[Figure | None]) -> tuple[Figure, ...]:
    return tuple(figure for figure in figures if figure is not None)


def columns_of(group: ArmGroup, summary: GroupSummary) -> tuple[str, ...]:
    """The arms that strips, histograms and samples show: at most four, the first and those that differ most."""
    mains = group.catalog.main_metrics(group.names)
    return arms_in_picture(group, summary.differences, mains[0] if mains else "", most=_MAX_COLUMNS)


@dataclass(frozen=True)
class KeyItem:
    """One arm of the key: its role and what it does."""

    arm: str
    role: Role
    phrase: str


@dataclass(frozen=True)
class SampleTable:
    """One prompt with the samples of some arms by one decoder."""

    view: str
    prompt: PromptSamples


@dataclass(frozen=True)
class Section:
    """The part of the page about one learner."""

    anchor: str
    title: str
    verdict: str
    keys: tuple[KeyItem, ...]
    more_keys: tuple[KeyItem, ...]
    numbers: tuple[KeyNumber, ...]
    caveats: tuple[str, ...]
    group: GroupSummary
    roles: Mapping[str, Role]
    figures: GroupFigures
    columns: tuple[str, ...]
    samples: tuple[SampleTable, ...]
    units: TrainingUnits | None
    mcnemar: tuple[McNemarTest, ...]
    margins: GroupMargins
    definitions: Mapping[str, Metric]


def render_page(run: LabRun, summary: Summary, figures: Sequence[GroupFigures], margins: Sequence[GroupMargins]) -> str:
    """The HTML of the report."""
    groups = zip(run.groups, summary.groups, figures, margins, strict=True)
    sections = [_section(n, run, *some) for n, some in enumerate(groups, 1)]
    return render_template(
        "page.html",
        run=run,
        record=run.directory.record,
        config_text=without_folders(run.config_text),
        names_code=run.names_code,
        sections=sections,
        growth=growth_lines(run.directory.record.history),
        unfinished=unfinished_lines(run.unfinished),
        timings=_timings(run),
        time_interval=lambda failure: Interval(failure.failure.time, failure.low, failure.high),
        view_name=lambda view: VIEWS.get(view, f"decoder {visible(view)}"),
        zip=lambda *columns: zip(*columns, strict=True),
    )


def _section(
    number: int, run: LabRun, group: ArmGroup, summary: GroupSummary, figures: GroupFigures, margins: GroupMargins
) -> Section:
    columns = columns_of(group, summary)
    maps = effect_maps(group, summary, run.grid)
    if maps:
        columns = tuple(arm for arm in columns if group.baseline_of(arm) == group.arms[0])
    keys = _keys(group, run.grid if maps else {})
    samples = tuple(
        SampleTable(view, prompt)
        for view in sample_views(group)
        for prompt in read_prompts(group, view, most=_MAX_PROMPTS, arms=columns)
    )
    definitions = {name: group.catalog.describe(name) for name in summary.metrics}
    return Section(
        anchor=f"learner-{number}",
        title=words_of(group.learner).title,
        verdict=verdict_of(group, summary, run.grid) or run.name,
        keys=keys[:_MAX_KEYS],
        more_keys=keys[_MAX_KEYS:],
        numbers=numbers_of(group, summary, maps),
        caveats=caveats(group, summary),
        group=summary,
        roles=group.roles,
        figures=figures,
        columns=columns,
        samples=samples,
        units=training_units(group),
        mcnemar=_last(summary.mcnemar),
        margins=margins,
        definitions=definitions,
    )


def _keys(group: ArmGroup, grid: Mapping[str, Sequence[str]]) -> tuple[KeyItem, ...]:
    """Every arm, or of a grid every level of its last axis, by the arms of the first setting."""
    arms = [arm for arm in group.arms if group.baseline_of(arm) == group.arms[0]] if grid else group.arms
    rows = settings_of(grid).values() if grid else ()
    level_of = {arm: level for row in rows for level, arm in row.items()}

    def phrase(arm: str) -> str:
        config, reference = (group.configs.get(name, {}) for name in (arm, group.arms[0]))
        return phrase_of(config, reference)

    return tuple(KeyItem(level_of.get(arm, arm), group.roles[arm], phrase(arm)) for arm in arms)


def _last(tests: Sequence[McNemarTest]) -> tuple[McNemarTest, ...]:
    """The last test of each arm and seed."""
    return tuple({(one.arm, one.seed): one for one in sorted(tests, key=lambda one: one.generation)}.values())


def _timings(run: LabRun) -> tuple[tuple[str, dict[str, float], float], ...]:
    """For each arm the seconds of each phase and in total, over its finished generations."""
    totals: dict[str, dict[str, float]] = {}
    for group in run.groups:
        for entry in group.entries:
            of_arm = totals.setdefault(entry.arm, {})
            for phase, seconds in entry.directory.timings().items():
                of_arm[phase] = of_arm.get(phase, 0.0) + seconds
    return tuple((arm, phases, sum(phases.values())) for arm, phases in totals.items() if phases)


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
    figures, margins = render_figures(run, summary), [GroupMargins.of(group) for group in run.groups]
    svg_files = {f"{figure.name}.svg": figure.file.encode() for group in figures for figure in group.all}
    csv_files = {name: text.encode() for name, text in tables(run, summary, margins).items()}
    _replace(storage, folder / "figures", svg_files)
    _replace(storage, folder / "tables", csv_files)
    storage.write_text(folder / "report.html", render_page(run, summary, figures, margins))
    return folder / "report.html"


def _replace(storage: Storage, folder: Path, files: Mapping[str, bytes]) -> None:
    def fill(into: Path) -> None:
        for name, content in files.items():
            (into / name).write_bytes(content)

    if folder.exists():
        storage.remove_folder(folder)
    storage.write_folder(folder, fill)
