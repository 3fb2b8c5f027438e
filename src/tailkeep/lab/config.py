"""The laboratory's configuration: shared keys, a base arm, and arms as named overrides of the base.

    seeds: [0, 1, 2]
    learner: causal_lm            # the base arm: every key that is none of the run's
    loss: {name: cross_entropy}
    arms:
      baseline: {}
      truncated: {loss: {name: truncated, threshold: 0.99}}

Arms may also be the combinations of a `grid`; `extends: demo` adds arms and keys to a recipe or another file.
Rule: an override beats the selected preset, which beats the file; `layers` merges them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from tailkeep.config import (
    CodeOptions,
    Settings,
    Tree,
    UserCode,
    codes_in,
    dotted,
    dump_tree,
    is_reference,
    merge,
    parse_assignments,
    read_yaml,
    reference_to,
    suggest,
    validate,
)
from tailkeep.config.user_code import file_of
from tailkeep.errors import ConfigError
from tailkeep.lab.arm import ArmConfig, BuildContext, Positive
from tailkeep.lab.causal_lm.config import CausalLMArm, LanguageArm
from tailkeep.lab.causal_lm.data_config import TextCorpus
from tailkeep.lab.code_learner import CodeArm, checked_experiment
from tailkeep.lab.ecosystem.config import EcosystemArm
from tailkeep.lab.gaussian import GaussianArm
from tailkeep.lab.generative.config import FlowArm, GANArm, VAEArm
from tailkeep.lab.layers import (
    FILE_KEYS,
    Layer,
    check_overrides,
    combinations,
    expand_grid,
    merge_bases,
    merge_layers,
    reduce_to,
    select_arms,
    split_base,
    split_presets,
)
from tailkeep.lab.loop import KeepModels
from tailkeep.lab.mixture import MixtureArm
from tailkeep.lab.protocols import Experiment
from tailkeep.lab.regression import RegressionArm
from tailkeep.runs.storage import TEMPORARY


@dataclass(frozen=True)
class Recipe:
    """A packaged experiment: one YAML file."""

    name: str
    path: Path
    description: str


def list_recipes() -> list[Recipe]:
    """Every packaged recipe, by name."""
    folder = Path(str(files("tailkeep") / "recipes"))
    return [
        Recipe(path.stem, path, str(read_yaml(path).get("description", ""))) for path in sorted(folder.glob("*.yaml"))
    ]


def find_recipe(name: str) -> Path:
    """The file of the recipe `name`, or `name` itself if it is a YAML file.

    Raises:
        ConfigError: neither exists.
    """
    if Path(name).suffix in {".yaml", ".yml"}:
        return Path(name)
    recipes = {recipe.name: recipe.path for recipe in list_recipes()}
    if name in recipes:
        return recipes[name]
    raise ConfigError(f"no recipe is called {name!r}.{suggest(name, [*recipes])} Or give a path that ends in .yaml.")


def _check_folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", name) or name.endswith(TEMPORARY):
        raise ValueError(
            "an arm's name becomes a folder. Use up to 60 letters, digits, '-', '_' and '.', "
            f"a letter or digit first and no {TEMPORARY!r} at the end."
        )
    return name


ArmName = Annotated[str, AfterValidator(_check_folder_name)]


class UserArm(ArmConfig):
    """An arm with a user learner, passed to `run(..., learners={id: ...})` and made with `options`.

    `id` is its key there. Change `version` when the learner changes: it is part of the fingerprint.
    """

    learner: Literal["user"]
    id: str
    version: str
    options: CodeOptions = Field(default_factory=dict)
    edits: ClassVar[bool] = True
    selects: ClassVar[bool] = True
    replays: ClassVar[bool] = True

    def build(self, context: BuildContext) -> Experiment:
        """The experiment of the learner that the caller has passed."""
        learners = context.extensions.learners
        if self.id not in learners:
            raise ConfigError(
                f"id: the learner {self.id!r} was not passed. "
                f"Call tailkeep.lab.run(config, out, learners={{{self.id!r}: ...}})."
            )
        experiment = learners[self.id](self.options, context.seed)
        return checked_experiment(experiment, self.regime, f"id: the learner {self.id!r}")


def _as_code_arm(arm: object) -> object:
    if isinstance(arm, Mapping) and is_reference(arm.get("learner")):
        return {**arm, "learner": "code", "code": reference_to(arm["learner"])}
    return arm


AnyArm = Annotated[
    Annotated[
        CausalLMArm
        | CodeArm
        | EcosystemArm
        | FlowArm
        | GANArm
        | GaussianArm
        | MixtureArm
        | RegressionArm
        | UserArm
        | VAEArm,
        Field(discriminator="learner"),
    ],
    BeforeValidator(_as_code_arm),
]


class LabConfig(Settings):
    """A whole run: every arm under every seed. `num_threads` is per worker process.

    `grid` names the levels of each axis whose combinations are arms; it is empty without a grid.

    Attributes:
        name: the name of the run, in its report.
        description: what the run shows, in its report.
        preset: the preset of a recipe that was chosen; without any, none was.
        seeds: one chain of generations per arm and seed; arms share them, so differences are paired.
        keep_models: the models that stay in the run directory: of the last generation, of all, of none.
        device: `auto` is a GPU if there is one.
        arms: each by its name: the base with the overrides of the arm.
    """

    name: str = "lab"
    description: str = ""
    preset: str | None = None
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    keep_models: KeepModels = "last"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: Positive = 1
    grid: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    arms: Annotated[dict[ArmName, AnyArm], Field(min_length=1)]

    @property
    def num_recorded(self) -> int:
        """How many generations a finished run has saved, over all arms and seeds."""
        return len(self.seeds) * sum(len(arm.recorded) for arm in self.arms.values())

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        may_use_gpu = any(arm.uses_gpu or isinstance(arm, CodeArm | UserArm) for arm in self.arms.values())
        if self.device == "cuda" and not may_use_gpu:
            raise ValueError("device 'cuda' has no effect: no arm of this run computes on one; leave it out")
        return self

    @model_validator(mode="after")
    def _check_prior(self) -> Self:
        corpora = [arm.data for arm in self.arms.values() if isinstance(arm, LanguageArm)]
        texts = [data for data in corpora if isinstance(data, TextCorpus)]
        if any(text.prior for text in texts) and not any(text.external for text in texts):
            raise ValueError(
                "data.prior has no effect: no arm here has data.external_edit or data.external_text; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if self.grid and not self.arms.keys() & combinations(self.grid).keys():
            raise ValueError("grid has no effect: no arm here is one of its combinations; leave it out")
        return self

    @field_validator("seeds", mode="before")
    @classmethod
    def _check_list(cls, seeds: object) -> object:
        if not isinstance(seeds, list | tuple) or not seeds:
            raise ValueError("expected a list of whole numbers, such as [0, 1, 2]")
        return seeds

    @field_validator("seeds")
    @classmethod
    def _check_distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is listed twice; keep one")
        return seeds


def codes_of(arm: AnyArm) -> list[tuple[str, UserCode]]:
    """The user's own code in `arm`, by key."""
    learner = [("learner", arm.program)] if isinstance(arm, CodeArm) else []
    return [*learner, *codes_in(arm)]


