"""Which tokens a rule edits, from their log-probabilities given the original prefix; and uniform numbers of positions.

Rules: each token is decided by itself, in log space and in float32; a token without a score is never edited. A uniform
number is a function of (seed, document, stream, position) alone; another length or another worker cannot change it, and
neither can another release of numpy, which promises the raw output of its bit generators.
"""

import hashlib
import json
import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tailkeep.rules.config import Band, Low, Random, Rule, ToEdit

Actions = NDArray[np.int8]


class Action(IntEnum):
    """What happens to a token."""

    KEEP = 0
    RESAMPLE = 1
    DELETE = 2


def apply_rule(log_probs: NDArray[np.float32], rule: Rule, *, uniforms: NDArray[np.float64] | None = None) -> Actions:
    """What `rule` does to each of N tokens, of one document or of several.

    Args:
        log_probs: (N,) ln p of each token given the original tokens before it; NaN where there is no score, as for
            the first token of a document.
        uniforms: (N,) in [0, 1); only `Random` reads them.

    Returns:
        (N,) values of `Action`. A resampled token may stay the same, see `sample_tokens`.

    Source: arXiv 2412.14689, equation 1: x stays if P(x | prefix) < p, and is sampled from the prior otherwise.
    """
    values = np.asarray(log_probs, np.float32)
    actions = np.full(values.shape, Action.KEEP, np.int8)
    match rule:
        case ToEdit():
            actions[values >= _log(rule.threshold)] = Action.RESAMPLE
            if rule.delete_below is not None:
                actions[values < _log(rule.delete_below)] = Action.DELETE
        case Low():
            actions[values < _log(rule.threshold)] = Action.DELETE if rule.action == "delete" else Action.RESAMPLE
        case Band():
            below = values < _log(rule.high) if rule.high < 1 else values <= np.inf
            actions[(values >= _log(rule.low)) & below] = Action.RESAMPLE
        case Random():
            assert uniforms is not None, "a random rule needs a uniform number per token"
            actions[(uniforms < rule.share) & ~np.isnan(values)] = Action.RESAMPLE
    return actions


def _log(probability: float) -> np.float32:
    return np.float32(math.log(probability) if probability > 0 else -math.inf)


def position_uniforms(seed: int, document_id: str, n: int, stream: str) -> NDArray[np.float64]:
    """The numbers of positions 0 to n - 1, multiples of 2**-53 in [0, 1).

    Philox counts through the positions; its key is the hash of the other three.

    Args:
        stream: what the numbers are for, such as `judge`; streams are independent of each other.
    """
    # JSON separates ("a", "b c") from ("a b", "c"), and escapes a lone surrogate that no encoding accepts.
    name = json.dumps([seed, document_id, stream]).encode()
    key = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
    raw = np.random.Philox(key=key).random_raw(n)
    return np.asarray(raw >> np.uint64(11), np.float64) * 2.0**-53
