"""Which remedies add up and which cancel, in a run whose grid crosses them all.

    tailkeep lab decoding --out runs/decoding
    python examples/factorial.py runs/decoding kr_accuracy

The factors are the axes of the run's `grid`; the first level of each is what the others are compared with. The outcome
is the metric at the last generation, paired over seeds.
"""

import itertools
import json
import sys
from pathlib import Path

from tailkeep.config import read_yaml
from tailkeep.metrics import Effect, factorial_effects


def read_run(run: Path, metric: str) -> tuple[dict[str, list[str]], dict[tuple[str, ...], list[float]]]:
    """The levels of each factor, and for each combination `metric` at the last generation under each seed."""
    grid = read_yaml(run / "config.yaml")["grid"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = max(row["generation"] for row in rows)
    ends = sorted((row for row in rows if row["generation"] == last), key=lambda row: row["seed"])
    arms = {"-".join(levels): levels for levels in itertools.product(*grid.values())}
    return grid, {levels: [row[metric] for row in ends if row["arm"] == arm] for arm, levels in arms.items()}


def verdict(effect: Effect, alone: list[float]) -> str:
    """What the interval of an interaction says; `alone` are the means of its two main effects."""
    if effect.interval.low <= 0 <= effect.interval.high:
        return "no departure from adding up"
    return "together less than their sum" if effect.interval.mean * sum(alone) < 0 else "together more than their sum"


def main(run: Path, metric: str) -> None:
    """Print every effect with its interval."""
    effects = factorial_effects(*read_run(run, metric))
    alone = {next(iter(effect.levels.values())): effect.interval.mean for effect in effects if len(effect.levels) == 1}
    print(f"{metric} at the last generation; change, 95 % interval over seeds")
    for effect in effects:
        name = " x ".join(effect.levels.values())
        mean, low, high = effect.interval
        comment = verdict(effect, [alone[one] for one in effect.levels.values()]) if len(effect.levels) > 1 else ""
        print(f"{name:24} {mean:+.3f} ({low:+.3f} to {high:+.3f})  {comment}".rstrip())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "kr_accuracy")
