"""The regime `edit`: what models write for each other is the text they were given, with some of its tokens drawn anew.

Rule: whatever the generation, the edit is of the real data, unless the comparison asks for edits of edits or of what
a model has written.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tailkeep.config import Settings
from tailkeep.lab.stage import Stage, Written
from tailkeep.rules import Rule, Sampler, ToEdit, refuse_idle


class Edit(Settings):
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
        refuse_idle(self.rule, self.sampler)
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
