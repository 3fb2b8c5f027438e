"""The config of an edit: which tokens are edited, how replacements are sampled, and which text is protected.

Rule: the defaults are those of ToEdit (arXiv 2412.14689), and an option without effect is an error.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tailkeep.config import Settings

Threshold = Annotated[float, Field(gt=0, le=1)]


class ToEdit(Settings):
    """Resample where p >= `threshold`, the paper's rule; delete where p < `delete_below`, if set.

    The published code's `up_revise` is this rule with the sampler's temperature at 1.5, its `low_drop_up_revise` is
    `delete_below=0.001` at temperature 1, both over the 64 most probable tokens.
    """

    name: Literal["toedit"] = "toedit"
    threshold: Threshold = 0.99
    delete_below: Threshold | None = None

    @model_validator(mode="after")
    def _check_thresholds(self) -> Self:
        if self.delete_below is not None and self.delete_below > self.threshold:
            raise ValueError(
                f"delete_below {self.delete_below} is above threshold {self.threshold}; a token would be both "
                "resampled and deleted. Set it to at most the threshold"
            )
        return self


class Low(Settings):
    """Resample or delete where p < `threshold`: the paper's ablation, and the published code's `filtering`.

    Attributes:
        action: what happens to a token of low probability.
    """

    name: Literal["low"] = "low"
    threshold: Threshold = 0.001
    action: Literal["resample", "delete"] = "resample"


class Band(Settings):
    """Resample where `low` <= p < `high`. A `high` of 1 includes p = 1, so bands can cover every token once."""

    name: Literal["band"] = "band"
    low: Annotated[float, Field(ge=0, lt=1)]
    high: Threshold

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"no p is in [{self.low}, {self.high}). Set low to less than high")
        return self


class Random(Settings):
    """Resample each scored token with probability `share`, whatever its p: the random control.

    For random tokens instead of the prior's, set the sampler's `top_k` to null and its `temperature` to 1e6.
    """

    name: Literal["random"] = "random"
    share: Threshold


def default_to_toedit(rule: object) -> object:
    """The keys `rule` with the name of the default kind, if they have none; what is no mapping stays."""
    return {"name": "toedit", **rule} if isinstance(rule, Mapping) else rule


Rule = Annotated[
    Annotated[ToEdit | Low | Band | Random, Field(discriminator="name")], BeforeValidator(default_to_toedit)
]


class Sampler(Settings):
    """How a token is sampled from the prior's distribution at a position.

    The candidates are the original token and all tokens with a text. Their logits are divided by `temperature`; `top_k`
    keeps the most probable (null: all), then `top_p` the fewest that hold this share of the rest (null: all).

    `exclude_original` removes the original first, so every sampled position changes. `max_attempts` is rejection
    sampling: sample again while the result is the original, at most so often. The paper names rejection sampling in an
    ablation and does not define it; sampling until p falls below a threshold above 1/2 is equivalent, since only the
    original can be above it.

    Above a threshold of 1/2 the original is the most probable, so `top_k` 1 or a `top_p` of at most the threshold leave
    nothing else.
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = 8
    top_p: Annotated[float, Field(gt=0, lt=1)] | None = None
    exclude_original: bool = False
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 1

    @model_validator(mode="after")
    def _check_attempts(self) -> Self:
        if self.exclude_original and self.max_attempts > 1:
            raise ValueError(
                f"max_attempts {self.max_attempts} has no effect with exclude_original; set only one of them"
            )
        return self


def check_has_effect(rule: Rule, sampler: Sampler) -> None:
    """Check that `sampler` can change a token that `rule` flags.

    Raises:
        ValueError: only the original token can be sampled, or none is; the message names the keys to change.
    """
    if isinstance(rule, Low) and rule.action == "delete" and sampler != Sampler():
        raise ValueError("sampler has no effect beside rule.action 'delete', which samples nothing. Leave it out")
    if sampler.exclude_original:
        return
    match rule:
        case ToEdit(delete_below=None):
            key, floor = "threshold", rule.threshold
        case Band():
            key, floor = "low", rule.low
        case _:
            return
    # A token above 1/2 is the most probable, and holds at least `floor` unless a temperature flattens it.
    if not floor > 0.5:
        return
    if sampler.temperature <= 1 and sampler.top_p is not None and sampler.top_p <= floor:
        raise ValueError(
            f"sampler.top_p {sampler.top_p} is not above rule.{key} {floor}, so only the original "
            "could be sampled and nothing would change. Raise top_p, or set sampler.exclude_original"
        )
    if sampler.top_k == 1:
        raise ValueError(
            "sampler.top_k 1 leaves only the original of a flagged token, so nothing would change. Raise top_k, "
            "or set sampler.exclude_original"
        )


class Protection(Settings):
    """Which parts of a text are never edited, and whether edits must leave the syntax tree of Python code.

    `entities` are numbers, also in words, and names: capitalised words but those that merely begin a sentence, with
    what joins them, by rules for English; no model.

    `chat_tokens` are the markers of chat templates with the role after them. Everything up to the end of the first
    `prompt_until` is a prompt; a text without it is all prompt. `guard: python` reverts edits after which a text, or
    a fenced block of it, that was Python no longer has the same syntax tree, docstrings apart.

    Attributes:
        numbers: protect digits.
        urls: protect URLs.
        code_fences: protect fenced blocks of code.
    """

    numbers: bool = False
    entities: bool = False
    urls: bool = False
    code_fences: bool = False
    chat_tokens: bool = False
    prompt_until: Annotated[str, Field(min_length=1)] | None = None
    guard: Literal["python"] | None = None
