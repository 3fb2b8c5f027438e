"""A whole step of a real model on real text: forward, loss, backward, AdamW, beside the model's own loss.

All contenders step the same parameters, and the first one is the model untouched. The learning rate is 0, which costs
the same arithmetic and leaves the kept share as it was in every round.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from loss_cost.measuring import Call, Contender
from tailkeep.losses import attach, read_stats


@dataclass(frozen=True)
class Scene:
    """A pretrained model in training mode, its optimiser and a batch (B, T) of tokens."""

    model: Any
    optimiser: torch.optim.Optimizer
    ids: Tensor

    def step(self, model: Any) -> None:
        """What is timed; `model` has the scene's parameters."""
        model(input_ids=self.ids, labels=self.ids).loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

    def notes(self, options: argparse.Namespace) -> Iterator[str]:
        """What the table's reader should know."""
        size = sum(parameter.numel() for parameter in self.model.parameters())
        head = self.model.get_output_embeddings().weight.numel()
        rows, block = self.ids.shape
        yield (
            f"{Path(options.model).name}: {size / 1e6:.0f} million parameters, {head / 1e6:.0f} of them in the output "
            f"layer, AdamW; {rows} blocks of {block} tokens of {Path(options.text).name}."
        )
        for threshold in options.thresholds:
            model = _attached(self, threshold, options.impl)
            with torch.no_grad():
                loss = float(model(input_ids=self.ids, labels=self.ids).loss)
            stats = read_stats(model)
            yield (
                f"threshold {threshold:g}: kept {stats['kept_fraction']:.4f}, loss {loss:.4f} nats/token, "
                f"plain {stats['cross_entropy']:.4f}"
            )


def prepare(options: argparse.Namespace, vocab: int) -> Scene:
    """The model of the folder, and as many blocks of its tokens as `--tokens` fills."""
    del vocab
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    # Enough characters for any tokenizer here.
    text = Path(options.text).read_text(encoding="utf-8")[: 12 * options.tokens]
    ids = tokenizer(text, return_tensors="pt", verbose=False).input_ids[0]
    block = min(options.block, options.tokens)
    rows = options.tokens // block
    if len(ids) < rows * block:
        raise SystemExit(
            f"{options.text} has {len(ids)} tokens, fewer than --tokens {options.tokens}. Pass more --text."
        )
    model = model.to(options.device).train()
    batch = ids[: rows * block].view(rows, block).to(options.device)
    return Scene(model, torch.optim.AdamW(model.parameters(), lr=0.0), batch)


def contenders(options: argparse.Namespace) -> Iterator[Contender]:
    """The loss that the model brings along, and ours."""
    yield Contender("the model's own loss", _model_loss, rival=True, exact=True)
    for threshold in options.thresholds:
        yield Contender(f"tailkeep attached, threshold {threshold:g}", _fused(threshold, options.impl), exact=True)


def _model_loss(scene: Scene) -> Call:
    return lambda: scene.step(scene.model)


def _attached(scene: Scene, threshold: float, impl: str) -> Any:
    parameters = {id(parameter): parameter for parameter in scene.model.parameters()}
    return attach(copy.deepcopy(scene.model, parameters), threshold=threshold, impl=impl)


def _fused(threshold: float, impl: str) -> Callable[[Scene], Call]:
    def prepared(scene: Scene) -> Call:
        model = _attached(scene, threshold, impl)
        return lambda: scene.step(model)

    return prepared
