"""The summary and the table of a forecast, from the counts of its shards.

Rule: a forecast is a number only where it was validated (docs/forecast/validation.md), and of at least `MIN_ITEMS`
items.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.data.corpus import MEGABYTE, Manifest, SummaryOutcome, side_of
from tailkeep.data.count_tables import read_spectrum
from tailkeep.errors import InputError
from tailkeep.forecast.config import ForecastConfig
from tailkeep.forecast.counts import (
    BANDS,
    CORPUS,
    CountBand,
    Floats,
    RoundPairs,
    join_tables,
    num_groups,
)
from tailkeep.forecast.project import (
    LEVELS,
    SHRINKAGE,
    MeasuredItems,
    RoundFit,
    fit_round,
    forecast_survival,
    neutral_survival,
)
from tailkeep.forecast.sentences import (
    ITEM_NAMES,
    MIN_EXPOSURE,
    VALIDATED_NAMES,
    Tree,
    gate_sentences,
    sentences,
    warning,
)
from tailkeep.forecast.validate import HORIZON, MIN_ITEMS, is_validated
from tailkeep.metrics import Migration, required_real_share
from tailkeep.runs import csv_text

Local = Callable[[str], Path]
"""The name of an output file -> the path of a local copy."""

_FEWER = "Give longer documents, or a smaller --max-n."
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
        InputError: a text has no word, or a synthetic one is a copy of the real one or has too little for a fit.
    """
    sides: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        sides.setdefault(side_of(manifest.shard), []).append(manifest)
    totals = {side: _totals(members) for side, members in sides.items()}
    for side, count in totals.items():
        if not count["words"]:
            files = [manifest.shard.removeprefix(f"{side}/") for manifest in sides[side]]
            raise InputError(
                f"{_option(side)} holds no word. Files: {len(files):,}, the first is {files[0]}; documents: "
                f"{count['documents']:,}. Give text, or name its field with --text-field."
            )
    shown = ("documents", "rejected", "words")
    summary: Tree = {
        "generations": config.generations,
        "texts": {side: {key: count[key] for key in shown} for side, count in totals.items()},
        "tail": config.tail.model_dump(),
        "items": {},
        "sentences": [],
    }  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    memory = config.memory_mb * MEGABYTE // 2
    for length in range(1, config.max_n + 1):
        name = ITEM_NAMES[length]
        corpus = _paths(sides[CORPUS], length, 0, local)
        spectrum = read_spectrum(corpus, memory=memory)
        part = _neutral(spectrum, config, rows, name)
        for side in sorted(sides.keys() - {CORPUS}):
            real_total = totals[CORPUS][f"items/{length}"]
            if not real_total:
                raise InputError(f"--corpus holds no {name}, so --synthetic {side} says nothing of them. {_FEWER}")
            if not totals[side][f"items/{length}"]:
                raise InputError(f"--synthetic {side} holds no {name}. {_FEWER}")
            pairs = RoundPairs(totals[side][f"items/{length}"] / real_total)
            tables = [_paths(sides[side], length, group, local) for group in range(num_groups(side))]
            for real, groups in join_tables(corpus, tables, memory=memory):
                pairs.add(real, real, groups)
            if pairs.is_copy:
                raise InputError(
                    f"--synthetic {side} has each of the {name} as often as --corpus: it is a copy, which says nothing "
                    "of a model. Give text that a model wrote."
                )
            try:
                fitted = fit_round(pairs)
            except ValueError as error:
                raise InputError(f"--synthetic {side} beside --corpus, {name}: {error}") from None
            expected_new = spectrum.get(1, 0) / real_total
            part["synthetic"][side] = _synthetic(side, pairs, expected_new, fitted, config, rows, name)
        summary["items"][name] = part
        summary["sentences"] += list(sentences(name, part, config))
    summary["sentences"] += list(gate_sentences(summary["items"], config))
    return summary, csv_text(COLUMNS, rows)


def _option(side: str) -> str:
    return "--corpus" if side == CORPUS else f"--synthetic {side}"


def _totals(manifests: Sequence[Manifest]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for manifest in manifests:
        for name, count in manifest.counts.items():
            totals[name] += int(count)
            if name.startswith("items/"):
                totals[name.rpartition("/")[0]] += int(count)
    return totals


def _paths(manifests: Sequence[Manifest], length: int, group: int, local: Local) -> list[Path]:
    return [local(name) for manifest in manifests for name in manifest.files(f"items/{length}-{group}")]


def _neutral(spectrum: Mapping[int, int], config: ForecastConfig, rows: list[tuple[Any, ...]], name: str) -> Tree:
    tail_band = CountBand(1, config.tail.max_count)
    tail = tail_band.part_of(spectrum)
    neutral, of_tail = [], {}
    for migration in config.migrations:
        for result in neutral_survival(spectrum, migration, config.generations, (*BANDS, tail_band)):
            if result.types < MIN_ITEMS:
                continue
            curve = _curve(migration, result.band, result.types, result.quantiles)
            if result.band == tail_band and migration.regime in {"replace", "accumulate"}:
                of_tail[migration.regime] = curve
            if result.band in BANDS:
                rows += _rows(name, "drift alone", migration, result.band, result.types, result.quantiles, first=1)
                neutral.append(curve)
    required = math.nan
    if tail:
        required = required_real_share(list(tail), list(tail.values()), config.tail.keep, config.generations)
    return {
        "types": sum(spectrum.values()),
        "tail_types": sum(tail.values()),
        "bands": {band.label: sum(band.part_of(spectrum).values()) for band in BANDS},
        "drift": neutral,
        "tail": of_tail,
        "required_real_share": None if math.isnan(required) else required,
        "synthetic": {},
    }


def _synthetic(
    side: str,
    pairs: RoundPairs,
    expected_new: float,
    fitted: RoundFit,
    config: ForecastConfig,
    rows: list[tuple[Any, ...]],
    name: str,
) -> Tree:
    """`expected_new`: what share of fresh text like the real one is new, by Good and Turing (Good 1953)."""
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
            band.label: {
                "types": fitted.types[band],
                "independent": fitted.independent[band],
                "alive": fitted.alive[band],
                "drift": fitted.drift[band],
            }
            for band in BANDS
            if fitted.types[band] >= MIN_ITEMS
        },
        "new": {"types": pairs.new_types, "share": pairs.new_share, "expected": expected_new},
        "forecast": [],
        "cannot_tell": [],
    }
    tree["warning"] = warning(name, tree)
    ahead = min(config.generations - 1, HORIZON)
    # How regenerated real data arrive is not known of one text.
    for migration in [migration for migration in config.migrations if migration.regime != "regenerate"]:
        validated = name in VALIDATED_NAMES and is_validated(migration.regime, config.decoder_of(side), 1)
        if pairs.exposure < MIN_EXPOSURE or not validated:
            tree["cannot_tell"].append(migration.regime)
            continue
        for band in BANDS:
            if fitted.types[band] < MIN_ITEMS or not ahead:
                continue
            rng = np.random.default_rng([config.seed, band.first])
            shares = forecast_survival(
                MeasuredItems.of(pairs, band), fitted.fit, migration, ahead,
                shrinkage=SHRINKAGE, draws=config.draws, rng=rng,
            )  # fmt: skip
            quantiles = np.quantile(shares, LEVELS, axis=0).T
            rows += _rows(name, side, migration, band, fitted.types[band], quantiles, first=2)
            tree["forecast"].append(_curve(migration, band, fitted.types[band], quantiles))
    tree["cannot_tell"] = list(dict.fromkeys(tree["cannot_tell"]))
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
