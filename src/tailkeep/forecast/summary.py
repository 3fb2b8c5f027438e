"""The summary, the table and the sentences of a forecast, from the counts of its shards.

Rule: drift alone is a reference, named as one; a forecast is a number only where it was validated
(docs/forecast/validation.md).
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
from tailkeep.forecast.validate import VALIDATED_ITEMS, is_validated
from tailkeep.metrics import Migration, required_real_share
from tailkeep.runs import csv_text

Tree = dict[str, Any]


def sentences(name: str, part: Tree, config: ForecastConfig) -> Iterator[str]:
    """What the figures of one length of n-grams say: of each synthetic text first, then of drift, the reference."""
    tail = config.tail
    rare = f"{name} that occur {occurrences(tail.max_count)}"
    for side, tree in part["synthetic"].items():
        yield from _synthetic_sentences(side, name, tree, config)
    if not part["tail_types"]:
        yield f"No {rare}: there is no such tail to lose."
        return
    curve = next(iter(part["drift"]))
    yield (
        f"Of {name} that occur {band_words(curve['band'])}, drift alone leaves {share_words(curve)} after "
        f"{_count(config.generations)} without real data."
    )
    accumulated = next(row for row in part["drift"] if row["regime"] == "accumulate")
    yield (
        f"With all real data kept beside all synthetic text drift alone leaves {share_words(accumulated)} of {name} "
        f"that occur {band_words(accumulated['band'])}."
    )
    held = f"{_percent(tail.keep)} of {rare}"
    if (share := part["required_real_share"]) is None:
        yield f"Under drift alone no share of real data in the training sets holds {held}."
    elif share == 0:
        yield f"Drift alone holds {held} without real data."
    else:
        yield f"Under drift alone, keep {_percent(share)} real data in each training set to hold {held}."
    if not part["synthetic"]:
        yield "Drift alone is what an unbiased sampler costs any corpus, a reference: --synthetic forecasts a model."


def _synthetic_sentences(side: str, name: str, tree: Tree, config: ForecastConfig) -> Iterator[str]:
    label, first = next(iter(tree["round_1"].items()))
    times = band_words(label)
    curve = next((curve for curve in tree["forecast"] if (curve["regime"], curve["band"]) == ("replace", label)), None)
    if curve:
        yield (
            f"{side}: of {name} that occur {times}, {share_words(curve)} are left after {_count(config.generations)} "
            "without real data."
        )
    lost, exposure = first["drift"] - first["alive"], tree["exposure"]
    size = " in as much text" if exposure < _SAME_SIZE else ""
    yield (
        f"{side}: the text holds {_percent(first['alive'])} of the {name} that occur {times}; drift alone would leave "
        f"{_percent(first['drift'])}{size}. {_loss_words(lost, first)}"
    )
    if exposure < _SAME_SIZE:
        note = " What is left is counted in texts of its size." if exposure >= MIN_EXPOSURE else ""
        yield f"{side}: it is {_percent(exposure)} as long as the real text in {name}.{note} Give as much text."
    b = tree["exponent"]
    if b["low"] > 1:
        verdict = "significantly above 1: rare ones are written less often than their share"
    elif b["high"] < 1:
        verdict = "significantly below 1: rare ones are written more often than their share"
    else:
        verdict = "no significant difference from 1, drift alone"
    interval = f"95 % CI {b['low']:.2f} to {b['high']:.2f}"
    yield f"{side}: selection exponent b of {name} = {b['value']:.2f} ({interval}), {verdict}."
    if exposure < MIN_EXPOSURE:
        yield (
            f"{side}: no forecast from less than {_percent(MIN_EXPOSURE)} of the real text's {name}. "
            "Drift alone below is a reference."
        )


def _loss_words(lost: float, first: Tree) -> str:
    """What became of the rarest items beyond drift; `lost` is the share that is missing, negative where more is there.

    A model may have learnt its corpus by heart, so a text that holds too much is no error.
    """
    error = math.sqrt(first["drift"] * (1 - first["drift"]) / first["independent"])
    if lost > max(0.005, _LOST_ERRORS * error):
        return f"{100 * lost:.0f} percentage points were not learnt, or were truncated."
    if lost < -max(_COPIED, _COPIED_ERRORS * error):
        return (
            f"That is {-100 * lost:.0f} percentage points more than an unbiased sampler leaves. Check that the text is "
            "no copy of the corpus, nor of a part of it."
        )
    return "Drift alone can explain what is lost."


def _gate_sentences(items: Mapping[str, Tree], config: ForecastConfig) -> Iterator[str]:
    """Which regimes have no forecast, for whatever items and texts of the real size: the decoder alone decides it."""
    silent = [name for name in items if name not in _VALIDATED_NAMES and items[name]["synthetic"]]
    if silent:
        yield f"There is no forecast of {' and '.join(silent)}: {' and '.join(_VALIDATED_NAMES)} were validated."
    decoders: dict[tuple[str, ...], dict[str, None]] = {}
    spoken = [part["synthetic"] for name, part in items.items() if name in _VALIDATED_NAMES]
    for side, tree in (pair for sides in spoken for pair in sides.items()):
        if tree["exposure"] >= MIN_EXPOSURE and tree["cannot_tell"]:
            decoders.setdefault(tuple(tree["cannot_tell"]), {})[config.decoder_of(side)] = None
    for regimes, names in decoders.items():
        hint = " Name it with --decoder." if "unknown" in names else ""
        yield (
            f"There is no forecast for {', '.join(regimes)}: none was validated from one text decoded so (decoder: "
            f"{', '.join(names)}).{hint} What is said of drift alone is a reference."
        )


def _count(generations: int) -> str:
    return "1 generation" if generations == 1 else f"{generations} generations"


def band_words(band: str) -> str:
    """How often items of `band` occur, such as `once` or `2-3 times`."""
    return "once" if band == "1" else f"{band} times"


def occurrences(max_count: int) -> str:
    """How often the items of a tail occur, such as `once` or `at most 3 times`."""
    return "once" if max_count == 1 else f"at most {max_count} times"


def share_words(curve: Tree) -> str:
    """The last generation of a curve with its 90 % interval, such as `16 % (15 to 17)`."""
    low, middle, high = (curve["quantiles"][-1][index] for index in (0, 2, 4))
    return f"{_percent(middle)} ({100 * low:.0f} to {100 * high:.0f})"


def _percent(share: float) -> str:
    """Such as `16 %`; a share that would be printed as 0 % keeps its first digit: `0.1 %`."""
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.005 else f"{100 * share:.1g} %"


Local = Callable[[str], Path]
"""The name of an output file -> the path of a local copy."""

MIN_EXPOSURE = 0.5
"""A text shorter than this share of the real one gives no forecast: a few documents say that all else is gone."""
_SAME_SIZE = 0.95
_COPIED = 0.05
"""So much more of the rarest items than drift alone leaves is said to be suspicious, if it is no chance."""
_COPIED_ERRORS = 4
_LOST_ERRORS = 2
"""A share that is missing is said to be lost beyond so many standard errors of what drift alone leaves."""
_FEWER = "Give longer documents, or a smaller --max-n."
ITEM_NAMES = {1: "words", 2: "pairs of words", 3: "runs of three words"}
_KINDS = {"words": ITEM_NAMES[1], "pairs": ITEM_NAMES[2]}
_VALIDATED_NAMES = [name for kind, name in _KINDS.items() if kind in VALIDATED_ITEMS]
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
            part["synthetic"][side] = _synthetic(side, pairs, fitted, config, rows, name)
        summary["items"][name] = part
        summary["sentences"] += list(sentences(name, part, config))
    summary["sentences"] += list(_gate_sentences(summary["items"], config))
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
        "bands": {band.label: sum(band.part_of(spectrum).values()) for band in BANDS},
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
            band.label: {
                "types": fitted.types[band],
                "independent": fitted.independent[band],
                "alive": fitted.alive[band],
                "drift": fitted.drift[band],
            }
            for band in BANDS
            if fitted.types[band]
        },
        "new_types": pairs.new_types,
        "forecast": [],
        "cannot_tell": [],
    }
    # How regenerated real data arrive is not known of one text.
    for migration in [migration for migration in config.migrations if migration.regime != "regenerate"]:
        validated = name in _VALIDATED_NAMES and is_validated(migration.regime, config.decoder_of(side), 1)
        if pairs.exposure < MIN_EXPOSURE or not validated:
            tree["cannot_tell"].append(migration.regime)
            continue
        for band in BANDS:
            if not fitted.types[band] or config.generations == 1:
                continue
            rng = np.random.default_rng([config.seed, band.first])
            shares = forecast_survival(
                MeasuredItems.of(pairs, band), fitted.fit, migration, config.generations - 1,
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
