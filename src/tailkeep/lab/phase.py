"""The phase that is at work in this process, for what keeps files beside its result.

Rule: what is kept here changes no result. Outside a phase of a measured generation there is none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tailkeep.runs import GenerationDir


@dataclass(frozen=True)
class PhasePlace:
    """A `phase` of the generation in `generation_dir`."""

    generation_dir: GenerationDir
    phase: str


_place: ContextVar[PhasePlace | None] = ContextVar("place", default=None)


@contextmanager
def enter_phase(place: PhasePlace | None) -> Iterator[None]:
    """Let `current_phase` be `place` inside."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def current_phase() -> PhasePlace | None:
    """Where the phase at work keeps its files; None where nothing is kept."""
    return _place.get()
