"""The preregistered comparisons of tail-weighted replay (docs/forecast/replay.md), from a finished or interim run.

python benchmarks/replay.py RUN [RUN ...] [--base accumulate] [--generation 3] [--save FILE.csv]

RUN is a run of the recipe `replay`, a pack of one, a run of docs/results/replay-text.yaml, or the table that `--save`
writes of them: what is compared, a row for each chain and generation. Several are joined. Rule: differences are paired
by seed, and the decision is printed only where all 12 seeds of both arms are there.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from tailkeep.metrics import holm_correction, mean_interval
from tailkeep.runs import csv_text

SEEDS = range(12)
MARGINS = {"coverage": 0.05, "held-out NLL": 0.05}
BUDGETS = (2, 5, 10, 20)
RIVALS = ("random", "golden", "surplexity")
PLACE = ("arm", "seed", "generation")
EXPLORATORY = {
    "true share": "own.true_share",
    "KR-test accuracy": "kr_accuracy",
    "NLL of the worst tenth": "held_out_nll_worst_rows",
}
Values = Mapping[tuple[str, int], Mapping[str, float]]
"""(arm, seed) -> measures."""


def read_rows(run: Path) -> list[dict[str, str]]:
    """Arm, seed, generation and what is compared, of each finished generation of `run`; empty where it is no number."""
    if run.is_file():
        with run.open(encoding="utf-8", errors="replace", newline="") as file:
            table = csv.DictReader(file)
            if missing := {*PLACE, *MARGINS, "outside", *EXPLORATORY} - set(table.fieldnames or ()):
                sys.exit(f"{run} has no column {', '.join(sorted(missing))}. Give a table that --save has written.")
            return list(table)
    rows = []
    for path in sorted(run.glob("cells/*/*/*/metrics.json")):
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        words = metrics.get("own.coverage_1"), metrics.get("own.coverage_2_3")
        coverage = metrics.get("own.rare_fact_coverage", None if None in words else sum(words) / 2)
        if coverage is None or "held_out_nll" not in metrics:
            sys.exit(f"{path} has no coverage of rare facts or words, or no held-out NLL. Give a run of replay.")
        measures = {
            "coverage": coverage,
            "held-out NLL": metrics["held_out_nll"],
            "outside": metrics.get("own.rare_fact_coverage_outside", metrics.get("own.coverage_1_outside")),
            **{name: metrics.get(key) for name, key in EXPLORATORY.items()},
        }
        place = dict(zip(PLACE, path.parts[-4:-1], strict=True))
        rows.append(place | {name: "" if value is None else f"{value:.6g}" for name, value in measures.items()})
    return rows


def join_rows(runs: Sequence[Path]) -> list[dict[str, str]]:
    """The rows of all `runs`, in the order of their places; a chain's generation has one row."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for run in runs:
        for row in read_rows(run):
            place = tuple(row[name] for name in PLACE)
            if found.setdefault(place, row) != row:
                sys.exit(f"{run} has other numbers of {'/'.join(place)} than a run before. Give one of them.")
    return [found[place] for place in sorted(found)]


def values_at(rows: Iterable[Mapping[str, str]], generation: int) -> dict[tuple[str, int], dict[str, float]]:
    """What is compared of each finished chain at `generation`; NaN where it is no number."""
    return {
        (row["arm"], int(row["seed"])): {
            name: float(value or "nan") for name, value in row.items() if name not in PLACE
        }
        for row in rows
        if row["generation"] == str(generation)
    }


def differences(values: Values, arm: str, rival: str, measure: str) -> dict[int, float]:
    """`arm` minus `rival` by seed, of the seeds that both have."""
    seeds = sorted(seed for name, seed in values if name == arm and (rival, seed) in values)
    return {seed: values[arm, seed][measure] - values[rival, seed][measure] for seed in seeds}


