"""What is measured on an ecosystem: the pool as one model, and the members beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tailkeep.lab.causal_lm.measures import TextMeasure
from tailkeep.lab.causal_lm.tokens import Tokens
from tailkeep.lab.ecosystem.model import Pool
from tailkeep.lab.ecosystem.sharing import deal
from tailkeep.lab.protocols import Measurement

_OF_MEMBERS = ("held_out_nll", "kr_accuracy", "common.true_share", "common.valid_share")
"""What is told of a member: numbers that do not depend on how many samples are its own."""


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
        whole = self.text(pool, samples)
        owners = {view: deal(len(tokens), pool.shares) for view, tokens in samples.items()}
        members = {}
        for i, (name, model) in enumerate(pool.members.items()):
            own = {view: tokens.take(np.flatnonzero(owners[view] == i)) for view, tokens in samples.items()}
            found = self.text(model, own).metrics
            members[name] = {key: found[key] for key in _OF_MEMBERS if key in found}
        beside = compare_members(whole.metrics, list(members.values()), pool.shares)
        flat = {f"{name}.{key}": value for name, found in members.items() for key, value in found.items()}
        return Measurement({**whole.metrics, **beside, **flat}, whole.tables)


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
