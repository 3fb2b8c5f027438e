"""What is measured on an ecosystem: the pool as one model, and the members beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailkeep.lab.causal_lm.measures import BINS, TextMeasure
from tailkeep.lab.causal_lm.tokens import Tokens, training_rows
from tailkeep.lab.ecosystem.model import Pool
from tailkeep.lab.protocols import Measurement
from tailkeep.metrics import confidence_histogram, perplexity, share_above

_OF_MEMBERS = ("held_out_nll", "kr_accuracy")
_OF_A_READER = ("own_perplexity", "above_99")
"""The measures of a sample that depend on who reads it; the others are the text's alone."""


@dataclass(frozen=True)
class PoolMeasure:
    """The measures of a language model, on the mixture of the members and on the pool that they write together."""

    text: TextMeasure

    def __call__(self, pool: Pool, samples: Mapping[str, Tokens]) -> Measurement:
        """All metrics of one generation.

        Those without a member's name are the pool's, where a token's probability is the share-weighted mean of the
        members'. `mixture_gain` is what that mean is worth: the members' mean held-out NLL, weighted by share, less
        the pool's, in nats. It is 0 for members that agree on every token and grows as they differ.
        """
        members = {name: self.text(model, samples).metrics for name, model in pool.members.items()}
        first = next(iter(members.values()))
        of_text = {key: value for key, value in first.items() if _is_of_text(key, samples)}
        rows = training_rows(self.text.held_out, block=self.text.block, joined=self.text.joined)
        held_out = np.concatenate(pool.log_probs(rows))
        own = {view: _written_log_probs(pool, tokens) for view, tokens in samples.items()}
        knowledge = self.text.exam.measure(pool.log_probs, pool.codec.encode_open)
        reading = {
            "held_out_nll": -float(held_out.mean()),
            "held_out_above_90": share_above(held_out, 0.9),
            "held_out_above_99": share_above(held_out, 0.99),
            **knowledge.metrics,
        }
        for view, found in own.items():
            reading |= {f"{view}.own_perplexity": perplexity(found), f"{view}.above_99": share_above(found, 0.99)}
        beside = compare_members(reading, list(members.values()), pool.shares)
        flat = {f"{name}.{key}": found[key] for name, found in members.items() for key in _OF_MEMBERS if key in found}
        confidence = {
            "edges": np.linspace(0, 1, BINS + 1).tolist(),
            "real": confidence_histogram(held_out, bins=BINS).tolist(),
            "common": confidence_histogram(own["common"], bins=BINS).tolist(),
        }
        return Measurement({**of_text, **reading, **beside, **flat}, {"confidence": confidence, **knowledge.tables})


def compare_members(
    pool: Mapping[str, float], members: Sequence[Mapping[str, float]], shares: Sequence[float]
) -> dict[str, float]:
    """`mixture_gain`, and the mean and best knowledge of the members where the pool's is known."""
    nll = np.average([found["held_out_nll"] for found in members], weights=shares)
    beside = {"members": float(len(members)), "mixture_gain": float(nll) - pool["held_out_nll"]}
    if "kr_accuracy" in pool:
        known = [found["kr_accuracy"] for found in members]
        beside |= {"member_kr_mean": float(np.mean(known)), "member_kr_best": float(np.max(known))}
    return beside


def _is_of_text(key: str, views: Mapping[str, Tokens]) -> bool:
    view, _, name = key.partition(".")
    return view in views and name not in _OF_A_READER


def _written_log_probs(pool: Pool, data: Tokens) -> NDArray[np.float32]:
    """Of what the members wrote, not of what they were given."""
    scored = pool.log_probs(data.documents)
    written = [row[max(0, given - 1) :] for row, given in zip(scored, data.prompts, strict=True)]
    result: NDArray[np.float32] = np.concatenate([*written, np.zeros(0, np.float32)])
    return result
