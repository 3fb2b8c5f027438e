"""How confident is a model of human text, and what does an edit change? After ToEdit (arXiv 2412.14689).

    python examples/toedit_u_shape.py OUT --models MODEL... --texts NAME=FILE... [--tokens 100000] [--perturb NAME]

MODEL is a folder of a pretrained model. FILE is a corpus with documents in the field `text` (NAME=FILE:A+B joins the
fields A and B), or plain text (.txt) with documents between `<|endoftext|>`; the first documents up to `--tokens`
tokens are read. One forward pass per model and text gives the probability of each token and samples each flagged token
(p >= 0.99) three ways: as the paper says (8 most probable tokens), at temperature 1.5 among 64 as the published code
does, and without the original token. Deleted are tokens with p < 0.001, the published README's default. `--perturb`
scores one text again with each weight moved by up to half a quantisation step, and by up to a whole one.

Each pass is a file in OUT, so a rerun continues, and only prints when all are there. OUT/changes.jsonl has the changes,
OUT/summary.json the numbers of the tables.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from steps import begin, once
from torch import Tensor
from transformers import AutoModelForCausalLM

from tailkeep.data import read_records
from tailkeep.edit.editor import EditPrior, load_model
from tailkeep.rules import Sampler, TokenizedText, position_uniforms
from tailkeep.rules.sampler import sample_tokens
from tailkeep.scoring import Prior, token_log_probs

FLAGGED, DELETED = 0.99, 0.001
SAMPLERS = {
    "paper": Sampler(),
    "temperature-1.5": Sampler(temperature=1.5, top_k=64),
    "without-original": Sampler(exclude_original=True),
}
BINS = 20
CONTEXT = 80
BLOCK = 32
WINDOW = 2048
Ids = NDArray[np.int32]


@dataclass
class SampledTokens:
    """A scorer's sampler that samples each flagged token in every way of SAMPLERS and keeps the ids."""

    tokens: list[TokenizedText]
    allowed: Tensor
    samples: dict[str, dict[tuple[int, int], int]] = field(default_factory=lambda: {name: {} for name in SAMPLERS})

    def flag(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], log_probs: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """The mask of tokens with p >= 0.99."""
        return log_probs >= np.float32(np.log(FLAGGED))

    def sample(
        self, documents: NDArray[np.int64], positions: NDArray[np.int64], log_probs: Tensor, originals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sample each position in all ways; return what the paper's gives."""
        places = list(zip(documents.tolist(), positions.tolist(), strict=True))
        streams = {n: position_uniforms(0, str(n), len(self.tokens[n].ids), "draw 0") for n in set(documents.tolist())}
        numbers = torch.tensor([[streams[document][position]] for document, position in places])
        results = {
            name: sample_tokens(log_probs, originals, numbers, sampler, allowed=self.allowed)
            for name, sampler in SAMPLERS.items()
        }
        for name, (ids, _) in results.items():
            self.samples[name].update(zip(places, ids.tolist(), strict=True))
        return results["paper"]


def first_documents(source: str, prior: EditPrior, limit: int) -> tuple[list[str], list[TokenizedText]]:
    """The first documents of a corpus with at most `limit` tokens in all, but at least one."""
    path, _, fields = source.partition(":")
    separator = "<|endoftext|>" if path.endswith(".txt") else "line"
    columns = [read_records(Path(path), separator=separator, field=name) for name in (fields or "text").split("+")]
    texts = ["\n".join(record.text for record in records) for records in zip(*columns, strict=True)]
    tokenized = prior.tokenizer(texts)
    ends = np.cumsum([len(tokens.ids) for tokens in tokenized])
    count = max(1, int(np.searchsorted(ends, limit, side="right")))
    return texts[:count], tokenized[:count]


def measure(prior: EditPrior, texts: list[str], tokens: list[TokenizedText]) -> dict[str, Any]:
    """Probabilities, flagged spans and changes of these documents."""
    allowed = torch.from_numpy(prior.token_texts.allowed(prior.scorer.vocab_size))
    sampled = SampledTokens(tokens, allowed)
    rows = [document.ids.astype(np.int32) for document in tokens]
    scored = list(prior.scorer.score(rows, sampled.flag, sampled.sample))
    log_probs = np.concatenate([document.log_probs[1:] for document in scored])
    flagged = [tokens[n].offsets[document.positions].tolist() for n, document in enumerate(scored)]
    changes = [
        change
        for name in SAMPLERS
        for change in list_changes(prior, texts, tokens, [s.log_probs for s in scored], name, sampled.samples[name])
    ]
    return {**shares(log_probs), "documents": len(texts), "flagged_spans": flagged, "changes": changes}


def shares(log_probs: NDArray[np.float32]) -> dict[str, Any]:
    """The histogram of probabilities, and the numbers of flagged and deleted tokens."""
    p = np.exp(log_probs.astype(np.float64))
    return {
        "tokens": len(p),
        "nll": float(-log_probs.mean(dtype=np.float64)),
        "histogram": np.histogram(p, np.linspace(0, 1, BINS + 1))[0].tolist(),
        "flagged": int((log_probs >= np.float32(np.log(FLAGGED))).sum()),
        "deleted": int((log_probs < np.float32(np.log(DELETED))).sum()),
    }


def list_changes(
    prior: EditPrior,
    texts: list[str],
    tokens: list[TokenizedText],
    log_probs: list[NDArray[np.float32]],
    name: str,
    samples: dict[tuple[int, int], int],
) -> Iterator[dict[str, Any]]:
    """The sampled tokens that differ from the original, with the text around them."""
    for (document, position), new in sorted(samples.items()):
        original = int(tokens[document].ids[position])
        if new == original:
            continue
        text = texts[document]
        start, end = tokens[document].offsets[position].tolist()
        yield {
            "sampler": name,
            "document": document,
            "position": position,
            "probability": round(float(np.exp(log_probs[document][position])), 5),
            "before": text[max(0, start - CONTEXT) : start],
            "original": text[start:end],
            "new": prior.token_texts[new],
            "after": text[end : end + CONTEXT],
        }


def quantisation_step(weights: Tensor) -> Tensor:
    """The step of the grid on which each weight lies, estimated by blocks of 32: the range over the number of steps.

    A block with at most 16 values is of 4 bits (15 steps), any other of 6 bits (63 steps).
    """
    blocks = weights.reshape(-1, BLOCK)
    ordered = blocks.sort(dim=1).values
    values = (ordered.diff(dim=1) > 0).sum(1, keepdim=True) + 1
    steps = torch.where(values <= 16, 15.0, 63.0)
    return ((ordered[:, -1:] - ordered[:, :1]) / steps).expand_as(blocks).reshape(weights.shape)


def perturbed_shares(folder: str, rows: list[Ids], size: float) -> dict[str, Any]:
    """`shares` with each weight moved by a uniform number within +- `size` steps."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() == 2 and weights.shape[1] % BLOCK == 0:
                exact = weights.float()
                noise = torch.rand(exact.shape, generator=generator) * 2 - 1
                weights.copy_(exact + size * noise * quantisation_step(exact))
    pieces = [row[start : start + WINDOW] for row in rows for start in range(0, len(row), WINDOW)]
    scored = token_log_probs(network, [piece for piece in pieces if len(piece) > 1], batch_tokens=WINDOW)
    return shares(np.concatenate(scored))


def jaccard(first: dict[str, Any], second: dict[str, Any]) -> tuple[float, float]:
    """The characters that both models flag, over those that either does; and the same if they were independent."""
    both = either = expected_both = 0.0
    for spans, others in zip(first["flagged_spans"], second["flagged_spans"], strict=False):
        end = max([1, *(stop for _, stop in spans + others)])
        masks = np.zeros((2, end), np.bool_)
        for mask, side in zip(masks, (spans, others), strict=True):
            for start, stop in side:
                mask[start:stop] = True
        both += (masks[0] & masks[1]).sum()
        either += (masks[0] | masks[1]).sum()
        expected_both += masks[0].sum() * masks[1].sum() / end
    independent = expected_both / (both + either - expected_both) if either else 0.0
    return both / max(either, 1), independent


def print_tables(results: dict[tuple[str, str], dict[str, Any]]) -> None:
    """The shares per model and text, and how far two models agree."""
    columns = ["model", "text", "tokens", "NLL, nats/token", "p < 0.1", "p >= 0.9", "flagged", "changed"]
    columns += ["at temperature 1.5", "without original", "p < 0.001"]
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for (model, text), result in results.items():
        total, histogram = result["tokens"], result["histogram"]
        changed = [sum(change["sampler"] == name for change in result["changes"]) for name in SAMPLERS]
        ends = [sum(histogram[: BINS // 10]), sum(histogram[-BINS // 10 :])]
        percentages = [f"{100 * n / total:.3f} %" for n in (*ends, result["flagged"], *changed, result["deleted"])]
        print(f"| {' | '.join([model, text, f'{total:,}', format(result['nll'], '.3f'), *percentages])} |")
    print("\nJaccard index of the flagged characters (if they were independent within a document)")
    for one, other in combinations(results, 2):
        if one[1] == other[1]:
            index, independent = jaccard(results[one], results[other])
            print(f"{one[1]}: {one[0]} and {other[0]} {index:.3f} ({independent:.3f})")


def summary_of(result: dict[str, Any]) -> dict[str, Any]:
    """What is worth keeping of a pass: its shares, and the number of changes per way of sampling."""
    changed = {name: sum(change["sampler"] == name for change in result["changes"]) for name in SAMPLERS}
    return {
        **{key: value for key, value in result.items() if key not in ("flagged_spans", "changes")},
        "changed": changed,
    }


def named_files(values: Iterable[str]) -> dict[str, str]:
    """NAME=FILE, as a mapping."""
    return {name: file for name, _, file in (value.partition("=") for value in values)}


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--texts", nargs="+", required=True, metavar="NAME=FILE")
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--perturb", metavar="NAME", help="the text to score again with perturbed weights")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="bfloat16")
    options = parser.parse_args()
    texts = named_files(options.texts)
    begin(options.out, {"tokens": options.tokens, "dtype": options.dtype})

    results: dict[tuple[str, str], dict[str, Any]] = {}
    for folder in options.models:
        model = Path(folder).name
        files = {name: options.out / f"{model}-{name}.json" for name in texts}
        prior = None
        if not all(file.exists() for file in files.values()) or options.perturb:
            config = Prior(path=folder, dtype=options.dtype, batch_tokens=WINDOW)
            prior = load_model(config)
        for name, file in files.items():

            def make(prior: Any = prior, name: str = name) -> dict[str, Any]:
                return measure(prior, *first_documents(texts[name], prior, options.tokens))

            results[model, name] = once(file, make)
        if options.perturb:
            _, tokens = first_documents(texts[options.perturb], prior, options.tokens)  # type: ignore[arg-type]
            rows = [document.ids.astype(np.int32) for document in tokens]
            for size in (0.0, 0.5, 1.0):

                def make_perturbed(folder: str = folder, rows: list[Ids] = rows, size: float = size) -> dict[str, Any]:
                    return perturbed_shares(folder, rows, size)

                result = once(options.out / f"{model}-{options.perturb}-perturbed-{size}.json", make_perturbed)
                total = result["tokens"]
                print(
                    f"{model} {options.perturb}, weights +- {size} steps: NLL {result['nll']:.3f}, flagged "
                    f"{100 * result['flagged'] / total:.2f} %, p < 0.001 {100 * result['deleted'] / total:.2f} %"
                )
    with (options.out / "changes.jsonl").open("w", encoding="utf-8") as file:
        for (model, name), result in results.items():
            file.writelines(
                json.dumps({"model": model, "text": name, **change}, ensure_ascii=False) + "\n"
                for change in result["changes"]
            )
    summaries = {f"{model} {name}": summary_of(result) for (model, name), result in results.items()}
    (options.out / "summary.json").write_text(json.dumps(summaries, indent=1) + "\n", encoding="utf-8")
    print_tables(results)


if __name__ == "__main__":
    main()
