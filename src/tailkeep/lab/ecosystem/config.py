"""The configuration of an ecosystem: its members, the share of the pool that each generates, and what it trains on.

Rule: members share a tokenizer, so that any can train on the text of any other.
"""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tailkeep.config import Settings
from tailkeep.lab.causal_lm.config import AnyModel, CausalLMArm, LanguageArm

_ROUNDING = 1e-6


def _check_folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", name):
        raise ValueError("a member's name becomes a folder. Use up to 40 letters, digits, '-' and '_'")
    return name


class Member(Settings):
    """One language model of the ecosystem, which generates `share` of the pool.

    Attributes:
        name: the name of its folder and of its measures.
        model: a new network of a given shape, or a pretrained one.
    """

    name: Annotated[str, AfterValidator(_check_folder_name)]
    share: Annotated[float, Field(gt=0, lt=1)]
    model: AnyModel


class EcosystemArm(LanguageArm):
    """An arm whose learner is several causal language models that share a tokenizer and a pool of text.

    In every generation each member generates its share of the next training set, the pool. `train_on`: each member
    trains on the whole `pool`, or on a `part` of its documents that is its share, drawn again in each generation and
    disjoint from the others' (data split over models, arXiv 2512.15011). `compute`: members train on their share of the
    tokens that a single model would (`shared`, so the total is a single chain's), or `each` on as many as it.
    """

    builder: ClassVar[str] = "ecosystem.learner:build"
    learner: Literal["ecosystem"]
    members: tuple[Member, ...]
    train_on: Literal["pool", "part"] = "pool"
    compute: Literal["shared", "each"] = "shared"

    @model_validator(mode="after")
    def _check_data(self) -> Self:
        unsupported = [
            key
            for key in ("external_edit", "external_text", "prompt_field", "downstream")
            if getattr(self.data, key, None) is not None
        ]
        if unsupported:
            raise ValueError(f"data.{unsupported[0]} is for single models. Use learner causal_lm, or leave it out")
        if self.evaluation.first_model:
            raise ValueError("evaluation.first_model is for single models. Use learner causal_lm, or leave it out")
        return self

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        names, total = [member.name for member in self.members], sum(member.share for member in self.members)
        if len(names) < 2:
            raise ValueError(
                f"members: an ecosystem needs two or more, got {len(names)}. Add members, or use learner causal_lm"
            )
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"members: the name {repeated[0]!r} is used twice. Name each member differently")
        if abs(total - 1) > _ROUNDING:
            raise ValueError(f"members: their shares sum to {total:.6g}. Make them sum to 1")
        return self

    def member_arm(self, member: Member) -> CausalLMArm:
        """The arm of one member, which trains on as many tokens as its budget says."""
        shared = {name: getattr(self, name) for name in LanguageArm.model_fields}
        training = self.training.model_copy(update={"equal_tokens": True})
        return CausalLMArm(**{**shared, "learner": "causal_lm", "model": member.model, "training": training})
