"""The learner `ecosystem`: every member trains by itself, on the pool or on its part of it.

Rule: the pool generates in the members' shares and scores as their mixture; assignments depend on numbers alone.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.errors import ConfigError, InputError, TrainingError
from tailkeep.lab.causal_lm.config import AnyDecoder, UserLosses
from tailkeep.lab.causal_lm.learner import build as build_member
from tailkeep.lab.causal_lm.measures import TextMeasure, confidence_table, held_out_metrics, pooled
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.causal_lm.tokens import TokenData, training_rows
from tailkeep.lab.ecosystem.config import EcosystemArm
from tailkeep.lab.phase import enter_part
from tailkeep.lab.protocols import Experiment, Indices, Learner, Measurement
from tailkeep.metrics import perplexity, share_above


def assign_members(count: int, shares: Sequence[float]) -> Indices:
    """(count,) the member of each item, such that every prefix is shared as evenly as whole items allow.

    Each item goes to the member furthest behind its share, the first of them in a tie.
    """
    targets = np.asarray(shares, dtype=np.float64)
    counts = np.zeros(len(targets))
    members = np.empty(count, dtype=np.int64)
    for index in range(count):
        # Without rounding, equal shares would not be equal: 3 * 0.1 is not 0.3.
        members[index] = np.round(targets * (index + 1) - counts, 9).argmax()
        counts[members[index]] += 1
    return members


def assign_members_randomly(count: int, shares: Sequence[float], *, seed: int) -> Indices:
    """As `assign_members`, in a random order."""
    members = np.empty(count, dtype=np.int64)
    members[np.random.default_rng(seed).permutation(count)] = assign_members(count, shares)
    return members


def assign_spans(count: int, shares: Sequence[float], *, seed: int) -> list[tuple[int, Indices]]:
    """(member, indices) in order of the indices: one contiguous span each, the members in a random order.

    Members whose share is less than half an item may get none and are left out.
    """
    order = np.random.default_rng(seed).permutation(len(shares))
    ends = np.rint(np.cumsum(np.asarray(shares, dtype=np.float64)[order]) * count).astype(np.int64)
    starts = [0, *ends[:-1]]
    spans = ((int(m), np.arange(a, b)) for m, a, b in zip(order, starts, ends, strict=True))
    return [(member, span) for member, span in spans if len(span)]


def member_seed(seed: int, member: int) -> int:
    """The seed of one member, so that equal members do not generate the same."""
    return int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def mixture_log_probs(log_probs: Sequence[NDArray[np.float32]], shares: Sequence[float]) -> NDArray[np.float32]:
    """ln of the share-weighted mean of probabilities, sum over m of share_m exp(log_probs[m]); each of shape (T,).

    Computed in float64; a token of probability 0 keeps it.
    """
    weighted = np.stack([row.astype(np.float64) + np.log(s) for row, s in zip(log_probs, shares, strict=True)])
    result: NDArray[np.float32] = np.logaddexp.reduce(weighted, axis=0).astype(np.float32)
    return result


_SUMS = ("train_units", "train_steps", "train_flops")


@dataclass(frozen=True)
class Pool:
    """The members by name, and the share of the pool that each generates; a document is by one member."""

    members: Mapping[str, LanguageModel]
    shares: Sequence[float]

    @property
    def tokenizer(self) -> DocumentTokenizer:
        """That of all members."""
        return next(iter(self.members.values())).tokenizer

    @property
    def facts(self) -> Mapping[str, float]:
        """Those of all members together, and each member's under its name.

        `train_units`, `train_steps` and `train_flops` are sums, the others means weighted by `train_units`.
        """
        of_members = {name: model.facts for name, model in self.members.items()}
        weights = [facts["train_units"] for facts in of_members.values()]
        joint: dict[str, float] = {}
        for key in next(iter(of_members.values())):
            values = [facts[key] for facts in of_members.values()]
            joint[key] = float(sum(values)) if key in _SUMS else float(np.average(values, weights=weights))
        by_member = {f"{name}.{key}": value for name, facts in of_members.items() for key, value in facts.items()}
        return {**joint, **by_member}

    def sample(self, n: int, *, seed: int) -> TokenData:
        """`n` documents: the first member's share, then the second's, and so on.

        Prompts are drawn once for all members, as for a single model: no document prompts two while others prompt none.
        """
        models = list(self.members.values())
        prompts = models[0].draw_prompts(n, seed=seed)
        ends = np.cumsum(np.bincount(assign_members(n, self.shares), minlength=len(models)))
        parts = [
            model.regenerate(prompts.take(np.arange(start, end)), seed=member_seed(seed, i))
            for i, (model, start, end) in enumerate(zip(models, [0, *ends[:-1]], ends, strict=True))
            if end > start
        ]
        return parts[0].concat(*parts[1:])

    def regenerate(self, data: TokenData, *, seed: int) -> TokenData:
        """`data` regenerated, each member a random contiguous span of it."""
        models = list(self.members.values())
        parts = [
            models[i].regenerate(data.take(span), seed=member_seed(seed, i))
            for i, span in assign_spans(len(data), self.shares, seed=seed)
        ]
        return parts[0].concat(*parts[1:])

    def complete(
        self,
        prompts: list[Ids],
        decoder: AnyDecoder,
        *,
        new_tokens: int,
        seed: int,
        batch: int | None = None,
        stop_at_eos: bool = True,
    ) -> TokenData:
        """Each prompt with a continuation by the member it is assigned to; see `LanguageModel.complete`."""
        owners = assign_members(len(prompts), self.shares)
        parts = []
        for i, model in enumerate(self.members.values()):
            own_prompts = [prompts[index] for index in np.flatnonzero(owners == i)]
            one = member_seed(seed, i)
            parts.append(
                model.complete(
                    own_prompts, decoder, new_tokens=new_tokens, seed=one, batch=batch, stop_at_eos=stop_at_eos
                )
            )
        order = np.argsort(np.argsort(owners, kind="stable"), kind="stable")
        return parts[0].concat(*parts[1:]).take(order)

    def log_probs(self, rows: Sequence[Ids]) -> list[NDArray[np.float32]]:
        """ln p of every token of each row but the first, p being the share-weighted mean of the members' p."""
        of_members = [model.log_probs(rows) for model in self.members.values()]
        return [mixture_log_probs(row, self.shares) for row in zip(*of_members, strict=True)]

    def save(self, folder: Path) -> None:
        """Write each member into a folder of its name."""
        for name, model in self.members.items():
            (folder / name).mkdir()
            model.save(folder / name)


