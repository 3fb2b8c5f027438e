"""A run of the laboratory that takes a moment: two arms of a Gaussian, of which one needs all that was ever written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailkeep import lab
from tailkeep.runs import RunDirectory
from tests.runs.faults import FaultyStorage, content

TREE: dict[str, Any] = {
    "learner": "gaussian",
    "generations": 3,
    "data": {"size": 8, "chains": 2, "std": 0.4},
    "arms": {
        "accumulate": {"regime": {"name": "accumulate"}},
        "truncated": {"truncate": {"name": "density", "threshold": 0.85}, "generations": 4, "record_every": 2},
    },
}

# What a resumed run may have otherwise: a phase cut off between its result and its time has no time.
TIMINGS = (".lock", "timings.json", "timings.jsonl")


def run(folder: Path, storage: FaultyStorage | None = None, **keys: Any) -> RunDirectory:
    return lab.run({**TREE, **keys}, folder, storage=FaultyStorage() if storage is None else storage)


def outcome(folder: Path) -> dict[str, bytes | None]:
    """Every name and byte of a run but its times."""
    return content(folder, without=TIMINGS)


def run_though_killed(tree: Any, folder: Path, **options: Any) -> int:
    """Run `tree`, killed once as each cell begins to train and once as it begins to measure; how often that was."""
    struck: set[tuple[str, int, int, str]] = set()

    def observe(event: lab.Event) -> None:
        if event.phase not in {"train", "measure"}:
            return
        place = (event.arm, event.seed, event.generation, event.phase)
        if place not in struck:
            struck.add(place)
            raise KeyboardInterrupt

    while True:
        try:
            lab.run(tree, folder, storage=FaultyStorage(), observe=observe, **options)
        except KeyboardInterrupt:
            continue
        return len(struck)


def raising(error: BaseException) -> Callable[[object], None]:
    def observe(_: object) -> None:
        raise error

    return observe
