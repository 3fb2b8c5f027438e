"""How a metric is presented."""

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"] | None


@dataclass(frozen=True)
class Metric:
    """How a metric is presented. `note` says its unit and meaning, `log` asks for a logarithmic axis."""

    title: str
    note: str = ""
    better: Better = None
    headline: bool = False
    log: bool = False
