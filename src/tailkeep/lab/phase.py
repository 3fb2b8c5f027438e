"""The phase that is at work in this process, for what keeps files beside its result.

Rule: what is kept here changes no result. Outside a phase of a measured generation there is none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
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
