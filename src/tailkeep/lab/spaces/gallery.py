"""Grey images as vectors, measured in the features of a classifier of real ones.

Rule: the classifier has seen real images only, and all arms and seeds of a run share it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tailkeep.lab.images.classifier import Classifier
from tailkeep.lab.images.measures import compared
from tailkeep.lab.images.pictures import Pictures
from tailkeep.lab.images.source import RealImages
from tailkeep.lab.protocols import Measurement
from tailkeep.metrics import manifold_coverage


@dataclass(frozen=True)
class Gallery:
    """Real images; the classifier is a function, since it is trained only when a first generation is measured."""

    images: RealImages
    classifier: Callable[[], Classifier]
    bounded: bool = True

    @property
    def real(self) -> Pictures:
        """The real training images."""
        return self.images.train

    @property
    def held_out(self) -> Pictures:
        """The images to measure by."""
        return self.images.held_out

    @property
    def dimension(self) -> int:
        """Pixels."""
        height, width = self.real.size
        return height * width

    @property
    def draws(self) -> int:
        """As many as are held out."""
        return len(self.held_out)

    def encode(self, data: Pictures) -> Tensor:
        """Black as -1, white as 1."""
        return torch.from_numpy(data.values).flatten(1).float() / 127.5 - 1

    def decode(self, numbers: Tensor) -> Pictures:
        """Rounded to 8 bits; what lies beyond black or white becomes that."""
        greys = ((numbers.cpu() + 1) * 127.5).round().clamp(0, 255)
        return Pictures(greys.byte().view(-1, *self.real.size).numpy())

    def measure(self, drawn: Pictures) -> Measurement:
        """Fréchet distance, precision, recall, coverage and classes."""
        classifier = self.classifier()
        features, real_features = classifier.features(drawn), classifier.features(self.held_out)
        coverage = manifold_coverage(real_features, features)
        return Measurement({**compared(features, real_features, self.images, classifier), "coverage": coverage})
