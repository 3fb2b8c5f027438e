"""The recursion: train a generation, let it write, train the next. One chain is one arm under one seed.

Rule: the loop never looks inside the data, and what a cell already holds is read back instead of made again, so a
killed chain continues with its last finished phase and ends with the same bytes.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from tailkeep.lab.protocols import Experiment, Regime, Stage
from tailkeep.runs import GenerationDir

Phase = Literal["write", "train", "sample", "measure"]
KeepModels = Literal["last", "all", "none"]


@dataclass(frozen=True)
class Event:
    """A phase that starts, or a cell that is finished (`phase` is None), now or by an earlier run (`resumed`)."""

    arm: str
    seed: int
    generation: int
    phase: Phase | None
    resumed: bool = False


Observer = Callable[[Event], None]


@dataclass(frozen=True)
class Chain:
    """One arm under one seed: what to do, and where its cells are."""

    arm: str
    seed: int
    subject: Experiment
    regime: Regime
    generations: int
    recorded: Sequence[int]
    keep_models: KeepModels
    cell: Callable[[int], GenerationDir]


@dataclass
class _ChainState:
    """What the next generation needs: the newest model, and what was written for each generation so far.

    Something is written for generation 0 only by the subject's `first`.
    """

    model: Any
    written: dict[int, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    """Spent on phases of generations without a cell; the next cell's timings take them over."""


def phase_seed(seed: int, generation: int, phase: Phase | Literal["mix"]) -> int:
    """The seed of one phase. Arms share it, so they differ only by what they do with the same randomness."""
    number = ("write", "train", "sample", "measure", "mix").index(phase)
    return int(np.random.SeedSequence([seed, generation, number]).generate_state(1)[0])


def run_chain(chain: Chain, observe: Observer) -> None:
    """Train the chain's generations that are not finished yet, cell by cell."""
    start, lineage = _resume(chain)
    for generation in (g for g in chain.recorded if g < start):
        observe(Event(chain.arm, chain.seed, generation, None, resumed=True))
    for generation in range(start, chain.generations):
        _advance(chain, lineage, generation, observe)
        if generation in chain.recorded:
            _forget_models(chain, [g for g in [_previous_record(chain, generation)] if g >= 0])
            observe(Event(chain.arm, chain.seed, generation, None))
    # A kill between a cell's end and the removal of the model before it has left that one behind.
    _forget_models(chain, chain.recorded[:-1] if chain.keep_models == "last" else chain.recorded)


def _resume(chain: Chain) -> tuple[int, _ChainState]:
    """The first generation to work on, and the lineage that leads to it."""
    done = [g for g in chain.recorded if chain.cell(g).done]
    if len(done) == len(chain.recorded):
        return chain.generations, _ChainState(None, {})
    trained = [g for g in chain.recorded if not chain.cell(g).done and chain.cell(g).model.exists()]
    last = trained[-1] if trained else (done[-1] if done else None)
    if last is None:
        return 0, _ChainState(None, {})
    written = _read_written(chain, [g for g in chain.recorded if g <= last])
    if trained:
        return last, _ChainState(None, written)
    return last + 1, _ChainState(chain.subject.learner.load(chain.cell(last).model), written)


def _read_written(chain: Chain, generations: list[int]) -> dict[int, Any]:
    folders = [f for g in generations if chain.cell(g).written.exists() for f in chain.cell(g).written.iterdir()]
    newest = max((int(folder.name) for folder in folders), default=0)
    return {
        int(folder.name): chain.subject.real.read(folder)
        for folder in sorted(folders, key=lambda f: int(f.name))
        if chain.regime.keeps_history or int(folder.name) == newest
    }


def _advance(chain: Chain, lineage: _ChainState, generation: int, observe: Observer) -> None:
    """Train `generation` and, if it is a recorded one, fill its cell."""
    recorded = generation in chain.recorded
    cell = chain.cell(generation)
    if recorded and cell.model.exists():
        lineage.model = chain.subject.learner.load(cell.model)
    else:
        if recorded and cell.written.exists():
            lineage.written.update(_read_written(chain, [generation]))
        elif generation or chain.subject.first is not None:
            with _phase(chain, lineage, generation, "write", observe):
                _write(chain, lineage, generation)
        with _phase(chain, lineage, generation, "train", observe):
            _train(chain, lineage, generation)
    if recorded:
        _sample_and_measure(chain, lineage, generation, observe)


