"""Progress of a long run: loops report how far they are, and one printer shows it, always on stderr.

Rule: who watches changes no result. On a terminal there are bars, elsewhere plain lines, seconds apart.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Progress:
    """How far some work is: `done` of `total`, counted in `unit`, `resumed` of them by an earlier run.

    A `total` of 0 is unknown.

    Attributes:
        amount: what this run has done so far in `amount_unit`, such as tokens.
        loss: the loss of the last steps, in nats/token.
        task: empty for the whole run; else which part of it this is about, such as a chain. Parts run side by side.
        detail: what is at work just now, in words.
    """

    done: int
    total: int
    unit: str
    resumed: int = 0
    amount: int = 0
    amount_unit: str = ""
    loss: float | None = None
    task: str = ""
    detail: str = ""


ProgressObserver = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """The observer that does nothing."""
    del progress


Watcher = Callable[[Progress], bool | None]
"""Called after each step of a loop. True means that it has measured enough: the loop may make up the rest."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
_is_estimate: ContextVar[bool] = ContextVar("is_estimate", default=False)


@contextmanager
def watch_loops(watcher: Watcher, *, is_estimate: bool = False) -> Iterator[None]:
    """Let `watcher` see the loops that run inside; a watcher around it sees them too.

    With `is_estimate` the results of these loops are not used.
    """
    outer = _watcher.get()

    def watch(progress: Progress) -> bool:
        results = [watcher(progress), outer is not None and outer(progress)]
        return any(results)

    token, estimate_token = _watcher.set(watch), _is_estimate.set(is_estimate or _is_estimate.get())
    try:
        yield
    finally:
        _is_estimate.reset(estimate_token)
        _watcher.reset(token)


class LoopProgress:
    """How far one loop is; see `track_loop`."""

    def __init__(
        self, progress: Progress = Progress(0, 0, ""), watcher: Watcher | None = None, *, is_estimate: bool = False
    ) -> None:
        self._done, self._amount = progress.done, progress.amount
        self._start, self._watcher = progress, watcher
        self.is_estimate = is_estimate
        """Whether only the time of its steps counts: then the largest ones come first, whose pace is that of most."""
        self.enough = False
        """Whether an estimate has measured enough of this loop; always false in a run."""
        self.advance(0)

    def advance(self, steps: int = 1, *, amount: int = 0, loss: float | None = None) -> None:
        """Count `steps`, which did so much of the `amount_unit`."""
        self._done, self._amount = self._done + steps, self._amount + amount
        if self._watcher is None:
            return
        progress = replace(self._start, done=self._done, amount=self._amount, loss=loss)
        self.enough = bool(self._watcher(progress))


def track_loop(
    total: int, unit: str, *, amount_unit: str = "tokens", resumed: int = 0, detail: str = ""
) -> LoopProgress:
    """The progress of a loop of `total` steps, 0 if unknown, seen by the watcher around it, if there is one.

    A loop whose progress is `enough` may leave its other steps out and make up their results: only an estimate asks
    for that, and it uses nothing but the time.
    """
    progress = Progress(resumed, total, unit, resumed, 0, amount_unit, detail=detail)
    return LoopProgress(progress, _watcher.get(), is_estimate=_is_estimate.get())


@contextmanager
def report_loops(task: str, observe: ProgressObserver) -> Iterator[None]:
    """Pass the progress of the loops inside on to `observe` as that of `task`, a few times a minute or more.

    Work that is over within half a second reports nothing.
    """
    last: Progress | None = None
    reported = time.monotonic()

    def watch(progress: Progress) -> None:
        nonlocal last, reported
        now = time.monotonic()
        if now - reported >= _SECONDS_BETWEEN_REPORTS:
            reported, last = now, replace(progress, task=task, detail=progress.detail or task)
            observe(last)

    with watch_loops(watch):
        yield
    if last is not None:
        end = max(last.total, last.done, 1)
        observe(replace(last, done=end, total=end))


def _now() -> float:
    return time.monotonic()


class _Pace:
    """The time that one task takes, from when it is first seen."""

    def __init__(self, progress: Progress, now: float) -> None:
        self.loop = _loop_of(progress)
        self.start = self.printed = now
        self.done = progress.done

    def seconds(self, now: float) -> float:
        """Since the start."""
        return max(now - self.start, 1e-9)

    def rate(self, progress: Progress, now: float) -> str:
        """Such as 412 tokens/s; empty if nothing is counted."""
        unit = progress.amount_unit
        return f"{progress.amount / self.seconds(now):,.0f} {unit}/s" if unit else ""

    def line(self, progress: Progress, now: float) -> str:
        """`progress` in words."""
        seconds, worked = self.seconds(now), progress.done - progress.resumed
        parts = [f"{progress.done:,}{f'/{progress.total:,}' if progress.total else ''} {progress.unit}"]
        parts += [f"loss {progress.loss:.3f}"] if progress.loss is not None else []
        if progress.amount_unit:
            parts += [] if progress.task else [f"{progress.amount:,} {progress.amount_unit}"]
            parts.append(self.rate(progress, now))
        parts.append(format_seconds(seconds))
        if worked > 0 and progress.total:
            parts.append(f"about {format_seconds(seconds / worked * (progress.total - progress.done))} left")
        return ", ".join(parts) + (f" ({progress.detail})" if progress.detail else "")


