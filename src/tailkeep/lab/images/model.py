"""An autoencoder of one generation: how it draws images, rewrites them, and is kept on disk."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from tailkeep.lab.images.network import Autoencoder, bound_parts
from tailkeep.lab.images.pictures import Pictures
from tailkeep.lab.images.training import as_greys

_AT_ONCE = 500


@dataclass(frozen=True)
class AutoencoderModel:
    """A trained network. A drawn image is the decoder's output itself, each pixel's probability of white."""

    network: Autoencoder
    facts: Mapping[str, float] = field(default_factory=dict)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int) -> Pictures:
        """`n` images decoded from codes of the standard normal distribution."""
        # Drawn on the CPU, so that every device decodes the same codes.
        codes = torch.randn(n, self.network.mean.out_features, generator=torch.Generator().manual_seed(seed))
        return self._decoded(codes)

    @torch.no_grad()
    def regenerate(self, data: Pictures, *, seed: int) -> Pictures:
        """`data` image by image encoded, a code drawn for each, and decoded."""
        encoded = [self.network.encode(part) for part in self._parts(data)]
        mean, log_variance = (torch.cat(some).cpu() for some in zip(*encoded, strict=True))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
        return self._decoded(mean + noise * (0.5 * log_variance).exp())

    @torch.no_grad()
    def codes(self, data: Pictures) -> NDArray[np.float64]:
        """(n, l): the mean of each image's code."""
        means = [self.network.encode(part)[0].cpu() for part in self._parts(data)]
        return torch.cat(means).double().numpy()

    @torch.no_grad()
    def bound(self, data: Pictures, *, seed: int) -> float:
        """The negative evidence bound in nats per image, mean over `data` with one draw each."""
        generator = torch.Generator(self._device).manual_seed(seed)
        total = 0.0
        for part in self._parts(data):
            pixels, divergence = bound_parts(self.network, part, generator)
            total += float(pixels.double().sum() + divergence.double().sum())
        return total / len(data)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, with the facts in its header."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"facts": json.dumps(dict(self.facts))})

    @property
    def _device(self) -> torch.device:
        return self.network.mean.weight.device

    def _parts(self, data: Pictures) -> Iterator[Tensor]:
        for part in torch.from_numpy(data.values).split(_AT_ONCE):
            yield as_greys(part.to(self._device))

    def _decoded(self, codes: Tensor) -> Pictures:
        greys = [self.network.decode(part.to(self._device)).sigmoid().cpu() for part in codes.split(_AT_ONCE)]
        return Pictures((255 * torch.cat(greys)).round().byte().numpy())
