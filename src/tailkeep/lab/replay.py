"""The regime `replay`: a budget of real tokens, and which real documents it is spent on in each generation.

Rule: what stands beside the replayed documents, and how many of their tokens there are, is the same for every choice
of documents, so that `random` is the control of the others.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from tailkeep.lab.protocols import GeneratedData, Stage
from tailkeep.lab.selectors import Extinction, ReplaySelector
from tailkeep.lab.text_regimes import RegimeSettings
from tailkeep.metrics import CopyExtinction, golden_weight, replay_extinction


class Replay(RegimeSettings):
    """Each generation trains on a part of the real data with at most `real_budget` of its tokens, chosen anew.

    `base` says what stands beside it, as in the regimes of these names: `mix`, what the last model generates, so much
    that real and synthetic documents together are as many as the real ones; `accumulate`, everything generated so far,
    as many documents as there are real ones by each model. `by` chooses the documents among all real ones.

    With `real_weight` the replayed documents are repeated until they are at least this share of the training set's
    tokens; `golden` is the weight that is best for estimating a mean, see `Weighted`.
    """

    name: Literal["replay"]
    keeps_history: ClassVar[bool] = True
    base: Literal["mix", "accumulate"] = "mix"
    real_budget: Annotated[float, Field(gt=0, lt=1)]
    by: ReplaySelector
    real_weight: Annotated[float, Field(gt=0, lt=1)] | Literal["golden"] | None = None

    @model_validator(mode="after")
    def _check_weight(self) -> Self:
        if isinstance(self.real_weight, float) and self.real_weight <= self.real_budget:
            raise ValueError(
                f"real_weight {self.real_weight:g} repeats no document where real_budget {self.real_budget:g} is as "
                "large. Give a larger real_weight, or leave it out"
            )
        return self

    def weight(self, generation: int) -> float:
        """The share of replayed tokens in the training set of `generation`."""
        ratio = self.real_budget / self._synthetic_size(generation)
        if self.real_weight is None:
            return ratio / (1 + ratio)
        return golden_weight(ratio) if self.real_weight == "golden" else self.real_weight

    def copy_extinction(self, generation: int) -> CopyExtinction | None:
        """Of a copy in the training set of `generation`, by drift alone, if `by` asks for it.

        Later training sets are taken to replay nothing, but the pool of `accumulate` to grow by one text each.
        """
        if not isinstance(self.by, Extinction):
            return None
        weight, size = self.weight(generation), self._synthetic_size(generation)
        return replay_extinction(
            self.by.until - generation,
            synthetic_mean=(1 - weight) / size,
            replayed_mean=weight / self.real_budget,
            pool=size + self.real_budget if self.base == "accumulate" else None,
        )

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """What the last model generates, with the real documents that are replayed beside it."""
        share = 1.0 if self.base == "accumulate" else 1 - self.real_budget
        newest = stage.model.sample(max(1, round(share * len(stage.real))), seed=seed)
        assert stage.replay is not None, "checked before anything is trained"
        return stage.replay(
            stage.model,
            self._texts(stage.generation, {**stage.generated, stage.generation: newest}),
            by=self.by,
            budget=self.real_budget,
            extinction=self.copy_extinction(stage.generation),
            seed=seed,
        )

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:
        """The replayed documents, then the synthetic text."""
        if not generation:
            return real
        replayed = real.take(generated[generation].replayed.indices)
        first, *rest = self._texts(generation, generated)
        synthetic = first.concat(*rest)
        if self.real_weight is not None:
            weight = self.weight(generation)
            # Synthetic text may be shorter than planned; no replayed document is left out for that.
            times = max(1.0, weight / (1 - weight) * synthetic.units / replayed.units)
            replayed = repeat_examples(replayed, round(times * len(replayed)), seed)
        return replayed.concat(synthetic)

    def facts(self, generation: int, generated: GeneratedData) -> Mapping[str, float]:
        """How many documents are replayed, with what share of the real tokens, and the selector's own facts."""
        return dict(generated[generation].facts) if generation else {}

    def _synthetic_size(self, generation: int) -> float:
        """The size of the synthetic text beside the replayed documents, over that of the real data."""
        return float(generation) if self.base == "accumulate" else 1 - self.real_budget

    def _texts(self, generation: int, generated: GeneratedData) -> list[Any]:
        first = 1 if self.base == "accumulate" else generation
        return [generated[number] for number in range(first, generation + 1)]


def repeat_examples(data: Any, size: int, seed: int) -> Any:
    """`size` examples: each of `data` equally often, and a random part of them once more."""
    whole, rest = divmod(size, len(data))
    more = np.random.default_rng(seed).choice(len(data), size=rest, replace=False)
    return data.take(np.sort(np.concatenate([np.repeat(np.arange(len(data)), whole), more])))
