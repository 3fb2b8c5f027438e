"""How far the KR-test's margin falls round by round, and how far arms differ, in a run of the laboratory or its pack.

python benchmarks/margins.py RUN [--seed 0]

Prints d' (the standardised margin) of each arm and round with its 95 % interval over articles, beside that of round 0,
with accuracy, validation NLL and distinct-4 of the text that the round was trained on (a pack has no such text), and
for each two arms the difference of d' with the half-width of its 90 % interval, and the share of questions on which
they disagree. Rule: arms and rounds are paired by question; articles are resampled. docs/replication.md quotes it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.metrics import compare_standardised_margins, discordance, distinct_n, standardised_margin_interval

# The bound of H2 and H3: a tenth of the margin at round 0.
SHARE = 0.1


@dataclass(frozen=True)
class Round:
    """One trained round of one arm: `margins` and `articles` of its questions, its metrics, its training text."""

    margins: NDArray[np.float64]
    articles: NDArray[np.str_]
    metrics: dict[str, Any]
    distinct: float


def read_rounds(run: Path, seed: int) -> dict[tuple[str, int], Round]:
    """The rounds of `run` with questions, by arm and number."""
    rounds = {}
    for path in sorted(run.glob(f"cells/*/{seed}/*/metrics.json")):
        tree = json.loads(path.read_text(encoding="utf-8"))
        table = tree.get("tables", {}).get("knowledge")
        if table is None:
            continue
        ids = path.parent / "generated" / path.parent.name / "ids.npy"
        distinct = distinct_n([np.load(ids)], 4) if ids.is_file() else float("nan")
        articles = np.array(list(map(str, table["locations"])))
        rounds[path.parts[-4], int(path.parts[-2])] = Round(
            np.array(table["margins"], np.float64), articles, tree["metrics"], distinct
        )
    return rounds


def round_lines(rounds: dict[tuple[str, int], Round]) -> Iterator[str]:
    """A row per arm and round."""
    yield "| arm | round | d' (95 % CI) | of round 0's | minus round 0 (95 % CI) | accuracy | NLL | distinct-4 |"
    yield "|---|---|---|---|---|---|---|---|"
    for (arm, number), this in rounds.items():
        first = rounds[arm, 0]
        mean, low, high = standardised_margin_interval(this.margins, this.articles)
        change = compare_standardised_margins(this.margins, first.margins, this.articles, bound=0.0).difference
        share = mean / standardised_margin_interval(first.margins, first.articles).mean
        values = (this.metrics["kr_accuracy"], this.metrics["held_out_nll"])
        yield (
            f"| {arm} | {number} | {mean:.2f} ({low:.2f} to {high:.2f}) | {share:.2f} | {change.mean:+.2f} "
            f"({change.low:+.2f} to {change.high:+.2f}) | {values[0]:.3f} | {values[1]:.2f} | {this.distinct:.2f} |"
        )


def pair_lines(rounds: dict[tuple[str, int], Round]) -> Iterator[str]:
    """A row per two arms and round after the first."""
    yield "| second minus first | round | d' (95 % CI) | 90 % half-width | bound | disagree |"
    yield "|---|---|---|---|---|---|"
    arms = list(dict.fromkeys(arm for arm, _ in rounds))
    for (first, second), number in product(combinations(arms, 2), sorted({number for _, number in rounds} - {0})):
        if (first, number) not in rounds or (second, number) not in rounds:
            continue
        one, other = rounds[first, number], rounds[second, number]
        bound = SHARE * standardised_margin_interval(rounds[first, 0].margins, one.articles).mean
        compared = compare_standardised_margins(other.margins, one.margins, one.articles, bound=bound)
        assert compared.equivalence is not None
        inner, (mean, low, high) = compared.equivalence.difference, compared.difference
        yield (
            f"| {second} - {first} | {number} | {mean:+.2f} ({low:+.2f} to {high:+.2f}) | "
            f"{(inner.high - inner.low) / 2:.3f} | {bound:.3f} | {discordance(one.margins, other.margins):.2f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rounds = read_rounds(options.run, options.seed)
    if not rounds:
        sys.exit(f"{options.run} has no questions under seed {options.seed}. Give a run with a KR-test, or --seed.")
    for lines in (round_lines(rounds), pair_lines(rounds)):
        print("\n".join(lines), end="\n\n")


if __name__ == "__main__":
    main()
