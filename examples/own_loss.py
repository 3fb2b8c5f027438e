"""A loss of one's own in the laboratory: a weighting of per-token losses, beside the baseline arm.

python examples/own_loss.py runs/own-loss
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailkeep import lab, report

CONFIG: dict[str, Any] = {
    "name": "own-loss",
    "seeds": [0],
    "learner": "causal_lm",
    "generations": 2,
    "data": {"name": "world", "people": 10, "values": 5, "documents": 100, "held_out": 40},
    "model": {
        "name": "scratch",
        "config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
    },
    "tokenizer": {"train": {"vocab_size": 400}},
    "training": {"block": 64, "batch": 8, "epochs": 2, "learning_rate": 3e-3},
    "evaluation": {"samples": 20, "prompt_tokens": 1, "new_tokens": 40},
    "arms": {
        "baseline": {},
        # id and version enter the fingerprint: change the version when the function changes.
        "half": {"loss": {"name": "user", "id": "softer", "version": "1", "options": {"weight": 0.5}}},
    },
}


def softer(options: Mapping[str, Any]) -> Any:
    """Tokens that the model gives more than .02 count by `weight`; this tiny model is sure of little more."""
    weight = float(options["weight"])

    def weighting(nll: Tensor) -> Tensor:
        return torch.where(nll.detach() < -torch.log(torch.tensor(0.02)), weight, 1.0)

    return weighting


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own-loss")
    lab.run(CONFIG, out, losses={"softer": softer})
    print(report.write(out))
