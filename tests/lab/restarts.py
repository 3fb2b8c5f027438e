"""Runs that are cut off and begun again: they end with the bytes of an undisturbed one, its timings apart."""

import json

from tailkeep import lab
from tests.runs.faults import Fault, FaultyStorage, content, interrupt
from tests.runs.small_run import TIMINGS


def undisturbed_run(config, folder):
    """The operations of a run that nothing disturbs, and its files."""
    storage = FaultyStorage()
    lab.run(config, folder, storage=storage)
    return storage.log, content(folder, without=TIMINGS)


def phase_boundaries(log):
    """The operations that finish a phase: each renames a folder or a file that a resumed run looks for."""
    names = {"generated", "model", "samples", "metrics.json", "DONE", "metrics.jsonl", "run.json"}
    return [n for n, (operation, path) in enumerate(log, start=1) if operation == "rename" and path.name in names]


def check(config, undisturbed, folder, fault):
    """A run that meets `fault` and is begun again is like the undisturbed one."""
    interrupt(lambda storage: lab.run(config, folder, storage=storage), fault)
    lab.run(config, folder, storage=FaultyStorage())
    assert content(folder, without=TIMINGS) == undisturbed[1], fault


def check_boundaries(config, undisturbed, folder, *, after):
    """So are runs that are killed at the end of each phase, or `after` operations later."""
    for n in phase_boundaries(undisturbed[0]):
        if n + after <= len(undisturbed[0]):
            check(config, undisturbed, folder / str(n), Fault(n + after, "killed", half=True))


def check_two_workers(config, undisturbed, folder):
    """So is a run of two processes."""
    lab.run(config, folder, workers=2)
    assert content(folder, without=TIMINGS) == undisturbed[1]


def rows_of(files):
    """The metrics of each arm and generation."""
    rows = [json.loads(line) for line in files["metrics.jsonl"].decode().splitlines()]
    return {(row["arm"], row["generation"]): row for row in rows}
