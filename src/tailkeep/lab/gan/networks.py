"""The two networks, and their losses example by example (Goodfellow et al. 2014, the generator's in its second form).

    discriminator   ln(1 + exp(-D(x))) on training examples, ln(1 + exp(D(G(z)))) on drawn ones
    generator       ln(1 + exp(-D(G(z))))

legend: n examples, d numbers each, l latent numbers
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


class Generator(nn.Module):
    """(n, l) noise -> (n, d) examples; `bounded` keeps their numbers in -1..1."""

    def __init__(self, dimension: int, *, latent: int, width: int, layers: int, bounded: bool) -> None:
        super().__init__()
        self.latent = latent
        self.network = _layers(latent, dimension, width=width, layers=layers)
        self.last = nn.Tanh() if bounded else nn.Identity()

    def forward(self, noise: Tensor) -> Tensor:
        """The examples that `noise` becomes."""
        examples: Tensor = self.last(self.network(noise))
        return examples


class Discriminator(nn.Module):
    """(n, d) examples -> (n,) logits of being a training example."""

    def __init__(self, dimension: int, *, width: int, layers: int) -> None:
        super().__init__()
        self.network = _layers(dimension, 1, width=width, layers=layers)

    def forward(self, examples: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.network(examples)
        return logits[:, 0]


def told(discriminator: Discriminator, examples: Tensor, *, drawn: bool) -> tuple[Tensor, Tensor]:
    """The discriminator's loss on each of `examples` (n, d), and its squared gradient there, both (n,).

    The gradient's weight is Mescheder et al.'s zero-centred penalty (2018, arXiv 1801.04406).
    """
    examples = examples.detach().requires_grad_()
    logits = discriminator(examples)
    (slope,) = torch.autograd.grad(logits.sum(), examples, create_graph=True)
    return softplus(logits if drawn else -logits), slope.square().sum(dim=1)


def fooled(discriminator: Discriminator, drawn: Tensor) -> Tensor:
    """The generator's loss on each of `drawn` (n, d); (n,)."""
    return softplus(-discriminator(drawn))


def _layers(first: int, last: int, *, width: int, layers: int) -> nn.Sequential:
    sizes = [first, *[width] * layers]
    hidden = (module for i, o in pairwise(sizes) for module in (nn.Linear(i, o), nn.LeakyReLU(0.2)))
    return nn.Sequential(*hidden, nn.Linear(width, last))
