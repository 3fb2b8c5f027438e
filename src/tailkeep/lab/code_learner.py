"""A learner of the user's own, and the checks of all that it gives to the recursion.

Rule: the user's functions get the user's models; the recursion gets them in a `_CheckedModel`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from tailkeep.config import CodeOptions, UserCode, describe
from tailkeep.errors import ConfigError
from tailkeep.lab.arm import ArmConfig, BuildContext
from tailkeep.lab.checks import check_call, check_data, check_measurement, check_members, check_numbers
from tailkeep.lab.protocols import (
    Data,
    EditingModel,
    Experiment,
    Learner,
    Measure,
    Measurement,
    Model,
    ReplayedData,
    ReplayFunction,
    SelectedData,
    SelectFunction,
    View,
)
from tailkeep.lab.regimes import AnyRegime, FreshOnly, Regenerate, Revise
from tailkeep.lab.text_regimes import EditRegime

_DATA = ("__len__", "units", "take", "concat", "split", "save", "read")
_MAKE_DATA = ("sample", "regenerate", "edit")


class CodeLearner(UserCode):
    """A learner of the user's own: build(*, seed, options...) -> lab.Experiment."""

    seeded: ClassVar[bool] = True


class CodeArm(ArmConfig):
    """An arm with a `CodeLearner`, which `code` names as module:name, made with `options`."""

    learner: Literal["code"]
    code: str
    options: CodeOptions = Field(default_factory=dict)
    edits: ClassVar[bool] = True
    selects: ClassVar[bool] = True
    replays: ClassVar[bool] = True

    @property
    def program(self) -> UserCode:
        """The reference to the learner with its options."""
        return CodeLearner(name="code", code=self.code, options=self.options)

    def build(self, context: BuildContext) -> Experiment:
        """The experiment that the code returns; what its functions return is checked.

        Raises:
            ConfigError: it is not one, or a part of it cannot be used.
        """
        experiment = self.program.bind("learner")(seed=context.seed)
        return checked_experiment(experiment, self.regime, f"learner: {self.program.origin()}")


def checked_experiment(experiment: Any, regime: AnyRegime, code: str) -> Experiment:
    """`experiment`, which `code` has returned for an arm under `regime`; what its functions return is checked.

    Raises:
        ConfigError: it is not one, or a part of it cannot be used.
    """
    if not isinstance(experiment, Experiment):
        raise ConfigError(f"{code} returned {describe(experiment)}. Return a tailkeep.lab.Experiment.")
    _check_experiment(experiment, code)
    return _Checks(experiment, code, _required_members(regime)).wrap()


def _required_members(regime: AnyRegime) -> Mapping[type, Sequence[str]]:
    """What a model needs under `regime`, by the protocol that lists it."""
    regenerates = isinstance(regime, Regenerate | Revise) and not isinstance(regime, FreshOnly)
    methods = ["sample", "save", *(["regenerate"] if regenerates else [])]
    required: dict[type, list[str]] = {Model: ["facts", *methods]}
    if isinstance(regime, EditRegime) and regime.editor is None:
        required[EditingModel] = ["edit"]
    return required


def _check_experiment(experiment: Experiment, code: str) -> None:
    if not isinstance(experiment.name, str):
        raise ConfigError(f"{code}: the name of the Experiment is {describe(experiment.name)}. Give a text.")
    real, learner = experiment.real, experiment.learner
    if hasattr(real, "fit") and not hasattr(learner, "fit"):
        raise ConfigError(
            f"{code}: real is {describe(real)}, which has a 'fit', and learner is {describe(learner)}. Exchange them: "
            "Experiment(name, real, learner, views, measure)."
        )
    check_members(real, Data, _DATA, f"{code}: real ({describe(real)})")
    check_data(real, real, f"{code}: real")
    check_members(learner, Learner, ("fit", "load"), f"{code}: its learner ({describe(learner)})")
    views = experiment.views
    if not isinstance(views, Mapping) or not all(isinstance(name, str) and Path(name).name == name for name in views):
        names = f" with {', '.join(map(str, views))!r:.50}" if isinstance(views, Mapping) else ""
        raise ConfigError(
            f"{code}: views is {describe(views)}{names}. Give functions by name: {{'common': view}}; a name becomes a "
            "folder."
        )
    for name, view in views.items():
        check_call(view, View.__call__, f"{code}: the view {name!r}")
    functions: dict[str, type] = {"measure": Measure, "select": SelectFunction, "replay": ReplayFunction}
    for name, protocol in functions.items():
        function = getattr(experiment, name)
        if function is not None or name == "measure":
            check_call(function, getattr(protocol, "__call__"), f"{code}: {name}")  # noqa: B004, B009


