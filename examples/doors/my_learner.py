"""A learner of one's own: a scale is fitted to numbers, and the next generation fits what it draws.

    learner: "my_learner:scales"
    options: {size: 50}

`tailkeep.lab.protocols` lists what data, learner and model need. This one is a learner, and its `fit` gives a model.
"""

import numpy as np

from tailkeep.lab import Experiment
from tailkeep.lab.toy_data import ArrayData


class Scale:
    def __init__(self, value=1.0):
        self.value, self.facts = value, {}

    def fit(self, data, *, seed, budget, previous=None):
        return Scale(data.values.std())

    def sample(self, n, *, seed):
        return ArrayData(np.random.default_rng(seed).normal(0, self.value, n))

    def save(self, folder):
        (folder / "scale.txt").write_text(str(self.value))

    def load(self, folder):
        return Scale(float((folder / "scale.txt").read_text()))


def scales(size: int = 100, *, seed):
    views = {"common": lambda model, seed: model.sample(size, seed=seed)}
    real = Scale().sample(size, seed=seed)
    return Experiment("scales", real, Scale(), views, lambda model, samples: {"scale": model.value})
