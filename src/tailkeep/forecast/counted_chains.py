"""The items of a laboratory run's chains, counted in the texts of all rounds.

Rule: what an item, a round and its size are stands in docs/forecast/validation.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tailkeep.data.hashing import mix_bits
from tailkeep.forecast.counts import (
    GROUPS,
    Floats,
    RoundPairs,
    TextCounts,
    alive_after_thinning,
    count_texts,
    count_words,
)
from tailkeep.metrics import DRIFT_REGIMES, CountHistory, Migration, mean_training_counts


@dataclass(frozen=True, eq=False)
class CountedChain:
    """One kind of items in one chain.

    Attributes:
        chain: the arm and seed.
        run: the laboratory run, a recipe in the validation.
        kind: words, pairs, facts or modes.
        migration: its regime; `regenerate` is replacement, since only the first part's own descent is counted.
        regime: the regime's name.
        decoder: sampled, truncated, deterministic or none.
        real: (V,) real counts.
        rounds: (V, K) counts in each round, by group of documents, cut to the real text's number of words or facts.
        exposures: the size of each round in items over the real one's; of pairs of words, of which longer documents
            hold more, it may exceed 1.
    """

    chain: str
    run: str
    kind: str
    migration: Migration
    regime: str
    decoder: str
    real: Floats
    rounds: Sequence[Floats]
    exposures: Sequence[float]

    @cached_property
    def totals(self) -> list[Floats]:
        """(V,) counts in each round."""
        return [groups.sum(axis=1) for groups in self.rounds]

    @cached_property
    def alive(self) -> list[Floats]:
        """(V,) in each round, the probability that an item is in as many items as the real text has."""
        return [alive_after_thinning(*pair) for pair in zip(self.totals, self.exposures, strict=True)]

    def pairs(self, measured: int) -> RoundPairs:
        """The items beside round `measured`, their trained counts by the regime."""
        earlier = self.totals[: measured - 1]
        history = CountHistory(self.real, tuple(earlier))
        trained = mean_training_counts(history, self.migration, self.exposures[: measured - 1])
        pairs = RoundPairs(self.exposures[measured - 1], tuple(self.exposures[: measured - 1]))
        pairs.add(self.real, trained, self.rounds[measured - 1], earlier)
        return pairs


def count_chain(
    texts: Sequence[Sequence[str]],
    labels: Mapping[str, Sequence[Sequence[Sequence[int]]]],
    *,
    run: str,
    chain: str,
    regime: str,
    real_share: float,
    decoder: str,
) -> list[CountedChain]:
    """Every kind of items of a chain; empty for a regime that the theory has no case for."""
    if regime not in DRIFT_REGIMES:
        return []
    counted: dict[str, list[TextCounts]] = {}
    if texts:
        limit = count_words(texts[0])
        for length, kind in ((1, "words"), (2, "pairs")):
            counted[kind] = [count_texts(documents, length, limit=limit) for documents in texts]
    for kind, rounds in labels.items():
        size = sum(map(len, rounds[0]))
        counted[kind] = [count_labels(documents, size) for documents in rounds]
    share = real_share if regime in {"mix", "weighted"} else 0.0
    migration = Migration() if regime == "regenerate" else Migration(regime, share)
    return [
        CountedChain(chain, run, kind, migration, regime, decoder, *_aligned(corpora))
        for kind, corpora in counted.items()
    ]


def count_labels(documents: Sequence[Sequence[int]], limit: int) -> TextCounts:
    """The first `limit` items that `documents` state; document i is in group i % `GROUPS`."""
    items = [(item, number % GROUPS) for number, document in enumerate(documents) for item in document][:limit]
    labels, groups = np.array(items, np.int64).reshape(-1, 2).T
    hashes, index = np.unique(mix_bits(labels.astype(np.uint64)), return_inverse=True)
    counts = np.zeros((len(hashes), GROUPS))
    np.add.at(counts, (index, groups), 1.0)
    return TextCounts(hashes, counts)


def _aligned(corpora: Sequence[TextCounts]) -> tuple[Floats, list[Floats], list[float]]:
    items = np.unique(np.concatenate([corpus.hashes for corpus in corpora]))
    real, *rounds = (corpus.align(items) for corpus in corpora)
    size = real.sum()
    return real.sum(axis=1), rounds, [max(float(groups.sum() / size), 1e-9) for groups in rounds]
