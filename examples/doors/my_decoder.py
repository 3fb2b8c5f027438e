"""A decoder of one's own: tokens that occur among the last `window` ones lose `penalty` nats.

    generation: {decoder: {name: "my_decoder:avoid_repeats", penalty: 2.0, window: 8}}

The function gets the next token's logits (batch, vocabulary) and the ids before it (batch, length); a token is sampled
from the softmax of what it returns.
"""

from torch import Tensor


def avoid_repeats(logits: Tensor, ids: Tensor, penalty: float = 1.0, window: int = 16) -> Tensor:
    recent = ids[:, -window:]
    return logits.scatter(1, recent, logits.gather(1, recent) - penalty)
