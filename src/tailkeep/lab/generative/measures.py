"""What a generation of images has lost, by two yardsticks that all arms share: an encoder and a classifier.

Rule: both have seen real images only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailkeep.lab.generative.images import Pictures, RealImages
from tailkeep.lab.generative.vae import AutoencoderModel, as_greys, batches
from tailkeep.lab.protocols import Measurement
from tailkeep.metrics import class_entropy, classes_alive, frechet_distance, precision_recall

# The yardstick of generated images: a small convolutional classifier trained on the real ones.
#
# Rule: it sees real images only and has a seed of its own, so all arms and seeds of a run are measured by the same one.


FEATURES = 64
_BATCH, _SEED, _AT_ONCE = 64, 0, 500


@dataclass(frozen=True)
class Classifier:
    """Two convolutions and a hidden layer, whose outputs are the features."""

    body: nn.Module
    head: nn.Module

    @torch.no_grad()
    def features(self, data: Pictures) -> NDArray[np.float64]:
        """(n, 64) of the hidden layer, after its ReLU."""
        device = next(self.head.parameters()).device
        parts = torch.from_numpy(data.values).split(_AT_ONCE)
        found = [self.body(as_greys(part.to(device))[:, None]).cpu() for part in parts]
        return torch.cat(found).double().numpy()

    @torch.no_grad()
    def classes(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """(n,) the likeliest class of each row of (n, 64) features."""
        device = next(self.head.parameters()).device
        logits = self.head(torch.from_numpy(features).float().to(device))
        return np.asarray(logits.argmax(dim=1).cpu().numpy(), dtype=np.int64)


def train_classifier(real: RealImages, *, steps: int, device: str) -> Classifier:
    """A classifier of the real training images: `steps` of Adam at 1e-3 with batches of 64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        classifier = _new(real.train.size, real.classes)
    network = nn.Sequential(classifier.body, classifier.head).to(device)
    values, labels = (torch.from_numpy(array).to(device) for array in (real.train.values, real.labels))
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    for indices in batches(len(real.train), size=min(_BATCH, len(real.train)), steps=steps, seed=_SEED):
        chosen = torch.from_numpy(indices).to(device)
        logits = network(as_greys(values[chosen])[:, None])
        adam.zero_grad()
        nn.functional.cross_entropy(logits, labels[chosen].long()).backward()
        adam.step()
    return classifier


def _new(size: tuple[int, int], classes: int) -> Classifier:
    height, width = size
    body = nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), FEATURES),
        nn.ReLU(),
    )
    return Classifier(body, nn.Linear(FEATURES, classes))


_NEIGHBOURS = 3
_BOUND_SEED = 0


@dataclass(frozen=True)
class ImageMeasure:
    """Compares as many drawn images as are held out with the held-out ones.

    The yardsticks are functions, since both are trained only when a first generation is measured.
    """

    real: RealImages
    encoder: Callable[[], AutoencoderModel]
    classifier: Callable[[], Classifier]

    def __call__(self, model: AutoencoderModel, samples: Mapping[str, Any]) -> Measurement:
        """Measure `model` and its samples through the common view."""
        drawn, held_out = samples["common"], self.real.held_out
        codes, real_codes = self.encoder().codes(drawn), self.encoder().codes(held_out)
        classifier = self.classifier()
        features, real_features = classifier.features(drawn), classifier.features(held_out)
        metrics = {
            "latent_std": float(codes.std()),
            "latent_mean": float(codes.mean()),
            "latent_std_real": float(real_codes.std()),
            **compared(features, real_features, self.real, classifier),
            "held_out_bound": model.bound(held_out, seed=_BOUND_SEED),
        }
        return Measurement(metrics)


def compared(
    features: NDArray[np.float64], real_features: NDArray[np.float64], real: RealImages, classifier: Classifier
) -> Mapping[str, float]:
    """What drawn and held-out images have in common in the classifier's features, (n, d) and (m, d)."""
    counts = np.bincount(classifier.classes(features), minlength=real.classes)
    correct = classifier.classes(real_features) == real.held_out_labels
    precision, recall = precision_recall(real_features, features, neighbours=_NEIGHBOURS)
    return {
        "frechet": frechet_distance(features, real_features),
        "precision": precision,
        "recall": recall,
        "class_entropy": class_entropy(counts),
        "classes_alive": float(classes_alive(counts, share=0.01)),
        "classes_total": float(real.classes),
        "classifier_accuracy": float(correct.mean()),
    }
