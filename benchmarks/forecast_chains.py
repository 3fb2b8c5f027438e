"""The validation of the forecast: chains of shipped recipes, and their scores (docs/forecast/validation.md).

    python benchmarks/forecast_chains.py run development runs/forecast --data DATA
    python benchmarks/forecast_chains.py score development runs/forecast
    python benchmarks/forecast_chains.py score validation runs/forecast

`DATA` has text/wikitext2_train_prefix.txt, text/wikitext2_valid.txt, text/tinystories.txt,
kr_test/wikitext2_train_prefix.json and priors/stories260k. Rule: the split stands in the page and here, and nowhere
depends on a score; the validation half is scored with the constants and the gate of the package.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailkeep.errors import InputError
from tailkeep.forecast.counted_chains import CountedChain, count_chain
from tailkeep.forecast.counts import BANDS
from tailkeep.forecast.project import SHRINKAGE, fit_round
from tailkeep.forecast.validate import (
    GATE,
    ForecastPoint,
    mean_over_runs,
    score_chain,
)
from tailkeep.lab.chains import read_chains

DRAWS, SEED = 100, 0
ONE = ["seeds=[0]"]
WIKITEXT = [
    "data.path={data}/text/wikitext2_train_prefix.txt",
    "data.held_out_path={data}/text/wikitext2_valid.txt",
    "data.kr_test={data}/kr_test/wikitext2_train_prefix.json",
]
STORIES = ["data.path={data}/text/tinystories.txt", "model.path={data}/priors/stories260k"]
DECODERS = ("sample", "cool", "nucleus", "min-p", "matched")
HALVES: dict[str, dict[str, tuple[Sequence[str], Sequence[str]]]] = {
    "development": {
        "decoding": ([f"{name}-baseline-replace" for name in DECODERS], [*ONE, "generations=7"]),
        "weight-space": (["baseline", "low-rank", "accumulate"], [*ONE, "generations=7"]),
        "stopping": (["baseline", "finetune-1-epoch"], ["seeds=[3]", "generations=7"]),
        "wikitext2": (["baseline", "baseline-half-epochs"], [*ONE, "generations=7", *WIKITEXT]),
    },
    "validation": {
        "mixture": (["baseline", "drop-5", "drop-20", "accumulate"], ["generations=11", "record_every=1"]),
        "tinystories": (["greedy-baseline", "nucleus-baseline"], [*ONE, "generations=6", *STORIES]),
        "threshold": (["greedy-baseline", "nucleus-baseline", "sample-baseline"], [*ONE, "generations=7"]),
        "demo": (["baseline", "truncated", "accumulate"], [*ONE, "generations=8"]),
        "remedies": (["accumulate-subsample", "golden-weight", "half-real"], [*ONE, "generations=7"]),
    },
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "score"))
    parser.add_argument("half", choices=tuple(HALVES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parsed = parser.parse_args(arguments)
    if parsed.action == "run":
        run(parsed.half, parsed.folder, parsed.data)
    else:
        score(parsed.half, parsed.folder)


def run(half: str, folder: Path, data: Path) -> None:
    """Run every recipe of `half`, or go on with it."""
    for recipe, (arms, overrides) in HALVES[half].items():
        options = [option for text in overrides for option in ("--set", text.format(data=data))]
        command = ["lab", recipe, "--out", str(folder / half / recipe), "--arms", ",".join(arms), "--workers", "1"]
        subprocess.run(  # noqa: S603  (this very package)
            [sys.executable, "-m", "tailkeep", *command, *options], check=True
        )


def read_half(half: str, folder: Path) -> Iterator[CountedChain]:
    """Every kind of items of every chain; a recipe that did not run is named on stderr."""
    for recipe in HALVES[half]:
        path = folder / half / recipe
        if not (path / "run.json").is_file():
            print(f"not run: {recipe}", file=sys.stderr)
            continue
        try:
            written_chains, skipped = read_chains(path)
        except InputError as error:
            print(f"not scored: {error}", file=sys.stderr)
            continue
        for other in skipped:
            print(f"not scored: {recipe}, {other.line}", file=sys.stderr)
        for chain in written_chains:
            yield from count_chain(
                chain.texts,
                chain.labels,
                run=recipe,
                chain=f"{chain.arm}/{chain.seed}",
                regime=chain.regime,
                real_share=chain.real_share,
                decoder=chain.decoder,
            )


def score(half: str, folder: Path) -> None:
    """Print the tables of `half` in Markdown."""
    chains = list(read_half(half, folder))
    if half == "development":
        mean, spread = estimate_shrinkage([chain for chain in chains if chain.kind != "facts"])
        print(f"rho over chains: mean {mean:.2f}, standard deviation {spread:.2f}")
    print(f"constants: {SHRINKAGE}\n")
    scored = [point for chain in chains for point in score_chain(chain, SHRINKAGE, draws=DRAWS, seed=SEED)]
    # The page names words, pairs of words and modes; facts are exploratory.
    points = [point for point in scored if point.kind != "facts"]
    print_gate(points)
    if half == "validation":
        inside = [point for point in points if point.group in GATE]
        print_headline("inside the gate", inside)
        print_headline("outside the gate", [point for point in points if point.group not in GATE])
    for title, key in KEYS.items():
        print_table(title, points, key)
    print_table(
        "exploratory: facts, measured rounds", [p for p in scored if p.kind == "facts"], lambda p: (p.measured,)
    )


def estimate_shrinkage(chains: Sequence[CountedChain]) -> tuple[float, float]:
    """Mean and standard deviation over chains of rho, weighted by the mean square of ln(E[c'] / c) in round 1.

    rho is the ratio of ln(E[c'] / c) in rounds 2 and 1, at the counts of the items, by least squares through zero.
    """
    ratios, weights = [], []
    for counted in chains:
        if len(counted.rounds) < 2:
            continue
        try:
            first, second = (fit_round(counted.pairs(measured)).fit.kernel for measured in (1, 2))
        except ValueError:
            continue
        counts = counted.real[(counted.real > 0) & (counted.real <= BANDS[-1].last)]
        x, y = (np.log(kernel.mean(counts) / counts) for kernel in (first, second))
        ratios.append(float(x @ y / max(float(x @ x), 1e-12)))
        weights.append(float(x @ x) / len(counts))
    if not ratios:
        sys.exit("no chain has two rounds that a kernel could be fitted on: run the half first")
    # A first round that loses next to nothing says nothing of the ratio.
    mean = float(np.average(ratios, weights=weights))
    return mean, float(np.sqrt(np.average((np.array(ratios) - mean) ** 2, weights=weights)))


@dataclass(frozen=True)
class GateRow:
    """One group of the gate on scored points."""

    group: tuple[str, str, int]
    runs: int
    chains: int
    points: int
    coverage_90: float
    error: float
    unchanged: float
    drift: float

    @property
    def passes(self) -> bool:
        """Whether the tool gives a number in this group, if the points are those of the development half."""
        return self.coverage_90 >= 0.85 and self.error < min(self.unchanged, self.drift)


def gate_rows(points: Sequence[ForecastPoint]) -> list[GateRow]:
    """The groups of `points`, with equal weight for each run within a group."""
    rows = []
    for group in sorted({point.group for point in points}):
        members = [point for point in points if point.group == group]
        rows.append(
            GateRow(
                group,
                len({point.run for point in members}),
                len({(point.run, point.chain) for point in members}),
                len(members),
                mean_over_runs(members, lambda point: float(point.covered(90))),
                mean_over_runs(members, lambda point: point.error),
                mean_over_runs(members, lambda point: point.rival_error("unchanged")),
                mean_over_runs(members, lambda point: point.rival_error("drift")),
            )
        )
    return rows


KEYS: dict[str, Callable[[ForecastPoint], tuple[object, ...]]] = {
    "measured rounds, regime": lambda point: (point.measured, point.regime),
    "measured rounds, decoder": lambda point: (point.measured, point.decoder),
    "measured rounds, generations ahead": lambda point: (point.measured, point.ahead),
    "measured rounds, items": lambda point: (point.measured, point.kind),
    "measured rounds, band": lambda point: (point.measured, point.band.label),
    "recipe, arm, measured rounds": lambda point: (point.run, point.chain, point.measured),
}
COLUMNS = "points | error | CRPS | in 50 % | in 90 % | bias | unchanged | drift alone | cutoff"


def print_gate(points: Sequence[ForecastPoint]) -> None:
    """Which groups pass."""
    print("| group | recipes | chains | points | in 90 % | error | unchanged | drift alone | passes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in gate_rows(points):
        name = f"{row.group[0]}, {row.group[1]}, {row.group[2]} measured"
        figures = f"{row.coverage_90:.2f} | {row.error:.3f} | {row.unchanged:.3f} | {row.drift:.3f}"
        print(f"| {name} | {row.runs} | {row.chains} | {row.points} | {figures} | {'yes' if row.passes else 'no'} |")
    print()


def print_headline(title: str, points: Sequence[ForecastPoint]) -> None:
    """Coverage and error with intervals that resample recipes."""
    if not points:
        print(f"{title}: no point.\n")
        return
    runs = sorted({point.run for point in points})
    rng = np.random.default_rng(SEED)
    scores: dict[str, Callable[[ForecastPoint], float]] = {
        "in 90 %": lambda point: float(point.covered(90)),
        "in 50 %": lambda point: float(point.covered(50)),
        "error": lambda point: point.error,
        "error of unchanged": lambda point: point.rival_error("unchanged"),
        "error of drift alone": lambda point: point.rival_error("drift"),
    }
    print(f"{title}: {len(points)} points of {len(runs)} recipes ({', '.join(runs)})")
    for name, score_of in scores.items():
        means = [np.mean([score_of(point) for point in points if point.run == run_name]) for run_name in runs]
        resampled = rng.choice(means, (2000, len(means))).mean(axis=1)
        low, high = np.quantile(resampled, (0.025, 0.975))
        print(f"- {name}: {np.mean(means):.3f} ({low:.3f} to {high:.3f})")
    print()


def print_table(
    title: str, points: Sequence[ForecastPoint], key: Callable[[ForecastPoint], tuple[object, ...]]
) -> None:
    """One row per value of `key`."""
    print(f"| {title} | {COLUMNS} |")
    print("|---" * (COLUMNS.count("|") + 2) + "|")
    for value in sorted({key(point) for point in points}, key=str):
        members = [point for point in points if key(point) == value]
        cutoffs = [point for point in members if "cutoff" in point.rivals]
        figures = [
            f"{len(members)}",
            f"{mean_over_runs(members, lambda p: p.error):.3f}",
            f"{mean_over_runs(members, lambda p: p.crps):.3f}",
            f"{mean_over_runs(members, lambda p: float(p.covered(50))):.2f}",
            f"{mean_over_runs(members, lambda p: float(p.covered(90))):.2f}",
            f"{mean_over_runs(members, lambda p: p.quantiles[2] - p.truth):+.3f}",
            f"{mean_over_runs(members, lambda p: p.rival_error('unchanged')):.3f}",
            f"{mean_over_runs(members, lambda p: p.rival_error('drift')):.3f}",
            f"{mean_over_runs(cutoffs, lambda p: p.rival_error('cutoff')):.3f}" if cutoffs else "",
        ]
        print(f"| {', '.join(map(str, value))} | {' | '.join(figures)} |")
    print()


if __name__ == "__main__":
    main()
