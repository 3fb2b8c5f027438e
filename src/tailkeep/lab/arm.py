"""What every arm's configuration holds, whatever its learner. Rule: `generations` counts models, not data sets."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pkgutil import resolve_name
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tailkeep.config import Settings, UserCode, as_code
from tailkeep.lab.protocols import Experiment
from tailkeep.lab.regimes import AnyRegime, CodeRegime, FreshOnly, Regenerate, Replace, SelectRegime
from tailkeep.lab.selectors import Extinction
from tailkeep.lab.text_regimes import EditRegime, Rephrase, Replay

Positive = Annotated[int, Field(ge=1)]


UserLearners = Mapping[str, Callable[[Mapping[str, Any], int], Experiment]]
"""User learners: id -> a function of (options, seed) that returns an experiment."""


@dataclass(frozen=True)
class Extensions:
    """User learners and losses by the id that the configuration names."""

    learners: UserLearners = field(default_factory=dict)
    losses: Mapping[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.learners or self.losses)


@dataclass(frozen=True)
class BuildContext:
    """What an experiment is built with; `shared` carries work that other arms and seeds need too."""

    seed: int
    device: str
    extensions: Extensions = field(default_factory=Extensions)
    shared: MutableMapping[str, Any] = field(default_factory=dict)


class CodeMetric(UserCode):
    """A metric of the user's own: measure(model, samples, options...) -> {name: number}; `samples` are by view."""

    leading: ClassVar[int] = 2


class ArmConfig(Settings):
    """One arm: the regime, how many models are trained in a row, and which of them are saved.

    The first of the `generations` sees real data only. `record_every: 10` measures and saves generations 0, 10, 20, ...
    and the last; those between live in memory. `edits` says whether the arm's models have an `edit`, and `selects`
    whether what they generate can be selected from, `rephrases` whether they can rewrite a document, `replays` whether
    real documents can be chosen for them; the regimes of these names need them. `reads_regime` says that the
    learner knows the regime, so that even generation 0 depends on it. `metrics` are the user's own, beside those of the
    learner.

    `builder` is the function below `tailkeep.lab` that makes the experiment, as module:function; it takes the arm and
    what it needs of `seed`, `device`, `losses` and `shared`. A learner is computed with `modules`, which the extra
    `extra` installs, and its numbers depend on the versions of `packages`; `uses_gpu` says that it runs on a GPU where
    there is one.

    Attributes:
        regime: what each generation trains on.
        learner: what is trained in each generation.
    """

    builder: ClassVar[str]
    extra: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("numpy",)
    uses_gpu: ClassVar[bool] = False

    reads_regime: ClassVar[bool] = False
    edits: ClassVar[bool] = False
    selects: ClassVar[bool] = False
    rephrases: ClassVar[bool] = False
    replays: ClassVar[bool] = False
    regime: AnyRegime = Replace(name="replace")
    generations: Positive = 5
    record_every: Positive = 1
    metrics: tuple[Annotated[CodeMetric, BeforeValidator(as_code)], ...] = ()

    def build(self, context: BuildContext) -> Experiment:
        """The experiment of this arm. Its `modules` are imported before.

        Raises:
            TailkeepError: files, packages or choices that cannot be used.
        """
        function = resolve_name(f"tailkeep.lab.{self.builder}")
        offered = {
            "seed": context.seed,
            "device": context.device,
            "losses": context.extensions.losses,
            "shared": context.shared,
        }
        parameters = signature(function).parameters
        experiment: Experiment = function(self, **{name: offered[name] for name in offered if name in parameters})
        return experiment

    @field_validator("regime")
    @classmethod
    def _check_regime(cls, regime: AnyRegime) -> AnyRegime:
        if isinstance(regime, EditRegime) and regime.editor is None and not cls.edits:
            raise ValueError(
                "'edit' resamples tokens of a text, which this learner's models cannot. Use learner causal_lm, or "
                "another regime"
            )
        if isinstance(regime, SelectRegime) and not cls.selects:
            raise ValueError(
                "'select' weights generated texts, but this learner generates none. Use learner causal_lm or "
                "ecosystem, or another regime"
            )
        if isinstance(regime, Rephrase) and not cls.rephrases:
            raise ValueError(
                "'rephrase' rewrites documents of text, which this learner's models cannot. Use learner causal_lm, or "
                "another regime"
            )
        if isinstance(regime, Replay) and not cls.replays:
            raise ValueError(
                "'replay' chooses real documents by their tokens, but this learner has none. Use learner causal_lm, or "
                "another regime"
            )
        return regime

    @model_validator(mode="after")
    def _check_until(self) -> Self:
        by = getattr(self.regime, "by", None)
        if isinstance(by, Extinction) and by.until < self.generations:
            raise ValueError(
                f"regime.by.until: the text of round {by.until} is written before the last of {self.generations} "
                f"generations is trained. Set it to {self.generations} or more"
            )
        return self

    @model_validator(mode="after")
    def _check_fractions(self) -> Self:
        if isinstance(self.regime, FreshOnly) and self.generations > self.regime.fractions:
            raise ValueError(
                f"regime.fractions: {self.regime.fractions} parts are no fresh data for {self.generations} "
                "generations. Use as many parts, or fewer generations"
            )
        return self

    @property
    def later_keys(self) -> frozenset[str]:
        """The keys that change no generation before 1: arms that differ in these alone share generation 0."""
        with_regime = self.reads_regime or isinstance(self.regime, CodeRegime)
        return frozenset({"record_every"} if with_regime else {"record_every", "regime"})

    @property
    def first_stage(self) -> dict[str, int]:
        """What generation 0 needs of a regime among the `later_keys`: into how many parts the real data is split."""
        return {"fractions": self.regime.fractions} if isinstance(self.regime, Regenerate) else {}

    @property
    def recorded(self) -> Sequence[int]:
        """The generations that are saved, in order."""
        return sorted({*range(0, self.generations, self.record_every), self.generations - 1})
