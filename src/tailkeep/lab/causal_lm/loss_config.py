"""The losses that an arm may name: those of `tailkeep.losses.options`, and the caller's own."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from tailkeep.config import Settings
from tailkeep.losses.options import NamedLoss


class UserLoss(Settings):
    """A weighting of the caller's own, handed to `run(..., losses={id: ...})`; change `version` when it changes."""

    name: Literal["user"]
    id: str
    version: str
    options: dict[str, Any] = Field(default_factory=dict)


AnyLoss = Annotated[NamedLoss | UserLoss, Field(discriminator="name")]

UserLosses = Mapping[str, Callable[[Mapping[str, Any]], Any]]
"""A caller's own losses: id -> a function of the configured options that returns (N,) NLL -> (N,) factors, or a
`tailkeep.losses.Weighting`."""
