"""A loss of one's own: tokens that the model is sure of count by `weight`.

    loss: {name: "my_loss:soften", probability: 0.9, weight: 0.5}

The function gets the NLL of each token (nats) and returns the weight of its loss; both are (N,).
"""

import math

import torch
from torch import Tensor


def soften(nll: Tensor, probability: float = 0.9, weight: float = 0.5) -> Tensor:
    """`weight` where p > `probability`, 1 elsewhere."""
    return torch.where(nll < -math.log(probability), weight, 1.0)
