"""The role of an arm, by its configuration.

Rule: a role has one colour, dash and marker in every report. The configuration decides, never the name of an arm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailkeep.losses.options import LOSSES

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Role:
    """A role; `css` is its class, which sets colour and dash, and `marker` the shape of its points."""

    css: str
    marker: str


BASELINE = Role("r-base", "circle")
TRUNCATED = Role("r-trunc", "square")
REAL_DATA = Role("r-real", "triangle")
EDITED = Role("r-edit", "diamond")
MOVES_LITTLE = Role("r-less", "inverted")
OTHER = Role("r-other", "plus")
CONTROL = Role("r-ctrl", "cross")

_REAL_REGIMES = {"accumulate", "accumulate_subsample", "mix", "replay", "weighted"}
_TRUNCATED_LOSSES = {name for name, kind in LOSSES.items() if kind.truncates}
_RANDOM_LOSSES = {name for name, kind in LOSSES.items() if kind.needs_seed}


def role_of(config: Tree, reference: Tree) -> Role:
    """The role of an arm with `config`, whose baseline has the configuration `reference`."""
    loss, regime, truncate = value_at(config, "loss.name"), value_at(config, "regime.name"), config.get("truncate")
    controls = {value_at(config, key) for key in ("truncate.control", "data.external_edit.control", "regime.by.name")}
    if "random" in controls or loss in _RANDOM_LOSSES:
        return CONTROL
    if regime in {"edit", "revise"} or value_at(config, "data.external_edit"):
        return EDITED
    if truncate or config.get("drop") or loss in _TRUNCATED_LOSSES:
        return TRUNCATED
    if regime in _REAL_REGIMES:
        return REAL_DATA
    if config == reference:
        return BASELINE
    if _moves_less(config, reference):
        return MOVES_LITTLE
    other_loss = loss not in {None, "cross_entropy"}
    return OTHER if other_loss or regime == "select" or differences(config, reference) else BASELINE


def _moves_less(config: Tree, reference: Tree) -> bool:
    finetune = config.get("finetune")
    if isinstance(finetune, Mapping) and any(value is not None for value in finetune.values()):
        return True
    pairs = (
        (value_at(tree, key) for tree in (config, reference)) for key in ("training.epochs", "training.learning_rate")
    )
    return any(isinstance(one, int | float) and isinstance(two, int | float) and one < two for one, two in pairs)


def value_at(tree: Any, dotted: str) -> Any:
    """The value at a key such as `regime.name`; None where there is none."""
    for part in dotted.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def differences(config: Tree, reference: Tree, prefix: str = "") -> list[str]:
    """`key = value` for each leaf of `config` that differs from `reference`."""
    lines: list[str] = []
    for name, value in config.items():
        other = reference.get(name)
        if value == other:
            continue
        if isinstance(value, Mapping) and (other is None or isinstance(other, Mapping)):
            lines += differences(value, other or {}, f"{prefix}{name}.")
        elif value is not None and not isinstance(value, list):
            shown = str(value).lower() if isinstance(value, bool) else value
            lines.append(f"{prefix}{name} = {shown}")
        else:
            lines.append(f"{prefix}{name} differs")
    return lines
