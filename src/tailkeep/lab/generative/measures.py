"""Measures of generated images against held-out ones, in the features of a small convolutional classifier.

Rule: the classifier sees real images only and has a seed of its own, so all arms and seeds of a run share it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailkeep.lab.generative.images import Images, RealImages
from tailkeep.lab.generative.training import batch_indices, init_network, to_grey_levels
from tailkeep.metrics import class_entropy, classes_alive, frechet_distance, precision_recall

_FEATURES, _BATCH, _SEED, _CHUNK = 64, 64, 0, 500
_ALIVE_SHARE = 0.01


@dataclass(frozen=True)
class Classifier:
    """Two convolutions and a hidden layer, whose outputs are the features; a linear `head` of classes."""

    body: nn.Module
    head: nn.Module

    @torch.no_grad()
    def features(self, data: Images) -> NDArray[np.float64]:
        """(n, 64) of the hidden layer, after its ReLU."""
        device = next(self.head.parameters()).device
        chunks = torch.from_numpy(data.values).split(_CHUNK)
        features = [self.body(to_grey_levels(chunk.to(device))[:, None]).cpu() for chunk in chunks]
        return torch.cat(features).double().numpy()

    @torch.no_grad()
    def classes(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """(n,) the most likely class of each row of (n, 64) features."""
        device = next(self.head.parameters()).device
        logits = self.head(torch.from_numpy(features).float().to(device))
        return np.asarray(logits.argmax(dim=1).cpu().numpy(), dtype=np.int64)


def train_classifier(real: RealImages, *, steps: int, device: str) -> Classifier:
    """A classifier of the real training images: `steps` of Adam at 1e-3 with batches of 64."""
    network = init_network(lambda: _new_network(real.train.size, real.classes), seed=_SEED, device=device)
    values, labels = (torch.from_numpy(array).to(device) for array in (real.train.values, real.labels))
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    batch = min(_BATCH, len(real.train))
    for indices in batch_indices(len(real.train), batch=batch, steps=steps, seed=_SEED):
        rows = torch.from_numpy(indices).to(device)
        logits = network(to_grey_levels(values[rows])[:, None])
        adam.zero_grad()
        nn.functional.cross_entropy(logits, labels[rows].long()).backward()
        adam.step()
    return Classifier(*network)


def _new_network(size: tuple[int, int], classes: int) -> nn.Sequential:
    height, width = size
    body = nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), _FEATURES),
        nn.ReLU(),
    )
    return nn.Sequential(body, nn.Linear(_FEATURES, classes))


def compare_features(
    features: NDArray[np.float64], real_features: NDArray[np.float64], real: RealImages, classifier: Classifier
) -> Mapping[str, float]:
    """Measures of generated images, by their features (n, d) and those of the held-out images (m, d)."""
    counts = np.bincount(classifier.classes(features), minlength=real.classes)
    correct = classifier.classes(real_features) == real.held_out_labels
    precision, recall = precision_recall(real_features, features)
    return {
        "frechet": frechet_distance(features, real_features),
        "precision": precision,
        "recall": recall,
        "class_entropy": class_entropy(counts),
        "classes_alive": float(classes_alive(counts, share=_ALIVE_SHARE)),
        "classes_total": float(real.classes),
        "classifier_accuracy": float(correct.mean()),
    }


def class_tail(features: NDArray[np.float64], real: RealImages, classifier: Classifier) -> dict[str, Any]:
    """How many generated images, by their features (n, d), show each class, the most frequent real class first.

    Beside them stand the held-out images of each class, and the images from which on a class is alive.
    """
    counts = np.bincount(classifier.classes(features), minlength=real.classes)
    in_real = np.bincount(real.held_out_labels, minlength=real.classes)
    order = np.argsort(-in_real, kind="stable")
    return {
        "kind": "classes",
        "names": [str(label) for label in order],
        "real": in_real[order].tolist(),
        "counts": counts[order].tolist(),
        "least": [int(_ALIVE_SHARE * len(features)) + 1] * real.classes,
    }
