"""What a run of the laboratory will take, in hours and on the disk, from a few steps of each loop.

Rule: what is timed is the run's own code on generations 0 and 1 of each arm. A loop of training, writing or scoring is
left after a few steps, and its time is that of all its steps at their pace; everything else is done and timed in full.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tailkeep.config.user_code import code_errors
from tailkeep.lab.arm import BuildContext, Extensions, UserLearners
from tailkeep.lab.causal_lm.config import CodeLoss, LanguageArm, UserLoss, UserLosses
from tailkeep.lab.config import AnyArm, LabConfig, codes_of, load
from tailkeep.lab.gaussian import GaussianArm
from tailkeep.lab.learners import build_experiment, check_code, load_libraries, sources_of
from tailkeep.lab.loop import Chain, Event, Observer, cell_progress, run_chain
from tailkeep.lab.mixture import MixtureArm
from tailkeep.lab.regimes import Accumulate, Regenerate
from tailkeep.lab.regression import RegressionArm
from tailkeep.lab.text_regimes import Replay
from tailkeep.runs import GenerationDir, Progress, ProgressObserver, no_progress
from tailkeep.runs.progress import format_seconds, watch_loops
from tailkeep.workers import limited_threads

_MIN_SECONDS, _MIN_STEPS, _MAX_SECONDS = 2.0, 3, 15.0
"""A loop is left after the first time and this many steps, or after the last time."""
_CHECKPOINT_MODELS = 6
"""A checkpoint holds the weights and two moments of Adam, and there are two while one is replaced."""


class _LoopTimer:
    """Watches the loops of a phase: how long those that were left would have gone on."""

    def __init__(self) -> None:
        self.missing_seconds = 0.0
        self._start = self._first = 0.0
        self._steps = self._first_done = 0
        self._loop_missing = 0.0

    def __call__(self, progress: Progress) -> bool:
        now = time.perf_counter()
        if progress.done == progress.resumed:
            self.close()
            self._start, self._steps = now, 0
            return False
        self._steps += 1
        if self._steps == 1:
            self._first, self._first_done = now, progress.done
        # The first step has what is done but once, such as the allocation of memory.
        since, before = (self._first, self._first_done) if self._steps > 1 else (self._start, progress.resumed)
        pace = (now - since) / max(progress.done - before, 1)
        self._loop_missing = pace * (progress.total - progress.done)
        seconds = now - self._start
        return seconds >= _MIN_SECONDS and (self._steps >= _MIN_STEPS or seconds >= _MAX_SECONDS)

    def close(self) -> None:
        """Count what the loop so far has left out."""
        self.missing_seconds += self._loop_missing
        self._loop_missing = 0.0


Growth = Callable[[int, str], float]
"""(generation, phase) -> how many times as long the phase takes as in generation 1, since it works on more text."""


@dataclass
class GenerationCost:
    """Seconds of one generation by phase, and the bytes of its model and of everything else."""

    seconds: dict[str, float] = field(default_factory=dict)
    model_bytes: int = 0
    other_bytes: int = 0

    growth: Growth | None = None
    """Where a regime lets the text grow."""

    keeps_model: bool = False
    """Whether the model stays whatever `keep_models` says, since it measures later generations."""

    def total(self, generation: int = 1, *, recorded: bool) -> float:
        """Seconds of `generation` in all; one that is not recorded is neither sampled nor measured."""
        return sum(
            seconds * (1.0 if self.growth is None else self.growth(generation, phase))
            for phase, seconds in self.seconds.items()
            if recorded or phase in {"generate", "train"}
        )


@dataclass(frozen=True)
class ArmEstimate:
    """The cost of an arm's generation 0 and of each later one."""

    arm: str
    first: GenerationCost
    later: GenerationCost
    chain_seconds: float


