"""Which weighting the arguments of `attach` stand for, and whether it is one that truncates."""

from collections.abc import Mapping
from typing import Any

import torch

from tailkeep.errors import ConfigError
from tailkeep.losses.named import named_weighting
from tailkeep.losses.weighting import Weighting

_TRUNCATIONS = {"truncated", "dynamic", "scheduled", "target_kept"}


def chosen(loss: str | Weighting, threshold: float | None, options: Mapping[str, Any]) -> Weighting:
    """The weighting named `loss`, with its options, or `loss` itself.

    Raises:
        ConfigError: neither a name nor a weighting, an unknown name, or options that it does not have.
    """
    given = {**({} if threshold is None else {"threshold": threshold}), **options}
    if isinstance(loss, str):
        return named_weighting(loss, **given)
    if not isinstance(loss, Weighting):
        raise ConfigError(
            f"loss {loss!r} is neither a name nor a Weighting. Give a name such as 'truncated', or make a Weighting."
        )
    if given:
        raise ConfigError(f"{', '.join(given)} have no effect with a Weighting object. Give them where it is made.")
    return loss


def truncates(weighting: Weighting) -> bool:
    """Whether a kept fraction of 1 means that the weighting did nothing; a threshold of 1 asks for it."""
    return weighting.name in _TRUNCATIONS and not bool(weighting.weigh(torch.zeros(1), None).any())
