"""The learner `vae`: the convolutional autoencoder of Shumailov et al.'s MNIST experiment (arXiv 2305.17493).

It is for images of any sides divisible by 4. With 64 channels, 20 latent numbers and 28 x 28 pixels it has the
published 647,081 parameters. Rule: truncation is decided without gradient, batch by batch.

legend: n images, (height, width) or p pixels, l latent numbers
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tailkeep.errors import TrainingError
from tailkeep.lab.device import resolve_device
from tailkeep.lab.generative.config import PixelTruncation, SampleTruncation, VAEArm, VAETruncation
from tailkeep.lab.generative.images import Images
from tailkeep.lab.generative.measures import class_tail, compare_features
from tailkeep.lab.generative.spaces import ImageSpace, build_image_space, compute_once
from tailkeep.lab.generative.training import (
    NetworkLearner,
    NetworkModel,
    check_finite,
    init_network,
    keep_mask,
    make_schedule,
    noise_chunks,
    to_grey_levels,
    truncated_count,
)
from tailkeep.lab.loop import phase_seed
from tailkeep.lab.protocols import Experiment, Measurement
from tailkeep.lab.toy_data import Floats
from tailkeep.losses import truncation_mask

_CHUNK = 500
_BOUND_SEED = 0


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


def bound_terms(network: Autoencoder, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The two terms of the negative evidence lower bound in nats, with one sampled code per image.

    Args:
        network: the autoencoder.
        images: (n, height, width) greys x in 0..1, read as probabilities of white.
        generator: of the images' device, for n * l normal numbers.

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


class TruncatedLoss(NamedTuple):
    """The sum of a batch's loss after truncation, in nats, and the mask of what it keeps."""

    total: Tensor
    mask: Tensor
    """(n, p) of pixels or (n,) of images, boolean."""


def truncated_loss(
    pixels: Tensor, divergence: Tensor, truncate: VAETruncation | None, generator: torch.Generator
) -> TruncatedLoss:
    """The loss of a batch: the negative evidence lower bound, without what `truncate` leaves out.

    Args:
        pixels: (n, p) negative log-likelihood of each pixel, in nats.
        divergence: (n,) KL divergence of each image's code, which truncation of pixels does not touch.
        truncate: what to leave out; None leaves out nothing.
        generator: of the tensors' device; only controls use it.
    """
    if isinstance(truncate, PixelTruncation):
        mask = _shuffle_control(truncation_mask(pixels, threshold=truncate.threshold), truncate, generator)
        return TruncatedLoss((pixels * mask).sum() + divergence.sum(), mask)
    losses = pixels.sum(dim=1) + divergence
    if isinstance(truncate, SampleTruncation):
        mask = keep_mask(losses, truncate.model_copy(update={"control": None}), generator)
        mask = _shuffle_control(mask, truncate, generator)
        return TruncatedLoss((losses * mask).sum(), mask)
    return TruncatedLoss(pixels.sum() + divergence.sum(), torch.ones_like(losses, dtype=torch.bool))


def _shuffle_control(mask: Tensor, truncate: VAETruncation, generator: torch.Generator) -> Tensor:
    """A control keeps as many, at random positions."""
    if truncate.control is None:
        return mask
    order = torch.randperm(mask.numel(), generator=generator, device=mask.device)
    return mask.flatten()[order].view_as(mask)


def init_autoencoder(config: VAEArm, size: tuple[int, int], *, seed: int, device: str) -> Autoencoder:
    """An autoencoder of fresh weights."""
    return init_network(lambda: Autoencoder(size, **config.network.model_dump()), seed=seed, device=device)


