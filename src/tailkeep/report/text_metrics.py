"""Metrics of language models that come in families: n-grams, bands of words, parts of tests."""

import re
from collections.abc import Mapping

from tailkeep.report.metric import Better, Metric
from tailkeep.sanitize import visible

TEXT_METRICS: Mapping[str, Metric] = {
    "kr_sum": Metric(
        "Knowledge retention, by sum", "By summed ln p, which makes a longer sentence pay for its length.", "higher"
    ),
    "kr_mean": Metric("Knowledge retention, by mean", "By the mean ln p over each sentence’s own length.", "higher"),
    "kr_plain": Metric(
        "Knowledge retention, plain form", "Of the questions as they are written, not in the corpus’ form.", "higher"
    ),
    "kr_reformed": Metric("KR questions reformed", "How many questions the corpus’ form changes."),
    "kr_straddling": Metric("KR questions straddling", "Their source lies in two fractions: they count in neither."),
    "kr_outside": Metric("KR questions not asked", "Their source is not among the real documents."),
    "held_out_nll_tempered": Metric(
        "Held-out NLL, tempered",
        "After temperature scaling: each half of the held-out text at the temperature that suits the other half.",
        "lower",
    ),
    "temperature": Metric(
        "Best temperature", "Above 1 the model is too sure on held-out text, below 1 not sure enough."
    ),
    **{
        f"kl_{n}_sample_real": Metric(
            f"KL(samples ‖ real), {n}-grams", "Nats, of as many n-grams of each side, half a count added.", "lower"
        )
        for n in (1, 2, 3, 4)
    },
    **{
        f"kl_{n}_real_sample": Metric(
            f"KL(real ‖ samples), {n}-grams", "Nats, of as many n-grams of each side, half a count added.", "lower"
        )
        for n in (1, 2, 3, 4)
    },
    **{
        f"coverage_{band}": Metric(
            f"Coverage of words seen {times}",
            f"Share of the words that occur {times} in the real text and also in the samples.",
            "higher",
        )
        for band, times in (
            ("1", "once"),
            ("2_3", "2 to 3 times"),
            ("4_10", "4 to 10 times"),
            ("11_100", "11 to 100 times"),
            ("over_100", "over 100 times"),
        )
    },
    "threshold": Metric(
        "Threshold", "The probability above which this generation's loss left tokens out, chosen for it."
    ),
    "confidence_gap": Metric(
        "Confidence gap",
        "How many more sure tokens the last model's own text has than real text, as a share of tokens.",
    ),
}

_DOWNSTREAM = "downstream."
_TESTS: Mapping[str, tuple[str, str, Better]] = {
    "": ("", "Share of items whose right choice is likeliest, by summed ln p.", "higher"),
    "chance": (", chance", "What guessing gives.", None),
    "cut": (", cut short", "Share of items that lost the beginning of their query.", None),
    "high": (", upper bound", "Of the 95 % Wilson interval over items.", None),
    "items": (", items", "How many items the accuracy rests on.", None),
    "low": (", lower bound", "Of the 95 % Wilson interval over items.", None),
    "per_byte": (" by byte", "Share of items whose right choice is likeliest by ln p per byte.", "higher"),
}
"""What is recorded of a downstream test, by the last part of its name."""


def test_metric(bare: str) -> Metric | None:
    """What `downstream.NAME` or `downstream.NAME.PART` is; None for other names."""
    if not bare.startswith(_DOWNSTREAM):
        return None
    test, _, part = bare.removeprefix(_DOWNSTREAM).partition(".")
    if part not in _TESTS:
        return None
    words, note, better = _TESTS[part]
    return Metric(f"{visible(test, newline=' ')}{words}", note, better, not part)


def fraction_metric(bare: str) -> Metric | None:
    """What `kr_fraction_K` or `kr_fraction_K.items` is; None for other names."""
    found = re.fullmatch(r"kr_fraction_(\d+)(\.items)?", bare)
    if found is None:
        return None
    if found[2]:
        return Metric(f"KR questions, fraction {found[1]}", "How many questions the accuracy rests on.")
    note = "Share of right answers to questions about this part of the real data; it arrives at that generation."
    return Metric(f"Knowledge of fraction {found[1]}", note, "higher", found[1] == "0")


def is_test(name: str) -> bool:
    """Whether `name` is the accuracy in a downstream test."""
    return name.startswith(_DOWNSTREAM) and name.count(".") == 1
