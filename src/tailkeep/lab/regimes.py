"""Regimes: what each generation's model must write, and what the next generation trains on.

A regime is two pure functions. `write` asks the previous model for text (the expensive part, saved to the cell);
`mix` composes the training set from real data and everything written so far. Generation 0 sees real data only.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from tailkeep.config import Settings
from tailkeep.errors import ConfigError
from tailkeep.lab.protocols import Stage, Written
from tailkeep.lab.selectors import Selector
from tailkeep.metrics import golden_weight
from tailkeep.rules import Rule, Sampler, ToEdit, check_has_effect

# The regime `edit`: what models write for each other is the text they were given, with some of its tokens drawn anew.
#
# Rule: whatever the generation, the edit is of the real data, unless the comparison asks for edits of edits or of what
# a model has written.


class EditRegime(Settings):
    """Each generation trains on the real data as the last model has edited it (ToEdit, arXiv 2412.14689).

    Tokens are judged on the original text before them and drawn in one pass; `rule` and `sampler` are those of
    `tailkeep edit`. With `anchored: false` each model edits what its predecessor has edited, as the paper does: edits
    pile up and the bound on collapse is lost (see docs/laboratory.md). With `of: written` each model writes as many
    documents as there are real ones, as in the regime `replace`, and edits those.
    """

    name: Literal["edit"]
    keeps_history: ClassVar[bool] = False
    anchored: bool = True
    of: Literal["real", "written"] = "real"
    rule: Rule = Field(default_factory=ToEdit)
    sampler: Sampler = Sampler()

    @model_validator(mode="after")
    def _can_change_something(self) -> Self:
        check_has_effect(self.rule, self.sampler)
        if self.of == "written" and not self.anchored:
            raise ValueError("anchored has no effect beside of: written, text that is new each time; leave it out")
        return self

    def write(self, stage: Stage, *, seed: int) -> Any:
        """The real data edited, or the last training set unless anchored, or what the model itself has written."""
        if self.of == "written":
            data = stage.model.sample(len(stage.real), seed=seed)
        else:
            data = stage.real if self.anchored else stage.previous_training_set()
        return stage.model.edit(data, rule=self.rule, sampler=self.sampler, seed=seed)

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:  # noqa: ARG002
        """The edited data."""
        return written[generation] if generation else real

    def budget(self, generation: int, real: Any) -> int:  # noqa: ARG002
        """The real data's size."""
        return int(real.units)

    def facts(self, generation: int, written: Written) -> Mapping[str, float]:
        """The shares of tokens that were flagged and that became others, and how far the real data are left behind."""
        return dict(written[generation].facts) if generation else {}


class _Quiet(Settings):
    """The regimes whose written data tell nothing of themselves."""

    def facts(self, generation: int, written: Written) -> Mapping[str, float]:  # noqa: ARG002
        """None."""
        return {}


class _Fresh(_Quiet):
    """The regimes in which each model writes fresh examples, as many as there are real ones."""

    def write(self, stage: Stage, *, seed: int) -> Any:
        """As many examples as there are real ones."""
        return stage.model.sample(len(stage.real), seed=seed)

    def budget(self, generation: int, real: Any) -> int:  # noqa: ARG002
        """The real data's size."""
        return int(real.units)


class Replace(_Fresh):
    """Each generation trains only on what the last one wrote (Shumailov et al. 2024)."""

    name: Literal["replace"]
    keeps_history: ClassVar[bool] = False

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:  # noqa: ARG002
        """The newest written data."""
        return written[generation] if generation else real


class Accumulate(_Fresh):
    """Each generation trains on the real data and everything written since (Gerstgrasser et al., arXiv 2404.01413)."""

    name: Literal["accumulate"]
    keeps_history: ClassVar[bool] = True

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:  # noqa: ARG002
        """Real data, then generation after generation."""
        return _pool(generation, real, written)


class AccumulateSubsample(_Fresh):
    """As `accumulate`, but each generation sees a random sample of the real data's size (arXiv 2410.16713)."""

    name: Literal["accumulate_subsample"]
    keeps_history: ClassVar[bool] = True

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:
        """A sample without replacement from the pool, in the pool's order."""
        return _sample(_pool(generation, real, written), len(real), seed)


