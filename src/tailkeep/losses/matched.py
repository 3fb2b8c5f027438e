"""Random truncation that keeps as many tokens as truncation at a threshold would: the control of that truncation.

Rule: the share follows the model that is trained with it, micro-batch by micro-batch; which tokens are kept does not.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.truncation import check_threshold, truncation_mask
from tailkeep.losses.weighting import Weighting, check_state


def random_matched(threshold: float, seed: int, window: int = 16) -> Weighting:
    """[u < share], u uniform on [0, 1) for every token, share = kept by [p <= threshold] in recent micro-batches.

    Direction: none. The share is that of this model on what it trains on, before the step is taken. It is not the share
    of another run: a model that is truncated grows less sure than this control, so it keeps more. `random_truncation`
    with that run's kept fraction matches the mean instead.

    Args:
        threshold: a probability in (0, 1], the one of the truncation that this controls.
        seed: of the draws; ranks need one each.
        window: how many micro-batches count as recent, at least 1. Before the first all tokens are kept.

    Raises:
        ConfigError: an option outside its range.
    """
    check_threshold(threshold)
    if window < 1:
        raise ConfigError(f"window {window} is below 1 micro-batch. 16 is the default.")
    coin = _MatchedCoin(threshold, torch.Generator().manual_seed(seed), window)
    return Weighting("random_matched", coin.weigh, observe=coin.observe, state=coin)


class _MatchedCoin:
    def __init__(self, threshold: float, generator: torch.Generator, window: int) -> None:
        self.threshold = threshold
        self.generator = generator
        self.recent: deque[tuple[int, int]] = deque(maxlen=window)

    @property
    def share(self) -> float:
        kept, seen = (sum(column) for column in zip(*self.recent, strict=True)) if self.recent else (1, 1)
        return kept / seen

    def weigh(self, nll: Tensor, entropy: Tensor | None) -> Tensor:
        del entropy
        return (torch.rand(nll.shape, generator=self.generator) < self.share).to(nll)

    def observe(self, nll: Tensor) -> None:
        if len(nll):
            self.recent.append((int(truncation_mask(nll, threshold=self.threshold).sum()), len(nll)))

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state(), "recent": list(self.recent)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, "random_matched", "generator", "recent")
        self.generator.set_state(state["generator"].cpu())
        self.recent = deque(map(tuple, state["recent"]), maxlen=self.recent.maxlen)
