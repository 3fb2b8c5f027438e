"""The recursion: train a generation, let it generate, train the next. One chain is one arm under one seed.

Rule: the loop never looks inside the data, and what a generation's folder holds is read back instead of made again, so
a killed chain resumes after its last finished phase and ends with the same bytes.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tailkeep.config import UserCode
from tailkeep.errors import ConfigError
from tailkeep.lab.phase import PhasePlace, enter_phase, remove_unfinished
from tailkeep.lab.protocols import Experiment, Measurement, Regime, Stage
from tailkeep.runs import GenerationDir, Progress, ProgressObserver
from tailkeep.runs.generation_dir import curve_tables
from tailkeep.runs.progress import watch_loops

_logger = logging.getLogger(__name__)
Phase = Literal["generate", "train", "sample", "measure"]
KeepModels = Literal["last", "all", "none"]


@dataclass(frozen=True)
class Event:
    """A phase that starts, or a generation that is finished (`phase` is None), now or by an earlier run (`resumed`).

    With `progress`, how far a loop inside that phase is: steps of training, texts that are generated, rows scored.
    """

    arm: str
    seed: int
    generation: int
    phase: Phase | None
    resumed: bool = False
    progress: Progress | None = None


Observer = Callable[[Event], None]


@dataclass(frozen=True)
class Chain:
    """One arm under one seed: what to do, and where each generation is saved."""

    arm: str
    seed: int
    experiment: Experiment
    regime: Regime
    generations: int
    recorded: Sequence[int]
    keep_models: KeepModels
    generation_dir: Callable[[int], GenerationDir]
    fingerprint: Callable[[int], Mapping[str, str]]


@dataclass
class _ChainState:
    """What the next generation needs: the newest model, and what was generated for each generation so far.

    Only the experiment's `first_data` generates something for generation 0.
    """

    model: Any
    generated: dict[int, Any]
    first_model: Any = None
    """That of generation 0, where the experiment measures by it."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Spent on phases of generations that are not recorded; the next recorded one's timings include them."""


def phase_seed(seed: int, generation: int, phase: Phase | Literal["mix"]) -> int:
    """The seed of one phase. Arms share it, so they differ only by what they do with the same randomness."""
    number = ("generate", "train", "sample", "measure", "mix").index(phase)
    return int(np.random.SeedSequence([seed, generation, number]).generate_state(1)[0])


def run_chain(chain: Chain, observe: Observer, *, until: int | None = None) -> None:
    """Train the chain's generations that are not finished yet, one after another; with `until` those below it."""
    start, state = _resume(chain)
    for generation in (g for g in chain.recorded if g < start):
        observe(Event(chain.arm, chain.seed, generation, None, resumed=True))
    for generation in range(start, chain.generations if until is None else min(until, chain.generations)):
        _advance(chain, state, generation, observe)
        if generation in chain.recorded:
            _remove_models(chain, [g for g in [_previous_recorded(chain, generation)] if g >= 0])
            observe(Event(chain.arm, chain.seed, generation, None))
    if until is not None:
        return
    # A kill after a generation has finished and before the previous model was removed has left that model behind.
    _remove_models(chain, chain.recorded[:-1] if chain.keep_models == "last" else chain.recorded)


def _resume(chain: Chain) -> tuple[int, _ChainState]:
    """The first generation to work on, and the state of the chain before it.

    A damaged generation whose predecessor's model is no longer there is made again from the first one on.
    """
    for g in chain.recorded:
        if damaged := chain.generation_dir(g).remove_damaged():
            _logger.warning("%s: %s damaged, made again", chain.generation_dir(g).path, " and ".join(damaged))
    first = next((g for g in chain.recorded if not chain.generation_dir(g).done), None)
    if first is None:
        return chain.generations, _ChainState(None, {})
    before = _previous_recorded(chain, first)
    if chain.generation_dir(first).model.exists():
        return first, _ChainState(None, _read_generated(chain, [g for g in chain.recorded if g <= first]))
    if before < 0 or not chain.generation_dir(before).model.exists():
        return 0, _ChainState(None, {})
    generated = _read_generated(chain, [g for g in chain.recorded if g <= before])
    return before + 1, _ChainState(chain.experiment.learner.load(chain.generation_dir(before).model), generated)


