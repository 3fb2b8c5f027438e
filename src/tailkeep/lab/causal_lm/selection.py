"""Which documents a language model trains on: in `select`, in `replay`; and what a replay's own choice cannot grade.

Rules: every selector turns texts into weights, and one sampling step turns weights into documents, in the candidates'
order. Real documents are chosen by what they and the synthetic text hold, never by the truth of a world, a held-out
document or a sample.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from tailkeep.config import describe
from tailkeep.data import World
from tailkeep.data.hashing import count_features, log_ratios
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.measures import coverage_of, generated_words, words_of
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.lab.causal_lm.tokens import (
    ReplayedDocuments,
    SelectionFacts,
    TokenData,
    machine_probability,
    training_rows,
    verifier_weights,
)
from tailkeep.lab.protocols import GeneratedData, Measurement
from tailkeep.lab.selectors import (
    DSIR,
    CodeSelector,
    Detector,
    Extinction,
    ReplaySelector,
    Selector,
    Surplexity,
    Uniform,
    Verifier,
)
from tailkeep.lab.text_regimes import Replay
from tailkeep.metrics import (
    CopyExtinction,
    effective_size,
    greedy_replay,
    remaining_loss,
    sample_by_weight,
    top_log_weights,
)

Values = NDArray[np.float64]
_ItemIds = Sequence[NDArray[np.int64]]

MAX_N = 3
"""The longest item, in words or tokens."""
_SELECTION_STREAM, _REPLAY_STREAM = 2, 3
"""Random streams, apart from the one the model sampled with under the same seed."""
_PIECE = re.compile(r"(?P<markup><[/|!]?[A-Za-z][^<>]{0,100}>)|\w+(?:['’]\w+)*")
_BREAK = -1
"""No item holds this id, or crosses it."""
_MAX_PROBABILITY = 1 - 1e-12
"""The highest probability of machine text that leaves a weight."""


class TokenScorer(Protocol):
    """A language model, or a pool of them."""

    def log_probs(self, rows: Sequence[Ids]) -> Sequence[NDArray[np.float32]]:
        """ln p of every token of each row but the first."""
        ...


@dataclass(frozen=True)
class TextSelector:
    """Weights documents by the model that generated them, by the `real` text, or by the `world` where there is one.

    A document is scored in rows of `block` predictions, as it is trained on.
    """

    real: TokenData
    world: World | None
    block: int

    def __call__(self, model: TokenScorer, candidates: TokenData, *, by: Selector, size: int, seed: int) -> TokenData:
        """`size` of the `candidates`, with the facts of their selection."""
        rng = np.random.default_rng([seed, _SELECTION_STREAM])
        texts = candidates.decode()
        log_weights, selector_facts = self._weights(model, candidates, texts, by, size, rng)
        selected = sample_by_weight(log_weights, size, rng, max_repeats=by.max_repeats)
        facts = {
            "candidates": float(len(candidates)),
            "selected_share": len(np.unique(selected)) / len(candidates),
            "effective_sample_size": effective_size(log_weights),
            **selector_facts,
            **self._truth(texts, [texts[index] for index in selected]),
        }
        return replace(candidates.take(selected), selection=SelectionFacts(facts))

    def _weights(
        self,
        model: TokenScorer,
        candidates: TokenData,
        texts: Sequence[str],
        by: Selector,
        size: int,
        rng: np.random.Generator,
    ) -> tuple[Values, Mapping[str, float]]:
        """ln of each candidate's weight, and the selector's facts."""
        uniform = np.zeros(len(candidates))
        match by:
            case Uniform():
                return uniform, {}
            case Surplexity():
                return top_log_weights(mean_surprisal(model, candidates, block=self.block), size), {}
            case DSIR():
                counts, real_counts = count_features(texts), count_features(self._real_texts)
                return np.asarray(counts @ log_ratios(counts.sum(axis=0), real_counts.sum(axis=0))), {}
            case Verifier():
                assert self.world is not None, "checked before anything is trained"
                weights = verifier_weights(texts, by, self.world, rng)
                with np.errstate(divide="ignore"):
                    logs = np.log(weights) if weights.any() else uniform
                return logs, {"accepted_share": float((weights > 0).mean())}
            case CodeSelector():
                weights = by.bind("regime.by")(texts, self._real_texts)
                return _log_weights(weights, len(texts), by.origin()), {}
            case Detector():
                of_real, of_generated = machine_probability(self._real_texts, texts)
                accuracy = ((of_real < 0.5).mean() + (of_generated > 0.5).mean()) / 2
                return by.exponent * np.log1p(-np.minimum(of_generated, _MAX_PROBABILITY)), {
                    "detector_accuracy": float(accuracy)
                }

    def _truth(self, candidates: Sequence[str], selected: Sequence[str]) -> dict[str, float]:
        if self.world is None:
            return {}
        shares = [self.world.truth_metrics(texts)["true_share"] for texts in (candidates, selected)]
        return dict(zip(("candidate_true_share", "selected_true_share"), shares, strict=True))

    @cached_property
    def _real_texts(self) -> list[str]:
        return self.real.decode()


def _log_weights(weights: object, size: int, code: str) -> Values:
    try:
        values = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"regime.by: {code} returned {describe(weights)}. Return {size} numbers.") from None
    if values.shape != (size,) or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ConfigError(
            f"regime.by: {code} returned {values.shape} weights from {values.min(initial=np.inf):.3g} to "
            f"{values.max(initial=-np.inf):.3g}. Return {size} finite ones, none below 0 and one above."
        )
    with np.errstate(divide="ignore"):
        return np.log(values)


def mean_surprisal(model: TokenScorer, data: TokenData, *, block: int) -> Values:
    """Mean -ln p of each document behind its prompt; a document without such tokens gets the median.

    Where blocks begin with the start token, rows do.
    """
    joined = data.tokenizer.begins_blocks
    rows = [training_rows(data.take(np.array([index])), block=block, joined=joined) for index in range(len(data))]
    scored = iter(model.log_probs([row for document in rows for row in document]))
    surprisal = np.full(len(data), np.nan)
    for index, (document, prompt) in enumerate(zip(rows, data.prompts, strict=True)):
        log_probs = np.concatenate([*(next(scored) for _ in document), np.zeros(0, np.float32)])
        generated = log_probs[max(0, int(prompt) - (0 if joined else 1)) :]
        if len(generated):
            surprisal[index] = -float(generated.astype(np.float64).mean())
    known = np.isfinite(surprisal)
    return np.where(known, surprisal, float(np.median(surprisal[known])) if known.any() else 0.0)


@dataclass(frozen=True)
class TextReplay:
    """Chooses real documents by the synthetic `texts` beside them.

    Items are runs of 1 to 3 words, and of tokens where there is a `world`; special tokens and mark-up are no part of
    one. A document is scored in rows of `block` predictions, as it is trained on.
    """

    real: TokenData
    world: World | None
    block: int

    def __call__(
        self,
        model: TokenScorer,
        texts: Sequence[TokenData],
        *,
        by: ReplaySelector,
        budget: float,
        extinction: CopyExtinction | None,
        seed: int,
    ) -> TokenData:
        """The last of `texts`, with the documents to replay and the facts of their choice."""
        tokens = budget * self.real.units
        facts: dict[str, float] = {}
        match by:
            case Uniform():
                rng = np.random.default_rng([seed, _REPLAY_STREAM])
                documents = take_fitting(rng.permutation(len(self.real)), self.real.lengths, tokens)
            case Surplexity():
                surprisal = mean_surprisal(model, self.real, block=self.block)
                documents = take_fitting(np.argsort(-surprisal, kind="stable"), self.real.lengths, tokens)
            case Extinction():
                assert extinction is not None
                documents, facts = self._most_prevented(texts, tokens, extinction)
        indices = np.sort(documents)
        share = float(self.real.lengths[indices].sum()) / self.real.units
        facts = {"replayed_documents": float(len(indices)), "replayed_share": share, **facts}
        return replace(texts[-1], selection=SelectionFacts(facts), replayed=ReplayedDocuments(indices))

    def _most_prevented(
        self, texts: Sequence[TokenData], tokens: float, extinction: CopyExtinction
    ) -> tuple[NDArray[np.int64], dict[str, float]]:
        """Documents, and the share of the items that is expected to be lost without and with them."""
        index = self._items
        synthetic = index.count([row for text in texts for row in self._sequences_of(text)])
        losses = index.weights * extinction.synthetic**synthetic
        # An empty document costs one token, so that its gain per token is a number: 0.
        costs = np.maximum(self.real.lengths, 1)
        documents = greedy_replay(index.copies, losses, extinction.replayed, costs, tokens)
        after = remaining_loss(index.copies, losses, extinction.replayed, documents)
        return documents, {"expected_loss": float(losses.sum()), "expected_loss_replayed": after}

    @cached_property
    def _items(self) -> "ItemIndex":
        return ItemIndex(self._sequences_of(self.real))

    def _sequences_of(self, data: TokenData) -> _ItemIds:
        if self.world is not None:
            special = np.array(sorted(data.tokenizer.hf_tokenizer.all_special_ids), np.int64)
            rows = [row.astype(np.int64) for row in data.documents]
            return [np.where(np.isin(row, special), _BREAK, row) for row in rows]
        return [self._words.ids(data.tokenizer.decode(row)) for row in data.documents]

    @cached_property
    def _words(self) -> "WordIds":
        return WordIds()


class WordIds:
    """Numbers words in the order in which they come; mark-up between two words separates them."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def ids(self, text: str) -> NDArray[np.int64]:
        """The words of `text` by number, -1 in the place of mark-up such as `<unk>` or `</b>`."""
        matches = _PIECE.finditer(text)
        numbers = [_BREAK if match["markup"] else self._ids.setdefault(match[0], len(self._ids)) for match in matches]
        return np.array(numbers, np.int64)


