"""What the user's own code gives to the laboratory, checked against the protocols.

Rule: a message says which code, in which file, what it gave and what to give instead; `code` stands first in it.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tailkeep.config import describe, suggest
from tailkeep.errors import ConfigError
from tailkeep.lab.protocols import Measurement
from tailkeep.runs.metric import Metric, parse_definitions

DATA = ("__len__", "units", "take", "concat", "save")
"""What every regime needs of data."""


def check_data(data: Any, like: Any, code: str) -> Any:
    """`data`, which `code` has returned, if it is data as `like` is. A `fault` that it has says why it is not.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(data, type) or any(not hasattr(data, name) for name in DATA):
        raise ConfigError(f"{code} returned {describe(data)}. Return {type(like).__name__}, as it gets.")
    if fault := getattr(data, "fault", ""):
        raise ConfigError(f"{code} returned {type(data).__name__} {fault}")
    return data


def check_numbers(values: Any, code: str) -> dict[str, float]:
    """`values`, which `code` has returned, if they are numbers by name.

    Raises:
        ConfigError: they are not.
    """
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise ConfigError(f"{code} returned {describe(values)}. Return numbers by name, such as {{'share': 0.5}}.")
    numbers = {}
    for name, value in values.items():
        try:
            numbers[name] = value.__float__()
        except (AttributeError, TypeError, ValueError, OverflowError, RuntimeError):
            raise ConfigError(f"{code} returned {describe(value)} for {name!r}. Return a number.") from None
    return numbers


def check_measurement(measured: Any, code: str) -> Measurement:
    """What `code` has measured: numbers by name, or a `Measurement`.

    Raises:
        ConfigError: it is neither, its tables are no JSON, or a definition is none, or of a metric that is not there.
    """
    measured = measured if isinstance(measured, Measurement) else Measurement(measured)
    metrics = check_numbers(measured.metrics, code)
    try:
        json.dumps(dict(measured.tables))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{code} returned tables that are no JSON ({error}). Use lists and numbers.") from None
    known = {*metrics, *(name.partition(".")[2] for name in metrics)}
    for name, metric in measured.definitions.items():
        if not isinstance(metric, Metric):
            raise ConfigError(f"{code} defines {name!r} as {describe(metric)}. Give a lab.Metric.")
        if name not in known:
            raise ConfigError(f"{code} defines {name!r}, which it did not return.{suggest(name, sorted(known))}")
    try:
        definitions = parse_definitions({name: asdict(metric) for name, metric in measured.definitions.items()})
    except ValueError as error:
        raise ConfigError(f"{code} defines {error}.") from None
    return Measurement(metrics, measured.tables, definitions)


def check_members(value: Any, protocol: type, names: Sequence[str], code: str) -> None:
    """Check that `value` has the attributes `names` of `protocol`, and methods that can be called as its are.

    Raises:
        ConfigError: one is missing, or takes other arguments.
    """
    for name in names:
        member = getattr(protocol, name)
        if isinstance(value, type) or not hasattr(value, name):
            raise ConfigError(
                f"{code} has no {name!r}. It needs what lab.protocols.{protocol.__name__} lists: {', '.join(names)}."
            )
        if not isinstance(member, property):
            check_call(getattr(value, name), member, f"{code}: its {name!r}")


def check_call(function: Any, method: Callable[..., Any], code: str) -> None:
    """Check that `function` can be called with the arguments of the protocol's `method`.

    Raises:
        ConfigError: it cannot.
    """
    _, *parameters = inspect.signature(method).parameters.values()
    by_name = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    leading = [one.name for one in parameters if one.name not in by_name]
    expected = ", ".join([*leading, *(["*", *by_name] if by_name else [])])
    if not callable(function):
        raise ConfigError(f"{code} is {describe(function)}. Give a function of ({expected}).")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # of a builtin
    try:
        signature.bind(*leading, **dict.fromkeys(by_name))
    except TypeError as error:
        bare = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
        taken = str(signature.replace(parameters=bare, return_annotation=signature.empty))
        raise ConfigError(
            f"{code} cannot be called ({error}). It takes {taken:.200}; let it take ({expected})."
        ) from None
