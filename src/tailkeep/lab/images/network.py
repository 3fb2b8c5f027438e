"""The convolutional autoencoder of Shumailov et al.'s MNIST experiment, for images of any sides divisible by 4.

With 64 channels, 20 latent numbers and 28 x 28 pixels it has the published 647,081 parameters.

legend: n images, (height, width) pixels, l latent numbers
"""

import math

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Encoder to a normal distribution over l numbers, decoder to a logit for each pixel."""

    def __init__(self, size: tuple[int, int], *, channels: int, latent: int) -> None:
        super().__init__()
        height, width = size
        self.folded = (2 * channels, height // 4, width // 4)
        features = math.prod(self.folded)
        self.encoder = nn.Sequential(
            nn.Conv2d(1, channels, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 4, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(features, latent)
        self.log_variance = nn.Linear(features, latent)
        self.unfold = nn.Linear(latent, features)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, 1, 4, 2, 1),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, height, width) greys in 0..1 -> (n, l) means and (n, l) log-variances."""
        features = self.encoder(images[:, None])
        return self.mean(features), self.log_variance(features)

    def decode(self, codes: Tensor) -> Tensor:
        """(n, l) -> (n, height, width) logits of the greys."""
        logits: Tensor = self.decoder(self.unfold(codes).view(-1, *self.folded))
        return logits[:, 0]


def bound_parts(network: Autoencoder, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The two parts of the negative evidence bound in nats, with one draw of the code for each image.

    Args:
        network: the autoencoder.
        images: (n, height, width) greys x in 0..1, read as probabilities of white.
        generator: of the images' device; n * l normal numbers are drawn.

    Returns:
        (n, height * width) binary cross-entropy -x ln y - (1 - x) ln(1 - y) of each pixel, and (n,) the KL divergence
        of the code's distribution from the standard normal one.
    """
    mean, log_variance = network.encode(images)
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    logits = network.decode(mean + noise * (0.5 * log_variance).exp())
    pixels = nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
    divergence = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1)
    return pixels.flatten(1), divergence
