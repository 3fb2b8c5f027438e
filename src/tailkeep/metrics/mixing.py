"""How much weight real data deserve beside data that a model wrote."""

import math


def golden_weight(ratio: float) -> float:
    """(sqrt(k^2 + 4 k) - k) / 2 for k = n_real / n_written: .618 at 1, towards 1 for much real data.

    The weight of real data that is best for estimating a mean when generation follows generation (He, Xu and Cheng,
    arXiv 2502.18049).
    """
    # This form keeps its digits for large k.
    return 2 / (1 + math.sqrt(1 + 4 / ratio))