def train(config: VAEArm, data: Images, *, device: str, budget: int, seed: int) -> tuple[Autoencoder, dict[str, float]]:
    """A new autoencoder of `data`, and facts about its training.

    Raises:
        ConfigError: truncation leaves out no image of a batch, or all.
        TrainingError: the loss is not finite, or truncation kept no pixel at all.
    """
    training, truncate = config.training, config.truncate
    network = init_autoencoder(config, data.size, seed=seed, device=device)
    rng = torch.Generator(device).manual_seed(seed)
    adam = torch.optim.Adam(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = make_schedule(training, len(data), budget=budget)
    bound, kept_count, count = torch.zeros((), device=device), torch.zeros((), device=device), 0
    for batch in schedule.batches(torch.from_numpy(data.values).to(device), seed=seed):
        pixels, divergence = bound_terms(network, to_grey_levels(batch), rng)
        loss = truncated_loss(pixels, divergence, truncate, rng)
        adam.zero_grad()
        loss.total.backward()
        adam.step()
        bound += (pixels.detach().sum() + divergence.detach().sum()) / (schedule.steps * schedule.batch)
        kept_count += loss.mask.sum()
        count += loss.mask.numel()
    check_finite(float(bound), training.learning_rate)
    if kept_count == 0 and isinstance(truncate, PixelTruncation):
        raise TrainingError(
            f"truncate.threshold {truncate.threshold} left out every pixel of the whole training. Use a higher one."
        )
    return network, {**schedule.facts, "train_bound": float(bound), "kept_fraction": float(kept_count) / count}


@dataclass(frozen=True)
class AutoencoderModel(NetworkModel):
    """A trained autoencoder. A sample is the decoder's output itself, each pixel's probability of white."""

    network: Autoencoder

    @torch.no_grad()
    def sample(self, n: int, *, seed: int) -> Images:
        """`n` images decoded from codes of the standard normal distribution."""
        latent = self.network.mean.out_features
        return self._decode(noise_chunks(n, latent, seed=seed, device=self.device, rows=_CHUNK))

    @torch.no_grad()
    def regenerate(self, data: Images, *, seed: int) -> Images:
        """`data` encoded image by image, with one sampled code each, and decoded."""
        encoded = [self.network.encode(chunk) for chunk in self._chunks(data)]
        mean, log_variance = (torch.cat(parts).cpu() for parts in zip(*encoded, strict=True))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
        codes = mean + noise * (0.5 * log_variance).exp()
        return self._decode(chunk.to(self.device) for chunk in codes.split(_CHUNK))

    @torch.no_grad()
    def codes(self, data: Images) -> Floats:
        """(n, l): the mean of each image's code."""
        means = [self.network.encode(chunk)[0].cpu() for chunk in self._chunks(data)]
        return torch.cat(means).double().numpy()

    @torch.no_grad()
    def bound(self, data: Images, *, seed: int) -> float:
        """The negative evidence lower bound in nats per image, mean over `data` with one sampled code each."""
        generator = torch.Generator(self.device).manual_seed(seed)
        total = 0.0
        for chunk in self._chunks(data):
            pixels, divergence = bound_terms(self.network, chunk, generator)
            total += float(pixels.double().sum() + divergence.double().sum())
        return total / len(data)

    def _chunks(self, data: Images) -> Iterator[Tensor]:
        for chunk in torch.from_numpy(data.values).split(_CHUNK):
            yield to_grey_levels(chunk.to(self.device))

    def _decode(self, codes: Iterable[Tensor]) -> Images:
        greys = [self.network.decode(chunk).sigmoid().cpu() for chunk in codes]
        return Images((255 * torch.cat(greys)).round().byte().numpy())


@dataclass(frozen=True)
class ImageMeasure:
    """Compares as many generated images as are held out with the held-out ones.

    The encoder of real images and the classifier are functions: they are trained at the first measurement.
    """

    space: ImageSpace
    encoder: Callable[[], AutoencoderModel]

    def __call__(self, model: AutoencoderModel, samples: Mapping[str, Any]) -> Measurement:
        """Measure `model` and its samples through the common view."""
        images, held_out, classifier = samples["common"], self.space.held_out, self.space.classifier()
        codes, real_codes = self.encoder().codes(images), self.encoder().codes(held_out)
        features, real_features = classifier.features(images), classifier.features(held_out)
        metrics = {
            "latent_std": float(codes.std()),
            "latent_mean": float(codes.mean()),
            "latent_std_real": float(real_codes.std()),
            **compare_features(features, real_features, self.space.images, classifier),
            "held_out_bound": model.bound(held_out, seed=_BOUND_SEED),
        }
        return Measurement(metrics, {"tail": class_tail(features, self.space.images, classifier)})


def build_learner(config: VAEArm, size: tuple[int, int], device: str) -> NetworkLearner:
    """Trains an autoencoder of images of (height, width) `size` from scratch in every generation."""
    return NetworkLearner(
        new=lambda seed: init_autoencoder(config, size, seed=seed, device=device),
        train=lambda data, **seeds: train(config, data, device=device, **seeds),
        wrap=AutoencoderModel,
    )


def build(config: VAEArm, *, seed: int, device: str, shared: MutableMapping[str, Any]) -> Experiment:
    """The recursion of autoencoders that `config` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: images that are not readable or not usable.
        ConfigError: a GPU that is not there, or a truncation that leaves out nothing of a batch, or all.
    """
    device = resolve_device(device)
    space = build_image_space(config, device=device, shared=shared)
    if isinstance(config.truncate, SampleTruncation):
        truncated_count(config.truncate, min(config.training.batch, len(space.real)))
    baseline = config.model_copy(update={"truncate": None})
    key = f"encoder {baseline.model_dump_json(include={'data', 'network', 'training'})} {seed}"

    def encoder() -> AutoencoderModel:
        # The seed of generation 0, so that the encoder is the very model of a baseline arm there.
        first = phase_seed(seed, 0, "train")
        return AutoencoderModel(*train(baseline, space.real, device=device, budget=len(space.real), seed=first))

    return Experiment(
        name="vae",
        real=space.real,
        learner=build_learner(config, space.real.size, device),
        views={"common": lambda model, seed: model.sample(space.num_samples, seed=seed)},
        measure=ImageMeasure(space, lambda: compute_once(shared, key, encoder)),
    )
