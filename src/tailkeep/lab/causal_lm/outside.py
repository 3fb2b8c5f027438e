"""What an outside model makes of the training text before the first model reads it: choices alone, no torch.

Rule: only training documents are touched; held-out and calibration documents stay as they were written.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tailkeep.config import InputPath, Settings
from tailkeep.lab.causal_lm.decoders import FixedDecoder, Sampling
from tailkeep.rules import Low, Random, Rule, Sampler, ToEdit, refuse_idle


class OutsideModel(Settings):
    """A folder or hub id of a causal language model with its tokenizer, which need not be the trained model's."""

    path: InputPath
    revision: str | None = None


class OutsideEdit(Settings):
    """The training documents as `data.prior` has edited them (ToEdit, arXiv 2412.14689).

    `rule` and `sampler` are those of `tailkeep edit`. `at_random` is the control: as many tokens as the rule flags are
    drawn anew by the same sampler, but any.
    """

    rule: Rule = Field(default_factory=ToEdit)
    sampler: Sampler = Sampler()
    at_random: bool = False

    @model_validator(mode="after")
    def _can_change_something(self) -> Self:
        if not self.at_random:
            refuse_idle(self.rule, self.sampler)
        elif isinstance(self.rule, Random):
            raise ValueError("at_random has no effect beside the rule random, whose tokens are any; leave it out")
        elif self.deletes:
            raise ValueError("at_random draws tokens anew and deletes none. Give it a rule that does not delete")
        return self

    @property
    def deletes(self) -> bool:
        """Whether the rule takes tokens out."""
        match self.rule:
            case ToEdit():
                return self.rule.delete_below is not None
            case Low():
                return self.rule.action == "delete"
        return False


class OutsideText(Settings):
    """Text of `data.prior` in the place of the training documents: fully synthetic, of the same size.

    Each document begins with the first `prompt_tokens` of the real one and has as many tokens of the prior's, whatever
    end the prior would put to it; one longer than the model's positions is written in pieces, each begun so.
    """

    prompt_tokens: Annotated[int, Field(ge=0)] = 8
    decoder: Annotated[FixedDecoder, Field(discriminator="name")] = Sampling(name="sample")
    batch: Annotated[int, Field(ge=1)] = 64
