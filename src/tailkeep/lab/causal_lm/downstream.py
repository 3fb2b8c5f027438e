"""Downstream tests without a download: which of several texts does a model find likeliest?

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
Tests = Mapping[str, Sequence[MultipleChoice]]
"""Name -> items."""


def read_tests(settings: Downstream | None) -> Tests:
    """The items that `settings` ask for, the same whatever the model.

    Raises:
        InputError: a file cannot be read or has not the form asked for.
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


def examine(path: Path, tests: Tests) -> dict[str, float]:
    """`downstream_metrics` of the model in the folder `path`, or the hub's, in float32, on a GPU if there is one.

    Raises:
        InputError: it cannot be found or read.
    """
    folder = local_folder(path, key="--model")
    codec = DocumentTokenizer(load_tokenizer(folder, key="--model"), append_eos=False)
    network = load_network(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    return downstream_metrics(network, codec, tests, positions=max_positions_of(network))


def downstream_metrics(
    network: Any, codec: DocumentTokenizer, tests: Tests, *, positions: int | None
) -> dict[str, float]:
    """For each test `downstream.NAME`, its accuracy by summed ln p, and beside it

    `.low`, `.high` (95 % Wilson interval over items), `.chance`, `.items`, `.per_byte` (accuracy by ln p divided by the
    bytes of the choice, which does not favour short ones) and `.cut` (share of items that lost the beginning of their
    query, to fit `positions`).
    """
    found: dict[str, float] = {}
    for name, items in tests.items():
        scores, cut = choice_scores(network, codec, items, positions=positions)
        right = sum(_right(row, item.gold) for row, item in zip(scores, items, strict=True))
        per_byte = sum(
            _right(row / [len(choice.encode()) for choice in item.choices], item.gold)
            for row, item in zip(scores, items, strict=True)
        )
        accuracy, low, high = binomial_interval(right, len(items))
        found |= {
            f"downstream.{name}": accuracy,
            f"downstream.{name}.low": low,
            f"downstream.{name}.high": high,
            f"downstream.{name}.chance": float(np.mean([1 / len(item.choices) for item in items])),
            f"downstream.{name}.items": float(len(items)),
            f"downstream.{name}.per_byte": per_byte / len(items),
            f"downstream.{name}.cut": cut / len(items),
        }
    return found


def choice_scores(
    network: Any, codec: DocumentTokenizer, items: Sequence[MultipleChoice], *, positions: int | None
) -> tuple[list[np.ndarray], int]:
    """ln p of each choice of each item given its query, (choices,) in nats, and how many items were cut to fit.

    A row longer than `positions` tokens loses its beginning.
    """
    rows: list[Ids] = []
    given: list[int] = []
    cut = 0
    for item in items:
        context, whole = choice_rows(item, codec)
        over = [max(0, len(row) - positions) if positions else 0 for row in whole]
        cut += any(over)
        rows += [row[excess:] for row, excess in zip(whole, over, strict=True)]
        given += [max(1, context - excess) for excess in over]
    scored = token_log_probs(network, rows, pad=codec.pad)
    sums = [float(row[context - 1 :].sum(dtype=np.float64)) for row, context in zip(scored, given, strict=True)]
    bounds = accumulate((len(item.choices) for item in items), initial=0)
    return [np.array(sums[first:last]) for first, last in pairwise(bounds)], cut


def choice_rows(item: MultipleChoice, codec: DocumentTokenizer) -> tuple[int, list[Ids]]:
    """The number of query tokens, at least 1, and query + choice for each choice, without a stop token.

    The query ends where its own tokens and those of any row first differ, so a token that spans the join belongs to the
    choice, and all choices are judged from the same place. Where a tokenizer has no start token, its end-of-text token
    stands before a sentence without a query, or the first word would not count.
    """
    texts = [f"{item.query} {choice}" if item.query else choice for choice in item.choices]
    rows = [codec.encode_without_eos(text) for text in texts]
    context = codec.encode_without_eos(item.query)
    eos = codec.tokenizer.eos_token_id
    if codec.start is None and not item.query and eos is not None:
        rows, context = [np.append(np.int32(eos), row) for row in rows], np.array([eos], np.int32)
    shared = min(len(context), *(len(row) - 1 for row in rows))
    same = np.all([row[:shared] == context[:shared] for row in rows], axis=0)
    return max(1, int(shared if same.all() else same.argmin())), rows


def _right(scores: np.ndarray, gold: int) -> float:
    """1 if the gold choice is likeliest, its share of a tie for that, 0 otherwise."""
    best = np.flatnonzero(scores == scores.max())
    return 1 / len(best) if gold in best else 0.0
