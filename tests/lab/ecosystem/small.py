"""An ecosystem of a Llama and a GPT-NeoX that trains in a second or two."""

from typing import Any

from tailkeep import lab
from tests.lab.causal_lm.tiny import SHAPE, config_tree

NEOX: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def member(name: str, share: float, kind: str = "llama", **shape: Any) -> dict[str, Any]:
    config = {**(SHAPE if kind == "llama" else NEOX), **shape}
    return {"name": name, "share": share, "model": {"name": "scratch", "type": kind, "config": config}}


MEMBERS = [member("large", 0.75), member("small", 0.25, "gpt_neox")]


def ecosystem(text, *, members=MEMBERS, **changes: Any) -> dict[str, Any]:
    tree = config_tree(text, learner="ecosystem", members=members, **changes)
    del tree["model"]
    return tree


def load(text, **changes: Any):
    return lab.load(ecosystem(text, **changes)).arms["baseline"]