def _read_generated(chain: Chain, generations: Iterable[int]) -> dict[int, Any]:
    roots = [chain.generation_dir(g).generated for g in generations]
    folders = [folder for root in roots if root.exists() for folder in root.iterdir()]
    newest = max((int(folder.name) for folder in folders), default=0)
    return {
        int(folder.name): chain.experiment.real.read(folder)
        for folder in sorted(folders, key=lambda folder: int(folder.name))
        if chain.regime.keeps_history or int(folder.name) == newest
    }


def _advance(chain: Chain, state: _ChainState, generation: int, observe: Observer) -> None:
    """Train `generation` and, if it is a recorded one, fill its folder."""
    recorded = generation in chain.recorded
    generation_dir = chain.generation_dir(generation)
    if recorded:
        generation_dir.write_fingerprint(chain.fingerprint(generation))
    if recorded and generation_dir.model.exists():
        state.model = chain.experiment.learner.load(generation_dir.model)
        if generation not in state.generated:
            _remember(chain, state, _read_generated(chain, [generation]))
    else:
        if recorded and generation_dir.generated.exists():
            _remember(chain, state, _read_generated(chain, [generation]))
        elif generation or chain.experiment.first_data is not None:
            with _phase(chain, state, generation, "generate", observe):
                _generate(chain, state, generation)
        with _phase(chain, state, generation, "train", observe):
            _train(chain, state, generation)
    if recorded:
        _sample_and_measure(chain, state, generation, observe)


def _generate(chain: Chain, state: _ChainState, generation: int) -> None:
    experiment, seed = chain.experiment, phase_seed(chain.seed, generation, "generate")
    if generation:
        previous = partial(_training_set, chain, state, generation - 1)
        earlier = dict(state.generated)
        stage = Stage(generation, experiment.real, previous, state.model, experiment.select, experiment.replay, earlier)
        data = chain.regime.generate(stage, seed=seed)
    else:
        assert experiment.first_data is not None, "generation 0 trains on real data, which no model generates"
        data = experiment.first_data(seed)
    _remember(chain, state, {generation: data})
    if generation in chain.recorded:
        generation_dir, saved_until = chain.generation_dir(generation), _previous_recorded(chain, generation)
        unsaved = {str(g): data for g, data in state.generated.items() if g > saved_until}
        generation_dir.write_phase(generation_dir.generated, lambda folder: _save_each(folder, unsaved))


def _remember(chain: Chain, state: _ChainState, generated: Mapping[int, Any]) -> None:
    """Add what was generated; without history it takes the place of all before, also where a killed run goes on."""
    if not chain.regime.keeps_history:
        state.generated.clear()
    state.generated.update(generated)


def _train(chain: Chain, state: _ChainState, generation: int) -> None:
    data = _training_set(chain, state, generation)
    state.model = chain.experiment.learner.fit(
        data,
        seed=phase_seed(chain.seed, generation, "train"),
        budget=chain.regime.budget(generation, chain.experiment.real),
        previous=state.model,
    )
    if generation in chain.recorded:
        generation_dir = chain.generation_dir(generation)
        generation_dir.write_phase(generation_dir.model, state.model.save)


def _training_set(chain: Chain, state: _ChainState, generation: int) -> Any:
    if not generation and 0 in state.generated:
        return state.generated[0]
    seed = phase_seed(chain.seed, generation, "mix")
    return chain.regime.mix(generation, chain.experiment.real, state.generated, seed=seed)


def _sample_and_measure(chain: Chain, state: _ChainState, generation: int, observe: Observer) -> None:
    experiment, generation_dir = chain.experiment, chain.generation_dir(generation)
    if generation_dir.samples.exists():
        samples = {name: experiment.real.read(generation_dir.samples / name) for name in experiment.views}
    else:
        with _phase(chain, state, generation, "sample", observe):
            seed = phase_seed(chain.seed, generation, "sample")
            samples = {name: view(state.model, seed) for name, view in experiment.views.items()}
            generation_dir.write_phase(generation_dir.samples, lambda folder: _save_each(folder, samples))
    with _phase(chain, state, generation, "measure", observe):
        measured = experiment.measure(state.model, samples)
        if experiment.measure_by_first is not None:
            by_first = experiment.measure_by_first(_first_model(chain, state, generation), samples)
            measured = _with_more(chain, measured, by_first)
        # Arms share generation 0, whose numbers must not depend on the regime.
        if experiment.measure_by_generated is not None and generation:
            by_generated = experiment.measure_by_generated(state.generated, samples)
            measured = _with_more(chain, measured, by_generated)
        units = {"train_data_units": float(_training_set(chain, state, generation).units)}
        facts = {"learner": state.model.facts, "regime": _facts(chain, state, generation)}
        metrics = _joined(chain, {"training set": units, **facts, "metrics": measured.metrics})
        tables = {**curve_tables(generation_dir), **measured.tables}
        definitions = {name: asdict(metric) for name, metric in measured.definitions.items()}
        generation_dir.write_metrics(metrics, tables, learner=experiment.name, definitions=definitions)
    # A kill between a phase's result and its end has left what the phase had done.
    remove_unfinished(generation_dir)
    generation_dir.finish()


