"""Which statistics of an audit tell machine text from human text, and how often they tell human text from human text.

    TAILKEEP_DATA=... python benchmarks/paired.py [--splits 10] [--prior PATH] [--out FILE.csv]

Each file pairs a human text with a model's continuation of the same prompt. A line for each statistic: its value on
either side, the difference, the interval that holds 95 % of the differences among mixed-up documents, and p after
Holm's correction; once as the texts are, once prepared: the longest common beginning of a pair cut off at a word
boundary, white space normalised. Lengths are matched always.

Last, human against human, as the share of false alarms with Wilson's 95 % interval: every division of one pool of human
documents, taken for the true one and ranked among all; and fewer random splits that are compared as a whole.
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


def parsed() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--folder", type=Path, help="of *.raw_data.json; TAILKEEP_DATA/paired if not given")
    arguments.add_argument(
        "--splits", type=int, default=10, help="of the human side of each file, each compared as a whole"
    )
    arguments.add_argument("--permutations", type=int, default=999)
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments.add_argument("--prior", type=Path, help="ask this language model too")
    arguments.add_argument("--out", help="also write every line to this CSV file")
    return arguments.parse_args()


def main() -> None:
    options = parsed()
    sys.stdout.reconfigure(line_buffering=True)
    folder = options.folder or Path(os.environ.get("TAILKEEP_DATA", "."), "paired")
    files = sorted(folder.glob("*.raw_data.json"))
    if not files:
        sys.exit(f"{folder} holds no *.raw_data.json. Set TAILKEEP_DATA, or give --folder.")
    ask = PriorScorer({"path": str(options.prior)}).log_probs if options.prior else None
    testing = PermutationTestConfig(permutations=options.permutations)
    rows: list[dict[str, Any]] = []
    for file in files if "pairs" in options.parts else ():
        human, machine = read_pairs(file)
        for form in ("as they are", "prepared"):
            sides = [human, machine] if form == "as they are" else prepared(human, machine)
            comparison = compare(sampled(sides[1]), sampled(sides[0]), SampleConfig(), testing, 0, ask)
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
    """The human texts and those of the machine, index by index."""
    tree = json.loads(file.read_text(encoding="utf-8"))
    return tree["original"], tree["sampled"]


def prepared(human: Sequence[str], machine: Sequence[str]) -> list[list[str]]:
    """Both sides with single spaces and without the words that each pair begins with alike."""
    found: list[list[str]] = [[], []]
    for pair in zip(human, machine, strict=True):
        words = [text.split() for text in pair]
        alike = 0
        while alike < min(map(len, words)) and words[0][alike] == words[1][alike]:
            alike += 1
        for side, own in zip(found, words, strict=True):
            side.append(" ".join(own[alike:]))
    return found


def sampled(texts: Sequence[str]) -> list[SampledDocument]:
    """The texts as documents of a sample, in their order."""
    return [
        SampledDocument(number, f"x:{number}", str(number), len(text.encode()), text)
        for number, text in enumerate(texts)
    ]


def table(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Print each statistic, and give its row."""
    print("| statistic | machine | human | difference | 95 % of mixed-up documents | p, Holm | flagged |")
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
    """Print how often two halves of the human documents of one file are told apart."""
    print("\nhuman against human\n")
    print("| file | documents of a half | divisions | with a false alarm | whole comparisons | with a false alarm |")
    print("|---|---|---|---|---|---|")
    totals = [0, 0, 0, 0]
    for file in files:
        human, _ = read_pairs(file)
        found = [*divisions(human, testing), *whole_comparisons(human, testing, splits)]
        totals = [total + own for total, own in zip(totals, found, strict=True)]
        print(line(file.name.removesuffix(".raw_data.json"), str(len(human) // 2), found))
    print(line("all", "", totals))


def divisions(human: Sequence[str], testing: PermutationTestConfig) -> tuple[int, int]:
    """Each division of one pool of documents, taken for the true one and ranked among all: how many, and the alarms."""
    halves = [sampled(half) for half in (human[::2], human[1::2])]
    matched = match_lengths(halves[0], halves[1], SampleConfig())
    is_input = permute_sides(matched.documents, testing.permutations, 0)[:, 1:]
    p_values = np.stack([permutation_p_values(name, values) for name, values, _ in statistics(matched, is_input)])
    alarms = sum(min(holm_correction(column)) <= testing.level for column in p_values.T.tolist())
    return p_values.shape[1], alarms


def whole_comparisons(human: Sequence[str], testing: PermutationTestConfig, splits: int) -> tuple[int, int]:
    """Random halves, each compared as an audit does it: how many, and how many of them flag anything."""
    alarms = 0
    for seed in range(splits):
        order = np.random.default_rng([seed, len(human)]).permutation(len(human))
        halves = [sampled([human[place] for place in half]) for half in np.array_split(order, 2)]
        alarms += bool(compare(halves[0], halves[1], SampleConfig(), testing, seed).flagged)
    return splits, alarms


def line(name: str, documents: str, counts: Sequence[int]) -> str:
    """A line of the table: tried and alarmed, twice, with Wilson's interval."""
    cells = []
    for tried, alarms in (counts[:2], counts[2:]):
        found = binomial_interval(alarms, tried)
        shown = f"{alarms}: {found.mean:.1%} ({100 * found.low:.1f} to {found.high:.1%})" if tried else ""
        cells += [str(tried), shown]
    return f"| {name} | {documents} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
