"""What an arm is: its role, and what it does, in half a sentence of its configuration, as keys and verdicts say it.

Rules: two arms of one run differ in their phrases wherever their configurations differ in what a phrase can say. A role
has one colour, dash and marker in every report. The configuration decides, never the name of an arm.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tailkeep.losses.options import LOSSES
from tailkeep.report.metric_catalog import words_of

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

_NBSP = "\N{NO-BREAK SPACE}"
_MAX_SETTINGS = 2
_EXTERNAL = ("data.external_edit", "data.external_text")
_OWN_PHRASE = {"regime", "loss", "truncate", "drop", "finetune"}
"""Keys of an arm that have a phrase of their own; any other is named as `key = value`."""
_TRUNCATIONS = {
    "density": "without values of density above {threshold}",
    "relative": "without values within {width} standard deviations of the mean",
    "pixels": "ignoring pixels of likelihood above {threshold}",
    "samples": "ignoring the {share} of images with the highest evidence bound",
    "loss": "ignoring the {share} of examples with the lowest loss",
    "likely": "without the {share} most likely examples",
    "confident": "the {of}'s loss ignores the {share} of highest discriminator confidence",
}
"""What a truncation of numbers or images does, by its name."""
_RANDOM_CONTROLS = {
    "pixels": "ignoring as many random pixels",
    "likely": "without {share} of the examples, at random",
    "confident": "the {of}'s loss ignores {share} at random",
}


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
    return OTHER if other_loss or regime == "select" or setting_differences(config, reference) else BASELINE


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


def setting_differences(config: Tree, reference: Tree, prefix: str = "") -> list[str]:
    """`key = value` for each leaf of `config` that differs from `reference`."""
    lines: list[str] = []
    for name, value in config.items():
        other = reference.get(name)
        if value == other:
            continue
        if isinstance(value, Mapping) and (other is None or isinstance(other, Mapping)):
            lines += setting_differences(value, other or {}, f"{prefix}{name}.")
        elif value is not None and not isinstance(value, list):
            shown = str(value).lower() if isinstance(value, bool) else value
            lines.append(f"{prefix}{name} = {shown}")
        else:
            lines.append(f"{prefix}{name} differs")
    return lines


def phrase_of(config: Tree, reference: Tree) -> str:
    """What the arm does: the reference in full, another one by its differences from it; empty without a configuration.

    Such as `cross-entropy on the previous generation's samples` or `the same, ignoring tokens with p > 0.99`.
    """
    if not config:
        return ""
    if config == reference or config.get("learner") != reference.get("learner"):
        return _in_full(config)
    lines = setting_differences(config, reference)
    changed = {_first_key(line) for line in lines}
    parts = _external_phrases(config) if any(line.startswith(_EXTERNAL) for line in lines) else []
    if "regime" in changed:
        parts.append(_regime_phrase(config))
    if "loss" in changed:
        parts += _loss_phrases(config) or ["cross-entropy"]
    if changed & {"truncate", "drop"}:
        parts += _truncation_phrases(config) or ["without truncation"]
    if "finetune" in changed:
        parts += list(_finetune_phrases(config))
    other = [
        line
        for line in lines
        if _first_key(line) not in {*_OWN_PHRASE, "generations", "record_every"} and not line.startswith(_EXTERNAL)
    ]
    parts += other[:_MAX_SETTINGS]
    if (more := len(other) - _MAX_SETTINGS) > 0:
        parts.append(f"{more} more setting{'s' if more > 1 else ''}")
    parts = [part for part in parts if part]
    return "the same, " + ", ".join(parts) if parts else "the same settings"


def _first_key(line: str) -> str:
    return line.split()[0].partition(".")[0]


def _external_phrases(config: Tree) -> list[str]:
    """What an external model has made of the training documents."""
    edit = value_at(config, "data.external_edit")
    if not isinstance(edit, Mapping):
        return ["on text generated by the prior"] if value_at(config, "data.external_text") else []
    rule, change = edit.get("rule") or {}, "resampled by the prior"
    threshold, low, deleted = rule.get("threshold"), rule.get("low"), rule.get("delete_below")
    if rule.get("action") == "delete":
        change = "deleted"
    if edit.get("control") == "random":
        which = "as many random tokens"
    else:
        which = {
            "toedit": f"tokens with p{_NBSP}≥{_NBSP}{threshold}",
            "low": f"tokens with p{_NBSP}<{_NBSP}{threshold}",
            "band": f"tokens with {low}{_NBSP}≤{_NBSP}p{_NBSP}<{_NBSP}{rule.get('high')}",
            "random": f"random tokens, {_percent(rule['share']) if 'share' in rule else ''},",
        }.get(str(rule.get("name")), "tokens")
    parts = [f"{which} {change}"]
    if value_at(edit, "sampler.exclude_original"):
        parts.append("never to the same one")
    if deleted is not None:
        parts.append(f"those with p{_NBSP}<{_NBSP}{deleted} deleted")
    return parts


def _in_full(config: Tree) -> str:
    extra = [*_loss_phrases(config), *_truncation_phrases(config)]
    if config.get("learner") == "ecosystem":
        extra.insert(0, _members_phrase(config))
    of_text = words_of(str(config.get("learner"))).of_text
    lead = ("" if _loss_phrases(config) else "cross-entropy") if of_text else "trained"
    data = _regime_phrase(config)
    joint = " " if not data or data.startswith("on ") else ", "
    return ", ".join(filter(None, [f"{lead}{joint}{data}".strip(", "), *extra]))


def _members_phrase(config: Tree) -> str:
    members = config.get("members") or ()
    names = ", ".join(str(member.get("name")) for member in members if isinstance(member, Mapping))
    reads = "a part of the pool each" if config.get("train_on") == "part" else "the whole pool"
    return f"{len(members)} models ({names}) on {reads}"


def subject_of(config: Tree) -> str:
    """The remedy as the subject of a sentence, such as `accumulating the real data`; empty for most."""
    loss, regime = value_at(config, "loss.name"), value_at(config, "regime.name")
    if regime == "accumulate" and loss in {None, "cross_entropy"} and not config.get("truncate"):
        return "accumulating the real data"
    if regime == "replace" and loss == "truncated":
        return "truncated cross-entropy"
    return ""


def _regime_phrase(config: Tree) -> str:
    regime = value_at(config, "regime.name")
    share = value_at(config, "regime.real_share")
    words = words_of(str(config.get("learner")))
    samples = "samples" if words.of_text else words.samples
    phrases = {
        "replace": f"on the previous generation's {samples}" if config.get("generations") != 1 else "on the real data",
        "accumulate": f"the {samples} are added to the real data",
        "accumulate_subsample": f"the {samples} are added to the real data, a part of which is seen",
        "mix": f"{_percent(share)} of the data stay real" if isinstance(share, int | float) else "",
        "weighted": "real and synthetic data, weighted",
        "replay": _replay_phrase(config),
        "edit": "the real data with high-confidence tokens resampled",
        "revise": _revise_phrase(config, samples),
        "select": _select_phrase(config),
        "regenerate": "on the regenerated training set, and new real data",
    }
    return phrases.get(str(regime), "")


def _revise_phrase(config: Tree, samples: str) -> str:
    share, factor = value_at(config, "regime.share"), value_at(config, "regime.factor")
    which = {
        "disjoint": f"of the {samples} are regenerated, the next ones each time",
        "overlapping": f"of the {samples} are regenerated, random ones each time",
        "anchored": f"of the real {samples} are regenerated, random ones each time",
    }.get(str(value_at(config, "regime.subset")))
    if which is None or not isinstance(share, int | float):
        return ""
    decay = f", a share times {factor:g} each time" if isinstance(factor, int | float) and factor < 1 else ""
    return f"{_percent(share)} {which}{decay}"


def _select_phrase(config: Tree) -> str:
    by = value_at(config, "regime.by") or {}
    name = by.get("name")
    if name == "random":
        return "on samples picked at random"
    details = []
    if rate := by.get("error_rate"):
        details.append(f"wrong in {_percent(rate)} of its verdicts")
    if bias := by.get("bias"):
        details.append(f"biased by {bias}")
    words = {"dsir": "DSIR", "verifier": "a verifier", "detector": "a detector"}.get(str(name), by.get("code") or name)
    return f"on samples selected by {words}" + (f" ({', '.join(details)})" if details else "")


def _replay_phrase(config: Tree) -> str:
    budget, by = value_at(config, "regime.real_budget"), value_at(config, "regime.by.name")
    if not isinstance(budget, int | float):
        return ""
    choice = "at random" if by == "random" else f"by {by}"
    weight = " and repeated" if value_at(config, "regime.real_weight") is not None else ""
    return f"{_percent(budget)} of the real tokens are replayed, chosen {choice}{weight}"


def _loss_phrases(config: Tree) -> list[str]:
    loss = value_at(config, "loss.name")
    threshold = value_at(config, "loss.threshold")
    limit = "an automatic threshold" if threshold == "auto" else threshold
    phrases = {
        "truncated": f"ignoring tokens with p{_NBSP}>{_NBSP}{limit}",
        "random_matched": "ignoring as many random tokens",
        "random": "ignoring random tokens",
    }
    if loss in {"code", "user"}:
        options = ", ".join(f"{key} {value}" for key, value in (value_at(config, "loss.options") or {}).items())
        name = value_at(config, "loss.code") or value_at(config, "loss.id")
        return [f"loss {name}" + (f" ({options})" if options else "")]
    return [] if loss in {None, "cross_entropy"} else [phrases.get(loss, f"loss {loss}")]


def _truncation_phrases(config: Tree) -> list[str]:
    parts = []
    if drop := config.get("drop"):
        nearest = "labels nearest to the fit" if config.get("learner") == "regression" else "most likely points"
        parts.append(f"without the {_percent(drop)} {nearest}")
    truncate = config.get("truncate")
    if isinstance(truncate, Mapping):
        name = str(truncate.get("name", ""))
        phrase = _TRUNCATIONS.get(name, f"truncation {name}")
        if truncate.get("control") == "random":
            phrase = _RANDOM_CONTROLS.get(name, "ignoring {share} at random")
        share = truncate.get("share")
        words = {**truncate, "share": _percent(share) if isinstance(share, int | float) else ""}
        parts.append(phrase.format_map(defaultdict(str, words)))
    return parts


def _finetune_phrases(config: Tree) -> Iterator[str]:
    finetune = config.get("finetune") or {}
    names = {"epochs": "{} epochs", "learning_rate": "learning rate {}", "extrapolate": "weights extrapolated by {}"}
    for name, phrase in names.items():
        if (value := finetune.get(name)) is not None:
            words = phrase.format(f"{value:g}" if isinstance(value, int | float) else value)
            yield words.removesuffix("s") if words == "1 epochs" else words
    if finetune.get("low_rank"):
        yield "low-rank adapters"


def _percent(share: float) -> str:
    """`0.005` as `0.5 %`."""
    return f"{100 * share:.4g}{_NBSP}%"
