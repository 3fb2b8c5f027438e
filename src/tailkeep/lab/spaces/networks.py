"""Networks of a generation on disk, and the noise that they turn into examples."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_AT_ONCE = 1000


def save_network(folder: Path, network: nn.Module, facts: Mapping[str, float]) -> None:
    """Write `model.safetensors`: the weights and, in its header, the facts."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"facts": json.dumps(dict(facts))})


def load_network(folder: Path, network: nn.Module) -> dict[str, float]:
    """Put the weights that `save_network` has written into `network`, and return the facts."""
    with safe_open(folder / "model.safetensors", framework="pt") as stored:
        network.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118  (no mapping)
        facts: dict[str, float] = json.loads(stored.metadata()["facts"])
    return facts


def noise_of(n: int, dimension: int, *, seed: int, device: torch.device) -> Iterator[Tensor]:
    """(n, dimension) normal numbers in parts of up to 1,000 rows, drawn on the CPU: the same for every device."""
    noise = torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed))
    return (part.to(device) for part in noise.split(_AT_ONCE))
