"""A whole step of a real model on real text: forward, loss, backward, AdamW, beside the model's own loss.

All contenders step the same parameters, and the first one is the model untouched. The learning rate is 0, which costs
the same arithmetic and leaves the kept share as it was in every round.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from loss_cost.measuring import Call, Contender
from loss_cost.training_step import Step
from tailkeep.losses import read_stats


class Scene(Step):
    """The step of a pretrained model on real text."""

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
            model = self.attached(threshold, options.impl)
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
    yield Contender("the model's own loss", Step.own_loss, rival=True, exact=True)
    for threshold in options.thresholds:
        yield Contender(f"tailkeep attached, threshold {threshold:g}", _fused(threshold, options.impl), exact=True)


def _fused(threshold: float, impl: str) -> Callable[[Step], Call]:
    return lambda scene: scene.fused_loss(threshold, impl)
