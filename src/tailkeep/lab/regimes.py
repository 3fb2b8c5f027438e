"""Regimes: what each generation's model generates, and what the next generation trains on.

Rule: a regime is two pure functions. `generate` asks the previous model for data (the expensive part, saved on disk);
`mix` composes the training set from real data and everything generated so far. Generation 0 sees real data only.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import BeforeValidator, Field

from tailkeep.config import UserCode, as_code, describe
from tailkeep.errors import ConfigError
from tailkeep.lab.checks import check_data, check_members, check_numbers
from tailkeep.lab.protocols import GeneratedData, Regime, Stage
from tailkeep.lab.selectors import Selector
from tailkeep.lab.text_regimes import EditRegime, RegimeSettings, Rephrase, Replay, repeat_examples
from tailkeep.metrics import golden_weight


class _Fresh(RegimeSettings):
    """The regimes in which each model generates fresh examples, as many as there are real ones."""

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """As many examples as there are real ones."""
        return stage.model.sample(len(stage.real), seed=seed)


class Replace(_Fresh):
    """Each generation trains only on what the last one generated (Shumailov et al. 2024)."""

    name: Literal["replace"]


class Accumulate(_Fresh):
    """Each generation trains on the real data and everything generated since (arXiv 2404.01413)."""

    name: Literal["accumulate"]
    keeps_history: ClassVar[bool] = True

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:  # noqa: ARG002
        """Real data, then generation after generation."""
        return _pool(generation, real, generated)


class AccumulateSubsample(_Fresh):
    """As `accumulate`, but each generation sees a random sample of the real data's size (arXiv 2410.16713)."""

    name: Literal["accumulate_subsample"]
    keeps_history: ClassVar[bool] = True

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:
        """A sample without replacement from the pool, in the pool's order."""
        return _sample(_pool(generation, real, generated), len(real), seed)


class _PartlyReal(_Fresh):
    """The regimes that keep `real_share` of the real data; the budget of examples is the real data's."""

    real_share: Annotated[float, Field(ge=0, le=1)]

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:
        """A random part of the real data, then the newest generated data."""
        return _sample(real, self._num_real(real), seed).concat(generated[generation]) if generation else real

    def _num_real(self, real: Any) -> int:
        return round(self.real_share * len(real))


class Mix(_PartlyReal):
    """A fixed share of real data beside what the last generation generated.

    With two generations this is the non-iterative experiment (ToEdit, arXiv 2412.14689, section 2).
    """

    name: Literal["mix"]

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """The examples that are not real; a model is never sampled for 0 examples."""
        missing = len(stage.real) - self._num_real(stage.real)
        return stage.model.sample(missing, seed=seed) if missing else stage.real.take(np.arange(0))


class SelectRegime(_PartlyReal):
    """Each model generates more than is needed, and a selector picks what the next one trains on.

    Beside the share of real documents some are missing. Whatever the selector, `oversampling` times as many candidates
    are generated, and as many as are missing are sampled by the weights of `by`; see `selectors` for the papers.
    """

    name: Literal["select"]
    by: Selector
    oversampling: Annotated[float, Field(gt=1, le=20)] = 4.0
    real_share: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """The selection; what was not selected is discarded."""
        missing = max(1, len(stage.real) - self._num_real(stage.real))
        candidates = stage.model.sample(max(missing + 1, round(self.oversampling * missing)), seed=seed)
        assert stage.select is not None, "checked before anything is trained"
        return stage.select(stage.model, candidates, by=self.by, size=missing, seed=seed)

    def facts(self, generation: int, generated: GeneratedData) -> Mapping[str, float]:
        """The number of candidates, how many of them count, and the selector's own facts."""
        return dict(generated[generation].facts) if generation else {}


