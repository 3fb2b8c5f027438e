"""Progress of a long run: bars on a terminal, plain lines elsewhere, always on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_MIN_SECONDS_BETWEEN_LINES = 5.0


class Step(Protocol):
    """A phase that starts, or a cell that is finished (`phase` is None), now or by an earlier run (`resumed`)."""

    @property
    def arm(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def generation(self) -> int: ...  # noqa: D102
    @property
    def phase(self) -> str | None: ...  # noqa: D102
    @property
    def resumed(self) -> bool: ...  # noqa: D102


@contextmanager
def show_progress(total: int) -> Iterator[Callable[[Step], None]]:
    """A function that takes steps and shows them; `total` cells are to be finished in all."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("starting", total=total)

        def observe(step: Step) -> None:
            if step.phase is None:
                bars.advance(task)
            else:
                bars.update(task, description=_describe(step))

        yield observe


class _Lines:
    """One line per finished generation, but not more than one every few seconds; the last is always printed."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.resumed = 0
        self.start = self.printed = time.monotonic()

    def __call__(self, step: Step) -> None:
        if step.phase is not None:
            return
        self.done += 1
        self.resumed += step.resumed
        now = time.monotonic()
        if now - self.printed < _MIN_SECONDS_BETWEEN_LINES and self.done < self.total:
            return
        self.printed = now
        elapsed = now - self.start
        worked = self.done - self.resumed
        remaining = f", about {elapsed / worked * (self.total - self.done):.0f} s left" if worked else ""
        line = f"{self.done}/{self.total} cells, {elapsed:.0f} s{remaining} ({_describe(step)})"
        print(line, file=sys.stderr, flush=True)


def _describe(step: Step) -> str:
    return f"{step.arm} seed {step.seed} generation {step.generation}" + (f" {step.phase}" if step.phase else "")