class _PartlyReal(_Fresh):
    """The regimes that keep `real_share` of the real data; the budget of examples is the real data's."""

    keeps_history: ClassVar[bool] = False
    real_share: Annotated[float, Field(ge=0, le=1)]

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:
        """A random part of the real data, then the newest written data."""
        return _sample(real, self._kept(real), seed).concat(written[generation]) if generation else real

    def _kept(self, real: Any) -> int:
        return round(self.real_share * len(real))


class Mix(_PartlyReal):
    """A fixed share of real data beside what the last generation wrote.

    With two generations this is the non-iterative experiment (ToEdit, arXiv 2412.14689, section 2).
    """

    name: Literal["mix"]

    def write(self, stage: Stage, *, seed: int) -> Any:
        """The examples that are not real; a model is never asked for none."""
        missing = len(stage.real) - self._kept(stage.real)
        return stage.model.sample(missing, seed=seed) if missing else stage.real.take(np.arange(0))


class SelectRegime(_PartlyReal):
    """Each model writes more than is needed, and a selector says what the next one trains on.

    `written` times as many documents are written as are missing beside the share of real ones, whatever the selector,
    and as many as are missing are drawn by the weights of `by`; see `selectors` for the papers.
    """

    name: Literal["select"]
    by: Selector
    written: Annotated[float, Field(gt=1, le=20)] = 4.0
    real_share: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def write(self, stage: Stage, *, seed: int) -> Any:
        """The selection; what was not selected is forgotten."""
        missing = max(1, len(stage.real) - self._kept(stage.real))
        candidates = stage.model.sample(max(missing + 1, round(self.written * missing)), seed=seed)
        assert stage.select is not None, "refused before anything is trained"
        return stage.select(stage.model, candidates, by=self.by, size=missing, seed=seed)

    def facts(self, generation: int, written: Written) -> Mapping[str, float]:
        """How many candidates there were, how many of them count, and what the selector found."""
        return dict(written[generation].facts) if generation else {}


class Weighted(_Quiet):
    """Real data and what the last generation wrote, seen in the shares `real_weight` and 1 - `real_weight`.

    Each model writes `written` times as many examples as there are real ones. `golden` is the weight that is best for
    estimating a mean (He, Xu and Cheng, arXiv 2502.18049): (sqrt(k^2 + 4 k) - k) / 2 with k = real / written, .618 for
    k = 1. Examples are seen more often or less instead of their losses being scaled, so it holds on average over a
    training, by examples, not by tokens.
    """

    name: Literal["weighted"]
    keeps_history: ClassVar[bool] = False
    real_weight: Annotated[float, Field(gt=0, lt=1)] | Literal["golden"] = "golden"
    written: Annotated[float, Field(gt=0, le=10)] = 1.0

    @property
    def weight(self) -> float:
        """The share of real examples in a training set."""
        if self.real_weight != "golden":
            return float(self.real_weight)
        return golden_weight(1 / self.written)

    def write(self, stage: Stage, *, seed: int) -> Any:
        """`written` times as many examples as there are real ones, at least one."""
        return stage.model.sample(max(1, round(self.written * len(stage.real))), seed=seed)

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:
        """As many examples as there are of both; each kind is repeated whole, and at random for what is left."""
        if not generation:
            return real
        newest = written[generation]
        size = len(real) + len(newest)
        ours = round(self.weight * size)
        return _repeated(real, ours, seed).concat(_repeated(newest, size - ours, seed))

    def budget(self, generation: int, real: Any) -> int:  # noqa: ARG002
        """The real data's size."""
        return int(real.units)