@dataclass(frozen=True)
class LabEstimate:
    """The estimate of a run: `seconds` of wall-clock time with `workers` processes, bytes when finished and at most."""

    arms: tuple[ArmEstimate, ...]
    seeds: int
    workers: int
    seconds: float
    finished_bytes: int
    working_bytes: int

    def lines(self) -> list[str]:
        """The estimate in words."""
        lines = []
        for one in self.arms:
            phases = ", ".join(f"{phase} {format_seconds(seconds)}" for phase, seconds in one.later.seconds.items())
            first = format_seconds(one.first.total(0, recorded=True))
            chain = format_seconds(one.chain_seconds)
            later = "each later one" if one.later.growth is None else "generation 1, later ones more,"
            lines.append(f"{one.arm}: generation 0 {first}; {later} {phases}; a chain {chain}")
        processes = "1 process" if self.workers == 1 else f"{self.workers} processes"
        chains = f"{len(self.arms) * self.seeds} chains ({len(self.arms)} arms, {self.seeds} seeds)"
        lines.append(f"{chains}, {processes}: about {self.seconds / 3600:.2g} h")
        more = self.working_bytes - self.finished_bytes
        lines.append(f"disk: {_size(self.finished_bytes)} when finished, up to {_size(more)} more while it works")
        return lines


def estimate(
    config: LabConfig | Mapping[str, Any] | Path | str,
    *,
    learners: UserLearners | None = None,
    losses: UserLosses | None = None,
    workers: int = 1,
    show: ProgressObserver = no_progress,
) -> LabEstimate:
    """Time a few steps of `config` in a folder that is removed, and say what the whole run takes.

    `config`, `learners`, `losses` and `workers` are as of `tailkeep.lab.run`.

    Arms that differ in their loss alone are timed once, unless it is the user's own, and a generation 0 that arms
    share counts once. More generations are taken to cost what generation 1 does, in proportion where a regime lets the
    text grow. `show` gets the progress of the estimate itself.

    Raises:
        TailkeepError: bad input or configuration.
    """
    if not isinstance(config, LabConfig):
        config = load(config)
    check_code(config)
    load_libraries(config.arms.values())
    context = BuildContext(config.seeds[0], config.device, Extensions(learners or {}, losses or {}))
    sources = sources_of(config)
    keys = {name: _cost_key(arm) for name, arm in config.arms.items()}
    # Of arms that take as long, the one with the most generations: one that ends with the first has no later ones.
    timed = {key: name for name, key in sorted(keys.items(), key=lambda item: config.arms[item[0]].generations)}
    observe = cell_progress(show, sum(min(2, config.arms[name].generations) for name in timed.values()))
    with limited_threads(config.num_threads), tempfile.TemporaryDirectory() as scratch:
        costs = {}
        for key, name in timed.items():
            with code_errors(codes_of(config.arms[name])):
                costs[key] = _time_arm(name, config, sources[name], Path(scratch) / name, context, observe)
    first_arms = {_first_of(sources[name], config): name for name in reversed(config.arms)}
    estimates = []
    for name, arm in config.arms.items():
        first, later = costs[keys[name]]
        recorded = set(arm.recorded)
        seconds = [(later if g else first).total(g, recorded=g in recorded) for g in range(arm.generations)]
        is_first = first_arms[_first_of(sources[name], config)] == name
        estimates.append(ArmEstimate(name, first, later, sum(seconds if is_first else seconds[1:])))
    return _sum_up(config, estimates, workers)


def _first_of(source: Any, config: LabConfig) -> str:
    """What the generation 0 of an arm follows from."""
    return json.dumps(source.fingerprint(config.seeds[0], 0), sort_keys=True)


def _time_arm(
    name: str, config: LabConfig, source: Any, folder: Path, context: BuildContext, show: Observer
) -> tuple[GenerationCost, GenerationCost]:
    arm, seed = _without_trackers(config.arms[name]), context.seed
    generations = min(2, arm.generations)
    experiment = build_experiment(arm, context)
    directories = [GenerationDir(name, seed, generation, folder / str(generation)) for generation in range(generations)]
    chain = Chain(
        arm=name,
        seed=seed,
        experiment=experiment,
        regime=arm.regime,
        generations=generations,
        recorded=range(generations),
        keep_models="all",
        generation_dir=directories.__getitem__,
        fingerprint=lambda generation: source.fingerprint(seed, generation),
    )
    timers: dict[tuple[int, str | None], _LoopTimer] = {}
    timer = _LoopTimer()

    def observe(event: Event) -> None:
        nonlocal timer
        show(event)
        if event.progress is None:
            timer.close()
            timer = timers[event.generation, event.phase] = _LoopTimer()

    with watch_loops(lambda progress: timer(progress), is_estimate=True):
        run_chain(chain, observe)
    costs = [_cost_of(directory, timers) for directory in directories]
    first = replace(costs[0], keeps_model=experiment.measure_by_first is not None)
    return first, replace(costs[-1], growth=_growth(arm, experiment.real))


