"""A whole step of a Llama: forward, loss, backward, AdamW, so that nobody takes the output layer's share for the whole.

All contenders step the same parameters. The learning rate is 0, which costs the same arithmetic and leaves the kept
share as it was in every round.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from loss_cost.inputs import threshold_keeping
from loss_cost.measuring import Call, Contender
from tailkeep.losses import attach, linear_token_nll

BLOCK, HEAD = 256, 64


@dataclass(frozen=True)
class Step:
    """A model in training mode, its optimiser and a batch (B, T) of tokens."""

    model: Any
    optimiser: torch.optim.Optimizer
    ids: Tensor

    def run(self, model: Any) -> None:
        """What is timed; `model` has the parameters of `self.model`."""
        model(input_ids=self.ids, labels=self.ids).loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

    def attached(self, threshold: float, impl: str) -> Any:
        """A model of the same parameters with the fused loss."""
        parameters = {id(parameter): parameter for parameter in self.model.parameters()}
        return attach(copy.deepcopy(self.model, parameters), threshold=threshold, impl=impl)

    def own_loss(self) -> Call:
        """A step with the model's own loss."""
        return lambda: self.run(self.model)

    def fused_loss(self, threshold: float, impl: str) -> Call:
        """A step with the fused loss."""
        model = self.attached(threshold, impl)
        return lambda: self.run(model)


@dataclass(frozen=True)
class Scene(Step):
    """The step of a Llama, and the NLL (B, T-1) of the next tokens."""

    nll: Tensor

    def notes(self, options: argparse.Namespace) -> Iterator[str]:
        """What the table's reader should know."""
        size = sum(parameter.numel() for parameter in self.model.parameters())
        head = self.model.lm_head.weight.numel()
        yield f"Llama of {size / 1e6:.1f} million parameters, {head / 1e6:.1f} of them in the tied output layer, AdamW."


def prepare(options: argparse.Namespace, vocab: int) -> Scene:
    """A seeded model and a batch of random tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=options.width,
        intermediate_size=options.width * 8 // 3,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.width // HEAD),
        num_key_value_heads=max(1, options.width // HEAD),
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).to(options.device, getattr(torch, options.dtype))
    block = min(BLOCK, options.tokens)
    ids = torch.randint(vocab, (options.tokens // block, block), device=options.device)
    with torch.no_grad():
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        nll = linear_token_nll(hidden[:, :-1], model.lm_head.weight, ids[:, 1:])
    return Scene(model, torch.optim.AdamW(model.parameters(), lr=0.0), ids, nll)


def contenders(options: argparse.Namespace) -> Iterator[Contender]:
    """The loss that the model brings along, and ours."""
    yield Contender("the model's own loss", Step.own_loss, rival=True, exact=True)
    for share in options.kept_fractions:
        yield Contender(f"tailkeep fused, k={share:g}", _fused(share, options.impl), exact=True)


def _fused(share: float, impl: str) -> Callable[[Scene], Call]:
    return lambda scene: scene.fused_loss(threshold_keeping(share, scene.nll.flatten()), impl)
