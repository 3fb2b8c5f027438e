"""Values that no loss can use are one sentence with the name of the argument, wherever they are given."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.losses import (
    Weighting,
    drop_fitted_sequences,
    dynamic_truncation,
    eaft,
    explain_engine,
    focal,
    focal_cross_entropy,
    focal_weights,
    kept_sequences,
    linear_token_nll,
    linear_truncated_cross_entropy,
    mile,
    named_weighting,
    random_matched,
    random_truncation,
    scheduled_truncation,
    sequence_nll,
    stm,
    tail_sft,
    target_kept_fraction,
    truncated,
    truncated_cross_entropy,
    truncation_mask,
    weighted_cross_entropy,
)
from tailkeep.losses.checks import check_number, check_whole_number

NUMBERS = {
    "alpha": dynamic_truncation,
    "start": lambda value: dynamic_truncation(1.0, value),
    "end": lambda value: scheduled_truncation(1.0, value, 3),
    "fraction": target_kept_fraction,
    "kept_fraction": lambda value: random_truncation(value, 0),
    "exponent of focal": focal,
    "exponent of focal_weights": lambda value: focal_weights(torch.ones(2), exponent=value),
    "exponent of mile": mile,
    "threshold of stm": stm,
    "threshold of truncated": truncated,
    "threshold of random_matched": lambda value: random_matched(value, 0),
    "threshold of a mask": lambda value: truncation_mask(torch.ones(2), threshold=value),
    "threshold of tail_sft": lambda value: tail_sft(0.5, threshold=value),
    "threshold by name": lambda value: named_weighting("truncated", threshold=value),
    "fraction of sequences": lambda value: kept_sequences(torch.zeros(3), fraction=value),
}
WHOLE_NUMBERS = {
    "window of dynamic": lambda value: dynamic_truncation(1.0, window=value),
    "window of target_kept": lambda value: target_kept_fraction(0.5, window=value),
    "window of random_matched": lambda value: random_matched(0.5, 0, value),
    "steps": lambda value: scheduled_truncation(1.0, 0.5, value),
    "k": eaft,
    "seed": lambda value: random_truncation(0.5, value),
    "seed by name": lambda value: named_weighting("random_matched", threshold=0.5, seed=value),
}
NO_NUMBERS = [None, "0.5", True, [0.5], 1j, Fraction(1, 2), torch.tensor(0.5), np.array(0.5), float("nan")]


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_named_with_its_type(name, value):
    with pytest.raises(ConfigError, match="is not in" if isinstance(value, float) else "not a number") as caught:
        NUMBERS[name](value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 2.5])
@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_what_is_no_whole_number_is_named_with_its_type(name, value):
    with pytest.raises(ConfigError, match="not a whole number") as caught:
        WHOLE_NUMBERS[name](value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*NUMBERS, *WHOLE_NUMBERS])
def test_numbers_of_numpy_are_numbers(name):
    if name in WHOLE_NUMBERS:
        WHOLE_NUMBERS[name](np.int64(3))
    else:
        NUMBERS[name](np.float32(0.5))


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("(0, 1]", [1e-9, 1], [0, 1.1, -1]),
        ("[0, 1)", [0, 0.9], [1, -0.1]),
        ("[0, inf)", [0, 1e300], [float("inf"), -1e-9]),
        ("(-inf, inf)", [-5, 0], [float("inf"), -float("inf"), float("nan")]),
    ],
)
def test_an_interval_is_what_it_says(interval, inside, outside):
    for value in inside:
        check_number("x", value, interval, "")
    for value in outside:
        with pytest.raises(ConfigError) as caught:
            check_number("x", value, interval, "Pass 1.")
        assert str(caught.value) == f"x {value} is not in {interval}. Pass 1."


def test_a_whole_number_has_a_least_one_or_none():
    check_whole_number("x", 2, 2, "")
    check_whole_number("x", -2, None, "")
    with pytest.raises(ConfigError, match=r"x 1 is below 2\. Pass 3\."):
        check_whole_number("x", 1, 2, "Pass 3.")


@pytest.mark.parametrize("loss", [truncated_cross_entropy, focal_cross_entropy])
def test_targets_in_bytes_are_those_in_longs(loss):
    logits, targets = torch.randn(3, 200), torch.tensor([156, 3, 199])  # 156 is -100 in 8 bits
    expected = loss(logits, targets, reduction="none")
    assert (expected > 0).all()
    assert torch.equal(loss(logits, targets.to(torch.uint8), reduction="none"), expected)
    weighted = weighted_cross_entropy(logits, targets.to(torch.uint8), truncated(1.0))
    assert torch.equal(weighted, weighted_cross_entropy(logits, targets, truncated(1.0)))


def test_a_dropped_sequence_in_bytes_has_no_targets():
    nll, targets = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.uint8)
    kept = drop_fitted_sequences(nll, targets, torch.tensor([0.0, 5.0]), fraction=0.5)
    assert kept.tolist() == [[1, 1, 1], [-100, -100, -100]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Weighting("mine", None), "the loss 'mine' weighs with None. Pass a function of NLL and entropy"),
        (lambda: Weighting("mine", entropy=2.5), r"the entropy of the loss 'mine', 2\.5 is neither"),
        (lambda: explain_engine([1.0]), "hidden is a list, not a torch.Tensor"),
        (lambda: explain_engine(torch.eye(2).to_sparse()), "hidden is a torch.sparse_coo tensor. Give a dense one"),
        (lambda: focal_weights([1.0]), "nll is a list, not a torch.Tensor"),
        (lambda: sequence_nll([1.0], torch.ones(1, 1)), "nll is a list, not a torch.Tensor"),
    ],
)
def test_other_values_that_cannot_be_used_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_factor_that_would_get_no_gradient_is_refused():
    hidden, weight, targets = torch.randn(2, 3), torch.randn(4, 3), torch.tensor([0, 1])
    with pytest.raises(ConfigError, match=r"scale Parameter(.|\n)* is a Parameter, not a number"):
        linear_truncated_cross_entropy(hidden, weight, targets, scale=torch.nn.Parameter(torch.tensor(2.0)))
    assert linear_token_nll(hidden, weight, targets, scale=np.float32(2.0)).shape == (2,)