class ItemIndex:
    """The items of real documents: their copies by document, (D, V), and their weights, (V,).

    The items of one length weigh 1 / 3 together and each alike, so that a weighted sum of losses is the share of words,
    pairs and triples that is lost, averaged over these three.
    """

    def __init__(self, documents: _ItemIds) -> None:
        self._base = 1 + max((int(row.max(initial=_BREAK)) for row in documents), default=_BREAK)
        owners, items, weights = [], [], []
        self._keys: list[NDArray[np.int64]] = []
        for n in range(1, MAX_N + 1):
            documents_of, keys = self._grams(documents, n)
            known, codes = np.unique(keys, return_inverse=True)
            owners.append(documents_of)
            items.append(codes + sum(map(len, self._keys)))
            weights.append(np.full(len(known), 1 / (MAX_N * max(len(known), 1))))
            self._keys.append(known)
        self.weights = np.concatenate(weights)
        cells = np.concatenate(owners), np.concatenate(items)
        self.copies = sparse.csr_array((np.ones(len(cells[0])), cells), shape=(len(documents), len(self.weights)))

    def count(self, texts: _ItemIds) -> NDArray[np.float64]:
        """(V,): how often each item occurs in `texts`."""
        counts = []
        for n, known in enumerate(self._keys, start=1):
            keys = self._grams(texts, n)[1]
            places = np.searchsorted(known, keys)
            places = places[np.append(known, _BREAK)[places] == keys]
            counts.append(np.bincount(places, minlength=len(known)))
        return np.concatenate(counts).astype(np.float64)

    def _grams(self, sequences: _ItemIds, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each n-gram of ids that real documents have, the sequence and its number to the base of these ids."""
        owners, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        powers = self._base ** np.arange(n - 1, -1, -1, dtype=np.int64)
        for number, row in enumerate(sequences):
            if len(row) >= n:
                grams = np.lib.stride_tricks.sliding_window_view(row, n)
                keys.append(grams[((grams != _BREAK) & (grams < self._base)).all(axis=1)] @ powers)
                owners.append(np.full(len(keys[-1]), number))
        return np.concatenate(owners), np.concatenate(keys)


def take_fitting(order: ArrayLike, lengths: ArrayLike, budget: float) -> NDArray[np.int64]:
    """The documents of `order` that fit into the rest of the `budget` of tokens, one after another."""
    sizes = np.asarray(lengths)
    taken = []
    for document in np.asarray(order, np.int64):
        if sizes[document] <= budget:
            taken.append(int(document))
            budget -= float(sizes[document])
    return np.array(taken, np.int64)


def check_fits_replay(real: TokenData, regime: Replay) -> None:
    """Check that a document fits into the budget.

    Raises:
        ConfigError: even the shortest does not.
    """
    shortest, tokens = int(real.lengths.min()), regime.real_budget * real.units
    if shortest > tokens:
        raise ConfigError(
            f"regime.real_budget: {regime.real_budget:g} of {real.units} real tokens are {tokens:.1f}, but the "
            f"shortest document has {shortest}. Give a larger budget, or shorter documents."
        )


@dataclass(frozen=True)
class ReplayMeasure:
    """What samples hold of the real data outside all documents replayed so far; names end in `_outside`.

    In a `world` `rare_fact_coverage_outside` of the facts that no replayed document states. Elsewhere
    `coverage_1_outside` and so on: of the words that no replayed document has, by their count in the real text, the
    share that occurs in the samples, cut to the real text's number of words. `replayed_share_so_far` of the real tokens
    stands beside them.
    """

    real: TokenData
    world: World | None

    def __call__(self, generated: GeneratedData, samples: Mapping[str, TokenData]) -> Measurement:
        """By view; `generated` has all generations so far."""
        indices = np.unique(np.concatenate([data.replayed.indices for data in generated.values()]))
        replayed = self.real.take(indices).decode()
        metrics = {"replayed_share_so_far": float(self.real.lengths[indices].sum()) / self.real.units}
        words = set(words_of(replayed)) if self.world is None else set()
        for view, tokens in samples.items():
            if self.world is None:
                values = self._coverage(words, tokens)
            else:
                values = self.world.coverage_outside(tokens.decode(), replayed)
            metrics |= {f"{view}.{name}": value for name, value in values.items()}
        return Measurement(metrics)

    def _coverage(self, replayed: set[str], tokens: TokenData) -> dict[str, float]:
        real = self._real_words
        words = [word for document in generated_words(tokens) for word in document]
        sampled = set(words[: sum(real.values())])
        coverage = {}
        for band in coverage_of(words, real):
            last = band.last or sum(real.values())
            outside = [w in sampled for w, count in real.items() if band.first <= count <= last and w not in replayed]
            if outside:
                coverage[f"coverage_{band.name}_outside"] = sum(outside) / len(outside)
        return coverage

    @cached_property
    def _real_words(self) -> Mapping[str, int]:
        return Counter(words_of(self.real.decode()))
