"""Forecasts scored on chains whose later rounds are known, beside rivals, and the gate that follows from them.

Rule: what is scored, on which chains, and what the gate asks for stands in docs/forecast/validation.md, written before
the scores.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.hashing import mix_bits
from tailkeep.forecast.counts import BANDS, GROUPS, CountBand, Floats, RoundPairs, TextCounts, count_texts, count_words
from tailkeep.forecast.fit import RoundFit, Shrinkage, fit_round
from tailkeep.forecast.project import MeasuredItems, drift_survival, forecast_survival
from tailkeep.metrics import DRIFT_REGIMES, CountHistory, Migration, mean_training_counts

MIN_ITEMS = 10
"""A band with fewer items is not scored."""
MEASURED_ROUNDS = (1, 2)
REAL_DATA_REGIMES = frozenset({"mix", "weighted", "accumulate", "accumulate_subsample"})


@dataclass(frozen=True, eq=False)
class CountedChain:
    """One kind of items in one chain.

    Attributes:
        chain: the run, arm and seed.
        kind: words, pairs, facts or modes.
        migration: its regime; `regenerate` is replacement, since only the first part's own descent is counted.
        regime: the regime's name.
        decoder: sampled, truncated, deterministic or none.
        real: (V,) real counts.
        rounds: (V, K) counts in each round, by group of documents, cut to the real text's size.
        exposures: the size of each round over the real one's.
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

    @property
    def totals(self) -> list[Floats]:
        """(V,) counts in each round."""
        return [groups.sum(axis=1) for groups in self.rounds]

    def pairs(self, measured: int) -> RoundPairs:
        """The items beside round `measured`, their trained counts by the regime."""
        earlier = self.totals[: measured - 1]
        scaled = [text / exposure for text, exposure in zip(earlier, self.exposures, strict=False)]
        trained = mean_training_counts(CountHistory(self.real, tuple(scaled)), self.migration)
        pairs = RoundPairs(self.exposures[measured - 1])
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


@dataclass(frozen=True)
class ForecastPoint:
    """One scored point: survival of one band of one chain in one round, `ahead` rounds after `measured` ones.

    Attributes:
        truth: the measured survival.
        quantiles: of the forecast, at `project.LEVELS`.
        crps: of the forecast's draws, in units of survival.
        rivals: the forecast of each rival.
    """

    run: str
    chain: str
    kind: str
    regime: str
    decoder: str
    measured: int
    ahead: int
    band: CountBand
    types: int
    truth: float
    quantiles: tuple[float, ...]
    crps: float
    rivals: Mapping[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """The absolute error of the median."""
        return abs(self.quantiles[2] - self.truth)

    def covered(self, level: int) -> bool:
        """Whether the central interval of `level` 50 or 90 % contains the truth."""
        low, high = (self.quantiles[1], self.quantiles[3]) if level == 50 else (self.quantiles[0], self.quantiles[4])
        return low <= self.truth <= high


def score_chain(counted: CountedChain, shrinkage: Shrinkage, *, draws: int, seed: int) -> Iterator[ForecastPoint]:
    """Every point of `counted`: forecasts after each of `MEASURED_ROUNDS`, for all later rounds."""
    for measured in MEASURED_ROUNDS:
        ahead = len(counted.rounds) - measured
        if ahead < 1:
            continue
        pairs = counted.pairs(measured)
        try:
            fitted = fit_round(pairs)
        except ValueError:
            # A collapsed text holds too little for a kernel.
            continue
        for band in BANDS:
            if pairs.band_types(band) >= MIN_ITEMS:
                yield from _score_band(counted, pairs, fitted, band, measured, ahead, shrinkage, draws, seed)


def _score_band(
    counted: CountedChain,
    pairs: RoundPairs,
    fitted: RoundFit,
    band: CountBand,
    measured: int,
    ahead: int,
    shrinkage: Shrinkage,
    draws: int,
    seed: int,
) -> Iterator[ForecastPoint]:
    items = MeasuredItems.of(pairs, band)
    rng = np.random.default_rng([seed, measured, band.first])
    shares = forecast_survival(items, fitted.fit, counted.migration, ahead, shrinkage=shrinkage, draws=draws, rng=rng)
    drift = drift_survival(items, counted.migration, ahead, rng)
    inside = band.mask(counted.real)
    alive = [(total[inside] > 0).mean() for total in counted.totals]
    cutoff = _cutoff_survival(counted, measured, inside)
    for step in range(ahead):
        quantiles = np.quantile(shares[:, step], (0.05, 0.25, 0.5, 0.75, 0.95))
        truth = float(alive[measured + step])
        rivals = {"unchanged": float(alive[measured - 1]), "drift": float(drift[step])}
        if cutoff is not None:
            rivals["cutoff"] = cutoff
        yield ForecastPoint(
            counted.run, counted.chain, counted.kind, counted.regime, counted.decoder, measured, step + 1, band,
            pairs.band_types(band), truth, tuple(quantiles.tolist()), crps(shares[:, step], truth), rivals,
        )  # fmt: skip


def _cutoff_survival(counted: CountedChain, measured: int, inside: NDArray[np.bool_]) -> float | None:
    """The mixture law of arXiv 2511.13640: items up to a cutoff rank are learnt, those beyond from real data alone."""
    share = counted.migration.real_share
    if not share:
        return None
    real = counted.real
    alive = int(((counted.totals[measured - 1] > 0) & (real > 0)).sum())
    ranks = np.empty(len(real), np.int64)
    ranks[np.argsort(-real, kind="stable")] = np.arange(len(real))
    survives = np.where(ranks < alive, 1.0, -np.expm1(-share * real))
    return float(survives[inside].mean())


def crps(draws: Floats, truth: float) -> float:
    """The continuous ranked probability score of `draws` (D,): E|X - y| - E|X - X'| / 2 (Gneiting and Raftery 2007)."""
    ordered = np.sort(draws)
    size = len(ordered)
    weights = 2 * np.arange(1, size + 1) - size - 1
    spread = 2 * float(weights @ ordered) / size**2
    return float(np.abs(ordered - truth).mean()) - spread / 2


def mean_over_runs(points: Sequence[ForecastPoint], score: Callable[[ForecastPoint], float]) -> float:
    """The mean over runs of the mean `score` of their points."""
    by_run: dict[str, list[float]] = {}
    for point in points:
        by_run.setdefault(point.run, []).append(score(point))
    return float(np.mean([np.mean(scores) for scores in by_run.values()]))


GATE = frozenset(
    [
        ("real data kept", "truncated", 2),
        ("replaced", "sampled", 1),
        ("replaced", "sampled", 2),
        ("replaced", "truncated", 1),
        ("replaced", "truncated", 2),
    ]
)
"""The groups in which the tool gives a number, by the development half of docs/forecast/validation.md."""


def can_tell(regime: str, decoder: str, measured: int) -> bool:
    """Whether the forecast was validated in this group; an unknown decoder needs all of them."""
    kept_or_not = "real data kept" if regime in REAL_DATA_REGIMES else "replaced"
    decoders = ("sampled", "truncated", "deterministic") if decoder == "unknown" else (decoder,)
    return all((kept_or_not, name, measured) in GATE for name in decoders)
