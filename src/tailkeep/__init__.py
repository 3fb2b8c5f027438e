"""Keep the tail: reproduce, measure and mitigate model collapse.

The package itself imports nothing heavy. Each room is imported by name, for example
`from tailkeep.losses import truncated_cross_entropy` or `from tailkeep import lab`. `tailkeep.open(path)` reads the
results of a run; it loads what it needs when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0.dev1"

_LAZY = {"open": ("tailkeep.report.lab.results", "open_results")}


def __getattr__(name: str) -> Any:
    """The lazy names of the package."""
    if name not in _LAZY:
        raise AttributeError(f"module 'tailkeep' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
