"""One run of the laboratory: every arm under every seed, chains side by side, into one run directory.

Rule: chains share nothing but their input: in any order, in one process, several, or on a cluster whose machines see
the directory under the same path, the result is the same.
"""

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from tailkeep.config.user_code import code_errors
from tailkeep.data.corpus.executors import EventQueue, Executor, LocalPool
from tailkeep.errors import ConfigError
from tailkeep.lab.arm import ArmConfig, BuildContext, Extensions, UserLearners
from tailkeep.lab.causal_lm.config import UserLosses
from tailkeep.lab.config import LabConfig, codes_of, dump, load
from tailkeep.lab.growth import (
    ArmChain,
    Request,
    at_least_planned,
    check_generations,
    first_of_equals,
    hint_at_first_models,
    link_first_generations,
)
from tailkeep.lab.learners import build_experiment, check_code, environment_of, load_libraries, sources_of
from tailkeep.lab.loop import Chain, Event, Observer, cell_progress, run_chain
from tailkeep.lab.protocols import Experiment
from tailkeep.lab.regimes import SelectRegime
from tailkeep.lab.text_regimes import EditRegime, Replay
from tailkeep.runs import RunDirectory, Storage
from tailkeep.runs.progress import show_in_notebook
from tailkeep.workers import limited_threads, relay

_worker_shared: dict[str, Any] = {}
"""In a worker process the work that its chains share; empty in any other."""


@dataclass(frozen=True)
class ChainTask:
    """A chain, and the generation at which it stops, if before its end."""

    arm: str
    seed: int
    until: int | None = None

    @property
    def key(self) -> str:
        """How messages name it."""
        return f"{self.arm}, seed {self.seed}"


def run_chains_on(
    executor: Executor,
    request: Request,
    directory: RunDirectory,
    firsts: Sequence[ArmChain],
    alone: Sequence[ArmChain],
    observe: Observer,
) -> None:
    """Compute all chains of `request`; those of `firsts` up to generation 0 first, which other arms share.

    A worker that is free before these are there computes generation 0 of a chain of `alone`, which share none.

    Raises:
        WorkerError: a worker was killed and could not be replaced.
        ConfigError: a worker has other packages or another device than this process.
        TailkeepError: as of a chain in this process.
    """
    with executor.open_queue() as events:
        folders = [os.path.abspath(folder) for folder in sys.path]
        setup = partial(_prepare, request, directory.path.resolve(), events, folders)
        meanwhile = partial(relay, events, observe)
        if firsts:
            tasks = [ChainTask(*chain, until=1) for chain in (*firsts, *alone)]
            missing = set(tasks[: len(firsts)])
            until_there = takewhile(lambda _: bool(missing), tasks)
            for task, _ in executor.run(setup, until_there, meanwhile=meanwhile):
                missing.discard(task)
            link_first_generations(directory, request)
        for _ in executor.run(setup, [ChainTask(*chain) for chain in request.chains], meanwhile=meanwhile):
            pass
        meanwhile()


def _prepare(request: Request, out: Path, events: EventQueue, folders: Sequence[str]) -> Callable[[ChainTask], None]:
    """In a worker: load what the arms compute with; return what computes a chain there.

    Of the command's import path, `folders`, a worker on a cluster has none of the user's own, such as that of the
    configuration. They come last, so that they hide no installed module.
    """
    sys.path.extend(folder for folder in folders if folder not in sys.path)
    load_libraries(request.config.arms.values())
    _check_environment(request)
    directory = RunDirectory.open(out)

    def work(task: ChainTask) -> None:
        observe: Callable[[Event], None] = events.put
        with limited_threads(request.config.num_threads):
            _run_one(request, directory, (task.arm, task.seed), Extensions(), _worker_shared, observe, until=task.until)

    return work


def _check_environment(request: Request) -> None:
    for name, source in request.sources.items():
        local = environment_of(request.config, request.config.arms[name])
        for key, value in source.environment.items():
            if local.get(key) != value:
                raise ConfigError(
                    f"a worker differs in {key}: {local.get(key)}, where the command has {value}. Install the same "
                    "versions on every machine, and start the command on one of the same kind."
                )


