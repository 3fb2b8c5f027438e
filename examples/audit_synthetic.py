"""The signs of ToEdit's section on synthetic corpora (arXiv 2412.14689), measured on your own corpora.

python examples/audit_synthetic.py human.jsonl machine.jsonl --out audited [--prior PATH]
"""

import argparse
import csv
from pathlib import Path

from tailkeep import audit


def main() -> None:
    """Audit, and print one row per sign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("human")
    parser.add_argument("machine")
    parser.add_argument("--out", required=True)
    parser.add_argument("--prior")
    options = parser.parse_args()
    config = {"prior": {"path": options.prior}} if options.prior else {}
    outcome = audit.run(config, options.machine, options.out, reference=options.human)
    human, machine = outcome.summary["reference"], outcome.summary["input"]
    print("| sign | published | human | machine | flagged |\n|---|---|---|---|---|")
    for name, published, key, tests in (
        ("entropy of word pairs in 10,000 buckets, nats", "lower, a figure", "entropy", "pairs of words: entropy"),
        ("share of the 100 fullest buckets", "higher, a figure", "top_100_share", "pairs of words: top 100 share"),
    ):
        sides = (side["buckets"]["2"][key] for side in (human, machine))
        print(row(name, published, *(f"{value:.4g}" for value in sides), flagged(outcome, tests)))
    if options.prior:
        spans = ("{p5:.3g} to {p95:.3g}".format(**side["prior"]["document_perplexity"]) for side in (human, machine))
        name = "perplexity, 5 % to 95 % of documents"
        print(row(name, "1 to over 100 and 0 to 14", *spans, flagged(outcome, "prior: spread of surprise")))
        tails = (u_shape(Path(options.out), side) for side in ("reference", "input"))
        print(
            row(
                "tokens with p < 0.1 and p >= 0.9",
                "34.7 % and 27.1 %",
                *tails,
                flagged(outcome, "prior: JS divergence"),
            )
        )
    print(f"\nperplexity by synthetic share, published 20.99 22.06 23.48 27.60 51.93: cd {options.out} && ", end="")
    print(outcome.summary["lab_command"])


def row(*cells: str) -> str:
    """A row of the table."""
    return f"| {' | '.join(cells)} |"


def flagged(outcome: audit.AuditOutcome, name: str) -> str:
    """Whether a statistic whose name starts with `name` differs significantly."""
    return "yes" if any(test.startswith(name) for test in outcome.flagged) else "no"


def u_shape(out: Path, side: str) -> str:
    """The shares of tokens with p < 0.1 and p >= 0.9."""
    with (out / "tables" / "probabilities.csv").open(encoding="utf-8") as file:
        rows = [line for line in csv.DictReader(file) if line["side"] == side]
    total = sum(int(line["tokens"]) for line in rows) or 1
    low = sum(int(line["tokens"]) for line in rows if float(line["to_p"]) < 0.1001)
    high = sum(int(line["tokens"]) for line in rows if float(line["from_p"]) > 0.8999)
    return f"{low / total:.1%} and {high / total:.1%}"


if __name__ == "__main__":
    main()
