"""Seconds in rounds and peak memory in a process of its own.

Rule: contenders take turns, once a round, and ratios are taken within a round, so a slow moment of the machine touches
all of them.
"""

import ctypes
import gc
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Call = Callable[[], None]
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Contender:
    """`call` turns a scene into what is measured. A `rival` that is `exact` may become the measure of all others.

    `ideal` is the time that the arithmetic alone would take, relative to exact cross-entropy. `check` raises where
    something is not installed; `error` gives the gradients' relative error.
    """

    name: str
    call: Callable[[Any], Call]
    exact: bool
    rival: bool = False
    ideal: float | None = None
    check: Callable[[], object] | None = None
    error: Callable[[Any], float] | None = None


@dataclass(frozen=True)
class Ratio:
    """A ratio to one contender, over rounds."""

    median: float
    low: float
    high: float


def seconds_per_round(calls: Mapping[str, Call], *, rounds: int, device: str) -> dict[str, list[float]]:
    """Every call once a round; a round starts one further than the last, so neighbours change their roles."""
    names, seconds = list(calls), {name: [] for name in calls}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            _finish(device)
            begin = time.perf_counter()
            calls[name]()
            _finish(device)
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(seconds: Sequence[float], base: Sequence[float]) -> Ratio:
    """Of two contenders, within rounds."""
    ratios = [round_seconds / base_seconds for round_seconds, base_seconds in zip(seconds, base, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def peak_bytes(call: Call, device: str) -> int | None:
    """The most memory that a second call holds beyond what was there before it; None where nothing can tell.

    The first call compiles and fills caches. On a GPU the allocator's count, on Linux the kernel's high-water mark of
    resident memory, set back to the present before the call.
    """
    call()
    gc.collect()
    if device != "cpu":
        _finish(device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        _finish(device)
        return torch.cuda.max_memory_allocated() - before
    if not _RESET.exists():
        return None
    # Freed pages that the C library still holds would hide what the next call needs.
    ctypes.CDLL(None).malloc_trim(0)
    _RESET.write_text("5", encoding="ascii")
    before = _high_water()
    call()
    return _high_water() - before


def own_process(*extra: str) -> tuple[list[str], str | None]:
    """This script again with `extra` arguments: its lines, and why it failed if it did."""
    command = [sys.executable, *sys.argv, *extra]
    # Large blocks straight from the system: in the C library's heap a freed one can stay resident, as a whole matrix of
    # logits did in one run of four.
    settings = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode == 0:
        return done.stdout.splitlines(), None
    said = done.stderr.strip().splitlines()
    return done.stdout.splitlines(), said[-1] if said else f"ended with {done.returncode}, perhaps out of memory"


def _high_water() -> int:
    match = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
    assert match is not None, "Linux reports VmHWM"
    return int(match[1]) * 1024


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
