"""The summary and the table of a forecast, from the counts of its shards.

Rule: drift alone is a reference, named as one; a forecast is a number only where docs/forecast.md validated it.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.data.corpus import Manifest, SummaryOutcome
from tailkeep.errors import InputError
from tailkeep.forecast.config import ForecastConfig
from tailkeep.forecast.counts import BANDS, CountBand, Floats, RoundPairs, join_tables, read_spectrum
from tailkeep.forecast.fit import SHRINKAGE, RoundFit, fit_round
from tailkeep.forecast.project import LEVELS, MeasuredItems, forecast_survival, neutral_survival, required_share_by_fit
from tailkeep.forecast.sentences import sentences
from tailkeep.forecast.shard import CORPUS, num_groups, side_of
from tailkeep.forecast.validate import can_tell
from tailkeep.metrics import Migration, required_real_share

Local = Callable[[str], Path]
"""The name of an output file -> the path of a local copy."""
Tree = dict[str, Any]

_MEGABYTE = 1 << 20
ITEM_NAMES = {1: "words", 2: "pairs of words", 3: "runs of three words"}
COLUMNS = ("items", "text", "regime", "real_share", "band", "types", "generation", "p5", "p25", "p50", "p75", "p95")


@dataclass(frozen=True)
class ForecastOutcome(SummaryOutcome):
    """The totals over the finished shards of a forecast, and its summary."""

    def lines(self) -> list[str]:
        """What the forecast says, one sentence per line."""
        return [*super().lines(), *self.summary.get("sentences", ())]


def summarize(config: ForecastConfig, manifests: Sequence[Manifest], local: Local) -> tuple[Tree, str]:
    """The summary of finished shards, and `tables/forecast.csv`.

    Raises:
        InputError: the real text has no word, or a synthetic one too little for a fit.
    """
    sides: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        sides.setdefault(side_of(manifest.shard), []).append(manifest)
    totals = {side: _totals(members) for side, members in sides.items()}
    if not totals[CORPUS]["words"]:
        raise InputError("--corpus holds no word. Give text, or name its field with --text-field.")
    shown = ("documents", "rejected", "words")
    summary: Tree = {
        "generations": config.generations,
        "texts": {side: {key: count[key] for key in shown} for side, count in totals.items()},
        "tail": config.tail.model_dump(),
        "items": {},
        "sentences": [],
    }  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    memory = config.memory_mb * _MEGABYTE // 2
    for length in range(1, config.max_n + 1):
        name = ITEM_NAMES[length]
        corpus = _paths(sides[CORPUS], length, 0, local)
        spectrum = read_spectrum(corpus, memory=memory)
        part = _neutral(spectrum, config, rows, name)
        for side in sorted(sides.keys() - {CORPUS}):
            exposure = totals[side][f"items/{length}"] / totals[CORPUS][f"items/{length}"]
            pairs = RoundPairs(max(exposure, 1e-9))
            tables = [_paths(sides[side], length, group, local) for group in range(num_groups(side))]
            for real, groups in join_tables(corpus, tables, memory=memory):
                pairs.add(real, real, groups)
            try:
                fitted = fit_round(pairs)
            except ValueError as error:
                raise InputError(f"--synthetic {side}: {error}") from None
            part["synthetic"][side] = _synthetic(side, pairs, fitted, config, rows, name)
        summary["items"][name] = part
        summary["sentences"] += list(sentences(name, part, config))
    return summary, _table(rows)


def _totals(manifests: Sequence[Manifest]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for manifest in manifests:
        for name, count in manifest.counts.items():
            totals[name] += int(count)
            if name.startswith("items/"):
                totals[name.rpartition("/")[0]] += int(count)
    return totals


def _paths(manifests: Sequence[Manifest], length: int, group: int, local: Local) -> list[Path]:
    return [local(f"items/{length}-{group}/{key}.parquet") for manifest in manifests for key in manifest.units]


def _neutral(spectrum: Mapping[int, int], config: ForecastConfig, rows: list[tuple[Any, ...]], name: str) -> Tree:
    neutral = []
    for migration in config.migrations:
        for result in neutral_survival(spectrum, migration, config.generations):
            rows += _rows(name, "drift alone", migration, result.band, result.types, result.quantiles, first=1)
            neutral.append(_curve(migration, result.band, result.types, result.quantiles))
    tail = [(count, number) for count, number in spectrum.items() if count <= config.tail.max_count]
    required = math.nan
    if tail:
        required = required_real_share(
            [count for count, _ in tail], [number for _, number in tail], config.tail.keep, config.generations
        )
    return {
        "types": sum(spectrum.values()),
        "tail_types": sum(number for _, number in tail),
        "bands": {
            band.label: sum(number for count, number in spectrum.items() if band.first <= count <= band.last)
            for band in BANDS
        },
        "drift": neutral,
        "required_real_share": None if math.isnan(required) else required,
        "synthetic": {},
    }


def _synthetic(
    side: str, pairs: RoundPairs, fitted: RoundFit, config: ForecastConfig, rows: list[tuple[Any, ...]], name: str
) -> Tree:
    kernel = fitted.fit.kernel
    low, high = fitted.fit.exponent_interval
    tree: Tree = {
        "exposure": pairs.exposure,
        "exponent": {"value": kernel.exponent, "low": low, "high": high, "types": fitted.fit.types},
        "exponent_by_range": {
            f"{first}-{last}": dict(zip(("value", "low", "high"), values, strict=True))
            for (first, last), values in fitted.ranges.items()
        },
        "dispersion": kernel.dispersion,
        "fitness_variance": kernel.fitness_variance,
        "round_1": {
            band.label: {"types": fitted.types[band], "alive": fitted.alive[band], "drift": fitted.drift[band]}
            for band in BANDS
            if fitted.types[band]
        },
        "new_types": pairs.new_types,
        "new_share": pairs.new_total / max(pairs.new_total + float(pairs.moments().totals.sum()), 1.0),
        "forecast": [],
        "cannot_tell": [],
        "required_real_share": None,
    }
    # How regenerated real data arrive is not known of one text.
    for migration in [migration for migration in config.migrations if migration.regime != "regenerate"]:
        if not can_tell(migration.regime, config.decoder, 1):
            tree["cannot_tell"].append(migration.regime)
            continue
        for band in BANDS:
            if not fitted.types[band] or config.generations == 1:
                continue
            rng = np.random.default_rng([config.seed, band.first])
            shares = forecast_survival(
                MeasuredItems.of(pairs, band), fitted.fit, migration, config.generations - 1,
                shrinkage=SHRINKAGE, draws=config.draws, rng=rng, fit_migration=Migration(),
            )  # fmt: skip
            quantiles = np.quantile(shares, LEVELS, axis=0).T
            rows += _rows(name, side, migration, band, fitted.types[band], quantiles, first=2)
            tree["forecast"].append(_curve(migration, band, fitted.types[band], quantiles))
    tree["cannot_tell"] = list(dict.fromkeys(tree["cannot_tell"]))
    tail = MeasuredItems.of_tail(pairs, config.tail.max_count)
    if tail and config.generations > 1 and can_tell("mix", config.decoder, 1):
        required = required_share_by_fit(
            tail, fitted.fit, config.tail.keep, config.generations - 1,
            shrinkage=SHRINKAGE, draws=min(config.draws, 40), seed=config.seed,
        )  # fmt: skip
        tree["required_real_share"] = [None if math.isnan(share) else share for share in required]
    return tree


def _curve(migration: Migration, band: CountBand, types: int, quantiles: Floats) -> Tree:
    return {
        "regime": migration.regime,
        "real_share": migration.real_share,
        "band": band.label,
        "types": types,
        "quantiles": quantiles.tolist(),
    }


def _rows(
    name: str, text: str, migration: Migration, band: CountBand, types: int, quantiles: Floats, *, first: int
) -> Iterator[tuple[Any, ...]]:
    for generation, values in enumerate(quantiles.tolist(), first):
        yield (name, text, migration.regime, migration.real_share, band.label, types, generation, *values)


def _table(rows: Sequence[tuple[Any, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return out.getvalue()
