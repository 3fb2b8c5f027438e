"""Forecasts of the chains of a laboratory run from their first rounds, scored on the later ones.

    run.json  config.yaml  summary.json  tables/forecast.csv  report.html

Rule: later rounds are read to score, never to fit; a group that was not validated is named beside its figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tailkeep.data.corpus import dump_config
from tailkeep.errors import ConfigError, InputError
from tailkeep.forecast.config import ForecastConfig
from tailkeep.forecast.fit import SHRINKAGE
from tailkeep.forecast.project import LEVELS
from tailkeep.forecast.validate import MIN_ITEMS, CountedChain, ForecastPoint, can_tell, mean_over_runs, score_chain
from tailkeep.runs import RunDirectory, RunRecord, csv_text, sealed_text, versions

_CONFIG_KEYS = ("draws", "seed")
_QUANTILES = [f"p{round(100 * level)}" for level in LEVELS]


def run_chains(
    config: ForecastConfig, counted: Sequence[CountedChain], out: Path, *, source: str, skipped: Sequence[str] = ()
) -> list[str]:
    """Forecast and score `counted` chains into `out`. Return what the scores say, one sentence per line.

    Args:
        config: its `draws` and `seed` count; how far ahead is as far as the chains go.
        counted: the chains, see `validate.count_chain`.
        out: a folder, new or with this very forecast.
        source: the fingerprint of the laboratory run.
        skipped: the chains of the run that are not among `counted`, each with the reason.

    Raises:
        ConfigError: another key of `config` is set.
        InputError: no chain has a regime that can be forecast and a band of 10 items.
        TailkeepError: `out` holds another run or cannot be written.
    """
    defaults = ForecastConfig()
    for key in sorted(ForecastConfig.model_fields.keys() - set(_CONFIG_KEYS)):
        if getattr(config, key) != getattr(defaults, key):
            raise ConfigError(
                f"{key} has no effect in the forecast of a laboratory run, which reads {' and '.join(_CONFIG_KEYS)} "
                "alone and goes as far as its chains. Remove it."
            )
    scores = [list(score_chain(chain, SHRINKAGE, draws=config.draws, seed=config.seed)) for chain in counted]
    points = [point for scored in scores for point in scored]
    unscored = [
        f"{chain.chain}, {chain.kind} (too little text, or fewer than {MIN_ITEMS} items in every band)"
        for chain, scored in zip(counted, scores, strict=True)
        if not scored
    ]
    if not points:
        raise InputError(
            "no chain can be forecast. It takes a regime with real or generated data only (not select, edit, "
            "revise or replay), three generations, and a frequency band with at least 10 items."
        )
    packages = versions("numpy", "scipy")
    sources = {"config": config.fingerprint_tree(), "run": source, "packages": packages}
    record = RunRecord.of("forecast", sources, versions=packages, seeds=(config.seed,))
    by_rounds = [_score(points, measured) for measured in sorted({point.measured for point in points})]
    missing = (f"Not forecast: {line}." for line in [*skipped, *unscored])
    lines = [*_score_sentences(by_rounds), *_gate_sentences(points), *missing]
    with RunDirectory.create(out, record, config=dump_config(config)) as directory:
        tree = {"fingerprint": record.fingerprint, "chains": [_tree(point) for point in points]}
        tree |= {"scores": by_rounds, "sentences": lines}
        directory.storage.write_text(out / "tables" / "forecast.csv", _table(points))
        directory.storage.write_text(out / "summary.json", sealed_text(tree))
    return lines


def _tree(point: ForecastPoint) -> dict[str, Any]:
    tree = {item.name: getattr(point, item.name) for item in fields(point)}
    return {**tree, "band": point.band.label, "validated": can_tell(point.regime, point.decoder, point.measured)}


def _table(points: Sequence[ForecastPoint]) -> str:
    names = ("chain", "kind", "regime", "decoder", "measured", "ahead", "band", "types", "truth", "crps", "validated")
    rivals = ("unchanged", "drift", "cutoff")
    rows = (
        [*(tree[name] for name in names), *point.quantiles, *(point.rivals.get(name, "") for name in rivals)]
        for point, tree in ((point, _tree(point)) for point in points)
    )
    return csv_text([*names, *_QUANTILES, *rivals], rows)


def _score(points: Sequence[ForecastPoint], measured: int) -> dict[str, float]:
    """Of the forecasts from so many rounds: mean absolute errors of survival, and the coverage of 90 % intervals."""
    members = [point for point in points if point.measured == measured]
    return {
        "measured": measured,
        "measurements": len(members),
        "error": mean_over_runs(members, lambda point: point.error),
        "unchanged": mean_over_runs(members, lambda point: abs(point.rivals["unchanged"] - point.truth)),
        "drift": mean_over_runs(members, lambda point: abs(point.rivals["drift"] - point.truth)),
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
    silent = sorted(
        {(p.regime, p.decoder, p.measured) for p in points if not can_tell(p.regime, p.decoder, p.measured)}
    )
    for regime, decoder, measured in silent:
        yield (
            f"Not validated: {regime}, decoder {decoder}, {measured} measured. Without its later rounds tailkeep would "
            "give no number here."
        )
