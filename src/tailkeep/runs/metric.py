"""What a metric is, beside its value: title, unit, direction, possible range, and when it has failed.

Rule: the report asks a metric's definition, never its name. A title is a noun phrase, a note the definition in words.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

Better = Literal["higher", "lower"] | None
Range = Literal["any", "positive", "share", "count"]


@dataclass(frozen=True)
class FailureLimit:
    """A limit that a metric crosses when a model has failed.

    Attributes:
        value: the limit, or a share of what the metric `of` is at generation 0.
        condition: the limit in words, such as "coverage 20 % below generation 0".
        falling: whether the metric fails below the limit, rather than above it.
        of: the metric of which the limit is a share; empty if `value` is the limit itself.
        chance: only what `of` has above it counts. Where the metric is a share of a number of items, it must be above
            chance by its 95 % interval at generation 0.
        unless: a metric beside which this limit says nothing.
        name: tells a second limit of one metric from the first.
    """

    value: float
    condition: str
    falling: bool = True
    of: str = ""
    chance: float = 0.0
    unless: str = ""
    name: str = ""


@dataclass(frozen=True)
class Metric:
    """How a metric is read and drawn.

    Attributes:
        title: what it is called, as a noun phrase.
        note: its definition, in one or two sentences.
        better: the good direction; None if neither is.
        headline: whether it stands in the summary; other metrics are folded.
        log: whether its axis is logarithmic.
        range: its possible values: a share is in 0 to 1, a count in 0 to the metric `total`.
        unit: such as "nats/token"; empty for a share, a ratio or a plain number.
        total: the metric that holds the largest possible count.
        items: the metric that holds the number of items of which this is a share, and what the share of them is.
        reference: a value that a figure marks by a dotted line, and its label.
        companion: a metric drawn in the same figure, and its label; `{name}` stands for this metric's own name.
        heading: what its figure is called where it is the main one; the title if empty.
        limits: when a model has failed by it.
    """

    title: str
    note: str = ""
    better: Better = None
    headline: bool = False
    log: bool = False
    range: Range = "any"
    unit: str = ""
    total: str = ""
    items: tuple[str, str] | None = None
    reference: tuple[float, str] | None = None
    companion: tuple[str, str] | None = None
    heading: str = ""
    limits: tuple[FailureLimit, ...] = ()


_DEFINITIONS = TypeAdapter(dict[str, Metric])


def parse_definitions(tree: Any) -> dict[str, Metric]:
    """Metrics by name, from the plain values that `dataclasses.asdict` makes of each and JSON keeps.

    Raises:
        ValueError: a value is none that a definition can have; the message names the metric and the key.
    """
    try:
        return _DEFINITIONS.validate_python(tree)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"])) or "definitions"
        raise ValueError(f"{key}: {fault['msg']} (received {fault['input']!r:.60})") from None
