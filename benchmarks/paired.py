"""Which statistics of an audit separate machine text from human text, and their rate of false alarms on human text.

    TAILKEEP_DATA=... python benchmarks/paired.py [--splits 10] [--prior PATH] [--out FILE.csv]

Each file pairs a human text with a model's continuation of the same prompt. One row per statistic: its value on each
side, the difference, the interval of 95 % of the differences over the permutations, and p after Holm's correction;
once for the raw texts, once prepared: the longest common prefix of a pair is removed up to a word boundary, and white
space is normalised. Lengths are always matched.

Last, human vs. human: the share of false alarms with Wilson's 95 % interval, over every division of one pool of human
documents, taken as the observed one and ranked among all; and over fewer random splits that are compared as a whole.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.audit.comparison import (
    Comparison,
    compare,
    match_lengths,
    permutation_p_values,
    permute_sides,
    statistics,
)
from tailkeep.audit.config import PermutationTestConfig, SampleConfig
from tailkeep.audit.documents import SampledDocument
from tailkeep.audit.prior_scores import PriorScorer
from tailkeep.metrics import binomial_interval, holm_correction

PARTS = ("pairs", "alarms")


def parse_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--folder", type=Path, help="of *.raw_data.json; TAILKEEP_DATA/paired if not given")
    arguments.add_argument(
        "--splits", type=int, default=10, help="of the human side of each file, each compared as a whole"
    )
    arguments.add_argument("--permutations", type=int, default=999)
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments.add_argument("--prior", type=Path, help="also score with this language model")
    arguments.add_argument("--out", help="also write every row to this CSV file")
    return arguments.parse_args()


def main() -> None:
    options = parse_arguments()
    sys.stdout.reconfigure(line_buffering=True)
    folder = options.folder or Path(os.environ.get("TAILKEEP_DATA", "."), "paired")
    files = sorted(folder.glob("*.raw_data.json"))
    if not files:
        sys.exit(f"{folder} holds no *.raw_data.json. Set TAILKEEP_DATA, or give --folder.")
    log_probs = PriorScorer({"path": str(options.prior)}).log_probs if options.prior else None
    testing = PermutationTestConfig(permutations=options.permutations)
    rows: list[dict[str, Any]] = []
    for file in files if "pairs" in options.parts else ():
        human, machine = read_pairs(file)
        for form in ("raw", "prepared"):
            sides = [human, machine] if form == "raw" else remove_common_prefixes(human, machine)
            comparison = compare(sample_of(sides[1]), sample_of(sides[0]), SampleConfig(), testing, 0, log_probs)
            name = file.name.removesuffix(".raw_data.json")
            print(f"\n{name}, {form}: {comparison.documents} documents of {comparison.words} words on each side\n")
            rows += [{"file": name, "form": form, **row} for row in table(comparison)]
    if "alarms" in options.parts:
        false_alarms(files, testing, options.splits)
    if options.out and rows:
        with open(options.out, "w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def read_pairs(file: Path) -> tuple[list[str], list[str]]:
    """The human texts and the machine texts, paired by index."""
    tree = json.loads(file.read_text(encoding="utf-8"))
    return tree["original"], tree["sampled"]


def remove_common_prefixes(human: Sequence[str], machine: Sequence[str]) -> list[list[str]]:
    """Both sides with single spaces and without the common prefix of words of each pair."""
    sides: list[list[str]] = [[], []]
    for pair in zip(human, machine, strict=True):
        words = [text.split() for text in pair]
        common = 0
        while common < min(map(len, words)) and words[0][common] == words[1][common]:
            common += 1
        for side, side_words in zip(sides, words, strict=True):
            side.append(" ".join(side_words[common:]))
    return sides


def sample_of(texts: Sequence[str]) -> list[SampledDocument]:
    """The texts as documents of a sample, in their order."""
    return [
        SampledDocument(number, f"x:{number}", str(number), len(text.encode()), text)
        for number, text in enumerate(texts)
    ]


def table(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Print and yield one row per statistic."""
    print("| statistic | machine | human | difference | 95 % of permutations | p, Holm | flagged |")
    print("|---|---|---|---|---|---|---|")
    for test in comparison.tests:
        sides = ["" if value is None else f"{value:.4g}" for value in (test.input, test.reference)]
        _, low, high = test.null
        print(
            f"| {test.name} | {sides[0]} | {sides[1]} | {test.difference:.3g} | {low:.3g} to {high:.3g} | "
            f"{test.adjusted:.3g} | {'yes' if test.flagged else ''} |"
        )
        yield {
            "statistic": test.name,
            "machine": test.input,
            "human": test.reference,
            "difference": test.difference,
            "null_low": low,
            "null_high": high,
            "adjusted_p": test.adjusted,
            "flagged": int(test.flagged),
        }


def false_alarms(files: Sequence[Path], testing: PermutationTestConfig, splits: int) -> None:
    """Print how often two halves of the human documents of one file differ significantly."""
    print("\nhuman vs. human\n")
    print("| file | documents per half | divisions | with a false alarm | whole comparisons | with a false alarm |")
    print("|---|---|---|---|---|---|")
    totals = [0, 0, 0, 0]
    for file in files:
        human, _ = read_pairs(file)
        counts = [*divisions(human, testing), *whole_comparisons(human, testing, splits)]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        print(table_row(file.name.removesuffix(".raw_data.json"), str(len(human) // 2), counts))
    print(table_row("all", "", totals))


def divisions(human: Sequence[str], testing: PermutationTestConfig) -> tuple[int, int]:
    """The number of divisions of one pool, each ranked among all as if observed, and the number with an alarm."""
    halves = [sample_of(half) for half in (human[::2], human[1::2])]
    matched = match_lengths(halves[0], halves[1], SampleConfig())
    is_input = permute_sides(matched.documents, testing.permutations, 0)[:, 1:]
    p_values = np.stack([permutation_p_values(name, values) for name, values, _ in statistics(matched, is_input)])
    alarms = sum(min(holm_correction(column)) <= testing.level for column in p_values.T.tolist())
    return p_values.shape[1], alarms


def whole_comparisons(human: Sequence[str], testing: PermutationTestConfig, splits: int) -> tuple[int, int]:
    """The number of random halves, each compared as in an audit, and the number with an alarm."""
    alarms = 0
    for seed in range(splits):
        order = np.random.default_rng([seed, len(human)]).permutation(len(human))
        halves = [sample_of([human[index] for index in half]) for half in np.array_split(order, 2)]
        alarms += bool(compare(halves[0], halves[1], SampleConfig(), testing, seed).flagged)
    return splits, alarms


def table_row(name: str, documents: str, counts: Sequence[int]) -> str:
    """A row of the table: trials and alarms, twice, with Wilson's interval."""
    cells = []
    for trials, alarms in (counts[:2], counts[2:]):
        interval = binomial_interval(alarms, trials)
        share = f"{interval.mean:.1%} ({100 * interval.low:.1f} to {interval.high:.1%})"
        cells += [str(trials), f"{alarms}: {share}" if trials else ""]
    return f"| {name} | {documents} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
