"""Events of a run of the laboratory as progress: the cells of the whole run, and the loops inside those at work."""

from dataclasses import replace

from tailkeep.lab.loop import Event, Observer
from tailkeep.runs import Progress, ProgressObserver


def cell_progress(show: ProgressObserver, total: int) -> Observer:
    """An observer of `tailkeep.lab.run` that hands progress to `show`; `total` cells are to be finished in all."""
    return _CellProgress(show, total)


class _CellProgress:
    def __init__(self, show: ProgressObserver, total: int) -> None:
        self._show = show
        self._whole = Progress(0, total, "cells")

    def __call__(self, event: Event) -> None:
        chain = f"{event.arm} seed {event.seed}"
        detail = f"{chain} generation {event.generation}" + (f" {event.phase}" if event.phase else "")
        if event.progress is not None:
            self._show(replace(event.progress, task=chain, detail=detail))
            return
        if event.phase is None:
            whole = self._whole
            self._whole = replace(whole, done=whole.done + 1, resumed=whole.resumed + event.resumed)
            if event.resumed and self._whole.done < whole.total:
                # Those of an earlier run come one by one; the next event counts them all.
                return
        self._show(replace(self._whole, detail=detail))
