"""The regimes of text: real documents that the previous model edits or rewrites in its own words, or that are replayed.

Rules: as in `regimes`, `generate` asks the previous model and `mix` composes the training set. What stands beside the
replayed documents, and how many of their tokens there are, is the same for every choice of documents, so that `random`
is the control of the others.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from tailkeep.config import Settings, UserCode, as_code
from tailkeep.lab.checks import check_data
from tailkeep.lab.protocols import GeneratedData, Stage
from tailkeep.lab.selectors import Extinction, ReplaySelector
from tailkeep.metrics import CopyExtinction, golden_weight, replay_extinction
from tailkeep.rules import Rule, Sampler, ToEdit, check_has_effect


class RegimeSettings(Settings):
    """A regime whose model trains on the newest generated data alone, as long as on the real data, and has no facts."""

    keeps_history: ClassVar[bool] = False

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:  # noqa: ARG002
        """The newest generated data."""
        return generated[generation] if generation else real

    def budget(self, generation: int, real: Any) -> int:  # noqa: ARG002
        """The real data's size."""
        return int(real.units)

    def facts(self, generation: int, generated: GeneratedData) -> Mapping[str, float]:  # noqa: ARG002
        """None."""
        return {}


class CodeEditor(UserCode):
    """An editor of the user's own: edit(model, data, *, seed, options...) -> the edited data, of the same kind."""

    leading: ClassVar[int] = 2
    seeded: ClassVar[bool] = True


class EditRegime(RegimeSettings):
    """Each generation trains on the real data as the last model has edited it (ToEdit, arXiv 2412.14689).

    Tokens are scored given the original text before them and resampled in one pass; `rule` and `sampler` are those of
    `tailkeep edit`. With `anchored: false` each model edits what its predecessor has edited, as the paper does: edits
    accumulate and the bound on collapse is lost (see docs/laboratory/regimes.md). With `source: generated` each model
    generates as many documents as there are real ones, as in the regime `replace`, and edits those. An `editor` of the
    user's own replaces `rule` and `sampler`, whatever the learner.
    """

    name: Literal["edit"]
    anchored: bool = True
    source: Literal["real", "generated"] = "real"
    editor: Annotated[CodeEditor | None, BeforeValidator(as_code)] = None
    rule: Rule = Field(default_factory=ToEdit)
    sampler: Sampler = Sampler()

    @model_validator(mode="after")
    def _check_effect(self) -> Self:
        check_has_effect(self.rule, self.sampler)
        if self.editor is not None and self.model_fields_set & {"rule", "sampler"}:
            changed = (self.rule, self.sampler) != (ToEdit(), Sampler())
            if changed:
                raise ValueError("rule and sampler have no effect beside an editor; leave them out")
        if self.source == "generated" and not self.anchored:
            raise ValueError(
                "anchored has no effect beside source: generated, text that is new each time; leave it out"
            )
        return self

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """The real data edited, or the last training set unless anchored, or what the model itself generates."""
        if self.source == "generated":
            data = stage.model.sample(len(stage.real), seed=seed)
        else:
            data = stage.real if self.anchored else stage.previous_training_set()
        if self.editor is not None:
            edited = self.editor.bind("regime.editor")(stage.model, data, seed=seed)
            return check_data(edited, data, f"regime.editor: {self.editor.origin()}")
        return stage.model.edit(data, rule=self.rule, sampler=self.sampler, seed=seed)

    def facts(self, generation: int, generated: GeneratedData) -> Mapping[str, float]:
        """The shares of tokens that were flagged and that changed, and the share of the real data that has changed.

        What an editor of the user's own returns need not have any.
        """
        return dict(getattr(generated[generation], "facts", {})) if generation else {}


class Rephrase(RegimeSettings):
    """Each model rewrites every real document, with the document in its prompt, as synthetic text is made from the web.

    `instruction` is what it is told, in its chat template if it has one, else behind the document. `beside`: the next
    generation trains on the real documents too, or on the rewritten ones instead. A document becomes at most
    `max_length_ratio` times as long, in tokens.
    """

    name: Literal["rephrase"]
    beside: bool = False
    instruction: Annotated[str, Field(min_length=1)] = "Rewrite this text in other words. Keep every fact."
    max_length_ratio: Annotated[float, Field(gt=0, le=4)] = 1.5

    def generate(self, stage: Stage, *, seed: int) -> Any:
        """Every real document, rewritten."""
        return stage.model.rephrase(
            stage.real, instruction=self.instruction, max_length_ratio=self.max_length_ratio, seed=seed
        )

    def mix(self, generation: int, real: Any, generated: GeneratedData, *, seed: int) -> Any:  # noqa: ARG002
        """The rewritten documents, behind the real ones if `beside`."""
        if not generation:
            return real
        return real.concat(generated[generation]) if self.beside else generated[generation]


class Replay(RegimeSettings):
    """Each generation trains on a part of the real data with at most `real_budget` of its tokens, chosen anew.

    `base` says what stands beside it, as in the regimes of these names: `mix`, what the last model generates, so much
    that real and synthetic documents together are as many as the real ones; `accumulate`, everything generated so far,
    as many documents as there are real ones by each model. `by` chooses the documents among all real ones.

    With `real_weight` the replayed documents are repeated until they are at least this share of the training set's
    tokens; `golden` is the weight that is best for estimating a mean, see `regimes.Weighted`.
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
