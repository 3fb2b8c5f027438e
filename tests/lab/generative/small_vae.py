"""Autoencoders that take a moment: 8 x 8 images, two channels, a few steps."""

import numpy as np

from tailkeep.lab.generative.config import VAEArm
from tailkeep.lab.generative.images import Images
from tailkeep.lab.generative.vae import build_learner

SMALL = {
    "learner": "vae",
    "data": {"name": "digits", "held_out": 1700},
    "network": {"channels": 2, "latent": 3},
    "training": {"batch": 16, "epochs": 1},
    "evaluation": {"classifier_steps": 100},
}


def vae_config(**keys):
    return VAEArm(**{**SMALL, **keys})


def learner(**keys):
    return build_learner(vae_config(**keys), (8, 8), "cpu")


def bars(count, *, seed=0):
    """Images of one bright bar each, upright or lying, at random positions."""
    rng = np.random.default_rng(seed)
    values = np.zeros((count, 8, 8), dtype=np.uint8)
    for image, row, lying in zip(values, rng.integers(8, size=count), rng.integers(2, size=count), strict=True):
        (image if lying else image.T)[row] = 255
    return Images(values)
