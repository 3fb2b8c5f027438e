"""What a user chooses of an edit: which tokens are edited, what is drawn in their place, what stays as it is.

Rule: the defaults are those of ToEdit (arXiv 2412.14689), and a choice without effect is refused.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tailkeep.config import Settings

Threshold = Annotated[float, Field(gt=0, le=1)]


class ToEdit(Settings):
    """Draw anew where p >= `threshold`, the paper's rule; delete where p < `delete_below`, if given.

    The published code's `up_revise` is this rule with the sampler's temperature at 1.5, its `low_drop_up_revise` is
    `delete_below=0.001` at temperature 1, both over the 64 most probable tokens.
    """

    name: Literal["toedit"] = "toedit"
    threshold: Threshold = 0.99
    delete_below: Threshold | None = None

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.delete_below is not None and self.delete_below > self.threshold:
            raise ValueError(
                f"delete_below {self.delete_below} is above threshold {self.threshold}; a token would be both drawn "
                "anew and deleted. Set it to at most the threshold"
            )
        return self


class Low(Settings):
    """Draw anew or delete where p < `threshold`: the paper's ablation, and the published code's `filtering`."""

    name: Literal["low"] = "low"
    threshold: Threshold = 0.001
    action: Literal["resample", "delete"] = "resample"


class Band(Settings):
    """Draw anew where `low` <= p < `high`; a `high` of 1 takes p = 1 in, so that bands can cover every token once."""

    name: Literal["band"] = "band"
    low: Annotated[float, Field(ge=0, lt=1)]
    high: Threshold

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"no p is in [{self.low}, {self.high}). Set low to less than high")
        return self


class Random(Settings):
    """Draw anew at each scored token with probability `share`, whatever its p: the control.

    For random words instead of the prior's, let the sampler have `top_k` null and `temperature` 1e6.
    """

    name: Literal["random"] = "random"
    share: Threshold


def _toedit_unless_said(rule: object) -> object:
    return {"name": "toedit", **rule} if isinstance(rule, Mapping) else rule


Rule = Annotated[
    Annotated[ToEdit | Low | Band | Random, Field(discriminator="name")], BeforeValidator(_toedit_unless_said)
]


class Sampler(Settings):
    """How a token is drawn from the prior's distribution at a position.

    The candidates are the tokens with a surface of their own and the original. They are divided by `temperature`,
    cut to the `top_k` most probable (null: all), then to the fewest that hold `top_p` of what is left (null: all).

    `exclude_original` takes the original out first, so that a position that is drawn changes. `max_attempts` is
    rejection
    sampling: draw again while the draw is the original, at most so often. The paper names rejection sampling in an
    ablation and does not define it; drawing until p falls below a threshold above 1/2 is the same thing, since only
    the original can be above it.

    Under ToEdit, a `top_p` of at most the threshold leaves nothing but the original, so nothing ever changes.
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = 8
    top_p: Annotated[float, Field(gt=0, lt=1)] | None = None
    exclude_original: bool = False
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 1

    @model_validator(mode="after")
    def _can_try(self) -> Self:
        if self.exclude_original and self.max_attempts > 1:
            raise ValueError(
                f"max_attempts {self.max_attempts} has no effect beside exclude_original; leave one of them out"
            )
        return self


def check_has_effect(rule: Rule, sampler: Sampler) -> None:
    """Refuse a sampler that leaves nothing but the original of each token that `rule` flags.

    Raises:
        ValueError: it does; which keys to change.
    """
    if not isinstance(rule, ToEdit) or rule.delete_below is not None or sampler.exclude_original:
        return
    # A flagged token holds at least the threshold of the candidates' weight, unless a temperature flattens it.
    if sampler.temperature <= 1 and sampler.top_p is not None and sampler.top_p <= rule.threshold:
        raise ValueError(
            f"sampler.top_p {sampler.top_p} is not above rule.threshold {rule.threshold}, so only the original "
            "could be drawn and nothing would change. Raise top_p, or set sampler.exclude_original"
        )
    if sampler.top_k == 1 and rule.threshold > 0.5:
        raise ValueError(
            "sampler.top_k 1 leaves only the original of a flagged token, so nothing would change. Raise top_k, "
            "or set sampler.exclude_original"
        )


class Protection(Settings):
    """Which parts of a text are never edited, and whether edits must leave Python code that parses.

    `chat_tokens` are the markers of chat templates and the role that stands behind them. Everything up to the end of
    the first `prompt_until` is a prompt; a text without it is all prompt. `guard: python` takes back edits after
    which a text, or a fenced block of it, that was Python no longer is.
    """

    numbers: bool = False
    urls: bool = False
    code_fences: bool = False
    chat_tokens: bool = False
    prompt_until: Annotated[str, Field(min_length=1)] | None = None
    guard: Literal["python"] | None = None