def refuse_code(config: LabConfig, folders: Sequence[str]) -> None:
    """Refuse a configuration that names code, which would run with the caller's rights; nothing is imported.

    Raises:
        ConfigError: it names code; the message says which, and its file, if one of `folders` has it.
    """
    for arm in config.arms.values():
        for key, code in codes_of(arm):
            path = file_of(code, folders)
            where = f"in {path}" if path else "which is in no file beside the configuration or on the Python path"
            raise ConfigError(
                f"{key}: the configuration names code, {code.code}, {where}. It would run with your rights: read it, "
                "then give --allow-code."
            )


RUN_KEYS = frozenset(LabConfig.model_fields) - {"arms"}
_ARM_TYPES: Mapping[str, type[ArmConfig]] = {
    get_args(arm.model_fields["learner"].annotation)[0]: arm for arm in get_args(get_args(AnyArm)[0])
}
_OVERRIDES = "--set"


def load(
    source: Path | str | Mapping[str, Any], *, overrides: Sequence[str] = (), arms: Sequence[str] = ()
) -> LabConfig:
    """The configuration in a file or a mapping, with `overrides` such as `preset=full` or `training.epochs=2` on top.

    Precedence: override > selected preset > file > default.

    Args:
        source: a YAML file, a packaged recipe's name, or the mapping itself.
        overrides: `key.subkey=value`; `arms.NAME.key=value` changes one arm that the source has.
        arms: which of the source's arms to run; all if empty.

    Raises:
        ConfigError: unknown keys or arms, values that cannot be used, a preset that the source does not offer.
        InputError: the file cannot be read.
    """
    if isinstance(source, str):
        source = find_recipe(source)
    tree = read_yaml(source) if isinstance(source, Path) else source
    name = str(source) if isinstance(source, Path) else "config"
    return parse(tree, parse_assignments(overrides), name=name, arms=arms)


