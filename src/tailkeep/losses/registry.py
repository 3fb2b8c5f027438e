"""Weightings by name, for configurations and command lines. Rule: a dict literal is the registry."""

import inspect
from collections.abc import Callable

from tailkeep.config import suggest
from tailkeep.errors import ConfigError
from tailkeep.losses.adaptive import dynamic_truncation, scheduled_truncation, target_kept_fraction
from tailkeep.losses.truncation import truncated
from tailkeep.losses.weighting import CROSS_ENTROPY, Weighting
from tailkeep.losses.weightings import dft, eaft, focal, mile, random_matched, random_truncation, stm

WEIGHTINGS: dict[str, Callable[..., Weighting]] = {
    "cross_entropy": lambda: CROSS_ENTROPY,
    "truncated": truncated,
    "focal": focal,
    "mile": mile,
    "eaft": eaft,
    "dft": dft,
    "stm": stm,
    "random": random_truncation,
    "random_matched": random_matched,
    "dynamic": dynamic_truncation,
    "scheduled": scheduled_truncation,
    "target_kept": target_kept_fraction,
}


def named_weighting(name: str, **options: object) -> Weighting:
    """A new weighting of its own state, as `named_weighting("truncated", threshold=0.9)`.

    Args:
        name: one of `WEIGHTINGS`.
        options: those of the function that stands there.

    Raises:
        ConfigError: an unknown name or option, one that is missing, or a value that cannot be used.
    """
    if name not in WEIGHTINGS:
        raise ConfigError(f"the loss {name!r} is unknown.{suggest(name, [*WEIGHTINGS])}")
    build = WEIGHTINGS[name]
    parameters = inspect.signature(build).parameters
    for option, value in options.items():
        if option not in parameters:
            raise ConfigError(f"the loss {name!r} has no option {option!r}.{suggest(option, [*parameters])}")
        _check_type(name, parameters[option], value)
    missing = [
        key for key, parameter in parameters.items() if parameter.default is parameter.empty and key not in options
    ]
    if missing:
        raise ConfigError(f"the loss {name!r} needs {' and '.join(missing)}, and was given {[*options] or 'nothing'}.")
    try:
        return build(**options)
    except ConfigError as error:
        raise ConfigError(f"the loss {name!r}: {error}") from None


def _check_type(name: str, parameter: inspect.Parameter, value: object) -> None:
    kind = parameter.annotation
    accepted_types = (int, float) if kind is float else kind
    # A bool is an int to Python, and a threshold of True would be 1.
    if not isinstance(value, accepted_types) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(
            f"the loss {name!r} has the option {parameter.name} of {value!r}, a {type(value).__name__}. "
            f"Give {_WORDS[kind]}."
        )


_WORDS = {float: "a number", int: "a whole number", bool: "true or false"}
