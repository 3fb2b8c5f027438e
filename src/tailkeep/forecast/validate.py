"""Forecasts of the chains of a laboratory run from their first rounds, scored on the later ones, and the gate for them.

`run_chains` writes:

    run.json  config.yaml  summary.json  tables/forecast.csv  report.html

Rules: what is scored, on which chains, and what the gate asks for stands in docs/forecast/validation.md, written before
the scores. Later rounds are read to score, never to fit; a group that was not validated is named beside its figures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.data.corpus import dump_config
from tailkeep.errors import ConfigError, InputError
from tailkeep.forecast.config import ForecastConfig
from tailkeep.forecast.counted_chains import CountedChain
from tailkeep.forecast.counts import BANDS, CountBand, Floats, RoundPairs
from tailkeep.forecast.project import (
    LEVELS,
    SHRINKAGE,
    MeasuredItems,
    RoundFit,
    Shrinkage,
    drift_survival,
    fit_round,
    forecast_survival,
)
from tailkeep.runs import RunDirectory, RunRecord, csv_text, sealed_text, versions

MIN_ITEMS = 10
"""A band with fewer items is not scored."""
MEASURED_ROUNDS = (1, 2)
REAL_DATA_REGIMES = frozenset({"mix", "weighted", "accumulate", "accumulate_subsample"})


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

    @property
    def group(self) -> tuple[str, str, int]:
        """The group of the gate: whether real data are kept, the decoder, the measured rounds."""
        return _kept_or_not(self.regime), self.decoder, self.measured

    @property
    def is_validated(self) -> bool:
        """Whether forecasts of such items in this group passed the gate."""
        return self.kind in VALIDATED_ITEMS and is_validated(self.regime, self.decoder, self.measured)

    def rival_error(self, rival: str) -> float:
        """The absolute error of `rival`."""
        return abs(self.rivals[rival] - self.truth)

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
    alive = [living[inside].mean() for living in counted.alive]
    cutoff = _cutoff_survival(counted, measured, inside)
    for step in range(ahead):
        quantiles = np.quantile(shares[:, step], LEVELS)
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
    alive = round(float(counted.alive[measured - 1][real > 0].sum()))
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
"""The groups that passed by the development half of docs/forecast/validation.md. `tailkeep forecast --synthetic` has
one measured round; the groups of two say which forecasts of a laboratory run can be relied on."""
HORIZON = 5
"""The rounds ahead of the last measured one up to which words and pairs were scored on the development half."""
VALIDATED_ITEMS = frozenset({"words", "pairs"})
"""The kinds of items of those scores."""


def is_validated(regime: str, decoder: str, measured: int) -> bool:
    """Whether the forecast was validated in this group; an unknown decoder needs all of them."""
    decoders = ("sampled", "truncated", "deterministic") if decoder == "unknown" else (decoder,)
    return all((_kept_or_not(regime), name, measured) in GATE for name in decoders)


def _kept_or_not(regime: str) -> str:
    return "real data kept" if regime in REAL_DATA_REGIMES else "replaced"


_CONFIG_KEYS = ("draws", "seed")
_QUANTILES = [f"p{round(100 * level)}" for level in LEVELS]


def check_chain_config(config: ForecastConfig) -> None:
    """Check that `config` has only keys that the forecast of a laboratory run reads.

    Raises:
        ConfigError: another key is set.
    """
    defaults = ForecastConfig()
    for key in sorted(ForecastConfig.model_fields.keys() - set(_CONFIG_KEYS)):
        if getattr(config, key) != getattr(defaults, key):
            raise ConfigError(
                f"{key} has no effect in the forecast of a laboratory run, which reads {' and '.join(_CONFIG_KEYS)} "
                "alone and goes as far as its chains. Remove it."
            )


def run_chains(
    config: ForecastConfig, counted: Sequence[CountedChain], out: Path, *, source: str, skipped: Sequence[str] = ()
) -> list[str]:
    """Forecast and score `counted` chains into `out`. Return what the scores say, one sentence per line.

    Args:
        config: its `draws` and `seed` count; how far ahead is as far as the chains go.
        counted: the chains, see `counted_chains.count_chain`.
        out: a folder, new or with this very forecast.
        source: the fingerprint of the laboratory run.
        skipped: the chains of the run that are not among `counted`, each with the reason.

    Raises:
        ConfigError: another key of `config` is set.
        InputError: no chain has a regime that can be forecast and a band of `MIN_ITEMS` items.
        TailkeepError: `out` holds another run or cannot be written.
    """
    check_chain_config(config)
    scores = [list(score_chain(chain, SHRINKAGE, draws=config.draws, seed=config.seed)) for chain in counted]
    points = [point for scored in scores for point in scored]
    unscored = [line for chain, scored in zip(counted, scores, strict=True) for line in _unscored(chain, scored)]
    if not points:
        raise InputError(
            "no chain can be forecast. It takes a regime with real or generated data only (not select, edit, revise, "
            f"rephrase, replay or fresh_only), three generations, and a frequency band with at least {MIN_ITEMS} items."
        )
    packages = versions("numpy", "scipy")
    sources = {"config": config.fingerprint_tree(), "run": source, "packages": packages}
    record = RunRecord.of("forecast", sources, installed=packages, seeds=(config.seed,))
    by_rounds = [_round_scores(points, measured) for measured in sorted({point.measured for point in points})]
    missing = (f"Not forecast: {line}." for line in [*skipped, *unscored])
    lines = [*_score_sentences(by_rounds), *_gate_sentences(points), *missing]
    with RunDirectory.create(out, record, config=dump_config(config)) as directory:
        tree = {"fingerprint": record.fingerprint, "chains": [_tree(point) for point in points]}
        tree |= {"scores": by_rounds, "sentences": lines}
        directory.storage.write_text(out / "tables" / "forecast.csv", _table(points))
        directory.storage.write_text(out / "summary.json", sealed_text(tree))
    return lines


def _unscored(chain: CountedChain, points: Sequence[ForecastPoint]) -> Iterator[str]:
    name = f"{chain.chain}, {chain.kind}"
    if not points:
        yield f"{name} (too little text, or fewer than {MIN_ITEMS} items in every band)"
        return
    scored = {point.measured for point in points}
    for measured in MEASURED_ROUNDS:
        if measured < len(chain.rounds) and measured not in scored:
            yield f"{name}, {measured} measured (the text of round {measured} has too little for a kernel)"


def _tree(point: ForecastPoint) -> dict[str, Any]:
    tree = {item.name: getattr(point, item.name) for item in fields(point)}
    return {**tree, "band": point.band.label, "validated": point.is_validated}


def _table(points: Sequence[ForecastPoint]) -> str:
    names = ("chain", "kind", "regime", "decoder", "measured", "ahead", "band", "types", "truth", "crps", "validated")
    rivals = ("unchanged", "drift", "cutoff")
    rows = (
        [*(tree[name] for name in names), *point.quantiles, *(point.rivals.get(name, "") for name in rivals)]
        for point, tree in ((point, _tree(point)) for point in points)
    )
    return csv_text([*names, *_QUANTILES, *rivals], rows)


def _round_scores(points: Sequence[ForecastPoint], measured: int) -> dict[str, float]:
    """Of the forecasts from so many rounds: mean absolute errors of survival, and the coverage of 90 % intervals."""
    members = [point for point in points if point.measured == measured]
    return {
        "measured": measured,
        "measurements": len(members),
        "error": mean_over_runs(members, lambda point: point.error),
        "unchanged": mean_over_runs(members, lambda point: point.rival_error("unchanged")),
        "drift": mean_over_runs(members, lambda point: point.rival_error("drift")),
        "covered": mean_over_runs(members, lambda point: float(point.covered(90))),
    }


def _score_sentences(scores: Sequence[Mapping[str, float]]) -> Iterator[str]:
    for score in scores:
        rounds = "1 measured round" if score["measured"] == 1 else f"{score['measured']} measured rounds"
        yield (
            f"After {rounds}: mean absolute error of survival {score['error']:.3f} (unchanged "
            f"{score['unchanged']:.3f}, drift alone {score['drift']:.3f}); 90 % intervals contain "
            f"{100 * score['covered']:.0f} % of {score['measurements']:,} later measurements."
        )


def _gate_sentences(points: Sequence[ForecastPoint]) -> Iterator[str]:
    silent: dict[tuple[str, str, int], dict[str, None]] = {}
    for p in points:
        if not p.is_validated:
            silent.setdefault((p.regime, p.decoder, p.measured), {})[p.kind] = None
    for (regime, decoder, measured), kinds in sorted(silent.items()):
        yield (
            f"Not validated: {' and '.join(kinds)}, {regime}, decoder {decoder}, {measured} measured. Such a forecast "
            "is no number to rely on."
        )