def primary_lines(values: Values, base: str) -> list[str]:
    """The hypothesis: `extinction-10` beside `random-25`, and the decision where nothing is missing."""
    lines = [
        "| measure | seeds | d | 90 % CI | half-width | sd of d | within the margin |",
        "|---|---|---|---|---|---|---|",
    ]
    holds, complete = [], True
    for measure, margin in MARGINS.items():
        by_seed = differences(values, f"{base}-extinction-10", f"{base}-random-25", measure)
        by_seed = {seed: d for seed, d in by_seed.items() if np.isfinite(d)}
        complete &= set(SEEDS) <= by_seed.keys()
        if not by_seed:
            return [f"no seed has both {base}-extinction-10 and {base}-random-25 at this generation"]
        d = np.array(list(by_seed.values()))
        mean, low, high = mean_interval(d, level=0.9)
        holds.append(low > -margin if measure == "coverage" else high < margin)
        spread = d.std(ddof=1) if len(d) > 1 else float("nan")
        numbers = f"{mean:+.3f} | {low:+.3f} to {high:+.3f} | {(high - low) / 2:.3f} | {spread:.3f}"
        lines.append(f"| {measure} | {len(d)} | {numbers} | {'yes' if holds[-1] else 'no'} |")
    if complete:
        lines += ["", f"The hypothesis {'holds' if all(holds) else 'does not hold'} in base {base}."]
    else:
        lines += ["", f"Interim: not all of the {len(SEEDS)} seeds have both measures, so there is no decision."]
    return lines


def secondary_lines(values: Values, base: str) -> list[str]:
    """`extinction-x` beside its rivals at equal x, p corrected by Holm over the x of one rival and measure."""
    lines = ["| measure | rival | x | seeds | d | 95 % CI | p, Holm |", "|---|---|---|---|---|---|---|"]
    for measure in (*MARGINS, "outside"):
        for rival in RIVALS:
            pairs = {x: differences(values, f"{base}-extinction-{x}", f"{base}-{rival}-{x}", measure) for x in BUDGETS}
            rows = {x: np.array(list(by_seed.values())) for x, by_seed in pairs.items() if len(by_seed) > 2}
            rows = {x: d for x, d in rows.items() if np.isfinite(d).all()}
            p_values = [float(stats.ttest_1samp(d, 0.0).pvalue) for d in rows.values()]
            corrected = holm_correction(p_values) if p_values else []
            for (x, d), p in zip(rows.items(), corrected, strict=True):
                mean, low, high = mean_interval(d)
                number = f"{p:.3f}" if p >= 0.001 else "< 0.001"
                interval = f"{low:+.3f} to {high:+.3f}"
                lines.append(f"| {measure} | {rival} | {x} | {len(d)} | {mean:+.3f} | {interval} | {number} |")
    return lines


def mean_of_known(values: Iterable[float]) -> float:
    """The mean of the values that are numbers; NaN without any."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def arm_lines(values: Values) -> list[str]:
    """Means by arm."""
    measures = (*MARGINS, "outside", *EXPLORATORY)
    lines = ["| arm | seeds | " + " | ".join(measures) + " |", "|---|---|" + "---|" * len(measures)]
    for arm in sorted({arm for arm, _ in values}):
        rows = [row for (name, _), row in values.items() if name == arm]
        means = (f"{mean_of_known(row[measure] for row in rows):.3f}" for measure in measures)
        lines.append(f"| {arm} | {len(rows)} | " + " | ".join(means) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--base", choices=("mix", "accumulate"), default="mix")
    parser.add_argument("--generation", type=int, default=3)
    parser.add_argument("--save", type=Path, metavar="FILE.csv")
    options = parser.parse_args(arguments)
    rows = join_rows(options.runs)
    values = values_at(rows, options.generation)
    if not values:
        named = ", ".join(map(str, options.runs))
        sys.exit(f"{named}: no finished generation {options.generation}. Give a run of the recipe replay.")
    if options.save:
        options.save.write_text(csv_text(rows[0], (row.values() for row in rows)), encoding="utf-8")
    for lines in (primary_lines(values, options.base), secondary_lines(values, options.base), arm_lines(values)):
        print("\n".join(lines), end="\n\n")


if __name__ == "__main__":
    main()
