"""The regimes of text: real documents that the previous model edits, or rewrites in its own words.

Rule: as in `regimes`, `generate` asks the previous model and `mix` composes the training set.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tailkeep.config import Settings, UserCode, as_code
from tailkeep.lab.checks import check_data
from tailkeep.lab.protocols import GeneratedData, Stage
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
