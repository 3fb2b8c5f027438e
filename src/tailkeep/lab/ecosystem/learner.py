"""The learner made of learners: every member trains by itself, on the pool or on its part of it."""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.errors import ConfigError, InputError, TrainingError
from tailkeep.lab.causal_lm.config import AnyDecoder
from tailkeep.lab.causal_lm.learner import build as build_member
from tailkeep.lab.causal_lm.loss_config import UserLosses
from tailkeep.lab.causal_lm.measures import BINS, TextMeasure
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.causal_lm.tokens import TokenData, training_rows
from tailkeep.lab.ecosystem.config import EcosystemArm
from tailkeep.lab.protocols import Experiment, Indices, Learner, Measurement
from tailkeep.metrics import confidence_histogram, perplexity, share_above

# Who does what: places dealt out in given shares. Rule: what a member gets is a function of the numbers alone.


def deal(places: int, shares: Sequence[float]) -> Indices:
    """(places,) the member of each place, so that every beginning of the row is shared as evenly as whole places allow.

    Each place goes to whoever is furthest behind its share, the first of them in a tie.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    given = np.zeros(len(wanted))
    members = np.empty(places, dtype=np.int64)
    for place in range(places):
        # Without rounding, equal shares would not be equal: 3 * .1 is not .3.
        members[place] = np.round(wanted * (place + 1) - given, 9).argmax()
        given[members[place]] += 1
    return members


def shuffle_and_deal(places: int, shares: Sequence[float], *, seed: int) -> Indices:
    """As `deal`, in an order drawn at random."""
    members = np.empty(places, dtype=np.int64)
    members[np.random.default_rng(seed).permutation(places)] = deal(places, shares)
    return members


def consecutive(places: int, shares: Sequence[float], *, seed: int) -> list[tuple[int, Indices]]:
    """(member, places) in the order of the places: one unbroken piece each, the members in an order drawn at random.

    Members whose share is less than half a place may get none and are left out.
    """
    order = np.random.default_rng(seed).permutation(len(shares))
    ends = np.rint(np.cumsum(np.asarray(shares, dtype=np.float64)[order]) * places).astype(np.int64)
    starts = [0, *ends[:-1]]
    pieces = ((int(m), np.arange(a, b)) for m, a, b in zip(order, starts, ends, strict=True))
    return [(member, piece) for member, piece in pieces if len(piece)]


def member_seed(seed: int, member: int) -> int:
    """The seed of one member's draws, so that equal members do not write the same."""
    return int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def mixture_log_probs(log_probs: Sequence[NDArray[np.float32]], shares: Sequence[float]) -> NDArray[np.float32]:
    """ln of the share-weighted mean of probabilities, sum over m of share_m exp(log_probs[m]); each of shape (T,).

    Taken in float64, and an impossible token stays impossible.
    """
    weighted = np.stack([row.astype(np.float64) + np.log(s) for row, s in zip(log_probs, shares, strict=True)])
    result: NDArray[np.float32] = np.logaddexp.reduce(weighted, axis=0).astype(np.float32)
    return result


# The language models of one generation as one model: they write a pool in their shares, and read as a mixture.


_SUMS = ("train_units", "train_steps", "train_flops")


@dataclass(frozen=True)
class Pool:
    """The members by name, and the share of the pool that each writes; a document has one writer."""

    members: Mapping[str, LanguageModel]
    shares: Sequence[float]

    @property
    def codec(self) -> DocumentTokenizer:
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

    def sample(self, n: int, *, seed: int) -> TokenData:
        """`n` documents: the first member's share, then the second's, and so on."""
        counts = np.bincount(deal(n, self.shares), minlength=len(self.shares))
        written = [
            model.sample(int(count), seed=member_seed(seed, i))
            for i, (model, count) in enumerate(zip(self.members.values(), counts, strict=True))
            if count
        ]
        return written[0].concat(*written[1:])

    def regenerate(self, data: TokenData, *, seed: int) -> TokenData:
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
    ) -> TokenData:
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


# What is measured on an ecosystem: the pool as one model, and the members beside it.


_OF_MEMBERS = ("held_out_nll", "kr_accuracy")
_OF_A_READER = ("own_perplexity", "above_99")
"""The measures of a sample that depend on who reads it; the others are the text's alone."""


@dataclass(frozen=True)
class PoolMeasure:
    """The measures of a language model, on the mixture of the members and on the pool that they write together."""

    text: TextMeasure

    def __call__(self, pool: Pool, samples: Mapping[str, TokenData]) -> Measurement:
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
        knowledge = self.text.exam.measure(pool.log_probs, pool.codec.encode_without_eos)
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


def _is_of_text(key: str, views: Mapping[str, TokenData]) -> bool:
    view, _, name = key.partition(".")
    return view in views and name not in _OF_A_READER


def _written_log_probs(pool: Pool, data: TokenData) -> NDArray[np.float32]:
    """Of what the members wrote, not of what they were given."""
    scored = pool.log_probs(data.documents)
    written = [row[max(0, given - 1) :] for row, given in zip(scored, data.prompts, strict=True)]
    result: NDArray[np.float32] = np.concatenate([*written, np.zeros(0, np.float32)])
    return result


@dataclass(frozen=True)
class EcosystemLearner:
    """The members' learners by name; a member inherits from the member of its name."""

    study: EcosystemArm
    learners: Mapping[str, Learner]

    def fit(self, data: TokenData, *, seed: int, budget: int, previous: Pool | None = None) -> Pool:
        """Every member's new model; `previous` is left as it is.

        Raises:
            TrainingError: a member's part of the pool holds nothing to predict.
        """
        shares = _shares(self.study)
        owners = shuffle_and_deal(len(data), shares, seed=seed)
        whole = budget if self.study.training.equal_tokens else data.units
        trained = {}
        for i, (name, learner) in enumerate(self.learners.items()):
            own = data if self.study.train_on == "pool" else data.take(np.flatnonzero(owners == i))
            if not (own.lengths > 1).any():
                raise TrainingError(
                    f"member {name!r}: its part of the pool, {len(own)} document(s), holds nothing to predict. "
                    "Use train_on: pool, or give more documents."
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


def build(study: EcosystemArm, *, device: str, losses: UserLosses, shared: MutableMapping[str, Any]) -> Experiment:
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
    return Experiment(
        name="causal_lm",
        real=first.real,
        learner=EcosystemLearner(study, {name: subject.learner for name, subject in subjects.items()}),
        views=first.views,
        measure=PoolMeasure(first.measure),
        select=first.select,
    )


def _shares(study: EcosystemArm) -> Sequence[float]:
    return [member.share for member in study.members]


def _refuse_other_tokens(name: str, real: TokenData, first: TokenData) -> None:
    one, other = real.codec.tokenizer, first.codec.tokenizer
    if one.get_vocab() != other.get_vocab() or not np.array_equal(real.ids, first.ids):
        raise InputError(
            f"member {name!r}: its tokenizer is not the first member's, and what one writes the others read as tokens. "
            "Set tokenizer.path to one that all were trained with."
        )


def _refuse_idle_members(study: EcosystemArm, documents: int) -> None:
    needs = {"evaluation.samples": study.evaluation.samples, "data, by its number of documents,": documents}
    for key, places in needs.items():
        counts = np.bincount(deal(places, _shares(study)), minlength=len(study.members))
        if (counts == 0).any():
            idle = study.members[int(counts.argmin())]
            raise ConfigError(
                f"{key} is {places}, of which member {idle.name!r} with its share {idle.share} gets none. "
                "Raise it, or raise the share."
            )