_FITTED = (GaussianArm, MixtureArm, RegressionArm)


def _growth(arm: AnyArm, real: Any) -> Growth | None:
    """How the text of a generation grows under the regime of `arm` beyond generation 1; None if it does not."""
    regime = arm.regime
    if isinstance(regime, Regenerate) and regime.name == "regenerate":

        def factor(generation: int, phase: str) -> float:
            if generation < 2 or phase not in {"generate", "train"}:
                return 1.0
            before = int(phase == "generate")
            return regime.budget(generation - before, real) / regime.budget(1 - before, real)

        return factor
    # A language model trains on as many tokens whatever it is given, unless told otherwise; a fit reads all points.
    reads_all = not arm.training.equal_tokens if isinstance(arm, LanguageArm) else isinstance(arm, _FITTED)
    if isinstance(regime, Accumulate) and reads_all:
        return lambda generation, phase: (generation + 1) / 2 if generation > 1 and phase == "train" else 1.0
    if isinstance(regime, Replay) and regime.base == "accumulate" and isinstance(arm, LanguageArm):
        real_part = regime.real_budget
        if not arm.training.equal_tokens:
            return lambda generation, phase: (
                (generation + real_part) / (1 + real_part) if generation > 1 and phase == "train" else 1.0
            )
    return None


def _without_trackers(arm: AnyArm) -> AnyArm:
    """`arm`, whose few steps are not to be seen in TensorBoard or wandb."""
    if not isinstance(arm, LanguageArm):
        return arm
    arguments = arm.training.arguments.model_copy(update={"report_to": (), "run_name": None})
    return arm.model_copy(update={"training": arm.training.model_copy(update={"arguments": arguments})})


def _cost_of(directory: GenerationDir, timers: Mapping[tuple[int, str | None], _LoopTimer]) -> GenerationCost:
    seconds = {
        phase: seconds + timers[directory.generation, phase].missing_seconds
        for phase, seconds in directory.timings().items()
    }
    model, everything = _bytes_in(directory.model), _bytes_in(directory.path)
    return GenerationCost(seconds, model, everything - model)


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _cost_key(arm: AnyArm) -> str:
    """Equal for arms that take as long.

    A named loss costs no time worth counting, unless its threshold is searched for; the user's own may take any time.
    """
    exclude = {"generations", "record_every"}
    if isinstance(arm, LanguageArm) and not isinstance(arm.loss, CodeLoss | UserLoss):
        exclude |= {"loss"} if getattr(arm.loss, "threshold", None) != "auto" else set()
    return arm.model_dump_json(exclude=exclude)


def _sum_up(config: LabConfig, estimates: Sequence[ArmEstimate], workers: int) -> LabEstimate:
    chains = [one.chain_seconds for one in estimates for _ in config.seeds]
    workers = min(workers, len(chains))
    seconds = max(sum(chains) / workers, *chains)
    finished = 0
    for one, arm in zip(estimates, config.arms.values(), strict=True):
        recorded = len(arm.recorded)
        num_models = {"all": recorded, "last": 1, "none": 0}[config.keep_models]
        if one.first.keeps_model:
            num_models = min(recorded, max(num_models, 1 + (config.keep_models == "last")))
        of_chain = one.first.other_bytes + (recorded - 1) * one.later.other_bytes + num_models * one.later.model_bytes
        finished += len(config.seeds) * of_chain
    # A worker has the new model beside the one before, and the checkpoints of a language model.
    models = sorted((one.later.model_bytes * _models_at_work(config, one) for one in estimates), reverse=True)
    return LabEstimate(
        tuple(estimates), len(config.seeds), workers, seconds, finished, finished + workers * max(models, default=0)
    )


def _models_at_work(config: LabConfig, one: ArmEstimate) -> int:
    return 1 + (_CHECKPOINT_MODELS if isinstance(config.arms[one.arm], LanguageArm) else 0)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
