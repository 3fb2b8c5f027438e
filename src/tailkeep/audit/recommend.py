"""Recommendations: how to weight real and synthetic data, and a lab experiment that measures it on the corpus.

    lab/mix.yaml         with a reference: models trained on mixtures of both, evaluated on held-out reference text
    lab/recursion.yaml   without: a model whose own text replaces the corpus, or is added to it
    lab/*.jsonl          the texts, from the samples of the audit

Rules: each advice names its source and its assumptions, and depends on sizes alone, but for that of drift, which reads
the reference's counts of words. All mixtures have equally many bytes, and no held-out document is in any of them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tailkeep.audit.documents import SampledDocument
from tailkeep.config import dump_tree
from tailkeep.metrics import golden_weight, required_real_share

_FEW_EXAMPLES = 1024
_TAIL, _GENERATIONS = 3, 10


@dataclass(frozen=True)
class Advice:
    """The advice of one paper.

    Attributes:
        rule: the advice in words.
        real_weight: the share of the training weight of the real data; None if the paper gives none.
        repeats: how often each real item is seen per pass over the synthetic ones; None without a weight below 1.
        source: the paper.
        assumes: the conditions under which it holds.
        from_counts: whether it reads the reference's counts of words, as a forecast does, and not the sizes alone.
    """

    rule: str
    real_weight: float | None
    repeats: float | None
    source: str
    assumes: str
    from_counts: bool = False


def plan_mixing(
    real: float, synthetic: float, *, examples: int | None = None, spectrum: Mapping[int, int] | None = None
) -> list[Advice]:
    """The weights that the literature recommends for `real` and `synthetic` data.

    Args:
        real, synthetic: the amounts of both in one unit, such as words.
        examples: the number of real documents, if known.
        spectrum: the number of real words by how often they occur, if known.
    """
    ratio = real / synthetic
    return [
        *_drift_advice(spectrum or {}, ratio),
        _advice(
            f"weight real data by the golden-ratio rule, for n_real / n_synthetic = {ratio:.3g}",
            golden_weight(ratio),
            ratio,
            "He, Xu and Cheng 2025 (arXiv 2502.18049)",
            "each generation is trained on fresh real data and on samples of the previous one; derived for estimating "
            "a mean and for linear models, not for language models",
        ),
        _advice(
            "keep all real data and add the synthetic, each item once",
            real / (real + synthetic),
            ratio,
            "Gerstgrasser et al. 2024 (arXiv 2404.01413)",
            "data accumulate over generations: the error then stays bounded, at pi^2 / 6 of that of the first "
            "generation in linear models. The paper does not claim that synthetic data help",
        ),
        _advice(
            "about 30 % rephrased synthetic text",
            0.7,
            ratio,
            "Demystifying Synthetic Data 2025 (arXiv 2510.01631)",
            "language models trained from scratch on rephrased web text; text in the style of textbooks did worse, and "
            "the best share of one corpus need not be that of another",
        ),
        _advice(
            "60 to 80 % rephrased web text, by its format",
            0.3,
            ratio,
            "FinePhrase 2026 (arXiv 2604.13977)",
            "models of 1.7 billion parameters trained once on 21 billion tokens, on documents that a model wrote from "
            "real ones as tables (70 %), exercises (80 %), questions or tutorials (60 %)",
        ),
        Advice(
            "no synthetic share was free",
            1.0,
            None,
            "Zhu et al. 2024, ToEdit (arXiv 2412.14689), GPT-2 124M from scratch on Dolma and Cosmopedia",
            "perplexity on 22 domains 20.99 without synthetic text, 22.06 at a quarter, the smallest share tried, "
            "23.48 at one half and 51.93 with synthetic text alone; synthetic text from prompts, one seed",
        ),
        Advice(
            _small_data_rule(examples),
            None if examples is None or examples <= _FEW_EXAMPLES else 1.0,
            None,
            "Kazdan et al. 2024, Collapse or Thrive (arXiv 2410.16713)",
            "supervised fine-tuning of a 2-billion model, sizes counted in examples: at about 1,024 real examples the "
            "sign of the effect changed",
        ),
        Advice(
            "any fixed share of synthetic data, even 0.1 %, ends the gains from more data",
            1.0,
            None,
            "Dohmatob et al. 2024, Strong Model Collapse (arXiv 2410.04840)",
            "random-feature and linear regression in the limit of much data, synthetic data of a fixed other "
            "distribution",
        ),
    ]


def _drift_advice(spectrum: Mapping[int, int], ratio: float) -> Iterator[Advice]:
    """The share of real data at which drift alone holds half of the rare words; nothing where there are none."""
    tail = {count: number for count, number in spectrum.items() if count <= _TAIL}
    if not tail:
        return
    share = required_real_share(list(tail), list(tail.values()), 0.5, _GENERATIONS)
    # 0 if none is needed; NaN if not even all real data are enough, since a rare word is not always sampled.
    if 0 < share < 1:
        advice = _advice(
            f"so much real data holds half of the real words that occur at most {_TAIL} times over {_GENERATIONS} "
            "generations",
            share,
            ratio,
            "drift alone, see tailkeep forecast (theory: Suresh et al. 2024, arXiv 2412.17646)",
            "each generation is an unbiased sample of its training set, which has that share of real data, resampled; "
            "a decoder that truncates needs more: measure it with tailkeep forecast --synthetic",
        )
        yield replace(advice, from_counts=True)


def _advice(rule: str, weight: float, ratio: float, source: str, assumes: str) -> Advice:
    # For so much real data that the weight rounds to 1 there is no number.
    return Advice(rule, weight, weight / (1 - weight) / ratio if weight < 1 else None, source, assumes)


def _small_data_rule(examples: int | None) -> str:
    if examples is None:
        return (
            f"up to about {_FEW_EXAMPLES:,} real examples some synthetic ones may help; "
            "above, omitting them may be better"
        )
    if examples <= _FEW_EXAMPLES:
        return f"with {examples:,} real examples, some synthetic ones may help"
    return f"with {examples:,} real examples, omitting the synthetic ones may be better than ten times more real data"


SHARES = (0, 25, 50, 75, 100)
_HELD_OUT = 0.2
_BYTES = 300_000
_MIN_BYTES = 2_000
# Without a prior only byte tokens are common to all mixtures, and only then are losses per token comparable.
_SCRATCH = {
    "model": {
        "name": "scratch",
        "type": "llama",
        "config": {
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
        },
    },
    "tokenizer": {"train": {"vocab_size": 260}},
}


def lab_experiment(
    sides: Mapping[str, Sequence[SampledDocument]], prior: Mapping[str, Any] | None
) -> tuple[str, dict[str, str]]:
    """The lab command, to be run in the output folder, and its files by name; empty for too little text."""
    if "reference" in sides:
        texts = _mixtures(sides["input"], sides["reference"])
        name, extra = "mix", {"generations": 1}
        mixtures = [key for key in texts if "held-out" not in key]
        arms = {key.removeprefix("lab/").removesuffix(".jsonl"): {"data": {"path": key}} for key in mixtures}
    else:
        texts = _train_and_held_out(sides["input"])
        name, extra = "recursion", {"generations": 3}
        arms = {"replace": {"regime": {"name": "replace"}}, "accumulate": {"regime": {"name": "accumulate"}}}
    if not texts:
        return "", {}
    model: dict[str, Any] = _SCRATCH if prior is None else _pretrained(prior)
    first = next(key for key in texts if "held-out" not in key)
    config = {
        "name": f"audit-{name}",
        "seeds": [0, 1, 2],
        "learner": "causal_lm",
        **extra,
        "data": {"name": "text", "path": first, "held_out_path": "lab/held-out.jsonl"},
        **model,
        "training": {"block": 128, "batch": 16, "epochs": 4},
        "evaluation": {"samples": 50},
        "arms": arms,
    }
    files = {f"lab/{name}.yaml": dump_tree(config), **texts}
    return f"tailkeep lab lab/{name}.yaml --out lab/run", files


def _pretrained(prior: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(str(prior["path"]))
    model = {"name": "pretrained", "path": str(path.absolute() if path.exists() else path)}
    return {"model": {**model, **({"revision": prior["revision"]} if prior.get("revision") else {})}}


def _mixtures(synthetic: Sequence[SampledDocument], reference: Sequence[SampledDocument]) -> dict[str, str]:
    size_held_out = max(1, round(_HELD_OUT * len(reference)))
    held_out = reference[:size_held_out]
    real, synthetic = (_without(held_out, sample) for sample in (reference[size_held_out:], synthetic))
    size = min(_BYTES, *(sum(len(item.text.encode()) for item in side) for side in (synthetic, real)))
    if size < _MIN_BYTES:
        return {}
    files = {"lab/held-out.jsonl": _as_jsonl(item.text for item in held_out)}
    for share in SHARES:
        texts = [*_take_bytes(real, size * (100 - share) // 100), *_take_bytes(synthetic, size * share // 100)]
        files[f"lab/input-{share}.jsonl"] = _as_jsonl(texts)
    return files


def _train_and_held_out(sample: Sequence[SampledDocument]) -> dict[str, str]:
    size_held_out = max(1, round(_HELD_OUT * len(sample)))
    held_out = sample[:size_held_out]
    training = _without(held_out, sample[size_held_out:])
    if sum(len(item.text.encode()) for item in training) < _MIN_BYTES:
        return {}
    return {
        "lab/held-out.jsonl": _as_jsonl(item.text for item in held_out),
        "lab/input.jsonl": _as_jsonl(_take_bytes(training, _BYTES)),
    }


def _without(held_out: Sequence[SampledDocument], sample: Sequence[SampledDocument]) -> list[SampledDocument]:
    """The documents of `sample` without copies of those held out."""
    texts = {item.text for item in held_out}
    return [item for item in sample if item.text not in texts]


def _take_bytes(sample: Sequence[SampledDocument], size: int) -> Iterator[str]:
    """Texts of `size` bytes in total, the last one truncated."""
    for item in sample:
        raw = item.text.encode()
        if size <= 0:
            return
        yield raw[:size].decode("utf-8", "ignore")
        size -= len(raw)


def _as_jsonl(texts: Iterable[str]) -> str:
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts if text.strip())
