"""Running jobs in fresh processes, and the time and memory that each takes.

Rule: every job is a fresh process, contenders take turns within a round, and ratios are computed within a round, so
that a slow moment of the machine affects all of them. On a shared machine CPU time, user and system over all threads,
is more reliable than the clock.
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
"""tokens, seconds, cpu_seconds, startup_cpu_seconds, peak_mib, and other results of a job."""

Job = dict[str, Any]
_STATUS = Path("/proc/self/status")


class Stopwatch:
    """Measures from `begin` on; the CPU time before is the startup."""

    def __init__(self) -> None:
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    def begin(self) -> None:
        """Start measuring."""
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    def spent(self, **results: Any) -> Spent:
        """The time since `begin` and the peak memory of the process, with `results`."""
        seconds, cpu = time.perf_counter() - self._clock, time.process_time() - self._cpu
        return {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "startup_cpu_seconds": self._cpu,
            "peak_mib": peak_mib(),
            **results,
        }


def peak_mib() -> float:
    """The peak resident memory of this process, in MiB."""
    if _STATUS.exists():
        # Not ru_maxrss, which a process inherits from its parent.
        match = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
        if match is not None:
            return int(match[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def run_in_process(job: Job, *, nice: int = 0) -> Spent:
    """Run `job` in a fresh process of this script.

    Raises:
        SystemExit: it failed; the message is its stderr.
    """
    command = [*_priority(nice), sys.executable, sys.argv[0], "--job", json.dumps(job, default=str)]
    threads = str(job.get("threads", 1))
    settings = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"{job['kind']} failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def run_command(command: Sequence[str], *, nice: int = 0) -> Spent:
    """The cost of a command and its child processes; `peak_mib` is the peak of the largest process."""
    meter = Path(__file__).with_name("meter.py")
    whole = [*_priority(nice), sys.executable, str(meter), *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return {**json.loads(done.stdout.splitlines()[-1]), "stdout": done.stdout}


def _priority(nice: int) -> list[str]:
    return ["nice", "-n", str(nice)] if nice else []


@dataclass(frozen=True)
class Range:
    """The median, minimum and maximum of some numbers."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Range":
        """The range of `values`."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, form: str) -> str:
        """The range as a cell of a table."""
        return f"{self.median:{form}} ({self.low:{form}}-{self.high:{form}})"


def run_rounds(jobs: Mapping[str, Callable[[], Job]], *, rounds: int, nice: int = 0) -> dict[str, list[Spent]]:
    """Run every job once per round. Each round starts with the next job, so that the order rotates."""
    names, costs = list(jobs), {name: [] for name in jobs}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            print(f"round {turn + 1} of {rounds}: {name} ...", file=sys.stderr, flush=True)
            costs[name].append(run_in_process(jobs[name](), nice=nice))
    return costs


def speed(spent: Spent, clock: str) -> float:
    """Tokens per second by `clock`, `seconds` or `cpu_seconds`."""
    return float(spent["tokens"]) / float(spent[clock])


def ratio(contender: Sequence[Spent], base: Sequence[Spent], clock: str) -> Range:
    """The speed relative to `base`, within rounds."""
    return Range.of([speed(one, clock) / speed(other, clock) for one, other in zip(contender, base, strict=True)])
