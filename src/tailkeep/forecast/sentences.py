"""Sentences of a forecast: what its figures say, with their intervals. Rule: drift alone is named as the reference."""

from collections.abc import Iterator, Mapping
from typing import Any

from tailkeep.forecast.config import ForecastConfig

Tree = Mapping[str, Any]


def sentences(name: str, part: Tree, config: ForecastConfig) -> Iterator[str]:
    """What the figures of one length of n-grams say."""
    generations, tail = config.generations, config.tail
    rare = f"{name} that occur once" if tail.max_count == 1 else f"{name} that occur at most {tail.max_count} times"
    if not part["tail_types"]:
        yield f"No {rare}: there is no such tail to lose."
        return
    once = next(iter(part["drift"]))
    low, middle, high = (once["quantiles"][-1][index] for index in (0, 2, 4))
    label = "once" if once["band"] == "1" else f"{once['band']} times"
    yield (
        f"Of {name} that occur {label}, drift alone leaves {middle:.0%} ({low:.0%} to {high:.0%}) after "
        f"{_count(generations)} without real data: what unbiased sampling costs, whatever the model."
    )  # fmt: skip
    accumulated = next(row for row in part["drift"] if row["regime"] == "accumulate")
    yield f"With all real data kept beside all synthetic text it leaves {accumulated['quantiles'][-1][2]:.0%}."
    if (share := part["required_real_share"]) is None:
        yield f"Under drift alone no share of real data in a mix holds {tail.keep:.0%} of {rare}."
    elif share == 0:
        yield f"Drift alone holds {tail.keep:.0%} of {rare} without real data."
    else:
        yield f"Under drift alone, keep {share:.1%} real data in each training set to hold {tail.keep:.0%} of {rare}."
    for side, tree in part["synthetic"].items():
        yield from _synthetic_sentences(side, name, tree, config)


def _synthetic_sentences(side: str, name: str, tree: Tree, config: ForecastConfig) -> Iterator[str]:
    b = tree["exponent"]
    if b["low"] > 1:
        verdict = "significantly above 1: rare ones are written less often than their share"
    elif b["high"] < 1:
        verdict = "significantly below 1: rare ones are written more often than their share"
    else:
        verdict = "no significant difference from 1, drift alone"
    interval = f"95 % CI {b['low']:.2f} to {b['high']:.2f}"
    yield f"{side}: selection exponent b of {name} = {b['value']:.2f} ({interval}), {verdict}."
    label, first = next(iter(tree["round_1"].items()))
    lost = first["drift"] - first["alive"]
    times = "once" if label == "1" else f"{label} times"
    yield (
        f"{side}: the text holds {first['alive']:.0%} of the {name} that occur {times}; drift alone would leave "
        f"{first['drift']:.0%}. "
        + (
            f"{100 * lost:.0f} points were not learnt, or were truncated."
            if lost > 0
            else f"It keeps {-100 * lost:.0f} points more."
        )
    )
    if tree["exposure"] < 0.95:
        yield f"{side}: it has {tree['exposure']:.0%} of the real text's {name}; more text narrows the intervals."
    for regime, sentence in (("replace", "without real data"), ("accumulate", "with all real data kept")):
        curve = next((curve for curve in tree["forecast"] if (curve["regime"], curve["band"]) == (regime, label)), None)
        if curve:
            low, middle, high = (curve["quantiles"][-1][index] for index in (0, 2, 4))
            yield (
                f"{side}: of {name} that occur {times}, {middle:.0%} ({low:.0%} to {high:.0%}) are left after "
                f"{_count(config.generations)} {sentence}."
            )
    if (shares := tree["required_real_share"]) and shares[0] is not None:
        upper = "more than 100 %" if shares[2] is None else f"{shares[2]:.0%}"
        yield (
            f"{side}: keep {shares[0]:.0%} ({shares[1]:.0%} to {upper}) real data in each training set to hold "
            f"{config.tail.keep:.0%} of them."
        )
    if tree["cannot_tell"]:
        hint = " Name it with --decoder." if config.decoder == "unknown" else ""
        yield (
            f"{side}: no forecast for {', '.join(tree['cannot_tell'])}: none was validated for text decoded so "
            f"(decoder: {config.decoder}).{hint} Drift alone above is a reference."
        )


def _count(generations: int) -> str:
    return "1 generation" if generations == 1 else f"{generations} generations"