class Weighted(RegimeSettings):
    """Real data and what the last generation generated, seen in the shares `real_weight` and 1 - `real_weight`.

    Each model generates `generated_ratio` times as many examples as there are real ones. `golden` is the weight that is
    best for estimating a mean (He, Xu and Cheng, arXiv 2502.18049): (sqrt(k^2 + 4 k) - k) / 2 with k = real /
    generated, 0.618 for k = 1. Examples are repeated or left out instead of their losses being scaled, so it holds on
    average over a training, by examples, not by tokens.
    """

    name: Literal["weighted"]
    real_weight: Annotated[float, Field(gt=0, lt=1)] | Literal["golden"] = "golden"
    generated_ratio: Annotated[float, Field(gt=0, le=10)] = 1.0

    @property
    def weight(self) -> float:
        """The share of real examples in a training set."""
        if self.real_weight != "golden":
            return float(self.real_weight)
        return golden_weight(1 / self.generated_ratio)

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """`generated_ratio` times as many examples as there are real ones, at least one."""
        return stage.model.sample(max(1, round(self.generated_ratio * len(stage.real))), seed=seed)

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:
        """As many examples as there are of both; each kind is repeated whole, and the remainder at random."""
        if not generation:
            return real
        newest = generated[generation]
        size = len(real) + len(newest)
        num_real = round(self.weight * size)
        # Seeds of their own: what is seen more often of one kind says nothing of the other.
        seeds = np.random.SeedSequence(seed).generate_state(2).tolist()
        return repeat_examples(real, num_real, seeds[0]).concat(repeat_examples(newest, size - num_real, seeds[1]))


class Regenerate(RegimeSettings):
    """ForTIFAI's recursion (arXiv 2509.08972): real data arrives in `fractions` equal consecutive parts.

    Generation s trains on the regeneration of the whole previous training set and on part s, so the generated share is
    s / (s + 1). After the last part no real data arrives any more.
    """

    name: Literal["regenerate"]
    fractions: Annotated[int, Field(ge=1)] = 6

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """The previous training set, regenerated."""
        return stage.model.regenerate(stage.previous_training_set(), seed=seed)

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:  # noqa: ARG002
        """The regeneration, then this generation's part of the real data."""
        parts = self.parts(real)
        if generation == 0:
            return parts[0]
        newest = generated[generation]
        return newest.concat(parts[generation]) if generation < self.fractions else newest

    def budget(self, generation: int, real: Any) -> int:
        """The size of the parts that have arrived."""
        return sum(part.units for part in self.parts(real)[: generation + 1])

    def parts(self, real: Any) -> Any:
        """The real data in the order in which it arrives.

        Raises:
            ConfigError: there are fewer examples than parts.
        """
        if len(real) < self.fractions:
            raise ConfigError(
                f"regime.fractions: {len(real)} examples cannot be split into {self.fractions} parts. Use fewer."
            )
        return real.split(self.fractions)


class FreshOnly(Regenerate):
    """The control of `regenerate`: generation s trains on part s of the real data alone, and nothing is generated."""

    name: Literal["fresh_only"]  # type: ignore[assignment]

    def generate(self, stage: Stage, *, seed: int) -> Any:  # noqa: ARG002
        """Nothing."""
        return stage.real.take(np.arange(0))

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:  # noqa: ARG002
        """This generation's part of the real data."""
        return self.parts(real)[generation]

    def budget(self, generation: int, real: Any) -> int:
        """The size of this generation's part."""
        return int(self.parts(real)[generation].units)


