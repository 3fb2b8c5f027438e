"""A run of two arms and two generations without any learning, shaped as the laboratory's: phases, then DONE."""

from pathlib import Path

from tailkeep.runs import RunDirectory, RunRecord, Storage

RECORD = RunRecord.of("small", {"config": {"seeds": [0], "rate": 1e-3}}, installed={"tailkeep": "0"}, seeds=(0,))
CONFIG = "seeds: [0]\nrate: 0.001\n"
ARMS = ("baseline", "kept")

# The names in which a resumed run may differ: a phase cut off between its result and its time has no time.
TIMINGS = (".lock", "timings.json", "timings.jsonl")


def run(path: Path, storage: Storage | None = None, *, record: RunRecord = RECORD) -> None:
    """Do what is not yet done of the run at `path`; only the last generation's model stays."""
    with RunDirectory.create(path, record, config=CONFIG, storage=storage) as directory:
        for arm in ARMS:
            for generation in range(2):
                _generation(directory, arm, generation)
        directory.collect()


def _generation(directory: RunDirectory, arm: str, generation: int) -> None:
    cell = directory.generation_dir(arm, 0, generation)
    storage = directory.storage
    if not cell.done:
        if not cell.model.exists():
            storage.write_folder(cell.model, lambda folder: _save(folder, arm, generation))
            cell.add_timing("fit", 1.0)
        cell.write_metrics({"nll": 2.0 + generation}, {"confidence": [1, 2]}, learner="small")
        cell.finish()
    if generation:
        storage.remove_folder(directory.generation_dir(arm, 0, generation - 1).model)


def _save(folder: Path, arm: str, generation: int) -> None:
    (folder / "config.json").write_text(f'{{"arm": "{arm}"}}')
    (folder / "weights").write_bytes(bytes([generation]) * 32)