_OF_MEMBERS = ("held_out_nll", "kr_accuracy")
_OF_SCORING_MODEL = ("own_perplexity", "above_99")
"""The measures of a sample that depend on the scoring model; the others depend on the text alone."""


@dataclass(frozen=True)
class PoolMeasure:
    """The measures of a language model, on the mixture of the members and on the pool that they generate together."""

    text: TextMeasure

    def __call__(self, pool: Pool, samples: Mapping[str, TokenData]) -> Measurement:
        """All metrics of one generation.

        Those without a member's name are the pool's, where a token's probability is the share-weighted mean of the
        members'. `mixture_gain` is the gain of that mean: the members' mean held-out NLL, weighted by share, minus
        the pool's, in nats/token. It is 0 for members that agree on every token and grows as they differ.
        """
        measured = {name: self.text(model, samples) for name, model in pool.members.items()}
        members = {name: measurement.metrics for name, measurement in measured.items()}
        first = next(iter(measured.values()))
        of_text = {key: value for key, value in first.metrics.items() if _is_of_text(key, samples)}
        rows = training_rows(self.text.held_out, block=self.text.block, joined=self.text.joined)
        held_out = np.concatenate(pool.log_probs(rows))
        log_probs = {
            view: pooled(tokens.drop_prompts(pool.log_probs(tokens.documents))) for view, tokens in samples.items()
        }
        knowledge = self.text.kr_evaluator.measure(pool.log_probs, pool.tokenizer.encode_without_eos)
        scores = {
            **held_out_metrics(held_out),
            **knowledge.metrics,
        }
        for view, generated in log_probs.items():
            scores |= {
                f"{view}.own_perplexity": perplexity(generated),
                f"{view}.above_99": share_above(generated, 0.99),
            }
        beside = compare_members(scores, list(members.values()), pool.shares)
        flat = {
            f"{name}.{key}": of_one[key] for name, of_one in members.items() for key in _OF_MEMBERS if key in of_one
        }
        tables = {"confidence": confidence_table(held_out, log_probs["common"]), "tail": first.tables["tail"]}
        return Measurement({**of_text, **scores, **beside, **flat}, {**tables, **knowledge.tables})


