"""The phase that is at work in this process, and what it has done so far, from which a killed run goes on.

    cells/<arm>/<seed>/<generation>/unfinished/<phase>/<part>/...

Rule: what lies here changes no result. Each piece is written whole or not at all, so seldom that writing takes a
twentieth of the time at most, and all of it goes when the phase is finished.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tailkeep.runs import GenerationDir


@dataclass(frozen=True)
class PhasePlace:
    """A `phase` of the generation in `generation_dir`; `part` is the model that is at work, if there are several.

    `memory` is for objects that live as long as the phase.
    """

    generation_dir: GenerationDir
    phase: str
    part: str = "model"
    memory: dict[str, Any] = field(default_factory=dict, compare=False)


_place: ContextVar[PhasePlace | None] = ContextVar("place", default=None)


@contextmanager
def enter_phase(place: PhasePlace | None) -> Iterator[None]:
    """Let `current_phase` be `place` inside."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


@contextmanager
def enter_part(name: str) -> Iterator[None]:
    """Let the files that are kept inside be those of the part `name` of the phase."""
    place = _place.get()
    with enter_phase(place and replace(place, part=name)):
        yield


def current_phase() -> PhasePlace | None:
    """Where the phase at work keeps its files; None where nothing is kept."""
    return _place.get()


_FOLDER = "unfinished"
MAX_SHARE = 1 / 20
"""The most of the time that writing may take."""
MIN_SECONDS = 30.0
"""A shorter interval is not worth a file."""


def unfinished_folder(place: PhasePlace) -> Path:
    """Where the phase at work keeps what it has done."""
    return place.generation_dir.path / _FOLDER / place.phase / place.part


def remove_unfinished(generation_dir: GenerationDir) -> None:
    """Delete what finished phases of this generation have left.

    Raises:
        StorageError: the file system refused.
    """
    generation_dir.storage.remove_folder(generation_dir.path / _FOLDER)


class Spacing:
    """When to write next: every 20 times what one writing costs. `cost` is the guess in seconds before the first."""

    def __init__(self, cost: float) -> None:
        self._start = self._last = time.monotonic()
        self._cost, self._spent = cost, 0.0

    @property
    def is_due(self) -> bool:
        """Whether one more writing keeps to the share of all the time so far."""
        now = time.monotonic()
        within_share = (now - self._start) * MAX_SHARE >= self._spent + self._cost
        return within_share and now - self._last >= MIN_SECONDS

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Count the time inside as the cost of one writing."""
        start = time.monotonic()
        yield
        self._last = time.monotonic()
        self._cost = self._last - start
        self._spent += self._cost