class Regenerate(_Quiet):
    """ForTIFAI's recursion (arXiv 2509.08972): real data arrives in `fractions` equal consecutive parts.

    Generation s trains on the regeneration of the whole previous training set and on part s, so the written share is
    s / (s + 1). After the last part no real data arrives any more.
    """

    name: Literal["regenerate"]
    keeps_history: ClassVar[bool] = False
    fractions: Annotated[int, Field(ge=1)] = 6

    def write(self, stage: Stage, *, seed: int) -> Any:
        """The previous training set, written anew."""
        return stage.model.regenerate(stage.previous_training_set(), seed=seed)

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:  # noqa: ARG002
        """The regeneration, then this generation's part of the real data."""
        parts = self.parts(real)
        if generation == 0:
            return parts[0]
        newest = written[generation]
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
                f"regime.fractions: {len(real)} examples cannot be cut into {self.fractions} parts. Use fewer."
            )
        return real.split(self.fractions)


class Revise(_Fresh):
    """Each model writes a part of the training set anew, and all else stays as it is (ToEdit, arXiv 2412.14689).

    Generation g writes `share * factor ** (g - 1)` of the examples. `overlapping`: chosen at random from the last
    training set; `disjoint`: the next ones in order, none twice, until all are written; `anchored`: chosen at random
    from the *real* data, so that what an earlier model wrote is never kept.
    """

    name: Literal["revise"]
    keeps_history: ClassVar[bool] = False
    places: Literal["disjoint", "overlapping", "anchored"] = "overlapping"
    share: Annotated[float, Field(gt=0, le=1)]
    factor: Annotated[float, Field(gt=0, le=1)] = 1.0

    def shares(self, generation: int) -> list[float]:
        """The share that is written for each of the generations 1 ... `generation`."""
        wanted = [self.share * self.factor**edit for edit in range(generation)]
        if self.places != "disjoint":
            return wanted
        written = np.minimum(np.cumsum([0.0, *wanted]), 1.0)
        return [float(share) for share in np.diff(written)]

    def write(self, stage: Stage, *, seed: int) -> Any:
        """The whole training set of this generation, with the chosen examples written anew in their places."""
        base = stage.real if self.places == "anchored" else stage.previous_training_set()
        chosen = self._chosen(len(base), stage.generation, seed)
        if not len(chosen):
            return base
        rewritten = stage.model.regenerate(base.take(chosen), seed=seed)
        if len(rewritten) != len(chosen):
            raise ConfigError(
                f"regime.name: 'revise' puts examples back in their places, and {len(rewritten)} were written for "
                f"{len(chosen)}. Use a form of writing that keeps examples apart, such as documents."
            )
        kept = np.setdiff1d(np.arange(len(base)), chosen)
        return base.take(kept).concat(rewritten).take(np.argsort(np.concatenate([kept, chosen]), kind="stable"))

    def mix(self, generation: int, real: Any, written: Written, *, seed: int) -> Any:  # noqa: ARG002
        """The revised training set."""
        return written[generation] if generation else real

    def _chosen(self, size: int, generation: int, seed: int) -> Any:
        shares = self.shares(generation)
        if self.places == "disjoint":
            return np.arange(round(size * sum(shares[:-1])), round(size * sum(shares)))
        # The model writes with `seed`; what it draws must not tell which examples were chosen.
        rng = np.random.default_rng([seed, 1])
        return np.sort(rng.choice(size, size=round(size * shares[-1]), replace=False))


AnyRegime = Annotated[
    Replace | Accumulate | AccumulateSubsample | Mix | SelectRegime | Weighted | Regenerate | Revise | EditRegime,
    Field(discriminator="name"),
]


def _pool(generation: int, real: Any, written: Written) -> Any:
    return real.concat(*(written[number] for number in range(1, generation + 1)))


def _repeated(data: Any, size: int, seed: int) -> Any:
    """`size` examples: each of `data` equally often, and some of them, drawn at random, once more."""
    whole, rest = divmod(size, len(data))
    more = np.random.default_rng(seed).choice(len(data), size=rest, replace=False)
    return data.take(np.sort(np.concatenate([np.repeat(np.arange(len(data)), whole), more])))


def _sample(data: Any, size: int, seed: int) -> Any:
    chosen = np.random.default_rng(seed).choice(len(data), size=min(size, len(data)), replace=False)
    return data.take(np.sort(chosen))
