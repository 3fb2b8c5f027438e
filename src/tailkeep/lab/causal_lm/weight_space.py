"""What an heir does in the space of weights: moves in few dimensions, or away from where its own text has drawn it.

Rule: what comes out is a plain model of the same shape, which saves, writes and is measured as any other.
"""

import math
import warnings
from typing import Any

import torch

from tailkeep.lab.causal_lm.settings import LowRank
from tailkeep.optional import require


def add_adapters(network: Any, low_rank: LowRank, *, seed: int) -> Any:
    """LoRA (Hu et al. 2021) on every linear layer of `network` but its output: the only weights that then train.

    `network` itself is changed and stays what is trained; the result is for `merge_adapters`. The adapters add nothing
    at first.
    """
    peft = require("peft", extra="lora")
    config = peft.LoraConfig(r=low_rank.rank, lora_alpha=low_rank.alpha, target_modules="all-linear")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        # peft asks by a name that transformers has given up.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        torch.manual_seed(seed)
        return peft.get_peft_model(network, config)


def merge_adapters(adapted: Any) -> Any:
    """The plain model with the adapters added into its weights, all of which can be trained again."""
    network = adapted.merge_and_unload()
    network.requires_grad_(True)
    return network


def extrapolate(network: Any, base: Any, factor: float) -> None:
    """Move `network` to the other side of `base`, in place: base - factor * (network - base) (Neon, arXiv 2510.03597).

    `base` is the model whose text `network` was trained on, before that training; the two have the same shape.
    """
    with torch.no_grad():
        for trained, start in zip(network.parameters(), base.parameters(), strict=True):
            trained.copy_(start - factor * (trained - start))


def relative_change(network: Any, base: Any) -> float:
    """|network - base| / |base|, Euclidean over all weights."""
    moved = total = 0.0
    with torch.no_grad():
        for trained, start in zip(network.parameters(), base.parameters(), strict=True):
            moved += float((trained.double() - start.double()).square().sum())
            total += float(start.double().square().sum())
    return math.sqrt(moved / total)
