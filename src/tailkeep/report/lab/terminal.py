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
from tailkeep.report.lab.comparisons import findings
from tailkeep.report.lab.run import ArmGroup, LabRun, read_lab_run
from tailkeep.report.lab.samples import Prompt, prompts, views
from tailkeep.report.lab.sentences import answered, paired, unfinished
from tailkeep.report.lab.stats import ArmSummary, GroupSummary, Summary, summarise_run
from tailkeep.report.metric_catalog import VIEWS, describe
from tailkeep.runs import redact
from tailkeep.sanitize import visible


def print_summary(path: Path | str, console: Console) -> None:
    """Print the table of arms of the run at `path`, one learner after another.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    _print_groups(read_lab_run(path), console)


def show(path: Path | str, console: Console, *, samples: int = 3) -> None:
    """Print what the run at `path` is, its table of arms, and `samples` prompts with what each arm wrote to them.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    reading = read_lab_run(path)
    _print_facts(reading, console)
    _print_groups(reading, console)
    for group in reading.groups:
        for view in views(group):
            for prompt in prompts(group, view, most=samples):
                _print_prompt(group, view, prompt, console)


def _plain(text: str, style: str = "") -> Text:
    return Text(visible(redact(text), newline=" "), style=style)


def _print_facts(reading: LabRun, console: Console) -> None:
    record = reading.run.record
    console.print(_plain(reading.name, "bold"))
    if reading.description:
        console.print(_plain(reading.description))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    facts = {
        "kind": record.kind,
        "fingerprint": record.fingerprint[:12],
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "seeds": ", ".join(map(str, record.seeds)),
        "finished": f"{reading.finished} cells",
    }
    for name, value in facts.items():
        table.add_row(Text(name, "dim"), _plain(value))
    for line in unfinished(reading.missing):
        table.add_row(Text("unfinished", "yellow"), _plain(line))
    console.print(Padding(table, (1, 0)))


def _print_groups(reading: LabRun, console: Console) -> None:
    summary = summarise_run(reading)
    if not summary.groups:
        console.print(Text("No cell is finished yet."))
        return
    for read_group, group in zip(reading.groups, summary.groups, strict=True):
        console.print(_group_table(group))
        lines = findings(read_group, reading.grid) or (*_relative(group), *paired(group), *answered(group))
        for line in lines:
            console.print(_plain(line))
    for line in _footnote(summary):
        console.print(Text(line, "dim"))


def _footnote(summary: Summary) -> Iterator[str]:
    """What the columns hold, and the limits of failure."""
    yield (
        "Means over seeds: start at generation 0, level at the last (95 % Student-t interval beside it), slope per "
        "generation."
    )
    rules = dict.fromkeys(rule.words for group in summary.groups for rule in group.rules if not rule.name)
    if rules:
        yield (
            f"failure: generation at which the limit is passed, median over seeds ({'; '.join(rules)}). “> 5”: not by "
            f"5. {formatting.DASH}: already beyond it, or not measured, at 0."
        )


def _relative(group: GroupSummary) -> Iterator[str]:
    """The rules of failure that have no column, a line each."""
    for rule in group.rules:
        if rule.name:
            times = (f"{arm.arm} {formatting.failure(arm.failures[rule.key])}" for arm in group.arms)
            yield f"Failure by {rule.words}: {', '.join(times)}."


def _group_table(group: GroupSummary) -> Table:
    # A column only where arms differ: on 80 characters there is none to spare.
    differ = any(arm.generation != group.arms[0].generation for arm in group.arms)
    title = _plain(group.learner, "bold")
    if not differ:
        title.append(f", level at generation {group.arms[0].generation}", "not bold dim")
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True
    )
    table.add_column("", overflow="fold")
    for heading in ("start", *(["at"] if differ else []), "level", "95 % interval", "slope", "failure"):
        table.add_column(heading, justify="right", overflow="fold")
    for name in group.metrics:
        table.add_row(_plain(describe(name).title, "bold"))
        for arm in group.arms:
            table.add_row(*_row(arm, name, at=differ))
        table.add_section()
    return table


def _row(arm: ArmSummary, name: str, *, at: bool) -> list[Text]:
    metric = arm.metrics[name]
    failure = arm.failures.get(name)
    cells = [
        formatting.number(metric.first.mean),
        *([str(metric.generation)] if at else []),
        formatting.mean(metric.level),
        formatting.interval(metric.level) or formatting.DASH,
        formatting.mean(metric.slope, signed=True),
        formatting.failure(failure) if failure else "",
    ]
    return [_plain("  " + arm.arm), *(Text(cell) for cell in cells)]


def _print_prompt(group: ArmGroup, view: str, prompt: Prompt, console: Console) -> None:
    console.print()
    console.print(Text(f"Prompt {prompt.number}, {VIEWS.get(view, visible(view))}", "bold"))
    console.print(Padding(Text(prompt.prompt or "(empty)", "italic"), (0, 2)))
    for column, arm in enumerate(group.arms):
        console.print(_plain(arm, "bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for generation, texts in zip(prompt.generations, prompt.texts, strict=True):
            text = texts[column]
            shown = Text(text) if text is not None else Text("no text", "dim")
            table.add_row(Text(f"generation {generation}", "dim"), shown)
        console.print(Padding(table, (0, 0, 0, 2)))
