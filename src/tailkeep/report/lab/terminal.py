"""The summary and the samples of a run on a terminal.

Rule: names and texts reach the console as `Text` of visible characters, never as markup.
"""

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tailkeep.report import formatting
from tailkeep.report.lab.comparisons import verdict_of
from tailkeep.report.lab.grid import effect_sentences
from tailkeep.report.lab.run import ArmGroup, LabRun, read_lab_run
from tailkeep.report.lab.samples import PromptSamples, read_prompts, sample_views
from tailkeep.report.lab.sentences import caveats, growth_lines, mcnemar_sentences, paired_sentences, unfinished_lines
from tailkeep.report.lab.stats import ArmSummary, GroupSummary, Summary, summarise_run
from tailkeep.report.metric_catalog import VIEWS
from tailkeep.sanitize import visible


def print_summary(path: Path | str, console: Console) -> None:
    """Print the table of arms of the run at `path` for each learner, and the verdict as the last line.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    run = read_lab_run(path)
    for line in growth_lines(run.directory.record.history):
        console.print(formatting.terminal_text(f"This run grew. {line}"))
    _print_groups(run, console)


def show(path: Path | str, console: Console, *, samples: int = 3) -> None:
    """Print the facts of the run at `path`, its table of arms, and `samples` prompts with the samples of each arm.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    run = read_lab_run(path)
    _print_facts(run, console)
    _print_groups(run, console)
    for group in run.groups:
        for view in sample_views(group):
            for prompt in read_prompts(group, view, most=samples):
                _print_prompt(group, view, prompt, console)


def _print_facts(run: LabRun, console: Console) -> None:
    record = run.directory.record
    console.print(formatting.terminal_text(run.name, "bold"))
    if run.description:
        console.print(formatting.terminal_text(run.description))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    facts = {
        "kind": record.kind,
        "fingerprint": record.fingerprint[:12],
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "seeds": ", ".join(map(str, record.seeds)),
        "finished": f"{run.num_finished} generations",
    }
    for name, value in facts.items():
        table.add_row(Text(name, "dim"), formatting.terminal_text(value))
    for line in growth_lines(record.history):
        table.add_row(Text("grew", "dim"), formatting.terminal_text(line))
    for line in unfinished_lines(run.unfinished):
        table.add_row(Text("unfinished", "yellow"), formatting.terminal_text(line))
    console.print(Padding(table, (1, 0)))


def _print_groups(run: LabRun, console: Console) -> None:
    summary = summarise_run(run)
    if not summary.groups:
        console.print(Text("No generation is finished yet."))
        return
    for arm_group, group in zip(run.groups, summary.groups, strict=True):
        console.print(_group_table(group))
        lines = effect_sentences(arm_group, group, run.grid) or (
            *_relative(group),
            *paired_sentences(group),
            *mcnemar_sentences(group),
        )
        for line in (*lines, *caveats(arm_group, group)):
            console.print(formatting.terminal_text(line))
    for line in _footnote(summary):
        console.print(Text(line, "dim"))
    if text := verdict_of(run.groups[0], summary.groups[0], run.grid):
        console.print()
        console.print(formatting.terminal_text(text, "bold"))


def _footnote(summary: Summary) -> Iterator[str]:
    """The meaning of the columns, and the failure limits."""
    yield (
        "Means over seeds: initial value at generation 0, final value at the last (with its 95 % Student-t CI), slope "
        "per generation."
    )
    rules = dict.fromkeys(rule.condition for group in summary.groups for rule in group.rules if not rule.limit.name)
    if rules:
        yield (
            f"failure: generation at which the limit is crossed, median over seeds ({'; '.join(rules)}). “> N”: not up "
            f"to generation N. {formatting.DASH}: beyond it or not measured at generation 0."
        )


def _relative(group: GroupSummary) -> Iterator[str]:
    """One line for each failure rule without a column."""
    for rule in group.rules:
        if rule.limit.name:
            times = (f"{arm.arm} {formatting.failure(arm.failures[rule.key])}" for arm in group.arms)
            yield f"Failure by {rule.condition}: {', '.join(times)}."


def _group_table(group: GroupSummary) -> Table:
    # A column only where arms differ: 80 characters leave no room for more.
    differ = any(arm.generation != group.arms[0].generation for arm in group.arms)
    title = formatting.terminal_text(group.learner, "bold")
    if not differ and group.arms[0].generation is not None:
        title.append(f", final value at generation {group.arms[0].generation}", "not bold dim")
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True
    )
    table.add_column("", overflow="fold")
    for heading in ("initial", *(["at"] if differ else []), "final", "95 % CI", "slope", "failure"):
        table.add_column(heading, justify="right", overflow="fold")
    for name in group.metrics:
        table.add_row(formatting.terminal_text(group.catalog.describe(name).title, "bold"))
        for arm in group.arms:
            table.add_row(*_row(arm, name, at=differ))
        table.add_section()
    return table


def _row(arm: ArmSummary, name: str, *, at: bool) -> list[Text]:
    metric = arm.metrics[name]
    failure = arm.failures.get(name)
    cells = [
        formatting.number(metric.initial.mean),
        *([formatting.DASH if metric.generation is None else str(metric.generation)] if at else []),
        formatting.mean(metric.final),
        formatting.interval(metric.final) or formatting.DASH,
        formatting.mean(metric.slope, signed=True),
        formatting.failure(failure) if failure else "",
    ]
    return [formatting.terminal_text("  " + arm.arm), *(Text(cell) for cell in cells)]


def _print_prompt(group: ArmGroup, view: str, prompt: PromptSamples, console: Console) -> None:
    console.print()
    console.print(Text(f"Prompt {prompt.number}, {VIEWS.get(view, visible(view))}", "bold"))
    console.print(Padding(Text(prompt.prompt or "(empty)", "italic"), (0, 2)))
    for column, arm in enumerate(group.arms):
        console.print(formatting.terminal_text(arm, "bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for generation, texts in zip(prompt.generations, prompt.texts, strict=True):
            text = texts[column]
            shown = Text(text) if text is not None else Text("no text", "dim")
            table.add_row(Text(f"generation {generation}", "dim"), shown)
        console.print(Padding(table, (0, 0, 0, 2)))
