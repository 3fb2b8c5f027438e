"""From an arm's configuration to its experiment, and to what can change its results.

Rule: what a learner needs is said by its arm's class; nothing here knows one by name.
"""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tailkeep.config import input_paths
from tailkeep.config.user_code import code_errors, source_hash
from tailkeep.data.corpus.io import format_of
from tailkeep.errors import ConfigError
from tailkeep.lab.arm import BuildContext
from tailkeep.lab.causal_lm.config import LanguageArm, Pretrained
from tailkeep.lab.causal_lm.data_config import ExternalModel
from tailkeep.lab.checks import check_measurement
from tailkeep.lab.config import AnyArm, LabConfig, codes_of
from tailkeep.lab.device import device_name, uses_gpu
from tailkeep.lab.protocols import Experiment, Measure, Measurement
from tailkeep.lab.regimes import CodeRegime, SelectRegime
from tailkeep.lab.text_regimes import EditRegime
from tailkeep.optional import require, require_version
from tailkeep.runs import hash_path, hash_tree, redact_tree, versions


def load_libraries(arms: Iterable[AnyArm]) -> None:
    """Import what `arms` compute with: threads can be limited only in libraries that are loaded.

    Raises:
        MissingPackageError: one is not installed, or too old.
    """
    arms = list(arms)
    for kind, learner in {(type(arm), arm.learner) for arm in arms}:
        for module in kind.modules:
            require(module, extra=kind.extra)
        if "transformers" in kind.modules:
            # Older ones train other tokenizers and initialise other networks.
            require_version("transformers", (5, 17), extra=kind.extra, purpose=f"the learner {learner}")
    if any(_uses_detector(arm) for arm in arms):
        require("sklearn.linear_model", extra="detector")


