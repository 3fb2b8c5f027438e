"""Which real documents the regime `replay` trains on beside synthetic text, and what their choice cannot grade itself.

Rule: real documents are chosen by what they and the synthetic text hold, never by the truth of a world, a held-out
document or a sample.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from tailkeep.data import World
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.measures import coverage_of, generated_words, words_of
from tailkeep.lab.causal_lm.selection import TokenScorer, mean_surprisal
from tailkeep.lab.causal_lm.tokens import ReplayedDocuments, SelectionFacts, TokenData
from tailkeep.lab.protocols import GeneratedData, Measurement
from tailkeep.lab.replay import Replay
from tailkeep.lab.selectors import Extinction, ReplaySelector, Surplexity, Uniform
from tailkeep.metrics import CopyExtinction, greedy_replay, remaining_loss

MAX_N = 3
_STREAM = 3
"""The random stream of the choice, apart from the one the model sampled with under the same seed."""
_PIECE = re.compile(r"(?P<markup><[/|!]?[A-Za-z][^<>]{0,100}>)|\w+(?:['’]\w+)*")
_BREAK = -1
"""No item holds this id, or crosses it."""

Sequences = Sequence[NDArray[np.int64]]


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
                rng = np.random.default_rng([seed, _STREAM])
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
        # A document without tokens to count costs one, so that it is passed over for lack of gain, not of cost.
        costs = np.maximum(self.real.lengths, 1)
        documents = greedy_replay(index.copies, losses, extinction.replayed, costs, tokens)
        after = remaining_loss(index.copies, losses, extinction.replayed, documents)
        return documents, {"expected_loss": float(losses.sum()), "expected_loss_replayed": after}

    @cached_property
    def _items(self) -> "ItemIndex":
        return ItemIndex(self._sequences_of(self.real))

    def _sequences_of(self, data: TokenData) -> Sequences:
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

    def __init__(self, documents: Sequences) -> None:
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

    def count(self, texts: Sequences) -> NDArray[np.float64]:
        """(V,): how often each item occurs in `texts`."""
        counts = []
        for n, known in enumerate(self._keys, start=1):
            keys = self._grams(texts, n)[1]
            places = np.searchsorted(known, keys)
            places = places[np.append(known, _BREAK)[places] == keys]
            counts.append(np.bincount(places, minlength=len(known)))
        return np.concatenate(counts).astype(np.float64)

    def _grams(self, sequences: Sequences, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
        for view, tokens in samples.items():
            if self.world is None:
                values = self._coverage(set(words_of(replayed)), tokens)
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
