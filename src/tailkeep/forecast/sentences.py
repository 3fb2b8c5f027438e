"""What a forecast says, one sentence per line, from the parts of its summary.

Rules: what calls a text into question comes first; drift alone is named as a reference; an interval names its level.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tailkeep.forecast.config import ForecastConfig
from tailkeep.forecast.validate import HORIZON, MIN_ITEMS, VALIDATED_ITEMS

Tree = dict[str, Any]

ITEM_NAMES = {1: "words", 2: "pairs of words", 3: "runs of three words"}
_KINDS = {"words": ITEM_NAMES[1], "pairs": ITEM_NAMES[2]}
VALIDATED_NAMES = [name for kind, name in _KINDS.items() if kind in VALIDATED_ITEMS]

MIN_EXPOSURE = 0.5
"""A text shorter than this share of the real one gives no forecast: a few documents say that all else is gone."""
_SAME_SIZE = 0.95
_COPIED = 0.05
"""So much more of the rarest items than drift alone leaves is said to be suspicious, if it is no chance."""
_COPIED_ERRORS = 4
_LOST_ERRORS = 2
"""A share that is missing is said to be lost beyond so many standard errors of what drift alone leaves."""
_FOREIGN = 1 / 3
"""A text of which more is new is called into question: those of the replication's and the recipes' models have at
most 0.30 in their first round, WikiText beside TinyStories has 0.41."""
REGIME_WORDS = {
    "replace": "without real data",
    "mix": "with a share of real data",
    "accumulate": "with all text kept",
    "accumulate_subsample": "with all text kept at a fixed size",
    "regenerate": "with real data that arrive in parts",
}


def sentences(name: str, part: Tree, config: ForecastConfig) -> Iterator[str]:
    """What the figures of one length of n-grams say: of each synthetic text first, then of drift, the reference."""
    for side, tree in part["synthetic"].items():
        if tree["warning"]:
            yield f"{side}: {tree['warning']}"
    for side, tree in part["synthetic"].items():
        yield from _synthetic_sentences(side, name, tree)
    yield from _drift_sentences(name, part, config)
    if small := [band for band, types in part["bands"].items() if 0 < types < MIN_ITEMS]:
        yield f"Fewer than {MIN_ITEMS} {name} occur {', '.join(map(band_words, small))}: no figure is given of so few."


def _drift_sentences(name: str, part: Tree, config: ForecastConfig) -> Iterator[str]:
    tail = config.tail
    rare = f"{name} that occur {occurrences(tail.max_count)}"
    if part["tail_types"] < MIN_ITEMS:
        yield (
            f"Of {rare} there are {part['tail_types']}, too few to say what is left of them."
            if part["tail_types"]
            else f"No {rare}: there is no such tail to lose."
        )
        return
    alone, accumulated = (part["tail"][regime] for regime in ("replace", "accumulate"))
    yield (
        f"Of {rare}, drift alone leaves {share_words(alone)} after {_count(config.generations)} without real data, "
        f"and {share_words(accumulated)} with all real data kept beside all synthetic text."
    )
    held = f"{_percent(tail.keep)} of {rare}"
    if (share := part["required_real_share"]) is None:
        yield f"Under drift alone no share of real data in the training sets holds {held}."
    elif share == 0:
        yield f"Drift alone holds {held} without real data."
    else:
        yield f"Under drift alone, keep {_percent(share)} real data in each training set to hold {held}."
    yield (
        f"{part['tail_types']:,} of {part['types']:,} {name} occur {occurrences(tail.max_count)}. That is this "
        "corpus' own number: what drift alone leaves of a band is nearly the same in every corpus."
    )
    if not part["synthetic"]:
        yield "Drift alone is what an unbiased sampler costs any corpus, a reference: --synthetic forecasts a model."


def _synthetic_sentences(side: str, name: str, tree: Tree) -> Iterator[str]:
    exposure = tree["exposure"]
    for label, first in list(tree["round_1"].items())[:1]:
        times = band_words(label)
        regime = ("replace", label)
        curve = next((curve for curve in tree["forecast"] if (curve["regime"], curve["band"]) == regime), None)
        if curve:
            yield (
                f"{side}: of {name} that occur {times}, {share_words(curve)} are left after "
                f"{_count(len(curve['quantiles']) + 1)} without real data."
            )
        size = " in as much text" if exposure < _SAME_SIZE else ""
        yield (
            f"{side}: the text holds {_percent(first['alive'])} of the {name} that occur {times}; drift alone would "
            f"leave {_percent(first['drift'])}{size}. {_loss_words(first)}"
        )
    if exposure < _SAME_SIZE:
        note = " What is left is counted in texts of its size." if exposure >= MIN_EXPOSURE else ""
        yield f"{side}: it is {_percent(exposure)} as long as the real text in {name}.{note} Give as much text."
    new = tree["new"]
    yield (
        f"{side}: {_percent(new['share'])} of its {name} are not in the real text; of fresh text of the same kind it "
        f"would be some {_percent(new['expected'])}."
    )
    yield f"{side}: selection exponent b of {name} = {exponent_words(tree['exponent'])}{_ranges_words(tree)}."
    if exposure < MIN_EXPOSURE:
        yield (
            f"{side}: no forecast from less than {_percent(MIN_EXPOSURE)} of the real text's {name}. "
            "Drift alone below is a reference."
        )


def exponent_words(b: Tree) -> str:
    """b with its interval and what it means, such as `1.20 (95 % CI 1.10 to 1.30), significantly above 1: ...`."""
    if b["low"] > 1:
        verdict = "significantly above 1: rare ones are written less often than their share"
    elif b["high"] < 1:
        verdict = "significantly below 1: rare ones are written more often than their share"
    else:
        verdict = "no significant difference from 1, drift alone"
    return f"{_interval(b)}, {verdict}"


def _ranges_words(tree: Tree) -> str:
    parts = [f"{_interval(b)} of counts {counts}" for counts, b in tree["exponent_by_range"].items()]
    return f"; {', '.join(parts)}" if parts else ""


def _interval(b: Tree) -> str:
    return f"{b['value']:.2f} (95 % CI {b['low']:.2f} to {b['high']:.2f})"


def warning(name: str, tree: Tree) -> str:
    """What calls the synthetic text of `tree` into question, or nothing.

    A model may have learnt its corpus by heart, and one that is trained on little misspells: neither is an error.
    """
    if tree["new"]["share"] > max(_FOREIGN, 2 * tree["new"]["expected"]):
        return (
            f"{_percent(tree['new']['share'])} of its {name} are not in the real text. Check that a model wrote it "
            "that was trained on this corpus."
        )
    for label, first in list(tree["round_1"].items())[:1]:
        more = first["alive"] - first["drift"]
        if more > max(_COPIED, _COPIED_ERRORS * _error(first)):
            return (
                f"it holds {100 * more:.0f} percentage points more of the {name} that occur {band_words(label)} than "
                "an unbiased sampler leaves. Check that the text is no copy of the corpus, nor of a part of it."
            )
    return ""


def _loss_words(first: Tree) -> str:
    """What became of the rarest items beyond drift."""
    lost = first["drift"] - first["alive"]
    if lost > max(0.005, _LOST_ERRORS * _error(first)):
        return f"{100 * lost:.0f} percentage points were not learnt, or were truncated."
    if lost < -max(_COPIED, _COPIED_ERRORS * _error(first)):
        return "Drift alone leaves less."
    return "Drift alone can explain what is lost."


def _error(first: Tree) -> float:
    return math.sqrt(first["drift"] * (1 - first["drift"]) / first["independent"])


def gate_sentences(items: Mapping[str, Tree], config: ForecastConfig) -> Iterator[str]:
    """Which regimes have no forecast, for whatever items and texts of the real size: the decoder alone decides it."""
    silent = [name for name in items if name not in VALIDATED_NAMES and items[name]["synthetic"]]
    if silent:
        yield f"There is no forecast of {' and '.join(silent)}: {' and '.join(VALIDATED_NAMES)} were validated."
    spoken = [part["synthetic"] for name, part in items.items() if name in VALIDATED_NAMES]
    trees = [(side, tree) for sides in spoken for side, tree in sides.items() if tree["exposure"] >= MIN_EXPOSURE]
    if unknown := list(dict.fromkeys(side for side, _ in trees if config.decoder_of(side) == "unknown")):
        yield (
            f"There is no forecast from {', '.join(unknown)}: how it was decoded is not known. Name it with --decoder, "
            "and another --out."
        )
    decoders: dict[tuple[str, ...], dict[str, None]] = {}
    for side, tree in trees:
        if side not in unknown and tree["cannot_tell"]:
            decoders.setdefault(tuple(tree["cannot_tell"]), {})[config.decoder_of(side)] = None
    for regimes, names in decoders.items():
        yield (
            f"There is no forecast {', '.join(map(regime_words, regimes))}: none was validated from one text decoded "
            f"so (decoder: {', '.join(names)}). What is said of drift alone is a reference."
        )
    if any(tree["forecast"] for _, tree in trees):
        yield f"There is no forecast {regime_words('regenerate')}: how they arrive is not known of one text."
        if config.generations > HORIZON + 1:
            yield f"Forecasts end at generation {HORIZON + 1}: none was validated further ahead than {HORIZON} rounds."


def regime_words(regime: str) -> str:
    """Such as `without real data (replace)`."""
    return f"{REGIME_WORDS[regime]} ({regime})"


def _count(generations: int) -> str:
    return "1 generation" if generations == 1 else f"{generations} generations"


def band_words(band: str) -> str:
    """How often items of `band` occur, such as `once` or `2-3 times`."""
    return "once" if band == "1" else f"{band} times"


def occurrences(max_count: int) -> str:
    """How often the items of a tail occur, such as `once` or `at most 3 times`."""
    return "once" if max_count == 1 else f"at most {max_count} times"


def share_words(curve: Tree) -> str:
    """The last generation of a curve with its 90 % interval, such as `16 % (90 %: 15 to 17)`."""
    low, middle, high = (curve["quantiles"][-1][index] for index in (0, 2, 4))
    return f"{_percent(middle)} (90 %: {100 * low:.0f} to {100 * high:.0f})"


def _percent(share: float) -> str:
    """Such as `16 %`; a share that would be printed as 0 % keeps its first digit: `0.1 %`."""
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.005 else f"{100 * share:.1g} %"
