"""`Metric`, and the metrics of language models that come in families: n-grams, bands of words, parts of tests.

Rule: a title is a noun phrase; a note says the definition and the unit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tailkeep.sanitize import visible

Better = Literal["higher", "lower"] | None


@dataclass(frozen=True)
class Metric:
    """How a metric is presented. `note` is its definition and unit, `log` asks for a logarithmic axis."""

    title: str
    note: str = ""
    better: Better = None
    headline: bool = False
    log: bool = False


_BANDS = (
    ("1", "once"),
    ("2_3", "2 to 3 times"),
    ("4_10", "4 to 10 times"),
    ("11_100", "11 to 100 times"),
    ("over_100", "over 100 times"),
)
TEXT_METRICS: Mapping[str, Metric] = {
    "kr_sum": Metric("KR-test accuracy, by sum", "By summed ln p, which penalises longer sentences.", "higher"),
    "kr_mean": Metric("KR-test accuracy, by mean", "By the mean ln p per token of each sentence.", "higher"),
    "kr_plain": Metric(
        "KR-test accuracy, original form",
        "On the questions as in the file, not in the form of the corpus.",
        "higher",
    ),
    "kr_reformed": Metric("KR questions reformatted", "Number of questions that change in the form of the corpus."),
    "kr_straddling": Metric(
        "KR questions across fractions",
        "Their source lies in two fractions; they count in neither.",
    ),
    "kr_outside": Metric("KR questions not scored", "Their source is not among the real documents."),
    "held_out_nll_tempered": Metric(
        "Held-out NLL, tempered",
        "After temperature scaling: each half of the held-out text at the temperature fitted on the other half.",
        "lower",
    ),
    "temperature": Metric(
        "Best temperature", "Above 1 the model is overconfident on held-out text, below 1 underconfident."
    ),
    **{
        f"kl_{n}_{sides}": Metric(
            f"KL({title}), {n}-grams", "Nats, over equally many n-grams of both, 0.5 added to each count.", "lower"
        )
        for sides, title in (("sample_real", "samples ‖ real"), ("real_sample", "real ‖ samples"))
        for n in (1, 2, 3, 4)
    },
    **{
        f"coverage_{band}": Metric(
            f"Coverage of words seen {times}",
            f"Share of the words that occur {times} in the real text and also in the samples.",
            "higher",
        )
        for band, times in _BANDS
    },
    **{
        f"coverage_{band}_outside": Metric(
            f"Coverage of words seen {times}, outside the replay",
            f"Share of the words that occur {times} in the real text, in no replayed document, and in the samples.",
            "higher",
        )
        for band, times in _BANDS
    },
    **{
        f"language_{name}": Metric(title, f"{note}, by a stated pattern of English; mean over the samples.")
        for name, title, note in (
            ("questions", "Questions", "Per 1,000 words"),
            ("parentheticals", "Parentheticals", "Per 1,000 words"),
            ("passives", "Passives", "Per 1,000 words"),
            ("hedges", "Hedges", "Words such as “perhaps”, per 1,000 words"),
            ("connectives", "Connectives", "That open a sentence, such as “However”, per 1,000 words"),
            ("dashes", "Dashes", "Per 1,000 words"),
            ("list_markers", "List markers", "Per 1,000 words"),
            ("template_markers", "Template markers", "Such as “[Name]”, per 1,000 words"),
            ("repeated_openings", "Repeated openings", "Share of sentences with the first two words of an earlier one"),
        )
    },
    "language_word_length": Metric("Length of a word", "Mean number of characters, over all words of the samples."),
    "language_type_token_ratio": Metric("Type-token ratio", "Different words as a share of all words of the samples."),
    "threshold": Metric(
        "Threshold",
        "Probability above which this generation's loss truncates tokens, set automatically.",
    ),
    "confidence_gap": Metric(
        "Confidence gap",
        "Share of high-confidence tokens in the last model's samples minus that in real text.",
    ),
}

_DOWNSTREAM = "downstream."
_TESTS: Mapping[str, tuple[str, str, Better]] = {
    "": ("", "Share of items whose correct choice is the most likely, by summed ln p.", "higher"),
    "calibrated": (
        ", calibrated",
        "Share of items whose correct choice gains the most ln p from the query's context.",
        "higher",
    ),
    "calibrated_log_odds": (
        ", calibrated log-odds",
        "Nats: of the correct choice among all, by what each gains from the query's context; mean over items.",
        "higher",
    ),
    "calibrated_macro_f1": (", calibrated F1", "Mean of the classes' F1, by what each gains from context.", "higher"),
    "chance": (", chance", "Accuracy of guessing.", None),
    "cut": (", truncated", "Share of items whose query was truncated at the start.", None),
    "high": (", upper bound", "Of the 95 % Wilson interval over items.", None),
    "items": (", items", "Number of items of the accuracy.", None),
    "log_odds": (", log-odds", "Nats: of the correct choice among all, by summed ln p; mean over items.", "higher"),
    "low": (", lower bound", "Of the 95 % Wilson interval over items.", None),
    "macro_f1": (", F1", "Mean of the classes' F1, by summed ln p.", "higher"),
    "per_byte": (" by byte", "Share of items whose correct choice is the most likely by ln p per byte.", "higher"),
}
"""Metrics of a downstream test: last part of the name -> title, note and direction."""


def test_metric(bare: str) -> Metric | None:
    """The metric `downstream.NAME` or `downstream.NAME.PART`; None for other names."""
    if not bare.startswith(_DOWNSTREAM):
        return None
    test, _, part = bare.removeprefix(_DOWNSTREAM).partition(".")
    if part not in _TESTS:
        return None
    suffix, note, better = _TESTS[part]
    return Metric(f"{visible(test, newline=' ')}{suffix}", note, better, not part)


def fraction_metric(bare: str) -> Metric | None:
    """The metric `kr_fraction_K` or `kr_fraction_K.items`; None for other names."""
    match = re.fullmatch(r"kr_fraction_(\d+)(\.items)?", bare)
    if match is None:
        return None
    if match[2]:
        return Metric(f"KR questions, fraction {match[1]}", "Number of questions of the accuracy.")
    note = "KR-test accuracy on the questions about this part of the real data, which arrives at that generation."
    return Metric(f"KR-test accuracy, fraction {match[1]}", note, "higher", match[1] == "0")


def is_test(name: str) -> bool:
    """Whether `name` is the accuracy in a downstream test."""
    return name.startswith(_DOWNSTREAM) and name.count(".") == 1
