"""The device of a run. Rule: `device: auto` is a GPU if torch sees one, else the CPU."""

from tailkeep.errors import ConfigError
from tailkeep.optional import require


def uses_gpu(choice: str) -> bool:
    """Whether `device: {choice}` computes on a GPU of this machine.

    Raises:
        MissingPackageError: torch is not installed.
    """
    torch = require("torch", extra="torch")
    return choice != "cpu" and bool(torch.cuda.is_available())


def resolve_device(choice: str) -> str:
    """The device that `device: {choice}` means on this machine, `cpu` or `cuda`.

    Raises:
        ConfigError: `cuda` on a machine without a GPU.
    """
    if uses_gpu(choice):
        return "cuda"
    if choice == "cuda":
        raise ConfigError("device: cuda needs a GPU, but torch sees none. Use device=auto or device=cpu.")
    return "cpu"


def device_name(choice: str) -> str:
    """The model of the GPU that `device: {choice}` means on this machine, or `cpu`."""
    return str(require("torch", extra="torch").cuda.get_device_name()) if uses_gpu(choice) else "cpu"
