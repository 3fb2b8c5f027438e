"""What a generation of images has lost, by two yardsticks that all arms share: an encoder and a classifier.

Rule: both have seen real images only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.lab.images.classifier import Classifier
from tailkeep.lab.images.model import AutoencoderModel
from tailkeep.lab.images.source import RealImages
from tailkeep.lab.protocols import Measurement
from tailkeep.metrics import class_entropy, classes_alive, frechet_distance, precision_recall

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
