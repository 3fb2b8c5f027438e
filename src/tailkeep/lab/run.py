"""One run of the laboratory: every arm under every seed, into one run directory.

Rule: chains share nothing but their input: in any order, in one process or several, the result is the same.
"""

import queue
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, wait
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tailkeep.errors import ConfigError
from tailkeep.lab.arm import ArmConfig
from tailkeep.lab.causal_lm.loss_config import UserLosses
from tailkeep.lab.config import LabConfig, dump, load
from tailkeep.lab.learners import Extensions, UserLearners, build_experiment, load_libraries, sources_of
from tailkeep.lab.loop import Chain, Event, Observer, run_chain
from tailkeep.lab.protocols import Experiment
from tailkeep.lab.regimes import EditRegime, SelectRegime
from tailkeep.runs import RunDirectory, RunRecord, Storage, versions
from tailkeep.workers import SPAWN, end_with, limited_threads, process_pool, submit_each


def _ignore(event: Event) -> None:
    """The observer that does nothing."""
    del event


def run(
    config: LabConfig | Mapping[str, Any] | Path | str,
    out: Path | str,
    *,
    learners: UserLearners | None = None,
    losses: UserLosses | None = None,
    observe: Observer = _ignore,
    workers: int = 1,
    storage: Storage | None = None,
) -> RunDirectory:
    """Run the recursion that `config` describes into the folder `out`, or finish the run that is there.

    Args:
        config: a configuration, a mapping or YAML file of one, or a recipe's name.
        learners: the caller's, for arms with `learner: user`: {id: (options, seed) -> Experiment}.
        losses: the caller's, for `loss: {name: user}`: {id: options -> weighting}; see `causal_lm.loss`.
        observe: called with an `Event` for each phase that starts and each generation that is finished.
        workers: processes that work on chains (one arm under one seed) side by side; it changes no result.
        storage: where writes go; tests pass faulty ones.

    Returns:
        The finished run directory. `tailkeep.report.write(out)` makes its report.

    Raises:
        TailkeepError: bad input or configuration, another fingerprint, a busy or a full disk.
    """
    if not isinstance(config, LabConfig):
        config = load(config)
    out = Path(out)
    extensions = Extensions(learners or {}, losses or {})
    if workers < 1:
        raise ConfigError(f"workers must be >= 1, got {workers}.")
    if workers > 1 and (extensions or storage):
        raise ConfigError(f"workers={workers}: user learners, losses and storage run in one process. Use workers=1.")
    # Before the sources, which name the GPU and so want torch for whatever extra brings it.
    load_libraries(config.arms.values())
    sources = sources_of(config)
    packages = [name for name in sources["packages"] if name not in {"tailkeep", "python"}]
    record = RunRecord.of("lab", sources, versions=versions(*packages), seeds=config.seeds)
    shared: dict[str, Any] = {}
    with limited_threads(config.num_threads):
        # Everything that can be checked is checked before a folder is made, such as data too few to be split.
        for arm in config.arms.values():
            experiment = build_experiment(
                arm, seed=config.seeds[0], device=config.device, extensions=extensions, shared=shared
            )
            _check_able(arm, experiment)
            arm.regime.budget(0, experiment.real)
        with RunDirectory.create(out, record, config=dump(config), storage=storage) as directory:
            chains = [(name, seed) for seed in config.seeds for name in config.arms]
            if min(workers, len(chains)) > 1:
                shared.clear()
                _run_in_processes(config, out, chains, observe, min(workers, len(chains)))
            else:
                for name, seed in chains:
                    _run_one(config, directory, name, seed, extensions, shared, observe)
            directory.collect()
    return directory


def _check_able(arm: ArmConfig, experiment: Experiment) -> None:
    if isinstance(arm.regime, EditRegime) and not experiment.edits:
        raise ConfigError(
            f"regime.name: 'edit' needs models that edit data, and those of {experiment.name!r} cannot. Give them "
            "an `edit` (see lab.protocols.EditingModel) and the Experiment edits=True, or choose another regime."
        )
    if isinstance(arm.regime, SelectRegime) and experiment.select is None:
        raise ConfigError(
            f"regime.name: 'select' weights what models generate, but {experiment.name!r} does not say how. Give the "
            "Experiment a `select` (see lab.protocols.SelectFunction), or choose another regime."
        )


def _run_one(
    config: LabConfig,
    directory: RunDirectory,
    name: str,
    seed: int,
    extensions: Extensions,
    shared: dict[str, Any],
    observe: Observer,
) -> None:
    arm = config.arms[name]
    chain = Chain(
        arm=name,
        seed=seed,
        experiment=build_experiment(arm, seed=seed, device=config.device, extensions=extensions, shared=shared),
        regime=arm.regime,
        generations=arm.generations,
        recorded=arm.recorded,
        keep_models=config.keep_models,
        generation_dir=lambda generation: directory.generation_dir(name, seed, generation),
    )
    run_chain(chain, observe)


def _run_in_processes(
    config: LabConfig, out: Path, chains: list[tuple[str, int]], observe: Observer, workers: int
) -> None:
    events = SPAWN.Queue()
    with process_pool(workers, _start_worker, (config, out, events)) as pool:
        pending = set(submit_each(pool, _run_in_worker, chains))
        while pending:
            done, pending = wait(pending, timeout=_RELAY_SECONDS, return_when=FIRST_EXCEPTION)
            _relay(events, observe)
            for future in done:
                future.result()
    _relay(events, observe)


def _relay(events: Any, observe: Observer) -> None:
    """Pass the workers' events so far to `observe`."""
    while True:
        try:
            event = events.get_nowait()
        except queue.Empty:
            return
        observe(event)


_RELAY_SECONDS = 0.1
_worker: dict[str, Any] = {}
"""What `_start_worker` has prepared in a worker process; empty in any other."""


def _start_worker(config: LabConfig, out: Path, events: Any, lifeline: Connection) -> None:
    end_with(lifeline)
    load_libraries(config.arms.values())
    _worker.update(config=config, directory=RunDirectory.open(out), events=events, shared={})


def _run_in_worker(chain: tuple[str, int]) -> None:
    name, seed = chain
    config: LabConfig = _worker["config"]
    observe: Callable[[Event], None] = _worker["events"].put
    with limited_threads(config.num_threads):
        _run_one(config, _worker["directory"], name, seed, Extensions(), _worker["shared"], observe)