class Revise(_Fresh):
    """Each model regenerates a part of the training set, and the rest stays as it is (ToEdit, arXiv 2412.14689).

    Generation g regenerates `share * factor ** (g - 1)` of the examples. `subset` says which: `overlapping`, random
    ones of the last training set; `disjoint`, the next ones in order, none twice, until all are regenerated;
    `anchored`, random ones of the *real* data, so that nothing an earlier model generated is kept.

    Attributes:
        factor: of the share, from one generation to the next.
    """

    name: Literal["revise"]
    subset: Literal["disjoint", "overlapping", "anchored"] = "overlapping"
    share: Annotated[float, Field(gt=0, le=1)]
    factor: Annotated[float, Field(gt=0, le=1)] = 1.0

    def shares(self, generation: int) -> list[float]:
        """The share that is regenerated for each of the generations 1 ... `generation`."""
        shares = [self.share * self.factor**edit for edit in range(generation)]
        if self.subset != "disjoint":
            return shares
        return [float(share) for share in np.diff(np.minimum(np.cumsum([0.0, *shares]), 1.0))]

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """The whole training set of this generation, with a part of the examples regenerated in place."""
        base = stage.real if self.subset == "anchored" else stage.previous_training_set()
        revised = self._revised_indices(len(base), stage.generation, seed)
        if not len(revised):
            return base
        regenerated = stage.model.regenerate(base.take(revised), seed=seed)
        if len(regenerated) != len(revised):
            raise ConfigError(
                f"regime.name: 'revise' replaces examples one by one, but {len(regenerated)} were generated for "
                f"{len(revised)}. Use a generation.form that keeps examples apart, such as documents."
            )
        unchanged = np.setdiff1d(np.arange(len(base)), revised)
        order = np.argsort(np.concatenate([unchanged, revised]), kind="stable")
        return base.take(unchanged).concat(regenerated).take(order)

    def _revised_indices(self, size: int, generation: int, seed: int) -> Any:
        shares = self.shares(generation)
        if self.subset == "disjoint":
            return np.arange(round(size * sum(shares[:-1])), round(size * sum(shares)))
        # The model samples with `seed`; the indices must be independent of its samples.
        rng = np.random.default_rng([seed, 1])
        return np.sort(rng.choice(size, size=round(size * shares[-1]), replace=False))


class CodeRegime(UserCode):
    """A regime of the user's own: a class of `lab.protocols.Regime`, made anew for each call, so it has no state."""

    def build(self) -> Regime:
        """The regime.

        Raises:
            ConfigError: it lacks a method, or has one that cannot be called, or cannot be made.
        """
        regime = self.bind("regime")()
        check_members(regime, Regime, _REGIME, self._name())
        if not isinstance(regime.keeps_history, bool):
            raise ConfigError(
                f"{self._name('.keeps_history')} is {describe(regime.keeps_history)}. Give True or False."
            )
        return cast("Regime", regime)

    def _name(self, part: str = "") -> str:
        return f"regime: {self.origin(part)}"

    @property
    def keeps_history(self) -> bool:
        """Whether `mix` needs what earlier models generated."""
        return self.build().keeps_history

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """The data that the previous model generates for this generation."""
        return check_data(self.build().generate(stage, seed=seed), stage.real, self._name(".generate"))

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:
        """The training set of `generation`."""
        mixed = self.build().mix(generation, real, generated, seed=seed)
        if not len(check_data(mixed, real, self._name(".mix"))):
            raise ConfigError(f"{self._name('.mix')} returned no examples. Return one at least.")
        return mixed

    def budget(self, generation: int, real: Any) -> int:
        """The units of training data that this generation stands for."""
        budget = self.build().budget(generation, real)
        if not isinstance(budget, int | np.integer) or budget < 1:
            raise ConfigError(
                f"{self._name('.budget')} returned {describe(budget)}. Return a whole number of units >= 1."
            )
        return int(budget)

    def facts(self, generation: int, generated: GeneratedData) -> Mapping[str, float]:
        """Numbers about what was generated for this generation."""
        return check_numbers(self.build().facts(generation, generated), self._name(".facts"))


_REGIME = ("keeps_history", "generate", "mix", "budget", "facts")

AnyRegime = Annotated[
    Annotated[
        Replace
        | Accumulate
        | AccumulateSubsample
        | Mix
        | SelectRegime
        | Weighted
        | Regenerate
        | FreshOnly
        | Rephrase
        | Replay
        | Revise
        | EditRegime
        | CodeRegime,
        Field(discriminator="name"),
    ],
    BeforeValidator(as_code),
]


def _pool(generation: int, real: Any, generated: GeneratedData) -> Any:
    return real.concat(*(generated[number] for number in range(1, generation + 1)))


def _sample(data: Any, size: int, seed: int) -> Any:
    indices = np.random.default_rng(seed).choice(len(data), size=min(size, len(data)), replace=False)
    return data.take(np.sort(indices))
