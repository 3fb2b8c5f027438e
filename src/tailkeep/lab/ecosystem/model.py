"""The language models of one generation as one model: they write a pool in their shares, and read as a mixture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailkeep.lab.causal_lm.codec import Codec, Ids
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.settings import AnyDecoder
from tailkeep.lab.causal_lm.tokens import Tokens
from tailkeep.lab.ecosystem.sharing import consecutive, deal, member_seed, mixture_log_probs

_SUMS = ("train_units", "train_steps", "train_flops")


@dataclass(frozen=True)
class Pool:
    """The members by name, and the share of the pool that each writes; a document has one writer."""

    members: Mapping[str, LanguageModel]
    shares: Sequence[float]

    @property
    def codec(self) -> Codec:
        """The one that all members share."""
        return next(iter(self.members.values())).codec

    @property
    def facts(self) -> Mapping[str, float]:
        """Those of all members together, and each one's own under its name.

        `train_units`, `train_steps` and `train_flops` are sums, the others means weighted by `train_units`.
        """
        of_members = {name: model.facts for name, model in self.members.items()}
        weights = [facts["train_units"] for facts in of_members.values()]
        joint: dict[str, float] = {}
        for key in next(iter(of_members.values())):
            values = [facts[key] for facts in of_members.values()]
            joint[key] = float(sum(values)) if key in _SUMS else float(np.average(values, weights=weights))
        own = {f"{name}.{key}": value for name, facts in of_members.items() for key, value in facts.items()}
        return {**joint, **own}

    def sample(self, n: int, *, seed: int) -> Tokens:
        """`n` documents: the first member's share, then the second's, and so on."""
        counts = np.bincount(deal(n, self.shares), minlength=len(self.shares))
        written = [
            model.sample(int(count), seed=member_seed(seed, i))
            for i, (model, count) in enumerate(zip(self.members.values(), counts, strict=True))
            if count
        ]
        return written[0].concat(*written[1:])

    def regenerate(self, data: Tokens, *, seed: int) -> Tokens:
        """`data` written anew, each member an unbroken piece of it; which one is drawn at random."""
        models = list(self.members.values())
        written = [
            models[i].regenerate(data.take(piece), seed=member_seed(seed, i))
            for i, piece in consecutive(len(data), self.shares, seed=seed)
        ]
        return written[0].concat(*written[1:])

    def complete(
        self,
        starts: list[Ids],
        decoder: AnyDecoder,
        *,
        new_tokens: int,
        seed: int,
        batch: int | None = None,
        stops: bool = True,
    ) -> Tokens:
        """Each start with a continuation by the member that it is dealt to; see `LanguageModel.complete`."""
        owners = deal(len(starts), self.shares)
        written = []
        for i, model in enumerate(self.members.values()):
            own = [starts[place] for place in np.flatnonzero(owners == i)]
            one = member_seed(seed, i)
            written.append(model.complete(own, decoder, new_tokens=new_tokens, seed=one, batch=batch, stops=stops))
        order = np.argsort(np.argsort(owners, kind="stable"), kind="stable")
        return written[0].concat(*written[1:]).take(order)

    def log_probs(self, rows: Sequence[Ids]) -> list[NDArray[np.float32]]:
        """ln p of every token of each row but the first, p being the share-weighted mean of the members' p."""
        of_members = [model.log_probs(rows) for model in self.members.values()]
        return [mixture_log_probs(row, self.shares) for row in zip(*of_members, strict=True)]

    def save(self, folder: Path) -> None:
        """Write each member into a folder of its name."""
        for name, model in self.members.items():
            (folder / name).mkdir()
            model.save(folder / name)
