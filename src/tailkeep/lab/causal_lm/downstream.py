"""Downstream tests without a download: which of several texts does a model find most likely?

Rule: one way of scoring for all of them, ln p of a choice given its query. Answers are never generated.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tailkeep.data import MultipleChoice, read_choices, read_minimal_pairs
from tailkeep.lab.causal_lm.data_config import Downstream
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.protocols import Measurement
from tailkeep.metrics import Interval, binomial_interval, choice_credit, choice_log_odds, macro_f1
from tailkeep.scoring import token_log_probs
from tailkeep.scoring.loading import load_network, load_tokenizer, local_folder, max_positions_of

BLIMP = "blimp"
DownstreamTests = Mapping[str, Sequence[MultipleChoice]]
"""Name -> items."""


def read_tests(settings: Downstream | None) -> DownstreamTests:
    """The items of the tests in `settings`, the same whatever the model.

    Raises:
        InputError: a file cannot be read or has another format.
    """
    if settings is None:
        return {}
    tests: dict[str, Sequence[MultipleChoice]] = {}
    if settings.blimp is not None:
        paradigms = read_minimal_pairs(settings.blimp, limit=settings.pairs, seed=settings.seed)
        tests[BLIMP] = [pair for pairs in paradigms.values() for pair in pairs]
    for name, path in settings.choices.items():
        tests[name] = read_choices(path, skip=settings.skip.get(name, 0), limit=settings.limit, seed=settings.seed)
    return tests


def evaluate_model(path: Path, tests: DownstreamTests) -> dict[str, float]:
    """The metrics of `measure_downstream` of the model in the folder `path`, or the hub's, in float32, on a GPU if any.

    Raises:
        InputError: it cannot be found or read.
    """
    folder = local_folder(path, key="--model")
    tokenizer = DocumentTokenizer(load_tokenizer(folder, key="--model"), append_eos=False)
    network = load_network(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    return dict(measure_downstream(network, tokenizer, tests, positions=max_positions_of(network)).metrics)


def measure_downstream(
    network: Any, tokenizer: DocumentTokenizer, tests: DownstreamTests, *, positions: int | None
) -> Measurement:
    """For each test `downstream.NAME`, its accuracy by summed ln p, and beside it

    `.low`, `.high` (95 % Wilson interval over items), `.chance`, `.items`, `.per_byte` (accuracy by ln p divided by the
    bytes of the choice, which does not favour short ones), `.log_odds` (of the correct choice among all, in nats, mean
    over items) and `.cut` (share of items whose query was truncated at its beginning, to fit `positions`). Where all
    items have the same choices, `.macro_f1`. Where all have a `query_without_context`, `.calibrated`,
    `.calibrated_log_odds` and `.calibrated_macro_f1`: by ln p of a choice given the query minus ln p of it given that.

    The table `downstream` has each item's log-odds and whether it is answered correctly, by which models are compared.
    """
    metrics: dict[str, float] = {}
    table: dict[str, Any] = {}
    for name, items in tests.items():
        scores, num_truncated = choice_scores(network, tokenizer, items, positions=positions)
        per_byte = sum(
            choice_credit(row / [len(choice.encode()) for choice in item.choices], item.gold)
            for row, item in zip(scores, items, strict=True)
        )
        summary = _summary(scores, items)
        accuracy, low, high = _accuracy(summary.credits)
        test = f"downstream.{name}"
        metrics |= {
            test: accuracy,
            f"{test}.low": low,
            f"{test}.high": high,
            f"{test}.chance": float(np.mean([1 / len(item.choices) for item in items])),
            f"{test}.items": float(len(items)),
            f"{test}.per_byte": per_byte / len(items),
            f"{test}.cut": num_truncated / len(items),
            f"{test}.log_odds": float(np.mean(summary.log_odds)),
        }
        metrics |= {} if summary.macro_f1 is None else {f"{test}.macro_f1": summary.macro_f1}
        table[name] = {"log_odds": summary.log_odds, "right": summary.credits}
        bare = [replace(item, query=item.query_without_context) for item in items if item.query_without_context]
        if len(bare) == len(items):
            without = choice_scores(network, tokenizer, bare, positions=positions)[0]
            summary = _summary([row - base for row, base in zip(scores, without, strict=True)], items)
            metrics[f"{test}.calibrated"] = sum(summary.credits) / len(items)
            metrics[f"{test}.calibrated_log_odds"] = float(np.mean(summary.log_odds))
            metrics |= {} if summary.macro_f1 is None else {f"{test}.calibrated_macro_f1": summary.macro_f1}
            table[name] |= {"calibrated_log_odds": summary.log_odds, "calibrated_right": summary.credits}
    return Measurement(metrics, {"downstream": table} if table else {})


class _Summary(NamedTuple):
    """What one way of scoring says of each item, and of all."""

    credits: list[float]
    log_odds: list[float]
    macro_f1: float | None


def _summary(scores: Sequence[np.ndarray], items: Sequence[MultipleChoice]) -> _Summary:
    golds = [item.gold for item in items]
    alike = len({item.choices for item in items}) == 1 and all(np.isfinite(row).all() for row in scores)
    return _Summary(
        [choice_credit(row, gold) for row, gold in zip(scores, golds, strict=True)],
        [choice_log_odds(row, gold) for row, gold in zip(scores, golds, strict=True)],
        macro_f1([int(row.argmax()) for row in scores], golds) if alike else None,
    )


def _accuracy(credits: Sequence[float]) -> Interval:
    """With its 95 % Wilson interval; NaN where an item has no answer, as of a model whose scores are NaN."""
    right = sum(credits)
    return Interval(right, right, right) if math.isnan(right) else binomial_interval(right, len(credits))


def choice_scores(
    network: Any, tokenizer: DocumentTokenizer, items: Sequence[MultipleChoice], *, positions: int | None
) -> tuple[list[np.ndarray], int]:
    """ln p of each choice of each item given its query, (choices,) in nats, and how many items were truncated.

    A row longer than `positions` tokens loses its beginning.
    """
    rows: list[Ids] = []
    query_lengths: list[int] = []
    num_truncated = 0
    for item in items:
        query_length, item_rows = choice_rows(item, tokenizer)
        over = [max(0, len(row) - positions) if positions else 0 for row in item_rows]
        num_truncated += any(over)
        rows += [row[excess:] for row, excess in zip(item_rows, over, strict=True)]
        query_lengths += [max(1, query_length - excess) for excess in over]
    scored = token_log_probs(network, rows, pad=tokenizer.pad)
    sums = [float(row[length - 1 :].sum(dtype=np.float64)) for row, length in zip(scored, query_lengths, strict=True)]
    bounds = accumulate((len(item.choices) for item in items), initial=0)
    return [np.array(sums[first:last]) for first, last in pairwise(bounds)], num_truncated


def choice_rows(item: MultipleChoice, tokenizer: DocumentTokenizer) -> tuple[int, list[Ids]]:
    """The number of query tokens, at least 1, and query + choice for each choice, without a stop token.

    The query ends where its tokens and those of any row first differ, so a token that spans the join belongs to the
    choice, and all choices are scored from the same position. Where a tokenizer has no start token, its end-of-text
    token is put before a sentence without a query, or the first word would not count.
    """
    texts = [f"{item.query} {choice}" if item.query else choice for choice in item.choices]
    rows = [tokenizer.encode_without_eos(text) for text in texts]
    context = tokenizer.encode_without_eos(item.query)
    eos = tokenizer.hf_tokenizer.eos_token_id
    if tokenizer.start is None and not item.query and eos is not None:
        rows, context = [np.append(np.int32(eos), row) for row in rows], np.array([eos], np.int32)
    shared = min(len(context), *(len(row) - 1 for row in rows))
    same = np.all([row[:shared] == context[:shared] for row in rows], axis=0)
    return max(1, int(shared if same.all() else same.argmin())), rows
