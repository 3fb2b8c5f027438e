"""The losses that an arm may name, with their choices; `tailkeep.losses.registry` holds what each computes."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from tailkeep.config import Settings
from tailkeep.lab.arm import Positive

Threshold = Annotated[float, Field(gt=0, le=1)]
AutoThreshold = Threshold | Literal["auto"]
"""A number, or one chosen for each generation; see `settle`. That needs `data.calibration`."""
Share = Annotated[float, Field(gt=0, le=1)]


class CrossEntropy(Settings):
    """Plain cross-entropy."""

    name: Literal["cross_entropy"]


class Truncated(Settings):
    """Truncated cross-entropy (arXiv 2509.08972)."""

    name: Literal["truncated"]
    threshold: AutoThreshold = 0.99


class Dynamic(Settings):
    """Truncated at mean + alpha * std of the micro-batches' mean probability (arXiv 2509.08972, published code)."""

    name: Literal["dynamic"]
    alpha: float
    start: Threshold = 0.99
    window: Annotated[int, Field(ge=2)] = 256


class Scheduled(Settings):
    """Truncated at a threshold that moves linearly over `steps` micro-batches."""

    name: Literal["scheduled"]
    start: Threshold
    end: Threshold
    steps: Positive


class TargetKept(Settings):
    """Truncated at the threshold that keeps a share `fraction` of the tokens."""

    name: Literal["target_kept"]
    fraction: Share
    start: Threshold = 0.99
    window: Positive = 16


class RandomTruncation(Settings):
    """The control: tokens kept at random. Draws follow the generation's seed."""

    name: Literal["random"]
    kept_fraction: Share


class RandomMatched(Settings):
    """The control: at random as many tokens kept as truncation would keep. Draws follow the generation's seed."""

    name: Literal["random_matched"]
    threshold: AutoThreshold = 0.99
    window: Positive = 16


class Focal(Settings):
    """Focal loss (arXiv 1708.02002)."""

    name: Literal["focal"]
    exponent: Annotated[float, Field(ge=0)] = 2.0
    detach: bool = False


class MiLe(Settings):
    """MiLe (arXiv 2310.19531): weights rise with the prediction's entropy."""

    name: Literal["mile"]
    exponent: Annotated[float, Field(ge=0)] = 1.0


class EAFT(Settings):
    """EAFT (arXiv 2601.02151): weights are the normalised entropy of the k most likely tokens."""

    name: Literal["eaft"]
    k: Annotated[int, Field(ge=2)] = 20


class DFT(Settings):
    """DFT (arXiv 2508.05629): weighted by p, the opposite direction."""

    name: Literal["dft"]


class STM(Settings):
    """Selective token masking (arXiv 2501.14315): unlikely tokens left out, the opposite direction."""

    name: Literal["stm"]
    threshold: Threshold = 0.4


class UserLoss(Settings):
    """A weighting of the caller's own, handed to `run(..., losses={id: ...})`; change `version` when it changes."""

    name: Literal["user"]
    id: str
    version: str
    options: dict[str, Any] = Field(default_factory=dict)


AnyLoss = Annotated[
    CrossEntropy
    | Truncated
    | Dynamic
    | Scheduled
    | TargetKept
    | RandomTruncation
    | RandomMatched
    | Focal
    | MiLe
    | EAFT
    | DFT
    | STM
    | UserLoss,
    Field(discriminator="name"),
]

UserLosses = Mapping[str, Callable[[Mapping[str, Any]], Any]]
"""A caller's own losses: id -> a function of the configured options that returns (N,) NLL -> (N,) factors, or a
`tailkeep.losses.Weighting`."""
