"""Is synthetic text narrower than human text? Perplexities of pairs under a real model (ToEdit, arXiv 2412.14689).

    python examples/paired_perplexity.py OUT --models MODEL... --pairs FILE... [--per-file N]

A FILE is JSON with two lists, `original` (human) and `sampled` (a model's continuation of the same beginning). The
words that both sides of a pair begin with are cut off, white space becomes single spaces, and both are cut to the
number of tokens of the shorter one; pairs of under 32 tokens are left out and counted. Printed per file and model: the
spread of the log-perplexity of a document (standard deviation, nats/token), its mean, and the share of tokens with
p >= 0.99, each as synthetic minus human with a 95 % interval over resampled pairs. Files are not pooled: their models
differ.

Each file and model is a file in OUT, so a rerun continues, and only prints when all are there.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from steps import begin, once

from tailkeep.edit.editor import EditPrior, load_model
from tailkeep.scoring import Prior

SHORTEST = 32
WINDOW = 2048
RESAMPLES = 10_000
Values = NDArray[np.float64]


def without_common_beginning(first: str, second: str) -> tuple[str, str]:
    """Both texts with single spaces, from the first word in which they differ."""
    words, others = first.split(), second.split()
    common = 0
    while common < min(len(words), len(others)) and words[common] == others[common]:
        common += 1
    return " ".join(words[common:]), " ".join(others[common:])


def measure(prior: EditPrior, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Per side and pair the mean NLL (nats/token) and the share of tokens with p >= 0.99."""
    sides = [prior.tokenizer(list(texts)) for texts in zip(*pairs, strict=True)]
    lengths = [min(len(one.ids), len(other.ids)) for one, other in zip(*sides, strict=True)]
    used = [n for n, length in enumerate(lengths) if length >= SHORTEST]
    result: dict[str, Any] = {"pairs": len(used), "left_out": len(pairs) - len(used)}
    for name, side in zip(("human", "synthetic"), sides, strict=True):
        rows = [side[n].ids[: lengths[n]].astype(np.int32) for n in used]
        scored = [document.log_probs[1:] for document in prior.scorer.score(rows)]
        result[name] = {
            "nll": [float(-row.mean(dtype=np.float64)) for row in scored],
            "confident": [float((row >= np.float32(np.log(0.99))).mean()) for row in scored],
        }
    return result


def difference_interval(
    human: Values, synthetic: Values, statistic: Any, *, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """`statistic` of the synthetic side minus that of the human one, and its 95 % percentile interval over pairs."""
    rows = np.random.default_rng(0).integers(0, len(human), (resamples, len(human)))
    low, high = np.quantile(statistic(synthetic[rows], axis=1) - statistic(human[rows], axis=1), [0.025, 0.975])
    return float(statistic(synthetic, axis=0) - statistic(human, axis=0)), float(low), float(high)


def print_rows(model: str, file: str, result: dict[str, Any]) -> None:
    """The three rows of one file under one model."""
    for label, key, statistic in (
        ("spread of log-perplexity, nats/token", "nll", np.std),
        ("log-perplexity, nats/token", "nll", np.mean),
        ("share of tokens with p >= 0.99", "confident", np.mean),
    ):
        human, synthetic = (np.array(result[side][key]) for side in ("human", "synthetic"))
        difference, low, high = difference_interval(human, synthetic, statistic)
        values = f"{statistic(human):.3f} | {statistic(synthetic):.3f} | {difference:+.3f} ({low:+.3f} to {high:+.3f})"
        print(f"| {file} | {model} | {result['pairs']} | {label} | {values} |")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--pairs", nargs="+", type=Path, required=True)
    parser.add_argument("--per-file", type=int, help="take only the first pairs, for a trial")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="bfloat16")
    options = parser.parse_args()
    begin(options.out, {"per_file": options.per_file, "dtype": options.dtype})

    results: dict[tuple[str, str], dict[str, Any]] = {}
    for folder in options.models:
        prior = None
        for file in options.pairs:
            name = file.name.split(".")[0]
            target = options.out / f"{Path(folder).name}-{name}.json"
            if not target.exists():
                prior = prior or load_model(Prior(path=folder, dtype=options.dtype, batch_tokens=WINDOW))

            def make(prior: Any = prior, file: Path = file) -> dict[str, Any]:
                sides = json.loads(file.read_text(encoding="utf-8"))
                pairs = list(zip(sides["original"], sides["sampled"], strict=True))[: options.per_file]
                return measure(prior, [without_common_beginning(*pair) for pair in pairs])

            results[Path(folder).name, name] = once(target, make)
    print(
        "| pairs | model | number | measure | human | synthetic | difference (95 % CI) |\n|---|---|---|---|---|---|---|"
    )
    for (model, name), result in results.items():
        print_rows(model, name, result)


if __name__ == "__main__":
    main()
