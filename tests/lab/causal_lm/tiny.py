"""The text, the network's shape and the configuration that the tests of this folder share."""

from typing import Any

STORIES = [
    f"{name} {verb} a {colour} {thing}." + f" It was {name}'s." * (colour == "old")
    for name, thing in (("Ann", "cat"), ("Ben", "boat"), ("Cleo", "tree"), ("Dov", "house"), ("Eve", "hat"))
    for verb in ("saw", "had")
    for colour in ("red", "green", "little", "old")
]

SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def config_tree(text, **changes: Any) -> dict[str, Any]:
    """The configuration of an arm on the stories in the file `text`, one a line, that trains in well under a second."""
    return {
        "learner": "causal_lm",
        "generations": 2,
        "data": {"name": "text", "path": str(text), "separator": "line", "held_out": 0.2},
        "model": {"name": "scratch", "type": "llama", "config": SHAPE},
        "tokenizer": {"train": {"vocab_size": 300}},
        "training": {"block": 8, "batch": 8, "epochs": 1},
        "generation": {"form": {"name": "documents", "new_tokens": 10}},
        "evaluation": {"samples": 6, "prompt_tokens": 2, "new_tokens": 8},
        **changes,
    }


def write_stories(folder, name="stories.txt"):
    """The stories as a file, one a line."""
    path = folder / name
    path.write_text("\n".join(STORIES) + "\n", encoding="utf-8")
    return path
