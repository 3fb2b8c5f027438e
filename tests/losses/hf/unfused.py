"""The oracle: truncated cross-entropy on the logits of an untouched copy, differentiated by autograd."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailkeep.losses.hf.attach import attach
from tailkeep.losses.truncation import truncated_cross_entropy
from tests.losses.hf.families import VOCABULARY, tiny


@dataclass(frozen=True)
class Trained:
    """A loss and the gradient of every parameter that has one."""

    loss: Tensor
    gradients: dict[str, Tensor]


def batch(*, rows: int = 3, length: int = 16, seed: int = 1) -> dict[str, Tensor]:
    """Tokens that are not special, with some labels that do not count."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, VOCABULARY, (rows, length), generator=generator)
    labels = tokens.clone()
    labels[:, :3] = -100
    labels[0, 9] = -100
    return {"input_ids": tokens, "labels": labels}


def halving_threshold(model: nn.Module, inputs: dict[str, Tensor]) -> float:
    """A threshold between the two middle probabilities of the targets."""
    with torch.no_grad():
        logits = model(input_ids=inputs["input_ids"]).logits[:, :-1].double()
    targets = inputs["labels"][:, 1:]
    nll = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")[targets != -100]
    middle = torch.exp(-nll.sort().values[len(nll) // 2 - 1 : len(nll) // 2 + 1])
    return float(middle.mean())


def unfused(model: Any, inputs: dict[str, Tensor], *, threshold: float, num_items: int | None = None) -> Trained:
    """The loss and gradients of a copy of `model` that has nothing attached."""
    model = copy.deepcopy(model)
    output = model(input_ids=inputs["input_ids"])
    loss = truncated_cross_entropy(
        output.logits[:, :-1], inputs["labels"][:, 1:], threshold=threshold, num_items=num_items
    )
    if output.get("aux_loss") is not None:
        loss = loss + model.config.router_aux_loss_coef * output.aux_loss
    loss.backward()
    return Trained(loss.detach(), gradients(model))


def fused(model: nn.Module, inputs: dict[str, Tensor], **kwargs: Any) -> Trained:
    """The loss and gradients of an attached model, which it is left without."""
    model.zero_grad()
    loss = model(**inputs, **kwargs).loss
    loss.backward()
    trained = Trained(loss.detach(), gradients(model))
    model.zero_grad()
    return trained


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the gradients, by the names that PEFT and DDP leave alone."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def worst(trained: Trained, expected: Trained) -> float:
    """The largest difference of a gradient's entry, relative to the largest entry of any gradient."""
    assert trained.gradients.keys() == expected.gradients.keys()
    scale = max(float(gradient.abs().max()) for gradient in expected.gradients.values())
    difference = max(
        float((gradient - expected.gradients[name]).abs().max()) for name, gradient in trained.gradients.items()
    )
    return difference / scale


def same(trained: Trained, expected: Trained) -> None:
    """Assert equality up to float32's rounding."""
    torch.testing.assert_close(trained.loss, expected.loss, rtol=1e-6, atol=1e-7)
    assert worst(trained, expected) < 5e-6


def attached_llama(**settings: Any) -> tuple[Any, dict[str, Tensor], float, Trained]:
    """An attached model, a batch, the threshold that halves it, and what must come out."""
    model, inputs = tiny("llama", **settings), batch()
    threshold = halving_threshold(model, inputs)
    expected = unfused(model, inputs, threshold=threshold)
    return attach(model, threshold=threshold), inputs, threshold, expected