@dataclass(frozen=True)
class _Checks:
    """The checks of an `experiment` that `code` has made, whose models need what is `required`."""

    experiment: Experiment
    code: str
    required: Mapping[type, Sequence[str]]

    def wrap(self) -> Experiment:
        """The experiment, each of whose functions gets the user's own models and returns what is checked."""
        experiment = self.experiment
        views = {name: self._with_data(view, f"the view {name!r}") for name, view in experiment.views.items()}
        by_first, select, replay = experiment.measure_by_first, experiment.select, experiment.replay
        return replace(
            experiment,
            learner=_CheckedLearner(experiment.learner, self),
            views=views,
            measure=self._with_measurement(experiment.measure, "measure"),
            measure_by_first=by_first and self._with_measurement(by_first, "measure_by_first"),
            select=select and self._with_data(select, "select", SelectedData, ("facts",)),
            replay=replay and self._with_data(replay, "replay", ReplayedData, ("facts", "replayed")),
        )

    def checked_model(self, model: Any, method: str) -> "_CheckedModel":
        """`model`, which `method` of the learner has returned."""
        code = f"{self.code}: what {method} returned ({describe(model)})"
        for protocol, names in self.required.items():
            check_members(model, protocol, names, code)
        self.checked_facts(model)
        return _CheckedModel(model, self)

    def checked_facts(self, model: Any) -> dict[str, float]:
        """The facts of `model`, which are numbers."""
        return check_numbers(model.facts, f"{self.code}: facts of {describe(model)}")

    def checked_data(self, data: Any, name: str) -> Any:
        """`data`, which the function or method `name` has returned."""
        return check_data(data, self.experiment.real, f"{self.code}: {name}")

    def _with_data(
        self, function: Callable[..., Any], name: str, kind: type = Data, members: Sequence[str] = ()
    ) -> Callable[..., Any]:
        def call(model: Any, *others: Any, **options: Any) -> Any:
            data = self.checked_data(function(_raw(model), *others, **options), name)
            check_members(data, kind, members, f"{self.code}: what {name} returned ({describe(data)})")
            return data

        return call

    def _with_measurement(self, function: Measure, name: str) -> Measure:
        return lambda model, samples: self._measurement(function(_raw(model), samples), model, f"{self.code}: {name}")

    def _measurement(self, measured: Any, model: Any, code: str) -> Measurement:
        checked = check_measurement(measured, code)
        for name in checked.metrics.keys() & model.facts.keys():
            raise ConfigError(f"{code}: {name!r} is one of the model's facts already. Give it another name.")
        return checked


@dataclass(frozen=True)
class _CheckedLearner:
    learner: Learner
    checks: _Checks

    def fit(self, data: Any, *, seed: int, budget: int, previous: Any = None) -> Any:
        model = self.learner.fit(data, seed=seed, budget=budget, previous=_raw(previous))
        return self.checks.checked_model(model, "fit")

    def load(self, folder: Path) -> Any:
        return self.checks.checked_model(self.learner.load(folder), "load")


class _CheckedModel:
    """A model of the user's own in every respect, but what it generates is checked."""

    def __init__(self, model: Any, checks: _Checks) -> None:
        self._unchecked, self._checks = model, checks

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._unchecked)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._unchecked, name)
        if name == "facts":
            return self._checks.checked_facts(self._unchecked)
        if name not in _MAKE_DATA:
            return value
        return lambda *values, **options: self._checks.checked_data(value(*values, **options), name)


def _raw(model: Any) -> Any:
    return model._unchecked if type(model) is _CheckedModel else model