def _write(chain: Chain, lineage: _ChainState, generation: int) -> None:
    subject, seed = chain.subject, phase_seed(chain.seed, generation, "write")
    if generation:
        previous = partial(_training_set, chain, lineage, generation - 1)
        stage = Stage(generation, subject.real, previous, lineage.model, subject.select)
        written = chain.regime.write(stage, seed=seed)
    else:
        assert subject.first is not None, "generation 0 trains on real data, which nobody writes"
        written = subject.first(seed)
    if not chain.regime.keeps_history:
        lineage.written.clear()
    lineage.written[generation] = written
    if generation in chain.recorded:
        cell = chain.cell(generation)
        unsaved = [g for g in lineage.written if g > _previous_record(chain, generation)]
        cell.storage.write_folder(
            cell.written, lambda folder: _save_each(folder, {str(g): lineage.written[g] for g in unsaved})
        )


def _train(chain: Chain, lineage: _ChainState, generation: int) -> None:
    data = _training_set(chain, lineage, generation)
    lineage.model = chain.subject.learner.fit(
        data,
        seed=phase_seed(chain.seed, generation, "train"),
        budget=chain.regime.budget(generation, chain.subject.real),
        previous=lineage.model,
    )
    if generation in chain.recorded:
        cell = chain.cell(generation)
        cell.storage.write_folder(cell.model, lineage.model.save)


def _training_set(chain: Chain, lineage: _ChainState, generation: int) -> Any:
    if not generation and 0 in lineage.written:
        return lineage.written[0]
    seed = phase_seed(chain.seed, generation, "mix")
    return chain.regime.mix(generation, chain.subject.real, lineage.written, seed=seed)


def _sample_and_measure(chain: Chain, lineage: _ChainState, generation: int, observe: Observer) -> None:
    cell = chain.cell(generation)
    if cell.samples.exists():
        samples = {name: chain.subject.real.read(cell.samples / name) for name in chain.subject.views}
    else:
        with _phase(chain, lineage, generation, "sample", observe):
            seed = phase_seed(chain.seed, generation, "sample")
            samples = {name: view(lineage.model, seed) for name, view in chain.subject.views.items()}
            cell.storage.write_folder(cell.samples, lambda folder: _save_each(folder, samples))
    with _phase(chain, lineage, generation, "measure", observe):
        measured = chain.subject.measure(lineage.model, samples)
        training = {"train_data_units": float(_training_set(chain, lineage, generation).units), **lineage.model.facts}
        written = _facts(chain, lineage, generation)
        cell.write_metrics({**training, **written, **measured.metrics}, measured.tables, learner=chain.subject.name)
    cell.finish()


def _facts(chain: Chain, lineage: _ChainState, generation: int) -> Mapping[str, float]:
    if not generation and 0 in lineage.written:
        return dict(lineage.written[0].facts)
    return chain.regime.facts(generation, lineage.written)


def _save_each(folder: Any, parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        (folder / name).mkdir()
        part.save(folder / name)


def _previous_record(chain: Chain, generation: int) -> int:
    return max((g for g in chain.recorded if g < generation), default=-1)


def _forget_models(chain: Chain, generations: Iterable[int]) -> None:
    """Delete the models of those of `generations` that are finished, unless all are to be kept."""
    for generation in generations if chain.keep_models != "all" else ():
        cell = chain.cell(generation)
        if cell.done and cell.model.exists():
            cell.storage.remove_folder(cell.model)


@contextmanager
def _phase(chain: Chain, lineage: _ChainState, generation: int, phase: Phase, observe: Observer) -> Iterator[None]:
    recorded = generation in chain.recorded
    if recorded:
        observe(Event(chain.arm, chain.seed, generation, phase))
    start = time.perf_counter()
    yield
    lineage.seconds[phase] = lineage.seconds.get(phase, 0.0) + time.perf_counter() - start
    if recorded:
        chain.cell(generation).add_timing(phase, lineage.seconds.pop(phase))