def default_workers(config: LabConfig) -> int:
    """How many processes suit this machine: one per `num_threads` cores, but a single one where a GPU does the work.

    Raises:
        MissingPackageError: what an arm computes with is not installed.
    """
    return 1 if num_gpus(config) else max(1, (os.cpu_count() or 1) // config.num_threads)


def num_gpus(config: LabConfig) -> int:
    """How many GPUs a chain of this run uses on this machine: 1 or 0.

    Raises:
        MissingPackageError: what an arm computes with is not installed.
    """
    on_a_gpu = [arm for arm in config.arms.values() if arm.uses_gpu]
    load_libraries(on_a_gpu)
    return int(bool(on_a_gpu) and uses_gpu(config.device))


def check_code(config: LabConfig) -> None:
    """Import the user's own code that `config` names, and check its options.

    Raises:
        ConfigError: it is not there, or does not take its options.
        CodeError: it raised an exception.
    """
    for arm in config.arms.values():
        with code_errors(codes_of(arm)):
            for key, code in codes_of(arm):
                code.bind(key)
            if isinstance(arm.regime, CodeRegime):
                arm.regime.build()


def build_experiment(arm: AnyArm, context: BuildContext) -> Experiment:
    """The experiment of `arm`, which measures the user's own metrics too. Call `load_libraries` first.

    Raises:
        TailkeepError: files, packages or choices that cannot be used.
    """
    with code_errors(codes_of(arm)):
        experiment = arm.build(context)
    if not arm.metrics:
        return experiment
    functions = []
    for index, metric in enumerate(arm.metrics):
        function = metric.bind(f"metrics.{index}")
        functions.append((f"metrics.{index}: {metric.origin()}", function))
    return replace(experiment, measure=_WithMetrics(experiment.measure, functions))


@dataclass(frozen=True)
class _WithMetrics:
    """A measure of a learner, and metrics of the user's own beside it, by key and code."""

    measure: Measure
    functions: Sequence[tuple[str, Callable[..., Mapping[str, float] | Measurement]]]

    def __call__(self, model: Any, samples: Mapping[str, Any]) -> Measurement:
        measured = self.measure(model, samples)
        metrics, tables, definitions = dict(measured.metrics), dict(measured.tables), dict(measured.definitions)
        for code, function in self.functions:
            added = check_measurement(function(model, samples), code)
            for name in added.metrics.keys() & {*metrics, *model.facts}:
                raise ConfigError(f"{code}: there is a metric {name!r} already. Give it another name.")
            for name in added.tables.keys() & tables.keys():
                raise ConfigError(f"{code}: there is a table {name!r} already. Give it another name.")
            metrics |= added.metrics
            tables |= added.tables
            definitions |= added.definitions
        return Measurement(metrics, tables, definitions)


@dataclass(frozen=True)
class ArmSources:
    """What can change the results of an arm.

    Attributes:
        inputs: its settings but for `generations`; a path is replaced by the hash of what it holds, so a moved file is
            the same input.
        later_keys: the keys of `inputs` that change no generation before 1.
        first_stage: what stands in their place for generation 0.
        environment: the packages, threads and, where they matter, the device and its number formats.
    """

    inputs: dict[str, Any]
    later_keys: frozenset[str]
    first_stage: dict[str, int]
    environment: dict[str, Any]

    @property
    def environment_hash(self) -> str:
        """The hash of the environment."""
        return hash_tree(self.environment)

    def fingerprint(self, seed: int, generation: int) -> dict[str, str]:
        """The hashes of what can change this generation under this seed, and of the environment."""
        arm = self.inputs
        if not generation:
            arm = {key: value for key, value in arm.items() if key not in self.later_keys}
            arm |= {"first_stage": self.first_stage}
        return {"inputs": hash_tree(redact_tree({"arm": arm, "seed": seed})), "environment": self.environment_hash}


def sources_of(config: LabConfig) -> dict[str, ArmSources]:
    """What can change a result, for the fingerprints, by arm. Call `load_libraries` first.

    Raises:
        InputError: a file that an arm reads is missing.
    """
    # Arms share their files, such as a pretrained model.
    hash_once = functools.cache(hash_path)
    return {
        name: ArmSources(_hashed_config(arm, hash_once), arm.later_keys, arm.first_stage, environment_of(config, arm))
        for name, arm in config.arms.items()
    }


def environment_of(config: LabConfig, arm: AnyArm) -> dict[str, Any]:
    """The packages, threads and, where they matter, the device and its number formats with which `arm` is computed."""
    environment: dict[str, Any] = {"threads": config.num_threads, "packages": versions(*_packages_of(arm))}
    if arm.uses_gpu:
        environment["device"] = device_name(config.device)
    if isinstance(arm, LanguageArm):
        # `dtype: auto` is a function of the native number formats.
        from tailkeep.scoring.loading import has_native_bfloat16

        environment["bfloat16"] = has_native_bfloat16("cuda" if uses_gpu(config.device) else "cpu")
    return environment


def _packages_of(arm: AnyArm) -> Sequence[str]:
    adapted = isinstance(arm, LanguageArm) and arm.finetune.low_rank is not None
    more = [*(["peft"] if adapted else []), *(["scipy", "scikit-learn"] if _uses_detector(arm) else [])]
    return (*arm.packages, *more)


def _uses_detector(arm: AnyArm) -> bool:
    return isinstance(arm, LanguageArm) and isinstance(arm.regime, SelectRegime) and arm.regime.by.name == "detector"


def _ending(path: Path) -> str:
    form = format_of(path.name)
    return path.suffix if form is None or form[1] == "none" else f".{form[0]}.{form[1]}"


def _hashed_config(arm: AnyArm, hash_of: Callable[[Path], str]) -> dict[str, Any]:
    tree: dict[str, Any] = arm.model_dump(mode="json", exclude={"generations"})
    # Doors that are not used leave no trace, so that runs from before there were any go on.
    if not arm.metrics:
        del tree["metrics"]
    if isinstance(arm.regime, EditRegime) and arm.regime.editor is None:
        del tree["regime"]["editor"]
    if isinstance(arm, LanguageArm) and not arm.evaluation.language:
        del tree["evaluation"]["language"]
    # A hash does not see the order of keys, but sources are interleaved in theirs.
    names = list(getattr(getattr(arm, "data", None), "sources", ()))
    if names != sorted(names):
        tree["data"]["order"] = names
    sources = {key: source_hash(code, key) for key, code in codes_of(arm)}
    if sources:
        tree["code_sources"] = sources
    for key, path in input_paths(arm):
        node: Any = tree
        owner: Any = arm
        *parents, last = key.split(".")
        for parent in parents:
            # An ecosystem's members are a list, `members.0.model.path`, a corpus' sources a mapping.
            key_or_index: Any = int(parent) if isinstance(node, list) else parent
            node = node[key_or_index]
            owner = owner[key_or_index] if isinstance(owner, list | tuple | dict) else getattr(owner, parent)
        if isinstance(owner, Pretrained | ExternalModel):
            require("transformers", extra="hf")
            from tailkeep.scoring.loading import local_folder

            path = local_folder(path, revision=owner.revision, key=key)
        # The suffix decides how a file is read, so it counts beside the content.
        node[last] = f"sha256:{hash_of(path)}{_ending(path) if path.is_file() else ''}"
    return tree
