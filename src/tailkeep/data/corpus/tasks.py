"""The share of a run that one process does, as an element of a job array.

Rule: shares are cut from the sorted list of all shards, so the number of tasks changes no output.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tailkeep.errors import ConfigError

_INDEX, _COUNT, _FIRST, _STEP = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "STEP"))


@dataclass(frozen=True)
class Task:
    """Number `index`, from 0, of `count` tasks."""

    index: int = 0
    count: int = 1

    @property
    def name(self) -> str:
        """The task as a name of a file."""
        return f"{self.index}-of-{self.count}"


def task_here(index: int | None, count: int | None, environment: Mapping[str, str]) -> Task:
    """The task of this process: what is given, else what a Slurm array says, else the whole.

    Raises:
        ConfigError: only one of the two is known.
    """
    if index is None and _INDEX in environment:
        first, step = int(environment.get(_FIRST, "0")), int(environment.get(_STEP, "1"))
        index = (int(environment[_INDEX]) - first) // step
    if count is None and _COUNT in environment:
        count = int(environment[_COUNT])
    if index is None and count is None:
        return Task()
    if index is None or count is None:
        given, missing = ("num_tasks", "task_index") if index is None else ("task_index", "num_tasks")
        raise ConfigError(f"{given} is {count if index is None else index}, and {missing} is missing. Give both.")
    return Task(index, count)
