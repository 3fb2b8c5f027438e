"""What every arm's configuration holds, whatever its learner. Rule: `generations` counts models, not data sets."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tailkeep.config import Settings, UserCode, as_code
from tailkeep.lab.regimes import AnyRegime, CodeRegime, FreshOnly, Regenerate, Replace, SelectRegime
from tailkeep.lab.text_regimes import EditRegime, Rephrase

Positive = Annotated[int, Field(ge=1)]


class CodeMetric(UserCode):
    """A metric of the user's own: measure(model, samples, options...) -> {name: number}; `samples` are by view."""

    leading: ClassVar[int] = 2


class ArmConfig(Settings):
    """One arm: the regime, how many models are trained in a row, and which of them are saved.

    The first of the `generations` sees real data only. `record_every: 10` measures and saves generations 0, 10, 20, ...
    and the last; those between live in memory. `edits` says whether the arm's models have an `edit`, and `selects`
    whether what they generate can be selected from, `rephrases` whether they can rewrite a document; the regimes of
    these names need them. `reads_regime` says that the
    learner knows the regime, so that even generation 0 depends on it. `metrics` are the user's own, beside those of the
    learner.
    """

    reads_regime: ClassVar[bool] = False
    edits: ClassVar[bool] = False
    selects: ClassVar[bool] = False
    rephrases: ClassVar[bool] = False
    regime: AnyRegime = Replace(name="replace")
    generations: Positive = 5
    record_every: Positive = 1
    metrics: tuple[Annotated[CodeMetric, BeforeValidator(as_code)], ...] = ()

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
        return regime

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
