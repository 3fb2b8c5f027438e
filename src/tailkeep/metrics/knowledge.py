"""Knowledge retention: does a model find a true sentence likelier than its false twin? (ForTIFAI, arXiv 2509.08972)

Rule: both sentences are judged over the same number of tokens, or the longer one would pay for its length.
"""

import numpy as np
from numpy.typing import ArrayLike


def kr_margin(true_log_probs: ArrayLike, false_log_probs: ArrayLike) -> float:
    """How much likelier, in nats per token, a model finds the true sentence of one question than the false one.

    The arguments are the log-probabilities of the sentences' tokens given the context, (t,) and (f,). Each is
    averaged over its first min(t, f) tokens, as in the published test: the longer sentence is cut to the shorter.
    A positive margin is a right answer.

    Raises:
        ValueError: a sentence has no tokens.
    """
    true = np.asarray(true_log_probs, dtype=np.float64).ravel()
    false = np.asarray(false_log_probs, dtype=np.float64).ravel()
    common = min(true.size, false.size)
    if common == 0:
        raise ValueError(f"sentences of {true.size} and {false.size} tokens. Give at least one token each.")
    # Plain floats: two impossible sentences give -inf - -inf = NaN, which `kr_accuracy` passes on.
    return float(true[:common].mean()) - float(false[:common].mean())


def kr_accuracy(margins: ArrayLike) -> float:
    """The share of questions (n,) answered rightly, those with a positive margin; a margin of 0 counts half.

    0.5 is chance. A NaN margin makes it NaN, and so does an empty set of questions.
    """
    values = np.asarray(margins, dtype=np.float64).ravel()
    if values.size == 0 or np.isnan(values).any():
        return float("nan")
    return float(np.mean((np.sign(values) + 1) / 2))