def _first_model(chain: Chain, state: _ChainState, generation: int) -> Any:
    if not generation:
        state.first_model = state.model
    elif state.first_model is None:
        state.first_model = chain.experiment.learner.load(chain.generation_dir(0).model)
    return state.first_model


def _facts(chain: Chain, state: _ChainState, generation: int) -> Mapping[str, float]:
    if not generation and 0 in state.generated:
        return dict(state.generated[0].facts)
    return chain.regime.facts(generation, state.generated)


def _with_more(chain: Chain, one: Measurement, other: Measurement) -> Measurement:
    """Both measurements; no metric hides another, and of tables and definitions of one name the later stands."""
    return Measurement(
        _joined(chain, {"metrics": one.metrics, "further metrics": other.metrics}),
        {**one.tables, **other.tables},
        {**one.definitions, **other.definitions},
    )


def _joined(chain: Chain, numbers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The `numbers` of all sources by name; none hides another.

    Raises:
        ConfigError: two have the same name.
    """
    sources: dict[str, str] = {}
    for source, of_source in numbers.items():
        for name in of_source:
            if name in sources:
                code = f"regime: {chain.regime.origin()}" if isinstance(chain.regime, UserCode) else chain.arm
                raise ConfigError(
                    f"{code}: {name!r} is a number of the {sources[name]} and of the {source}. Give it another name."
                )
            sources[name] = source
    return {name: value for of_source in numbers.values() for name, value in of_source.items()}


def _save_each(folder: Path, parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        (folder / name).mkdir()
        part.save(folder / name)


def _previous_recorded(chain: Chain, generation: int) -> int:
    return max((g for g in chain.recorded if g < generation), default=-1)


def _remove_models(chain: Chain, generations: Iterable[int]) -> None:
    """Delete the models of those of `generations` that are finished, unless all or the first are to be kept."""
    keeps_first = chain.experiment.measure_by_first is not None
    for generation in generations if chain.keep_models != "all" else ():
        if keeps_first and not generation:
            continue
        generation_dir = chain.generation_dir(generation)
        if generation_dir.done and generation_dir.model.exists():
            generation_dir.remove_model()


@contextmanager
def _phase(chain: Chain, state: _ChainState, generation: int, phase: Phase, observe: Observer) -> Iterator[None]:
    recorded = generation in chain.recorded
    if recorded:
        observe(Event(chain.arm, chain.seed, generation, phase))
    start = time.perf_counter()
    place = PhasePlace(chain.generation_dir(generation), phase) if recorded else None
    watcher = _LoopObserver(Event(chain.arm, chain.seed, generation, phase), observe)
    with watch_loops(watcher), enter_phase(place):
        yield
    state.seconds[phase] = state.seconds.get(phase, 0.0) + time.perf_counter() - start
    if recorded:
        chain.generation_dir(generation).add_timing(phase, state.seconds.pop(phase))
        remove_unfinished(chain.generation_dir(generation))


_SECONDS_BETWEEN_EVENTS = 0.5


class _LoopObserver:
    """Passes the progress of loops inside a phase on as events: of each loop the first, the last and few between."""

    def __init__(self, event: Event, observe: Observer) -> None:
        self._event, self._observe = event, observe
        self._last = -math.inf

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        is_end = progress.done in {progress.resumed, progress.total}
        if is_end or now - self._last >= _SECONDS_BETWEEN_EVENTS:
            self._last = now
            self._observe(replace(self._event, progress=progress))


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
