"""Loss and gradients of hidden states and output layer alone: the rivals, and truncation at several kept shares.

With the kept share k, the fused loss computes 2 + 4k of cross-entropy's 6 parts: logits for every token, the products
of the backward pass for kept ones. Per-token NLL times a mask computes the logits of kept tokens twice: 2 + 6k.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from loss_cost.inputs import Inputs, Loss, sampled, threshold_keeping, true_gradients
from loss_cost.measuring import Call, Contender
from loss_cost.rivals import RIVALS, torch_linear
from tailkeep.losses import explain_engine, linear_token_nll, linear_truncated_cross_entropy, truncation_mask

_TORCH_NLL = torch_linear(chunked=True, rows=256, reduction="none")


@dataclass(frozen=True)
class Scene:
    """Inputs of one vocabulary size, and their true gradients once somebody asks."""

    inputs: Inputs

    @cached_property
    def truth(self) -> tuple[Tensor, Tensor]:
        """See `true_gradients`."""
        return true_gradients(self.inputs)

    def notes(self, options: argparse.Namespace) -> Iterator[str]:
        """What the table's reader should know."""
        inputs = self.inputs
        gradients = (inputs.hidden.numel() + inputs.weight.numel()) * inputs.weight.element_size()
        yield f"The gradients themselves, {gradients / 2**20:.0f} MiB, are in every peak."
        engine = explain_engine(inputs.hidden) if options.impl == "auto" else options.impl
        yield f"tailkeep's engine: {engine}"
        for share in options.kept_fractions:
            threshold = threshold_keeping(share, inputs.nll)
            with torch.no_grad():
                arguments = inputs.hidden, inputs.weight, inputs.targets
                _, stats = linear_truncated_cross_entropy(
                    *arguments, threshold=threshold, return_stats=True, impl=options.impl
                )
            yield f"k={share:g}: threshold {threshold:.3g}, kept {float(stats.kept_fraction):.4f}"


def prepare(options: argparse.Namespace, vocab: int) -> Scene:
    """The tensors that all contenders share."""
    dtype = getattr(torch, options.dtype)
    return Scene(sampled(tokens=options.tokens, width=options.width, vocab=vocab, dtype=dtype, device=options.device))


def contenders(options: argparse.Namespace) -> Iterator[Contender]:
    """Rivals first."""
    for rival in RIVALS:
        if options.device in rival.devices:
            build = _always(rival.build)
            yield Contender(
                rival.name, _call(build), rival=True, exact=rival.exact, check=rival.build, error=_error(build)
            )
    # It computes the gradient of every token, so one share stands for all. No base of ratios: it is not cross-entropy.
    share = min(options.kept_fractions)
    masked = _call(_masked(share, lambda *tensors: _TORCH_NLL()(*tensors)))
    yield Contender(f"torch NLL and mask, k={share:g}", masked, rival=True, exact=False, check=_TORCH_NLL)
    token_nll = partial(linear_token_nll, impl=options.impl)
    for name, ideal, loss_at in (
        ("fused", 4, partial(_fused, impl=options.impl)),
        ("NLL and mask", 6, partial(_masked, token_nll=token_nll)),
    ):
        for share in options.kept_fractions:
            build = loss_at(share)
            yield Contender(
                f"tailkeep {name}, k={share:g}",
                _call(build),
                exact=True,
                ideal=(2 + ideal * share) / 6,
                error=_error(build) if share == 1 else None,
            )


def _fused(share: float, impl: str) -> Callable[[Inputs], Loss]:
    def build(inputs: Inputs) -> Loss:
        threshold = threshold_keeping(share, inputs.nll)
        return lambda hidden, weight, targets: linear_truncated_cross_entropy(
            hidden, weight, targets, threshold=threshold, impl=impl
        )

    return build


def _masked(share: float, token_nll: Callable[..., Tensor]) -> Callable[[Inputs], Loss]:
    def build(inputs: Inputs) -> Loss:
        threshold = threshold_keeping(share, inputs.nll)

        def loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
            nll = token_nll(hidden, weight, targets)
            return (nll * truncation_mask(nll, threshold=threshold)).mean()

        return loss

    return build


def _always(build: Callable[[], Loss]) -> Callable[[Inputs], Loss]:
    return lambda inputs: build()


def _call(build: Callable[[Inputs], Loss]) -> Callable[[Scene], Call]:
    def prepared(scene: Scene) -> Call:
        loss = build(scene.inputs)
        return lambda: scene.inputs.forward_backward(loss)

    return prepared


def _error(build: Callable[[Inputs], Loss]) -> Callable[[Scene], float]:
    return lambda scene: scene.inputs.gradient_error(build(scene.inputs), scene.truth)
