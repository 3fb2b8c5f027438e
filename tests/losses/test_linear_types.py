"""What a type checker knows of the functions of `linear`; mypy reads this file too (see pyproject), pytest runs it."""

from typing import assert_type

import pytest
import torch
from torch import Tensor

from tailkeep.losses import (
    CROSS_ENTROPY,
    Entropy,
    LossStats,
    linear_token_nll,
    linear_truncated_cross_entropy,
    linear_weighted_cross_entropy,
)

HIDDEN, WEIGHT, TARGETS = torch.ones(2, 3), torch.ones(5, 3), torch.tensor([0, 4])


@pytest.mark.parametrize("entropy", [None, "full", 2])
def test_only_a_request_for_an_entropy_makes_a_pair_of_the_token_losses(entropy: Entropy) -> None:
    assert isinstance(assert_type(linear_token_nll(HIDDEN, WEIGHT, TARGETS, scale=2.0), Tensor), Tensor)
    assert_type(linear_token_nll(HIDDEN, WEIGHT, TARGETS, return_entropy="full"), tuple[Tensor, Tensor])
    _, of_two = assert_type(linear_token_nll(HIDDEN, WEIGHT, TARGETS, return_entropy=2), tuple[Tensor, Tensor])
    assert isinstance(of_two, Tensor)
    either = linear_token_nll(HIDDEN, WEIGHT, TARGETS, return_entropy=entropy)
    assert_type(either, Tensor | tuple[Tensor, Tensor])
    assert isinstance(either, Tensor) is (entropy is None)


@pytest.mark.parametrize("stats", [False, True])
def test_only_a_request_for_stats_makes_a_pair_of_the_loss(stats: bool) -> None:
    truncated = linear_truncated_cross_entropy(HIDDEN, WEIGHT, TARGETS, threshold=0.9, return_stats=stats)
    assert_type(truncated, Tensor | tuple[Tensor, LossStats])
    assert isinstance(truncated, tuple) is stats
    assert_type(linear_truncated_cross_entropy(HIDDEN, WEIGHT, TARGETS, reduction="sum"), Tensor)
    pair = linear_truncated_cross_entropy(HIDDEN, WEIGHT, TARGETS, bias=None, return_stats=True)
    assert isinstance(assert_type(pair, tuple[Tensor, LossStats])[1], LossStats)

    weighted = linear_weighted_cross_entropy(HIDDEN, WEIGHT, TARGETS, CROSS_ENTROPY, return_stats=stats)
    assert_type(weighted, Tensor | tuple[Tensor, LossStats])
    assert isinstance(weighted, tuple) is stats
    assert_type(linear_weighted_cross_entropy(HIDDEN, WEIGHT, TARGETS, CROSS_ENTROPY, num_items=2), Tensor)
    pair = linear_weighted_cross_entropy(HIDDEN, WEIGHT, TARGETS, CROSS_ENTROPY, impl="chunked", return_stats=True)
    assert isinstance(assert_type(pair, tuple[Tensor, LossStats])[1], LossStats)


def test_a_misspelt_option_is_no_option() -> None:
    with pytest.raises(TypeError, match="softcaps"):
        linear_token_nll(HIDDEN, WEIGHT, TARGETS, softcaps=3.0)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="thresold"):
        linear_truncated_cross_entropy(HIDDEN, WEIGHT, TARGETS, thresold=0.9)  # type: ignore[call-overload]
