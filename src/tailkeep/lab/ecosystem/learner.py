"""The learner made of learners: every member trains by itself, on the pool or on its part of it."""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.errors import ConfigError, InputError, TrainingError
from tailkeep.lab.causal_lm.learner import build as build_member
from tailkeep.lab.causal_lm.losses import UserLosses
from tailkeep.lab.causal_lm.measures import TextMeasure
from tailkeep.lab.causal_lm.tokens import Tokens
from tailkeep.lab.ecosystem.measures import PoolMeasure
from tailkeep.lab.ecosystem.model import Pool
from tailkeep.lab.ecosystem.settings import EcosystemStudy
from tailkeep.lab.ecosystem.sharing import deal, member_seed, shuffle_and_deal
from tailkeep.lab.protocols import Learner, Subject


@dataclass(frozen=True)
class EcosystemLearner:
    """The members' learners by name; a member inherits from the member of its name."""

    study: EcosystemStudy
    learners: Mapping[str, Learner]

    def fit(self, data: Tokens, *, seed: int, budget: int, previous: Pool | None = None) -> Pool:
        """Every member's new model; `previous` is left as it is.

        Raises:
            TrainingError: a member's part of the pool holds nothing to predict.
        """
        shares = _shares(self.study)
        owners = shuffle_and_deal(len(data), shares, seed=seed)
        whole = budget if self.study.training.equal_tokens else data.units
        trained = {}
        for i, (name, learner) in enumerate(self.learners.items()):
            own = data if self.study.reads == "pool" else data.take(np.flatnonzero(owners == i))
            if not (own.lengths > 1).any():
                raise TrainingError(
                    f"member {name!r}: its part of the pool, {len(own)} document(s), holds nothing to predict. "
                    "Use reads: pool, or give more documents."
                )
            trained[name] = learner.fit(
                own,
                seed=member_seed(seed, i),
                budget=round(whole * shares[i]) if self.study.compute == "shared" else whole,
                previous=None if previous is None else previous.members[name],
            )
        return Pool(trained, shares)

    def load(self, folder: Path) -> Pool:
        """A saved ecosystem, on this learner's device."""
        return Pool({name: one.load(folder / name) for name, one in self.learners.items()}, _shares(self.study))


def build(study: EcosystemStudy, *, device: str, losses: UserLosses, shared: MutableMapping[str, Any]) -> Subject:
    """The recursion of the ecosystem that `study` describes; `shared` is as for single language models.

    Raises:
        InputError, ConfigError: as for a single model; a member's name stands in front of what is wrong with it.
    """
    subjects = {}
    for member in study.members:
        try:
            subjects[member.name] = build_member(study.alone(member), device=device, losses=losses, shared=shared)
        except (ConfigError, InputError) as error:
            raise type(error)(f"member {member.name!r}: {error}") from None
    first = subjects[study.members[0].name]
    for name, subject in subjects.items():
        _refuse_other_tokens(name, subject.real, first.real)
    _refuse_idle_members(study, len(first.real))
    assert isinstance(first.measure, TextMeasure)
    # Under the name of single language models, so that a report compares them.
    return Subject(
        name="causal_lm",
        real=first.real,
        learner=EcosystemLearner(study, {name: subject.learner for name, subject in subjects.items()}),
        views=first.views,
        measure=PoolMeasure(first.measure),
        select=first.select,
    )


def _shares(study: EcosystemStudy) -> Sequence[float]:
    return [member.share for member in study.members]


def _refuse_other_tokens(name: str, real: Tokens, first: Tokens) -> None:
    one, other = real.codec.tokenizer, first.codec.tokenizer
    if one.get_vocab() != other.get_vocab() or not np.array_equal(real.ids, first.ids):
        raise InputError(
            f"member {name!r}: its tokenizer is not the first member's, and what one writes the others read as tokens. "
            "Set tokenizer.path to one that all were trained with."
        )


def _refuse_idle_members(study: EcosystemStudy, documents: int) -> None:
    needs = {"measuring.samples": study.measuring.samples, "data, by its number of documents,": documents}
    for key, places in needs.items():
        counts = np.bincount(deal(places, _shares(study)), minlength=len(study.members))
        if (counts == 0).any():
            idle = study.members[int(counts.argmin())]
            raise ConfigError(
                f"{key} is {places}, of which member {idle.name!r} with its share {idle.share} gets none. "
                "Raise it, or raise the share."
            )