def compare_members(
    pool: Mapping[str, float], members: Sequence[Mapping[str, float]], shares: Sequence[float]
) -> dict[str, float]:
    """`mixture_gain`, and the mean and best KR-test accuracy of the members where the pool has one."""
    nll = np.average([metrics["held_out_nll"] for metrics in members], weights=shares)
    beside = {"members": float(len(members)), "mixture_gain": float(nll) - pool["held_out_nll"]}
    if "kr_accuracy" in pool:
        accuracies = [metrics["kr_accuracy"] for metrics in members]
        beside |= {"member_kr_mean": float(np.mean(accuracies)), "member_kr_best": float(np.max(accuracies))}
    return beside


def _is_of_text(key: str, views: Mapping[str, TokenData]) -> bool:
    view, _, name = key.partition(".")
    return view in views and name not in _OF_SCORING_MODEL


@dataclass(frozen=True)
class EcosystemLearner:
    """The members' learners by name; a member inherits from the member of its name."""

    arm: EcosystemArm
    learners: Mapping[str, Learner]

    def fit(self, data: TokenData, *, seed: int, budget: int, previous: Pool | None = None) -> Pool:
        """Every member's new model; `previous` is left as it is.

        Raises:
            TrainingError: a member's part of the pool holds nothing to predict.
        """
        shares = _shares(self.arm)
        owners = assign_members_randomly(len(data), shares, seed=seed)
        whole = budget
        if not self.arm.training.equal_tokens:
            rows = training_rows(data, block=self.arm.training.block, joined=self.arm.joined)
            whole = sum(len(row) - 1 for row in rows)
        trained = {}
        for i, (name, learner) in enumerate(self.learners.items()):
            part = data if self.arm.train_on == "pool" else data.take(np.flatnonzero(owners == i))
            if not (part.lengths > 1).any():
                raise TrainingError(
                    f"member {name!r}: its part of the pool, {len(part)} document(s), holds nothing to predict. "
                    "Use train_on: pool, or give more documents."
                )
            with enter_part(name):
                trained[name] = learner.fit(
                    part,
                    seed=member_seed(seed, i),
                    budget=round(whole * shares[i]) if self.arm.compute == "shared" else whole,
                    previous=None if previous is None else previous.members[name],
                )
        return Pool(trained, shares)

    def load(self, folder: Path) -> Pool:
        """A saved ecosystem, on this learner's device."""
        return Pool({name: one.load(folder / name) for name, one in self.learners.items()}, _shares(self.arm))


def build(arm: EcosystemArm, *, device: str, losses: UserLosses, shared: MutableMapping[str, Any]) -> Experiment:
    """The experiment of `arm`; `shared` is as for single language models.

    Raises:
        InputError, ConfigError: as for a single model, with the member's name in front.
    """
    experiments = {}
    for member in arm.members:
        try:
            experiments[member.name] = build_member(arm.member_arm(member), device=device, losses=losses, shared=shared)
        except (ConfigError, InputError) as error:
            raise type(error)(f"member {member.name!r}: {error}") from None
    first = experiments[arm.members[0].name]
    for name, experiment in experiments.items():
        _check_same_tokens(name, experiment.real, first.real)
    _check_members_used(arm, len(first.real))
    assert isinstance(first.measure, TextMeasure)
    # The name of single language models, so that a report compares them.
    return Experiment(
        name="causal_lm",
        real=first.real,
        learner=EcosystemLearner(arm, {name: experiment.learner for name, experiment in experiments.items()}),
        views=first.views,
        measure=PoolMeasure(first.measure),
        select=first.select,
    )


def _shares(arm: EcosystemArm) -> Sequence[float]:
    return [member.share for member in arm.members]


def _check_same_tokens(name: str, real: TokenData, first: TokenData) -> None:
    one, other = real.tokenizer.hf_tokenizer, first.tokenizer.hf_tokenizer
    if one.get_vocab() != other.get_vocab() or not np.array_equal(real.ids, first.ids):
        raise InputError(
            f"member {name!r}: its tokenizer is not the first member's, but members train on each other's tokens. "
            "Set tokenizer.path to one that all were trained with."
        )


def _check_members_used(arm: EcosystemArm, documents: int) -> None:
    needs = {"evaluation.samples": arm.evaluation.samples, "data, by its number of documents,": documents}
    for key, count in needs.items():
        counts = np.bincount(assign_members(count, _shares(arm)), minlength=len(arm.members))
        if (counts == 0).any():
            unused = arm.members[int(counts.argmin())]
            raise ConfigError(
                f"{key} is {count}, of which member {unused.name!r} with its share {unused.share} gets none. "
                "Raise it, or raise the share."
            )
