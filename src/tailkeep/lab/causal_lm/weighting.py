"""From a loss's settings to its weighting: a function of per-token losses that says how much each token counts."""

from collections.abc import Callable

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.settings import AnyLoss, CrossEntropy, Focal, Truncated, UserLoss, UserLosses
from tailkeep.losses import focal_weights, truncation_mask

Weighting = Callable[[Tensor], Tensor]
"""(...) per-token losses in nats -> (...) factors, of the same shape; 0 leaves a token out."""


def build_weighting(loss: AnyLoss, user: UserLosses) -> Weighting:
    """The weighting that `loss` describes.

    Raises:
        ConfigError: a loss of the caller's own that was not handed over.
    """
    match loss:
        case CrossEntropy():
            return torch.ones_like
        case Truncated(threshold=threshold):
            return lambda nll: truncation_mask(nll, threshold=threshold).to(nll.dtype)
        case Focal(exponent=exponent, detach=detach):
            return lambda nll: focal_weights(nll, exponent=exponent, detach=detach)
        case UserLoss(id=name, options=options):
            if name not in user:
                raise ConfigError(
                    f"loss.id: {name!r} was not handed over. "
                    f"Call tailkeep.lab.run(config, out, losses={{{name!r}: ...}})."
                )
            return user[name](options)
