"""The losses that an arm may name: those of `tailkeep.losses.options`, and the caller's own."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from tailkeep.config import Settings, UserCode, as_code
from tailkeep.losses.options import NamedLoss


class UserLoss(Settings):
    """A weighting of the caller's own, handed to `run(..., losses={id: ...})`; change `version` when it changes."""

    name: Literal["user"]
    id: str
    version: str
    options: dict[str, Any] = Field(default_factory=dict)


class CodeLoss(UserCode):
    """A loss of the user's own: weigh(nll, options...) -> the weight of each token's loss, (N,), from its NLL (N,)."""

    leading: ClassVar[int] = 1


AnyLoss = Annotated[Annotated[NamedLoss | UserLoss | CodeLoss, Field(discriminator="name")], BeforeValidator(as_code)]

UserLosses = Mapping[str, Callable[[Mapping[str, Any]], Any]]
"""A caller's own losses: id -> a function of the configured options that returns (N,) NLL -> (N,) factors, or a
`tailkeep.losses.Weighting`."""