def _loop_of(progress: Progress) -> tuple[str, ...]:
    """What stays the same as long as a loop goes on."""
    return (progress.detail, progress.unit, str(progress.total)) if progress.task else ()


class _Paces:
    """The paces of the run and of its parts by task; a part that begins another loop has a new one."""

    def __init__(self, now: float) -> None:
        self._by_task = {"": _Pace(Progress(0, 0, ""), now)}

    def of(self, progress: Progress, now: float) -> _Pace:
        """The pace of the task of `progress`."""
        pace = self._by_task.get(progress.task)
        if pace is None or pace.loop != _loop_of(progress) or (progress.task and progress.done < pace.done):
            pace = self._by_task[progress.task] = _Pace(progress, now)
        return pace


class ProgressPrinter:
    """An observer that prints lines: of the whole run and of each part not more often than every few seconds.

    The last line of the whole run is always printed.
    """

    def __init__(self, clock: Callable[[], float] = _now) -> None:
        self._clock = clock
        self._paces = _Paces(clock())
        self._started = False

    def __call__(self, progress: Progress) -> None:
        """Print a line about `progress` if it is time for one."""
        now = self._clock()
        pace = self._paces.of(progress, now)
        if progress.task:
            moved = progress.done > progress.resumed or progress.amount > 0
            due = moved and now - pace.printed >= _SECONDS_BETWEEN_LINES
        else:
            due = self._is_due(progress, pace, now)
        pace.done = progress.done
        if due:
            pace.printed = now
            print_status(pace.line(progress, now))

    def _is_due(self, progress: Progress, pace: _Pace, now: float) -> bool:
        """Whether the whole run has got further and it is time to say so."""
        if progress.done == progress.resumed:
            if progress.resumed > pace.done:
                print_status(f"{progress.resumed:,} of {progress.total:,} {progress.unit} were finished before")
            if progress.resumed > pace.done or not self._started:
                # What came before, such as loading, says nothing of the work to come.
                pace.start = pace.printed = now
            self._started = True
            return False
        is_late = now - pace.printed >= _SECONDS_BETWEEN_LINES
        return progress.done > pace.done and (is_late or progress.done == progress.total)


@contextmanager
def show_progress() -> Iterator[ProgressObserver]:
    """An observer that shows progress on stderr: bars on a terminal, lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield ProgressPrinter()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)


@contextmanager
def show_in_notebook() -> Iterator[ProgressObserver]:
    """As `show_progress` in a notebook, where nothing else shows that a call is at work; elsewhere it shows nothing."""
    from rich.console import Console

    if not Console(stderr=True).is_jupyter:
        yield no_progress
        return
    with show_progress() as show:
        yield show


class _Bars:
    """An observer with a bar for the whole run, and one for each part while it is at work."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._paces = _Paces(_now())
        self._by_pace: dict[_Pace, Any] = {}
        self._by_task: dict[str, _Pace] = {}
        self(Progress(0, 1, "", detail="starting"))

    def __call__(self, progress: Progress) -> None:
        now = _now()
        pace = self._paces.of(progress, now)
        pace.done = progress.done
        loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
        fields = {
            "description": progress.detail or progress.unit,
            "total": progress.total or None,
            "completed": progress.done,
            "numbers": " ".join(filter(None, [progress.unit, loss, pace.rate(progress, now)])),
        }
        if pace not in self._by_pace:
            self._remove(progress.task)
            self._by_task[progress.task] = pace
            self._by_pace[pace] = self._bars.add_task(**fields)
        self._bars.update(self._by_pace[pace], **fields)
        if progress.task and 0 < progress.total <= progress.done:
            self._remove(progress.task)

    def _remove(self, task: str) -> None:
        if task in self._by_task:
            self._bars.remove_task(self._by_pace.pop(self._by_task.pop(task)))


def format_seconds(seconds: float) -> str:
    """A duration in seconds, from ten minutes on in minutes, from two hours on in hours."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_status(line: str) -> None:
    """A line on stderr."""
    print(line, file=sys.stderr, flush=True)
