"""PyTorch's own chunked linear cross-entropy, from PyTorch 2.13 on, with the weights outside.

Rule: only what it computes to full precision. Each refusal says what to use instead.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.engines.base import TokenLosses
from tailkeep.losses.engines.reference import times
from tailkeep.losses.lm_head import Head
from tailkeep.losses.weighting import Entropy, Weighting

# Its own choice is about 8 rows for a language model, which took 10 times as long on a CPU.
_ROWS = 256


class TorchLinear:
    """Computes the logits twice, and the gradient of every token; of use to compare with."""

    def token_nll(
        self, hidden: Tensor, head: Head, targets: Tensor, *, entropy: Entropy
    ) -> tuple[Tensor, Tensor | None]:
        """See `Engine`."""
        del entropy
        bias = head.bias
        if head.scale != 1:
            hidden, bias = hidden * head.scale, None if bias is None else bias * head.scale
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=_ROWS)
        nll = F.linear_cross_entropy(
            hidden, head.weight, targets, linear_bias=bias, reduction="none", ignore_index=-100, options=options
        )
        return nll, None

    def weighted(
        self, hidden: Tensor, head: Head, targets: Tensor, weighting: Weighting, *, expected: Tensor | None = None
    ) -> TokenLosses:
        """See `Engine`."""
        del expected
        nll, _ = self.token_nll(hidden, head, targets, entropy=None)
        weights = weighting.factors(nll, None)
        return TokenLosses(times(nll, weights), nll.detach(), weights.detach(), None)


def check_torch_linear(hidden: Tensor, head: Head, entropy: Entropy) -> None:
    """Refuse what PyTorch's loss cannot compute.

    Raises:
        ConfigError: an older PyTorch, half precision, a softcap, or an entropy that is wanted.
    """
    if not hasattr(F, "linear_cross_entropy") or not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise ConfigError(f"impl 'torch' needs PyTorch 2.13, this is {torch.__version__}. Use impl='chunked'.")
    if hidden.dtype in (torch.bfloat16, torch.float16):
        raise ConfigError(
            f"impl 'torch' rounds each token's loss to {hidden.dtype}, too coarse to weight tokens by. "
            "Use impl='chunked'."
        )
    if head.softcap is not None:
        raise ConfigError(f"impl 'torch' has no softcap, and softcap is {head.softcap}. Use impl='chunked'.")
    if entropy is not None:
        raise ConfigError(f"impl 'torch' gives no entropy, and entropy {entropy!r} is wanted. Use impl='chunked'.")
