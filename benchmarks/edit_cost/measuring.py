"""Jobs in processes of their own, and what each has spent.

Rule: a job is a fresh process, contenders take turns, once a round, and ratios are taken within a round, so that a slow
moment of the machine touches all of them. On a shared machine CPU time, user and system over all threads, tells more
than the clock.
"""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Spent = dict[str, Any]
"""tokens, seconds, cpu_seconds, startup_cpu_seconds, peak_mib, and what else a job tells."""

Job = dict[str, Any]
_STATUS = Path("/proc/self/status")


class Stopwatch:
    """Counts from `begin`; what the process has spent before it is its start."""

    def __init__(self) -> None:
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    def begin(self) -> None:
        """The work begins."""
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    def spent(self, **told: Any) -> Spent:
        """What the work has taken, with the most memory that the process has held at any time."""
        seconds, cpu = time.perf_counter() - self._clock, time.process_time() - self._cpu
        return {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "startup_cpu_seconds": self._cpu,
            "peak_mib": peak_mib(),
            **told,
        }


def peak_mib() -> float:
    """The most resident memory of this process."""
    if _STATUS.exists():
        # Not ru_maxrss, which a new program inherits from the one that started it.
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
        if found is not None:
            return int(found[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def in_own_process(job: Job, *, nice: int = 0) -> Spent:
    """What `job` tells from a fresh process of this script.

    Raises:
        SystemExit: it failed; its last words are the reason.
    """
    command = [*_priority(nice), sys.executable, sys.argv[0], "--job", json.dumps(job, default=str)]
    threads = str(job.get("threads", 1))
    settings = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"{job['kind']} failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def command_spent(command: Sequence[str], *, nice: int = 0) -> Spent:
    """What a command and the processes that it has waited for have spent; `peak_mib` is that of the largest of them."""
    meter = Path(__file__).with_name("meter.py")
    whole = [*_priority(nice), sys.executable, str(meter), *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return {**json.loads(done.stdout.splitlines()[-1]), "said": done.stdout}


def _priority(nice: int) -> list[str]:
    return ["nice", "-n", str(nice)] if nice else []


@dataclass(frozen=True)
class Range:
    """The median of some numbers, the least and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Range":
        """That of `values`."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, form: str) -> str:
        """As it stands in a table."""
        return f"{self.median:{form}} ({self.low:{form}}-{self.high:{form}})"


def rounds_of(jobs: Mapping[str, Callable[[], Job]], *, rounds: int, nice: int = 0) -> dict[str, list[Spent]]:
    """Every job, made anew, once a round; a round starts one further than the last, so neighbours change roles."""
    names, found = list(jobs), {name: [] for name in jobs}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            print(f"round {turn + 1} of {rounds}: {name} ...", file=sys.stderr, flush=True)
            found[name].append(in_own_process(jobs[name](), nice=nice))
    return found


def speed(spent: Spent, clock: str) -> float:
    """Tokens a second by `clock`, `seconds` or `cpu_seconds`."""
    return float(spent["tokens"]) / float(spent[clock])


def ratio(ours: Sequence[Spent], base: Sequence[Spent], clock: str) -> Range:
    """How many times as fast as `base`, within rounds."""
    return Range.of([speed(one, clock) / speed(other, clock) for one, other in zip(ours, base, strict=True)])