def parse(tree: Mapping[str, Any], overrides: Mapping[str, Any], *, name: str, arms: Sequence[str] = ()) -> LabConfig:
    """`tree` with its preset and `overrides` applied, reduced to `arms`; `name` stands in the messages."""
    if "grid" in overrides:
        raise ConfigError(
            "--set grid: a grid cannot be overridden. Change its arms as any others: --set arms.NAME.KEY=VALUE."
        )
    trees = split_base(tree, name, lambda source: read_yaml(find_recipe(source)))
    first, *rest = split_presets(trees, overrides, name)
    for layer in rest:
        first = merge(first, {"grid": layer.pop("grid")}) if "grid" in layer else first
    source = [Layer.of(layer, name, RUN_KEYS) for layer in (expand_grid(first, name), *rest)]
    known = list(dict.fromkeys(arm for layer in source for arm in layer.arms)) or ["baseline"]
    check_overrides(overrides, known)
    selected = select_arms(arms, known)
    layers = [*source, Layer.of(overrides, _OVERRIDES, RUN_KEYS)]
    try:
        return _validate(layers, known, selected, name)
    except ConfigError as error:
        faults = str(error).splitlines()
    # A fault that the source alone does not show is reported as one of the overrides.
    of_source = _faults(source, known, selected, name)
    of_overrides = _faults(layers, known, selected, _OVERRIDES)
    raise ConfigError(
        "\n".join(
            fault if fault in of_source else override for fault, override in zip(faults, of_overrides, strict=True)
        )
    )


def dump(config: LabConfig) -> str:
    """`config` as YAML that `load` reads back; what all arms share is written once, above the arms."""
    tree = config.model_dump(mode="json")
    return dump_arms(tree, tree.pop("arms"))


def dump_arms(run: Tree, arms: Mapping[str, Tree]) -> str:
    """The keys of a `run` and its whole `arms` as YAML; what all arms share is written once, above the arms."""
    first = next(iter(arms.values()), {})
    shared = {key: value for key, value in first.items() if all(a.get(key, ...) == value for a in arms.values())}
    differing = {name: {k: v for k, v in arm.items() if k not in shared} for name, arm in arms.items()}
    return dump_tree({**run, **shared, "arms": differing})


def split_arms(dumped: Tree) -> tuple[Tree, dict[str, Tree]]:
    """The keys of a run and its whole arms, from a configuration that `dump` has written, perhaps in another version.

    Raises:
        ConfigError: it has no arms.
    """
    layer = Layer.of(dumped, "config.yaml", RUN_KEYS)
    if not layer.arms:
        raise ConfigError("config.yaml: it has no arms. Give a run that `tailkeep lab` has written.")
    run, _, arms = merge_layers([layer], layer.arms)
    return run, arms


def _validate(layers: Sequence[Layer], known: Sequence[str], selected: Sequence[str], source: str) -> LabConfig:
    base = merge_bases(layers)
    kind = _ARM_TYPES.get(str(base.get("learner")))
    keys = {key for arm in ([kind] if kind else _ARM_TYPES.values()) for key in arm.model_fields}
    # A key that no arm knows is reported once as the run's, not once per arm.
    strays = {key: value for key, value in base.items() if key not in keys}
    run, base, trees = merge_layers([layer.without(strays) for layer in layers], known)
    run, trees = reduce_to(selected, run, trees)
    try:
        return validate(LabConfig, {**run, **strays, "arms": trees}, source=source, also_known={*keys, *FILE_KEYS})
    except ConfigError as error:
        raise ConfigError(_without_repeats(str(error), trees, base, source)) from None


def _faults(layers: Sequence[Layer], known: Sequence[str], selected: Sequence[str], source: str) -> Sequence[str]:
    try:
        _validate(layers, known, selected, source)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def _without_repeats(message: str, arms: Mapping[str, Tree], base: Tree, name: str) -> str:
    """`message` in which each fault that the base alone shows too is listed once, under the base's key."""
    try:
        validate(LabConfig, {"arms": {"base": base}}, source=name)
        faults_of_base: set[str] = set()
    except ConfigError as error:
        faults_of_base = {line.replace("arms.base.", "") for line in str(error).splitlines()}
    lines: dict[str, None] = {}
    for line in message.splitlines():
        shorter = (line.replace(f"{dotted(['arms', arm])}.", "") for arm in arms)
        lines[next((short for short in shorter if short in faults_of_base), line)] = None
    return "\n".join(lines)
