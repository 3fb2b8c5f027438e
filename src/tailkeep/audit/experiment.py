"""The laboratory's configuration that puts the question of an audit to a model, on the very corpus.

    lab/mix.yaml            with a reference: models trained on mixtures of both, measured on held-out reference text
    lab/recursion.yaml      without: a model whose own text replaces the corpus, or is added to it
    lab/*.jsonl             the texts, out of the audit's samples

Rule: every mixture has as many bytes, and no held-out document is in any of them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailkeep.audit.sampling import Sampled
from tailkeep.config import dump_tree

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


def experiment(sides: Mapping[str, Sequence[Sampled]], prior: Mapping[str, Any] | None) -> tuple[str, dict[str, str]]:
    """The command, to be run in the output's folder, and files by name; nothing of either for too little text."""
    if "against" in sides:
        found = _mixtures(sides["input"], sides["against"])
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
        "measuring": {"samples": 50},
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


def _mixtures(ours: Sequence[Sampled], theirs: Sequence[Sampled]) -> dict[str, str]:
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


def _parted(ours: Sequence[Sampled]) -> dict[str, str]:
    cut = max(1, round(_HELD_OUT * len(ours)))
    if sum(len(item.text.encode()) for item in ours[cut:]) < _LEAST:
        return {}
    return {
        "lab/held-out.jsonl": _lines(item.text for item in ours[:cut]),
        "lab/input.jsonl": _lines(_filled(ours[cut:], _BYTES)),
    }


def _filled(sample: Sequence[Sampled], size: int) -> Iterator[str]:
    """Texts of `size` bytes in all, the last one cut."""
    for item in sample:
        raw = item.text.encode()
        if size <= 0:
            return
        yield raw[:size].decode("utf-8", "ignore")
        size -= len(raw)


def _lines(texts: Iterable[str]) -> str:
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts if text.strip())
