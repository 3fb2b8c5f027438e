"""The decoder `matched`: a temperature at which a model's own text is as likely to it as real text is.

Rule: what is read is a slice of the real training text, never a held-out document that a measure reads.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tailkeep.lab.causal_lm.codec import Codec, Ids
from tailkeep.lab.causal_lm.decoding import continue_prompts
from tailkeep.lab.causal_lm.settings import AnyForm, Documents, Matched, Writing
from tailkeep.lab.causal_lm.tokens import Tokens
from tailkeep.scoring import token_log_probs


def match_temperature(
    network: Any, codec: Codec, real: Tokens, writing: Writing, matched: Matched, *, seed: int
) -> float:
    """The temperature T at which mean ln p of what the model writes is mean ln p of what really stands there.

    ln p is the model's own at temperature 1, taken over all tokens behind the same beginnings: documents' first tokens
    or windows' contexts, `matched.texts` of them, drawn from `real`. An overconfident model finds its own text likelier
    than real text and gets T > 1, one trained too briefly T < 1. Every temperature is tried with the same `seed`, so T
    is a function of the arguments.
    """
    contexts, tails = beginnings(real, writing.form, matched.texts, seed=seed)
    wanted = _mean_log_prob(network, codec, contexts, tails)
    stops = isinstance(writing.form, Documents)

    def excess(temperature: float) -> float:
        written = continue_prompts(
            network,
            codec,
            contexts,
            decoder=matched.at(temperature),
            new_tokens=writing.form.new_tokens,
            stops=stops,
            batch=writing.batch,
            seed=seed,
        )
        return _mean_log_prob(network, codec, contexts, written) - wanted

    return bisect_falling(excess, low=matched.low, high=matched.high, steps=matched.steps)


def bisect_falling(function: Callable[[float], float], *, low: float, high: float, steps: int) -> float:
    """Where a falling `function` of a positive number crosses 0, by `steps` halvings of ln(high / low).

    The answer is off by less than the factor (high / low)^(1 / 2^(steps + 1)). A function that does not cross between
    the bounds gives the nearer one.
    """
    if function(low) <= 0:
        return low
    if function(high) >= 0:
        return high
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return math.sqrt(low * high)


def beginnings(real: Tokens, form: AnyForm, texts: int, *, seed: int) -> tuple[list[Ids], list[Ids]]:
    """`texts` places of `real` to write on from: what stands before each, and what really follows.

    In the form `documents` whole documents are drawn, without repetition as long as there are enough; in `windows`
    places of the joined text, as many tokens apart from each other as chance will have it.
    """
    rng = np.random.default_rng(seed)
    if isinstance(form, Documents):
        usable = np.flatnonzero(real.lengths > 1)
        drawn = [real.documents[i] for i in rng.choice(usable, size=texts, replace=texts > len(usable))]
        cuts = [min(form.prompt_tokens, len(document) - 1) for document in drawn]
        return (
            [document[:cut] for document, cut in zip(drawn, cuts, strict=True)],
            [document[cut : cut + form.new_tokens] for document, cut in zip(drawn, cuts, strict=True)],
        )
    places = rng.integers(1, max(2, real.units - form.new_tokens + 1), size=texts)
    return (
        [real.ids[max(0, place - form.context) : place] for place in places],
        [real.ids[place : place + form.new_tokens] for place in places],
    )


def _mean_log_prob(network: Any, codec: Codec, contexts: Sequence[Ids], tails: Sequence[Ids]) -> float:
    """Mean over all tokens of `tails`, each behind its context."""
    rows = [np.concatenate([context, tail]) for context, tail in zip(contexts, tails, strict=True)]
    scored = token_log_probs(network, rows, pad=codec.pad)
    written = [row[len(context) - 1 :] for row, context in zip(scored, contexts, strict=True)]
    return float(np.concatenate(written).astype(np.float64).mean())
