"""The metrics of language models: those of samples, of held-out text and questions, of edits, and of selection.

Rule: a metric that is computed for language models is defined here, and nowhere else.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from tailkeep.runs.metric import Better, FailureLimit, Metric, Range
from tailkeep.sanitize import visible

_share, _positive = partial(Metric, range="share"), partial(Metric, range="positive")
_CORRECT = "questions answered correctly"
_EXPECTED = ("{name}_expected", "an equal amount of real text")


def _knowledge_limits(title: str, of: str, unless: str = "") -> tuple[FailureLimit, FailureLimit]:
    """Of an accuracy in the KR-test: a fixed limit, and half of the margin over chance."""
    return (
        FailureLimit(0.75, f"{title} < 0.75", unless=unless),
        FailureLimit(
            0.5, f"{title}, half of its margin over chance lost", of=of, chance=0.5, unless=unless, name="margin"
        ),
    )


_BANDS = (
    ("1", "once"),
    ("2_3", "2 to 3 times"),
    ("4_10", "4 to 10 times"),
    ("11_100", "11 to 100 times"),
    ("over_100", "over 100 times"),
)
_FAMILIES: Mapping[str, Metric] = {
    "kr_sum": _share("KR-test accuracy, by sum", "By summed ln p, which penalises longer sentences.", better="higher"),
    "kr_mean": _share("KR-test accuracy, by mean", "By the mean ln p per token of each sentence.", better="higher"),
    "kr_plain": _share(
        "KR-test accuracy, original form",
        "On the questions as in the file, not in the form of the corpus.",
        better="higher",
    ),
    "kr_reformed": Metric("KR questions reformatted", "Number of questions that change in the form of the corpus."),
    "kr_straddling": Metric(
        "KR questions across fractions", "Their source lies in two fractions; they count in neither."
    ),
    "kr_outside": Metric("KR questions not scored", "Their source is not among the real documents."),
    "held_out_nll_tempered": Metric(
        "Held-out NLL, tempered",
        "After temperature scaling: each half of the held-out text at the temperature fitted on the other half.",
        better="lower",
        unit="nats/token",
    ),
    "temperature": _positive(
        "Best temperature", "Above 1 the model is overconfident on held-out text, below 1 underconfident."
    ),
    **{
        f"kl_{n}_{sides}": _positive(
            f"KL({title}), {n}-grams",
            "Nats, over equally many n-grams of both, 0.5 added to each count.",
            better="lower",
            companion=_EXPECTED,
        )
        for sides, title in (("sample_real", "samples ‖ real"), ("real_sample", "real ‖ samples"))
        for n in (1, 2, 3, 4)
    },
    **{
        f"coverage_{band}": _share(
            f"Coverage of words seen {times}",
            f"Share of the words that occur {times} in the real text and also in the samples.",
            better="higher",
            companion=_EXPECTED,
        )
        for band, times in _BANDS
    },
    **{
        f"coverage_{band}_outside": _share(
            f"Coverage of words seen {times}, outside the replay",
            f"Share of the words that occur {times} in the real text, in no replayed document, and in the samples.",
            better="higher",
        )
        for band, times in _BANDS
    },
    **{
        f"language_{name}": _positive(
            title, f"{note}, by a stated pattern of English; mean over the samples.", companion=_EXPECTED
        )
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
    "language_word_length": _positive(
        "Length of a word", "Mean number of characters, over all words of the samples.", companion=_EXPECTED
    ),
    "language_type_token_ratio": _share(
        "Type-token ratio", "Different words as a share of all words of the samples.", companion=_EXPECTED
    ),
    "threshold": Metric(
        "Threshold", "Probability above which this generation's loss truncates tokens, set automatically."
    ),
    "confidence_gap": Metric(
        "Confidence gap", "Share of high-confidence tokens in the last model's samples minus that in real text."
    ),
}


TEXT_METRICS: Mapping[str, Metric] = {
    "held_out_nll": Metric(
        "Held-out NLL",
        "Nats per token (per point for a mixture) on held-out real data, by cross-entropy.",
        better="lower",
        headline=True,
        unit="nats/token",
        limits=(
            FailureLimit(
                1.1, "held-out NLL 10 % above generation 0", falling=False, of="held_out_nll", unless="modes_total"
            ),
        ),
    ),
    "kr_accuracy": _share(
        "KR-test accuracy",
        "Share of KR questions in which the true sentence is more likely than the false one; chance is 0.5.",
        better="higher",
        headline=True,
        reference=(0.5, "guessing, 0.50"),
        heading="What the model still knows",
        items=("kr_items", _CORRECT),
        limits=_knowledge_limits("KR-test accuracy", "kr_accuracy", "kr_fraction_0"),
    ),
    "held_out_nll_worst_tokens": Metric(
        "Held-out NLL, worst tokens",
        "Nats per token, over the tenth of the held-out tokens with the highest.",
        better="lower",
    ),
    "held_out_nll_worst_rows": Metric(
        "Held-out NLL, worst rows",
        "Nats per token, over the tenth of the held-out documents, or blocks of joined text, with the highest.",
        better="lower",
    ),
    "kr_standardised_margin": Metric(
        "KR-test, standardised margin",
        "Mean over standard deviation, over questions, of how much more likely the true sentence is.",
        better="higher",
    ),
    "held_out_above_90": _share("High-confidence held-out tokens, 0.9", "Share of the held-out tokens with p > 0.9."),
    "held_out_above_99": _share("High-confidence held-out tokens, 0.99", "Share of the held-out tokens with p > 0.99."),
    "above_99": _share("High-confidence sampled tokens, 0.99", "Share of the samples' tokens with p > 0.99."),
    "kr_items": Metric("KR questions", "Number of questions of the accuracy."),
    "own_perplexity": _positive(
        "Perplexity on its own samples",
        "Perplexity of the model on its own samples; falls as the model becomes more confident.",
        headline=True,
    ),
    "first_model_perplexity": _positive(
        "Perplexity under the first model", "Perplexity of the samples under the model of generation 0."
    ),
    "distinct_1": _share("Distinct-1", "Distinct 1-grams as a share of all 1-grams of the samples.", better="higher"),
    "distinct_2": _share("Distinct-2", "Distinct 2-grams as a share of all 2-grams of the samples.", better="higher"),
    "distinct_3": _share("Distinct-3", "Distinct 3-grams as a share of all 3-grams of the samples.", better="higher"),
    "distinct_4": _share(
        "Distinct-4", "Distinct 4-grams as a share of all 4-grams of the samples.", better="higher", headline=True
    ),
    "self_bleu": _share(
        "Self-BLEU", "Mean BLEU-4 of each sample with the others as references; 1 if all occur twice.", better="lower"
    ),
    "vendi": _positive(
        "Vendi score", "Effective number of different samples, by 1- to 4-grams of words.", better="higher"
    ),
    "kl_sample_real": _positive("KL(samples ‖ real)", "Nats, over unigram histograms.", better="lower", unit="nats"),
    "kl_real_sample": _positive(
        "KL(real ‖ samples)",
        "Nats, over unigram histograms; large if the tail is lost.",
        better="lower",
        headline=True,
        log=True,
        unit="nats",
    ),
    **_FAMILIES,
    "mean_length": _positive("Length of a sample", "Mean number of tokens.", unit="tokens"),
    "valid_share": _share("Valid documents", "Share of samples that the world's grammar can produce.", better="higher"),
    "true_share": _share("True facts", "Share of the stated facts that are true in the world.", better="higher"),
    "rare_fact_coverage": _positive(
        "Coverage of rare facts",
        "Rare facts that the samples state, relative to equally many real documents.",
        better="higher",
        headline=True,
        reference=(1.0, "real documents, 1"),
    ),
    "common_fact_coverage": _positive(
        "Coverage of common facts",
        "Common facts that the samples state, relative to equally many real documents.",
        better="higher",
    ),
    "rare_phrasing_coverage": _positive(
        "Coverage of rare phrasings",
        "Rare phrasings that the samples use, relative to equally many real documents.",
        better="higher",
    ),
    "people_named": Metric(
        "People named",
        "People of the world whose full name stands in at least one sample.",
        better="higher",
        headline=True,
        range="count",
        total="people_total",
        unit="people",
    ),
    "people_total": Metric("Total people", "People of the world."),
    "train_nll": Metric(
        "NLL in training", "Nats per token by cross-entropy, mean over all training steps.", unit="nats/token"
    ),
    "train_units": Metric("Training units", "Tokens or examples that the optimiser saw, over all epochs."),
    "train_steps": Metric("Training steps", "Steps of the optimiser."),
    "train_flops": Metric("Training FLOPs", "Estimated as 6 per target and weight; of all members together."),
    "train_data_units": Metric("Size of the training set", "Tokens or examples in the generation's training set."),
    "flagged_share": _share(
        "Flagged tokens",
        "Share of the tokens that were resampled from a model; most stay the same, see changed tokens.",
    ),
    "changed_share": _share("Changed tokens", "Share of the tokens that this edit replaced or deleted."),
    "cumulative_changed_share": Metric(
        "Changed since the real data",
        "Share of the real data's tokens that this edit and those before it have replaced or deleted.",
        headline=True,
    ),
    "candidates": Metric("Candidates", "Documents that the last model generated to select from."),
    "selected_share": _share(
        "Selected candidates", "Share of the candidates in the training set; a repeated one counts once."
    ),
    "effective_sample_size": _positive(
        "Effective sample size", "Number of equally weighted candidates with the same variance: (Σ w)² / Σ w²."
    ),
    "accepted_share": _share("Accepted candidates", "Share of the candidates with a weight above 0 from the verifier."),
    "detector_accuracy": _share(
        "Accuracy of the detector",
        "On real and synthetic texts that it was not fitted on, mean of both classes; chance is 0.5.",
    ),
    "candidate_true_share": _share(
        "True facts among candidates", "Share of the facts stated in all candidates that are true in the world."
    ),
    "selected_true_share": _share(
        "True facts in the selection",
        "Share of the facts stated in the training set that are true in the world; see true facts among candidates.",
        headline=True,
        companion=("candidate_true_share", "all candidates"),
    ),
    "replayed_documents": Metric("Replayed documents", "Real documents in the training set."),
    "replayed_share": _share("Replayed tokens", "Share of the real tokens in the training set, each counted once."),
    "replayed_share_so_far": _share(
        "Tokens replayed so far", "Share of the real tokens in the training set of this generation or an earlier one."
    ),
    "expected_loss": _share(
        "Expected loss without replay",
        "Share of the real words, pairs and triples that drift alone loses from the synthetic text.",
    ),
    "expected_loss_replayed": _share(
        "Expected loss with replay", "The same with the replayed documents.", better="lower"
    ),
    "rare_fact_coverage_outside": _positive(
        "Coverage of rare facts outside the replay",
        "Rare facts that no replayed document states but the samples do, relative to equally many real documents.",
        better="higher",
    ),
    "rare_facts_outside": Metric("Rare facts outside the replay", "Rare facts that no replayed document states."),
    "decoder_temperature": _positive(
        "Temperature of the matched decoder",
        "At which the model’s samples and real text have the same NLL under the model; above 1 if it is overconfident.",
        headline=True,
    ),
    "weight_change": _positive(
        "Change of the weights", "Euclidean, relative to the previous generation’s weights; before any extrapolation."
    ),
    "members": Metric("Members", "Number of language models that share one pool."),
    "mixture_gain": Metric(
        "Gain of the mixture",
        "Nats: the mean held-out NLL of the members minus that of their mean probabilities; 0 if they agree.",
        headline=True,
        unit="nats/token",
    ),
    "member_kr_mean": _share("KR-test accuracy, mean member", "Mean over the single members.", better="higher"),
    "member_kr_best": _share("KR-test accuracy, best member", "Maximum over the single members.", better="higher"),
    "kept_fraction": _share("Kept fraction", "Share of the target tokens that the loss keeps."),
}

_DOWNSTREAM = "downstream."
_TESTS: Mapping[str, tuple[str, str, Better, Range]] = {
    "": ("", "Share of items whose correct choice is the most likely, by summed ln p.", "higher", "share"),
    "calibrated": (
        ", calibrated",
        "Share of items whose correct choice gains the most ln p from the query's context.",
        "higher",
        "share",
    ),
    "calibrated_log_odds": (
        ", calibrated log-odds",
        "Nats: of the correct choice among all, by what each gains from the query's context; mean over items.",
        "higher",
        "any",
    ),
    "calibrated_macro_f1": (
        ", calibrated F1",
        "Mean of the classes' F1, by what each gains from context.",
        "higher",
        "share",
    ),
    "chance": (", chance", "Accuracy of guessing.", None, "share"),
    "cut": (", truncated", "Share of items whose query was truncated at the start.", None, "share"),
    "high": (", upper bound", "Of the 95 % Wilson interval over items.", None, "share"),
    "items": (", items", "Number of items of the accuracy.", None, "any"),
    "log_odds": (
        ", log-odds",
        "Nats: of the correct choice among all, by summed ln p; mean over items.",
        "higher",
        "any",
    ),
    "low": (", lower bound", "Of the 95 % Wilson interval over items.", None, "share"),
    "macro_f1": (", F1", "Mean of the classes' F1, by summed ln p.", "higher", "share"),
    "per_byte": (
        " by byte",
        "Share of items whose correct choice is the most likely by ln p per byte.",
        "higher",
        "share",
    ),
}
"""Metrics of a downstream test: last part of the name -> title, note, direction and range."""


def test_metric(bare: str) -> Metric | None:
    """The metric `downstream.NAME` or `downstream.NAME.PART`; None for other names."""
    if not bare.startswith(_DOWNSTREAM):
        return None
    test, _, part = bare.removeprefix(_DOWNSTREAM).partition(".")
    if part not in _TESTS:
        return None
    suffix, note, better, possible = _TESTS[part]
    chance = None if part else ("{name}.chance", "the chance level")
    title = f"{visible(test, newline=' ')}{suffix}"
    return Metric(title, note, better, headline=not part, range=possible, companion=chance)


def fraction_metric(bare: str) -> Metric | None:
    """The metric `kr_fraction_K` or `kr_fraction_K.items`; None for other names."""
    match = re.fullmatch(r"kr_fraction_(\d+)(\.items)?", bare)
    if match is None:
        return None
    if match[2]:
        return Metric(f"KR questions, fraction {match[1]}", "Number of questions of the accuracy.")
    title = f"KR-test accuracy, fraction {match[1]}"
    note = "KR-test accuracy on the questions about this part of the real data, which arrives at that generation."
    metric = _share(title, note, "higher", items=(f"{bare}.items", _CORRECT))
    if match[1] != "0":
        return metric
    # Every generation has trained on the first fraction, so it decides when a model has failed.
    limits = _knowledge_limits("KR-test accuracy on the first fraction", bare)
    return replace(metric, headline=True, reference=(0.5, "guessing, 0.50"), limits=limits)


def is_test(name: str) -> bool:
    """Whether `name` is the accuracy in a downstream test."""
    return name.startswith(_DOWNSTREAM) and name.count(".") == 1
