"""What a run tells while it works: one line now and then on stderr."""

import sys
import time
from collections.abc import Callable

from tailkeep.data.corpus.driving import Progress

_QUIET_SECONDS = 5.0


def _now() -> float:
    return time.monotonic()


class Lines:
    """An observer that prints a line a finished shard, but not more than one every few seconds, and the last always."""

    def __init__(self, clock: Callable[[], float] = _now) -> None:
        self._clock = clock
        self._start = self._printed = clock()

    def __call__(self, progress: Progress) -> None:
        """See `Observer`."""
        now = self._clock()
        worked = progress.done - progress.resumed
        if worked == 0:
            # What came before, such as loading, says nothing of the shards to come.
            self._start = self._printed = now
            if progress.resumed:
                _print(f"{progress.resumed} of {progress.shards} shards were finished before")
            return
        if now - self._printed < _QUIET_SECONDS and progress.done < progress.shards:
            return
        self._printed = now
        seconds = max(now - self._start, 1e-9)
        left = seconds / worked * (progress.shards - progress.done)
        _print(
            f"{progress.done}/{progress.shards} shards, {progress.amount:,} {progress.unit}, "
            f"{progress.amount / seconds:,.0f} {progress.unit}/s, {seconds:.0f} s, about {left:.0f} s left"
        )


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