def run(
    config: LabConfig | Mapping[str, Any] | Path | str,
    out: Path | str,
    *,
    learners: UserLearners | None = None,
    losses: UserLosses | None = None,
    observe: Observer | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    storage: Storage | None = None,
    accept_versions: bool = False,
    recompute: Collection[str] = (),
) -> RunDirectory:
    """Run the recursion that `config` describes into the folder `out`, or add what is missing to the run that is there.

    Arms, seeds and generations that the run does not have are added to it; an arm that it has must be the same.

    Args:
        config: a configuration, a mapping or YAML file of one, or a recipe's name.
        learners: the caller's, for arms with `learner: user`: {id: (options, seed) -> Experiment}.
        losses: the caller's, for `loss: {name: user}`: {id: options -> weighting}; see `causal_lm.config.UserLosses`.
        observe: called with an `Event` for each phase that starts and each generation that is finished. Without one
            nothing is shown, but in a notebook the progress is.
        workers: processes that work on chains (one arm under one seed) side by side; it changes no result.
        executor: computes the chains instead, such as `tailkeep.integrations.ray.RayActors`. It changes no result.
        storage: where writes go; tests pass faulty ones.
        accept_versions: continue a run that was computed with other versions, threads or another device; it records so.
        recompute: arms whose generations there are moved aside and computed again, perhaps with other settings.

    Returns:
        The finished run directory. `tailkeep.report.write(out)` makes its report.

    Raises:
        TailkeepError: bad input or configuration, a changed arm or environment, a busy or a full disk.
    """
    if not isinstance(config, LabConfig):
        config = load(config)
    if observe is None:
        options: dict[str, Any] = {"accept_versions": accept_versions, "recompute": recompute, "storage": storage}
        options |= {"learners": learners, "losses": losses, "workers": workers, "executor": executor}
        with show_in_notebook() as show:
            return run(config, out, observe=cell_progress(show, config.num_recorded), **options)
    out = Path(out)
    extensions = Extensions(learners or {}, losses or {})
    if workers < 1:
        raise ConfigError(f"workers must be >= 1, got {workers}.")
    if executor is not None and workers != 1:
        raise ConfigError(f"workers={workers}, but an executor brings its own workers. Give one of the two.")
    if (workers > 1 or executor is not None) and (extensions or storage):
        where = "an executor" if executor is not None else f"workers={workers}"
        raise ConfigError(f"{where}: user learners, losses and storage run in one process. Use workers=1.")
    if recompute and not (out / "run.json").exists():
        raise ConfigError(f"--recompute {next(iter(recompute))}: there is no run at {out} yet. Leave it out.")
    check_code(config)
    # Before the sources, which name the GPU and so want torch for whatever extra brings it.
    load_libraries(config.arms.values())
    request = Request(config, sources_of(config), accept_versions, tuple(recompute))
    shared: dict[str, Any] = {}
    with limited_threads(config.num_threads):
        # Everything that can be checked is checked before a folder is made, such as data too few to be split.
        for arm in config.arms.values():
            experiment = build_experiment(arm, BuildContext(config.seeds[0], config.device, extensions, shared))
            _check_able(arm, experiment)
            with code_errors(codes_of(arm)):
                arm.regime.budget(0, experiment.real)
        with RunDirectory.create(
            out, request.record(), config=dump(config), storage=storage, extend=request.extend
        ) as directory:
            request = replace(request, config=at_least_planned(config, directory.record))
            check_generations(directory, request)
            if executor is None and min(workers, len(request.chains)) > 1:
                executor = LocalPool(workers)
            _run_chains(request, directory, extensions, shared, _each_once(observe), executor)
            directory.collect()
    return directory


def _each_once(observe: Observer) -> Observer:
    """`observe`, without a finished generation that it has been shown."""
    finished: set[tuple[str, int, int]] = set()

    def show(event: Event) -> None:
        generation = (event.arm, event.seed, event.generation)
        if event.phase is not None or generation not in finished:
            observe(event)
        if event.phase is None:
            finished.add(generation)

    return show


def _run_chains(
    request: Request,
    directory: RunDirectory,
    extensions: Extensions,
    shared: dict[str, Any],
    observe: Observer,
    executor: Executor | None,
) -> None:
    """Run all chains to their ends; a generation 0 that several arms share is computed once."""
    link_first_generations(directory, request)
    hint_at_first_models(directory, request)
    firsts, alone = first_of_equals(directory, request)
    if executor is not None:
        shared.clear()
        run_chains_on(executor, request, directory, firsts, alone, observe)
        return

    def observe_and_link(event: Event) -> None:
        # Now, since the chain removes its model of generation 0 when it has the next one.
        if (event.arm, event.seed) in firsts and event.generation == 0 and event.phase is None:
            link_first_generations(directory, request)
        observe(event)

    for chain in request.chains:
        _run_one(request, directory, chain, extensions, shared, observe_and_link)


def _check_able(arm: ArmConfig, experiment: Experiment) -> None:
    if isinstance(arm.regime, EditRegime) and arm.regime.editor is None and not experiment.edits:
        raise ConfigError(
            f"regime.name: 'edit' needs models that edit data, and those of {experiment.name!r} cannot. Give them "
            "an `edit` (see lab.protocols.EditingModel) and the Experiment edits=True, or choose another regime."
        )
    if isinstance(arm.regime, SelectRegime) and experiment.select is None:
        raise ConfigError(
            f"regime.name: 'select' weights what models generate, but {experiment.name!r} does not say how. Give the "
            "Experiment a `select` (see lab.protocols.SelectFunction), or choose another regime."
        )
    if isinstance(arm.regime, Replay) and experiment.replay is None:
        raise ConfigError(
            f"regime.name: 'replay' chooses real examples, but {experiment.name!r} does not say how. Give the "
            "Experiment a `replay` (see lab.protocols.ReplayFunction), or choose another regime."
        )


def _run_one(
    request: Request,
    directory: RunDirectory,
    arm_chain: ArmChain,
    extensions: Extensions,
    shared: dict[str, Any],
    observe: Observer,
    *,
    until: int | None = None,
) -> None:
    name, seed = arm_chain
    config, source = request.config, request.sources[name]
    arm = config.arms[name]
    chain = Chain(
        arm=name,
        seed=seed,
        experiment=build_experiment(arm, BuildContext(seed, config.device, extensions, shared)),
        regime=arm.regime,
        generations=arm.generations,
        recorded=arm.recorded,
        keep_models=config.keep_models,
        generation_dir=lambda generation: directory.generation_dir(name, seed, generation),
        fingerprint=lambda generation: source.fingerprint(seed, generation),
    )
    with code_errors(codes_of(arm)):
        run_chain(chain, observe, until=until)
