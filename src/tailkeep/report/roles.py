"""The role of an arm, by its configuration, and what the arm does, in half a sentence.

Rule: a role has one colour, dash and marker in every report. The configuration decides, never the name of an arm.
"""

from collections.abc import Iterator, Mapping
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
    loss, regime, truncate = _get(config, "loss.name"), _get(config, "regime.name"), config.get("truncate")
    by = _get(config, "regime.by.name")
    if _get(config, "truncate.control") == "random" or loss in _RANDOM_LOSSES or by == "random":
        return CONTROL
    if regime in {"edit", "revise"} or _get(config, "data.external_edit"):
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
    return OTHER if other_loss or regime == "select" or _differences(config, reference) else BASELINE


def phrase_of(config: Tree, reference: Tree) -> str:
    """What the arm does: the reference in full, another one by its differences from it; empty without a configuration.

    Such as `cross-entropy on the previous generation's samples` or `the same, ignoring tokens with p > 0.99`.
    """
    if not config:
        return ""
    if config == reference:
        data = _regime_phrase(config)
        extra = [*_loss_phrases(config), *_numbers_phrases(config)]
        first = {"causal_lm": "cross-entropy ", "ecosystem": "cross-entropy "}.get(
            str(config.get("learner")), "trained "
        )
        first = "" if extra and first.startswith("cross") else first
        return f"{first}{', '.join(filter(None, [data, *extra]))}"
    if config.get("learner") != reference.get("learner"):
        return phrase_of(config, config)
    changed = {line.partition(" = ")[0].split(".")[0] for line in _differences(config, reference)}
    parts = []
    if "regime" in changed:
        parts.append(_regime_phrase(config))
    if "loss" in changed:
        parts += _loss_phrases(config) or ["cross-entropy"]
    if changed & {"truncate", "drop"}:
        parts += _numbers_phrases(config) or ["without truncation"]
    if "finetune" in changed:
        parts += list(_finetune_phrases(config))
    rest = [
        line
        for line in _differences(config, reference)
        if line.partition(" = ")[0].split(".")[0] not in {"regime", "loss", "truncate", "drop", "finetune"}
        and not line.startswith(("generations", "record_every"))
    ]
    parts += rest[:2] + ([f"{len(rest) - 2} more settings"] if len(rest) > 2 else [])
    return "the same, " + ", ".join(parts) if parts else "the same settings"


def subject_of(config: Tree) -> str:
    """The remedy as the subject of a sentence, such as `accumulating the real data`; empty for most."""
    loss, regime = _get(config, "loss.name"), _get(config, "regime.name")
    if regime == "accumulate" and loss in {None, "cross_entropy"} and not config.get("truncate"):
        return "accumulating the real data"
    if regime == "replace" and loss == "truncated":
        return "truncated cross-entropy"
    return ""


def _regime_phrase(config: Tree) -> str:
    regime = _get(config, "regime.name")
    share = _get(config, "regime.real_share")
    by = _get(config, "regime.by.name")
    what = {"gaussian": "values", "mixture": "points", "regression": "labels", "vae": "images"}
    samples = what.get(str(config.get("learner")), "samples")
    phrases = {
        "replace": f"on the previous generation's {samples}",
        "accumulate": f"the {samples} are added to the real data",
        "accumulate_subsample": f"the {samples} are added to the real data, a part of which is seen",
        "mix": f"{share:.0%} of the data stay real".replace("%", " %") if isinstance(share, float) else "",
        "weighted": "real and synthetic data, weighted",
        "replay": _replay_phrase(config),
        "edit": "the real data with high-confidence tokens resampled",
        "revise": f"{_get(config, 'regime.share')} of the {samples} is regenerated, {_get(config, 'regime.subset')}",
        "select": "on samples picked at random" if by == "random" else f"on samples selected by {by}",
        "regenerate": "on the regenerated training set, and new real data",
    }
    return phrases.get(str(regime), "")


def _replay_phrase(config: Tree) -> str:
    budget, by = _get(config, "regime.real_budget"), _get(config, "regime.by.name")
    if not isinstance(budget, float):
        return ""
    choice = "at random" if by == "random" else f"by {by}"
    weight = " and repeated" if _get(config, "regime.real_weight") is not None else ""
    return f"{100 * budget:g} % of the real tokens are replayed, chosen {choice}{weight}"


def _loss_phrases(config: Tree) -> list[str]:
    loss = _get(config, "loss.name")
    threshold = _get(config, "loss.threshold")
    phrases = {
        "truncated": f"ignoring tokens with p\N{NO-BREAK SPACE}>\N{NO-BREAK SPACE}{threshold}",
        "random_matched": "ignoring as many random tokens",
        "random": "ignoring random tokens",
    }
    if loss in {"code", "user"}:
        options = ", ".join(f"{key} {value}" for key, value in (_get(config, "loss.options") or {}).items())
        name = _get(config, "loss.code") or _get(config, "loss.id")
        return [f"loss {name}" + (f" ({options})" if options else "")]
    return [] if loss in {None, "cross_entropy"} else [phrases.get(loss, f"loss {loss}")]


def _numbers_phrases(config: Tree) -> list[str]:
    parts = []
    if drop := config.get("drop"):
        parts.append(f"without the {drop:.0%} most likely".replace("%", " %"))
    truncate = config.get("truncate")
    if isinstance(truncate, Mapping):
        limit = next((truncate[key] for key in ("threshold", "share", "width") if truncate.get(key) is not None), "")
        at_random = truncate.get("control") == "random"
        word = "as many random ones as" if at_random else "without those"
        parts.append(f"{word} beyond {truncate.get('name')} {limit}".strip())
    return parts


def _finetune_phrases(config: Tree) -> Iterator[str]:
    finetune = config.get("finetune") or {}
    names = {"epochs": "{} epochs", "learning_rate": "learning rate {}", "extrapolate": "weights extrapolated by {}"}
    for name, phrase in names.items():
        if finetune.get(name) is not None:
            yield phrase.format(finetune[name])
    if finetune.get("low_rank"):
        yield "low-rank adapters"


def _moves_less(config: Tree, reference: Tree) -> bool:
    finetune = config.get("finetune")
    if isinstance(finetune, Mapping) and any(value is not None for value in finetune.values()):
        return True
    pairs = ((_get(tree, key) for tree in (config, reference)) for key in ("training.epochs", "training.learning_rate"))
    return any(isinstance(one, int | float) and isinstance(two, int | float) and one < two for one, two in pairs)


def _get(tree: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _differences(config: Tree, reference: Tree, prefix: str = "") -> list[str]:
    """`key = value` for each leaf of `config` that differs from `reference`."""
    lines: list[str] = []
    for name, value in config.items():
        other = reference.get(name)
        if value == other:
            continue
        if isinstance(value, Mapping) and (other is None or isinstance(other, Mapping)):
            lines += _differences(value, other or {}, f"{prefix}{name}.")
        elif value is not None and not isinstance(value, list):
            lines.append(f"{prefix}{name} = {value}")
        else:
            lines.append(f"{prefix}{name} differs")
    return lines
