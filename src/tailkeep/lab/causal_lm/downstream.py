"""Downstream tests without a download: which of several texts does a model find most likely?

Rule: one way of scoring for all of them, ln p of a choice given its query. Answers are never generated.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tailkeep.data import MultipleChoice, read_choices, read_minimal_pairs
from tailkeep.lab.causal_lm.data_config import Downstream
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.metrics import binomial_interval
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
    """`downstream_metrics` of the model in the folder `path`, or the hub's, in float32, on a GPU if there is one.

    Raises:
        InputError: it cannot be found or read.
    """
    folder = local_folder(path, key="--model")
    tokenizer = DocumentTokenizer(load_tokenizer(folder, key="--model"), append_eos=False)
    network = load_network(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    return downstream_metrics(network, tokenizer, tests, positions=max_positions_of(network))


def downstream_metrics(
    network: Any, tokenizer: DocumentTokenizer, tests: DownstreamTests, *, positions: int | None
) -> dict[str, float]:
    """For each test `downstream.NAME`, its accuracy by summed ln p, and beside it

    `.low`, `.high` (95 % Wilson interval over items), `.chance`, `.items`, `.per_byte` (accuracy by ln p divided by the
    bytes of the choice, which does not favour short ones) and `.cut` (share of items whose query was
    truncated at its beginning, to fit `positions`).
    """
    metrics: dict[str, float] = {}
    for name, items in tests.items():
        scores, num_truncated = choice_scores(network, tokenizer, items, positions=positions)
        num_right = sum(_right(row, item.gold) for row, item in zip(scores, items, strict=True))
        per_byte = sum(
            _right(row / [len(choice.encode()) for choice in item.choices], item.gold)
            for row, item in zip(scores, items, strict=True)
        )
        accuracy, low, high = binomial_interval(num_right, len(items))
        metrics |= {
            f"downstream.{name}": accuracy,
            f"downstream.{name}.low": low,
            f"downstream.{name}.high": high,
            f"downstream.{name}.chance": float(np.mean([1 / len(item.choices) for item in items])),
            f"downstream.{name}.items": float(len(items)),
            f"downstream.{name}.per_byte": per_byte / len(items),
            f"downstream.{name}.cut": num_truncated / len(items),
        }
    return metrics


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


def _right(scores: np.ndarray, gold: int) -> float:
    """1 if the gold choice is the most likely, its share of a tie for that, 0 otherwise."""
    best = np.flatnonzero(scores == scores.max())
    return 1 / len(best) if gold in best else 0.0
