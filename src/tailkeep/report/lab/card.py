"""The section of a model card about a run of the laboratory: what was trained on what, how it ended, how sure that is.

Rule: every number is in the report too, with the same interval; the section says what it does not show.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tailkeep.metrics import Interval
from tailkeep.report import formatting
from tailkeep.report.lab.comparisons import verdict_of
from tailkeep.report.lab.curves import curve_of
from tailkeep.report.lab.run import ArmGroup, LabRun, read_lab_run
from tailkeep.report.lab.sentences import caveats
from tailkeep.report.lab.stats import GroupSummary, summarise_run
from tailkeep.report.metric_catalog import words_of
from tailkeep.report.phrases import value_at
from tailkeep.sanitize import redact, visible

_MAX_ARMS = 12


def model_card(path: Path | str) -> str:
    """The section, in Markdown, about the run or pack at `path`, finished or not.

    Raises:
        InputError: there is no run, nothing of it is finished, or one of its files cannot be read.
    """
    run = read_lab_run(path)
    summary = summarise_run(run)
    return "\n".join(redact(line) for line in _lines(run, summary.groups)) + "\n"


def _lines(run: LabRun, groups: tuple[GroupSummary, ...]) -> Iterator[str]:
    yield f"## Training on synthetic data: {_text(run.name)}"
    yield ""
    if run.description:
        yield from (_text(run.description), "")
    for group, one in zip(run.groups, groups, strict=True):
        if len(run.groups) > 1:
            yield from (f"### {_text(words_of(group.learner).title)}", "")
        verdict = verdict_of(group, one, run.grid)
        yield from (_text(" ".join(filter(None, [verdict, *caveats(group, one)]))), "")
        yield from _table(group, one)
    yield from _limits(run)


def _table(group: ArmGroup, summary: GroupSummary) -> Iterator[str]:
    metrics = group.catalog.main_metrics(group.names)
    last = group.common_generation
    at = formatting.DASH if last is None else last
    described = map(group.catalog.describe, metrics)
    units = (f"{one.title} in {one.unit}" if one.unit else one.title for one in described)
    titles = (f"{_text(title)}, generation {at}" for title in units)
    yield f"| arm | regime | loss | {' | '.join(titles)} |"
    yield "|---" * (3 + len(metrics)) + "|"
    # Other learners have no loss to choose; what they truncate is in the name of the arm.
    default_loss = "cross-entropy" if words_of(group.learner).of_text else formatting.DASH
    for arm in summary.arms[:_MAX_ARMS]:
        config = group.configs.get(arm.arm, {})
        choices = [_choice(config.get("regime"), "replace"), _choice(config.get("loss"), default_loss)]
        curves = [curve_of(group, arm.arm, name) for name in metrics]
        values = [_value(None if last is None else curve.get(last)) for curve in curves]
        yield f"| {' | '.join([_text(arm.arm), *choices, *values])} |"
    if len(summary.arms) > _MAX_ARMS:
        yield f"| ... {len(summary.arms) - _MAX_ARMS} more arms | | |{' |' * len(metrics)}"
    yield ""
    seeds = len({entry.seed for entry in group.entries})
    sure = (
        f"{seeds} seeds, with 95 % CIs (of shares on the logit scale)."
        if seeds > 1
        else "One seed, so there is no interval."
    )
    yield f"{sure} Generation 0 was trained on real data." if _begins_with_real_data(group) else sure
    yield ""


def _begins_with_real_data(group: ArmGroup) -> bool:
    """Whether no arm has data that an external model has edited or written."""
    keys = ("data.external_edit", "data.external_text")
    return not any(value_at(group.configs.get(arm, {}), key) for arm in group.arms for key in keys)


def _value(value: Interval | None) -> str:
    if value is None:
        return "-"
    bounds = formatting.interval(value)
    return f"{formatting.mean(value)} ({bounds})" if bounds else formatting.mean(value)


def _choice(value: object, default: str) -> str:
    """A regime or a loss with its options, such as `truncated, threshold 0.99`."""
    if not isinstance(value, Mapping):
        return default
    options = (f"{key} {option}" for key, option in value.items() if key != "name" and isinstance(option, str | float))
    return _text(", ".join([str(value.get("name", default)), *options]))


def _text(text: str) -> str:
    """`text` of a configuration as one line of a Markdown table."""
    return visible(text, newline=" ").replace("<", "&lt;").replace("|", "&#124;")


def _limits(run: LabRun) -> Iterator[str]:
    record = run.directory.record
    yield "What this does not show: another model, corpus, decoder or number of generations can behave otherwise."
    if run.unfinished:
        count = len(run.unfinished)
        chains = "1 chain is" if count == 1 else f"{count} chains are"
        yield f"The run is not finished: {chains} missing or not complete."
    yield ""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))
    yield f"Measured with {_text(versions)}. `tailkeep report` of the run draws every number."
