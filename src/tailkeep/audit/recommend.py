"""How much weight the literature gives real data beside synthetic data.

Rule: each figure has its source and what it assumes; the audit's own figures stand beside them and change none.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailkeep.audit.documents import SampledDocument
from tailkeep.config import dump_tree
from tailkeep.metrics import golden_weight

_FEW = 1024


@dataclass(frozen=True)
class Advice:
    """What one source says.

    Attributes:
        rule: in words.
        real_weight: the share of the training weight that real data get, None if it gives none.
        repeats: how often each real item is then seen when each synthetic one is seen once.
        source: the paper.
        assumes: under what it holds.
    """

    rule: str
    real_weight: float | None
    repeats: float | None
    source: str
    assumes: str


def plan(real: float, synthetic: float, *, examples: int | None = None) -> list[Advice]:
    """The weights that the literature supports for `real` and `synthetic` data, both in one unit.

    Args:
        real, synthetic: how much there is of each, such as in words.
        examples: how many documents the real data are, if it is known.
    """
    ratio = real / synthetic
    return [
        _advice(
            f"weight real data by the golden-ratio rule, for n_real / n_synthetic = {ratio:.3g}",
            golden_weight(ratio),
            ratio,
            "He, Xu and Cheng 2025 (arXiv 2502.18049)",
            "each generation is trained on fresh real data and on what the last one wrote; derived for estimating a "
            "mean and for linear models, not for language models",
        ),
        _advice(
            "keep all real data and add the synthetic, each item once",
            real / (real + synthetic),
            ratio,
            "Gerstgrasser et al. 2024 (arXiv 2404.01413)",
            "data accumulate over generations: the error then stays bounded, at pi^2 / 6 of that of the first "
            "generation in linear models. It is no claim that synthetic data help",
        ),
        _advice(
            "about 30 % rephrased synthetic text",
            0.7,
            ratio,
            "Demystifying Synthetic Data 2025 (arXiv 2510.01631)",
            "language models trained from scratch on rephrased web text; text in the style of textbooks did worse, and "
            "a share found on one corpus need not be that of another",
        ),
        _advice(
            "at most a quarter synthetic text",
            0.75,
            ratio,
            "Zhu et al. 2024, ToEdit (arXiv 2412.14689), GPT-2 124M from scratch on Dolma and Cosmopedia",
            "the smallest share that was tried: perplexity on 22 domains 22.06 against 20.99 without, 23.48 at one "
            "half and 51.93 with synthetic text alone; synthetic text from prompts, one seed",
        ),
        Advice(
            _few_or_many(examples),
            None if examples is None or examples <= _FEW else 1.0,
            None,
            "Kazdan et al. 2024, Collapse or Thrive (arXiv 2410.16713)",
            "supervised fine-tuning of a 2-billion model, sizes counted in examples: at about 1,024 real examples the "
            "sign of the effect changed",
        ),
        Advice(
            "any fixed share of synthetic data, even .1 %, ends the gains from more data",
            1.0,
            None,
            "Dohmatob et al. 2024, Strong Model Collapse (arXiv 2410.04840)",
            "random-feature and linear regression in the limit of much data, synthetic data of a fixed other "
            "distribution",
        ),
    ]


def _advice(rule: str, weight: float, ratio: float, source: str, assumes: str) -> Advice:
    return Advice(rule, weight, weight / (1 - weight) / ratio, source, assumes)


def _few_or_many(examples: int | None) -> str:
    if examples is None:
        return (
            f"up to about {_FEW:,} real examples some synthetic ones may help; beyond, leaving them out may be better"
        )
    if examples <= _FEW:
        return f"with {examples:,} real examples, some synthetic ones may help"
    return (
        f"with {examples:,} real examples, leaving out the synthetic ones may be better than ten times more real data"
    )


# The laboratory's configuration that puts the question of an audit to a model, on the very corpus.
#
#     lab/mix.yaml            with a reference: models trained on mixtures of both, measured on held-out reference text
#     lab/recursion.yaml      without: a model whose own text replaces the corpus, or is added to it
#     lab/*.jsonl             the texts, out of the audit's samples
#
# Rule: every mixture has as many bytes, and no held-out document is in any of them.


SHARES = (0, 25, 50, 75, 100)
_HELD_OUT = 0.2
_BYTES = 300_000
_LEAST = 2_000
# Bytes are the only tokens that all mixtures share without a prior, and a loss per token is comparable only then.
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


def experiment(
    sides: Mapping[str, Sequence[SampledDocument]], prior: Mapping[str, Any] | None
) -> tuple[str, dict[str, str]]:
    """The command, to be run in the output's folder, and files by name; nothing of either for too little text."""
    if "reference" in sides:
        found = _mixtures(sides["input"], sides["reference"])
        name, arms, extra = "mix", {key: {"data": {"path": key}} for key in found}, {"generations": 1}
        arms = {_arm(key): arm for key, arm in arms.items() if "held-out" not in key}
    else:
        found = _parted(sides["input"])
        name, extra = "recursion", {"generations": 3}
        arms = {"replace": {"regime": {"name": "replace"}}, "accumulate": {"regime": {"name": "accumulate"}}}
    if not found:
        return "", {}
    model: dict[str, Any] = _SCRATCH if prior is None else _pretrained(prior)
    first = next(key for key in found if "held-out" not in key)
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
    files = {f"lab/{name}.yaml": dump_tree(config), **found}
    return f"tailkeep lab lab/{name}.yaml --out lab/run", files


def _pretrained(prior: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(str(prior["path"]))
    model = {"name": "pretrained", "path": str(path.absolute() if path.exists() else path)}
    return {"model": {**model, **({"revision": prior["revision"]} if prior.get("revision") else {})}}


def _arm(name: str) -> str:
    return name.removeprefix("lab/").removesuffix(".jsonl")


def _mixtures(ours: Sequence[SampledDocument], theirs: Sequence[SampledDocument]) -> dict[str, str]:
    cut = max(1, round(_HELD_OUT * len(theirs)))
    held, real = theirs[:cut], theirs[cut:]
    size = min(_BYTES, *(sum(len(item.text.encode()) for item in side) for side in (ours, real)))
    if size < _LEAST:
        return {}
    found = {"lab/held-out.jsonl": _lines(item.text for item in held)}
    for share in SHARES:
        texts = [*_filled(real, size * (100 - share) // 100), *_filled(ours, size * share // 100)]
        found[f"lab/input-{share}.jsonl"] = _lines(texts)
    return found


def _parted(ours: Sequence[SampledDocument]) -> dict[str, str]:
    cut = max(1, round(_HELD_OUT * len(ours)))
    if sum(len(item.text.encode()) for item in ours[cut:]) < _LEAST:
        return {}
    return {
        "lab/held-out.jsonl": _lines(item.text for item in ours[:cut]),
        "lab/input.jsonl": _lines(_filled(ours[cut:], _BYTES)),
    }


def _filled(sample: Sequence[SampledDocument], size: int) -> Iterator[str]:
    """Texts of `size` bytes in all, the last one cut."""
    for item in sample:
        raw = item.text.encode()
        if size <= 0:
            return
        yield raw[:size].decode("utf-8", "ignore")
        size -= len(raw)


def _lines(texts: Iterable[str]) -> str:
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts if text.strip())
