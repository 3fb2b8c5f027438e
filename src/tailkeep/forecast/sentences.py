"""Sentences of a forecast: what its figures say, with their intervals. Rule: drift alone is named as the reference."""

from collections.abc import Iterator, Mapping
from typing import Any

from tailkeep.forecast.config import ForecastConfig

Tree = Mapping[str, Any]


def sentences(name: str, part: Tree, config: ForecastConfig) -> Iterator[str]:
    """What the figures of one length of n-grams say."""
    tail = config.tail
    rare = f"{name} that occur {occurrences(tail.max_count)}"
    if not part["tail_types"]:
        yield f"No {rare}: there is no such tail to lose."
        return
    curve = next(iter(part["drift"]))
    yield (
        f"Of {name} that occur {band_words(curve['band'])}, drift alone leaves {share_words(curve)} after "
        f"{_count(config.generations)} without real data."
    )
    accumulated = next(row for row in part["drift"] if row["regime"] == "accumulate")
    yield f"With all real data kept beside all synthetic text drift alone leaves {share_words(accumulated)} of them."
    held = f"{_percent(tail.keep)} of {rare}"
    if (share := part["required_real_share"]) is None:
        yield f"Under drift alone no share of real data in the training sets holds {held}."
    elif share == 0:
        yield f"Drift alone holds {held} without real data."
    else:
        yield f"Under drift alone, keep {_percent(share)} real data in each training set to hold {held}."
    yield "Drift alone is what an unbiased sampler costs: a reference for every model, a forecast of none."
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
    times = band_words(label)
    yield (
        f"{side}: the text holds {_percent(first['alive'])} of the {name} that occur {times}; drift alone would leave "
        f"{_percent(first['drift'])}. "
        + (
            f"{100 * lost:.0f} percentage points were not learnt, or were truncated."
            if lost > 0.005
            else "No more is lost than by drift."
        )
    )
    if tree["exposure"] < 0.95:
        yield f"{side}: it has {_percent(tree['exposure'])} of the real text's {name}; more text narrows the intervals."
    for regime, sentence in (("replace", "without real data"), ("accumulate", "with all real data kept")):
        curve = next((curve for curve in tree["forecast"] if (curve["regime"], curve["band"]) == (regime, label)), None)
        if curve:
            yield (
                f"{side}: of {name} that occur {times}, {share_words(curve)} are left after "
                f"{_count(config.generations)} {sentence}."
            )
    if (shares := tree["required_real_share"]) and shares[0] is not None:
        upper = "more than 100 %" if shares[2] is None else f"{100 * shares[2]:.0f}"
        yield (
            f"{side}: keep {_percent(shares[0])} ({100 * shares[1]:.0f} to {upper}) real data in each training set to "
            f"hold {_percent(config.tail.keep)} of {name} that occur {occurrences(config.tail.max_count)}."
        )
    if tree["cannot_tell"]:
        hint = " Name it with --decoder." if config.decoder == "unknown" else ""
        yield (
            f"{side}: no forecast for {', '.join(tree['cannot_tell'])}: none was validated for text decoded so "
            f"(decoder: {config.decoder}).{hint} Drift alone above is a reference."
        )


def _count(generations: int) -> str:
    return "1 generation" if generations == 1 else f"{generations} generations"


def band_words(band: str) -> str:
    """How often items of `band` occur, such as `once` or `2-3 times`."""
    return "once" if band == "1" else f"{band} times"


def occurrences(max_count: int) -> str:
    """How often the items of a tail occur, such as `once` or `at most 3 times`."""
    return "once" if max_count == 1 else f"at most {max_count} times"


def share_words(curve: Tree) -> str:
    """The last generation of a curve with its 90 % interval, such as `16 % (15 to 17)`."""
    low, middle, high = (100 * curve["quantiles"][-1][index] for index in (0, 2, 4))
    return f"{middle:.0f} % ({low:.0f} to {high:.0f})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
