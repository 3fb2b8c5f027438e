"""Proof at attach that the fused loss is the model's own: on a tiny batch, value and gradient at the hidden states.

Rule: the reference is the model's own forward. The fused cross-entropy must equal the model's own loss, which also
checks the shift of the labels and auxiliary losses. In float32 the attached loss must equal that of the logits.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tailkeep.errors import ConfigError
from tailkeep.losses.cross_entropy import weighted_cross_entropy
from tailkeep.losses.hf.logit_transform import UNFUSED, tiny_batch, undisturbed, without_cache
from tailkeep.losses.hf.output_layer import linear_in
from tailkeep.losses.hf.patching import training_forward, with_auxiliary
from tailkeep.losses.terms import NLL_ALONE, LossTerms
from tailkeep.losses.weighting import CROSS_ENTROPY, Weighting

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}
_HALF_TOLERANCE = 5e-2


def check_exact(
    model: nn.Module, head: nn.Module, forward: Callable[..., Any], weighting: Weighting, terms: LossTerms
) -> None:
    """Compare `training_forward` on an attached model with the unfused losses; nothing of the model is changed.

    Args:
        model: the attached model.
        head: its output layer.
        forward: the forward of the model's own class.
        weighting, terms: the loss; `observe` is not called.

    Raises:
        ConfigError: the two differ.
    """
    tokens = tiny_batch(model, head)
    labels = tokens.clone()
    labels[:, :2] = -100
    inputs = {"input_ids": tokens, **without_cache(forward)}
    weighting = replace(weighting, observe=None)
    tolerance = _TOLERANCE.get(linear_in(head).weight.dtype, _HALF_TOLERANCE)

    def fused(loss: Weighting, terms: LossTerms) -> Tensor:
        output, _ = training_forward(model, forward, {**inputs, "labels": labels}, loss, terms)
        value: Tensor = output.loss
        return value

    def model_loss() -> Tensor:
        value: Tensor = forward(model, **inputs, labels=labels, return_dict=True).loss
        return value

    def unfused() -> Tensor:
        output = forward(model, **inputs, return_dict=True)
        options = terms.to(output.logits.device).options()
        loss = weighted_cross_entropy(output.logits[:, :-1], labels[:, 1:], weighting, **options)
        return with_auxiliary(model, output, loss)

    with undisturbed(model), _frozen(head), _restored_state(weighting), torch.enable_grad():
        pairs = [("its own cross-entropy", model_loss, CROSS_ENTROPY, NLL_ALONE)]
        # One that draws random numbers has nothing to be compared with, and half-precision caps and factors may round a
        # token across a threshold.
        if tolerance < _HALF_TOLERANCE and not _draws(weighting, tokens.device):
            pairs.append((f"{weighting.name} on its logits", unfused, weighting, terms))
        for name, reference, loss, loss_terms in pairs:
            _compare(
                type(model).__name__,
                name,
                _traced(head, reference),
                _traced(head, partial(fused, loss, loss_terms)),
                tolerance,
            )


@contextlib.contextmanager
def _frozen(head: nn.Module) -> Iterator[None]:
    """No gradients of the output layer within, which for a large vocabulary are gigabytes."""
    flags = [(parameter, parameter.requires_grad) for parameter in head.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextlib.contextmanager
def _restored_state(weighting: Weighting) -> Iterator[None]:
    """Restore the weighting's state at the end."""
    state = weighting.state_dict()
    try:
        yield
    finally:
        weighting.load_state_dict(state)


def _draws(weighting: Weighting, device: torch.device) -> bool:
    nll = torch.linspace(0.01, 10, 64, device=device)
    entropy = None if weighting.entropy is None else nll / 2
    return not torch.equal(weighting.factors(nll, entropy), weighting.factors(nll, entropy))


def _traced(head: nn.Module, compute: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """A loss and its gradient at the output layer's input."""
    leaves: list[Tensor] = []

    def detach_input(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        leaves.append(args[0].detach().requires_grad_())
        return (leaves[-1], *args[1:])

    handle = head.register_forward_pre_hook(detach_input)
    try:
        loss = compute()
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(loss, leaves)
    return loss.detach(), gradient


def _compare(
    model: str, name: str, references: tuple[Tensor, Tensor], results: tuple[Tensor, Tensor], tolerance: float
) -> None:
    for what, expected, result in zip(("value", "gradient"), references, results, strict=True):
        error = (result.double() - expected.double()).norm()
        # Weightings may leave nothing of a tiny batch: then there must be nothing here too.
        if not bool(error <= tolerance * expected.double().norm() + 1e-8):
            raise ConfigError(
                f"the {what} of the fused loss on {model} differs from {name} by {float(error):.3g} "
                f"(its norm is {float(expected.double().norm()):.3g}). {UNFUSED}"
            )
