"""What does not fit is refused with one sentence: what is wrong, what came, what to do. No engine has its own."""

import numpy as np
import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.losses.linear import linear_token_nll, linear_truncated_cross_entropy, linear_weighted_cross_entropy
from tailkeep.losses.lm_head import LowRankProduct
from tailkeep.losses.weighting import CROSS_ENTROPY

HIDDEN, WEIGHT, TARGETS = torch.ones(4, 3), torch.ones(5, 3), torch.tensor([0, 4, -100, 1])

WRONG_HEAD = [
    ({"weight": torch.ones(5)}, r"weight has the shape \(5,\)\. Give \(V, D\)"),
    ({"weight": torch.ones(0, 3)}, r"weight has the shape \(0, 3\)"),
    ({"bias": torch.ones(4)}, r"bias \(4,\) does not fit weight \(5, 3\)\. Give \(V,\)"),
    ({"bias": torch.ones(5, 1)}, r"bias \(5, 1\) does not fit"),
    ({"scale": 0.0}, r"scale 0\.0 leaves nothing of the logits"),
    ({"scale": float("nan")}, "scale nan"),
    ({"scale": float("inf")}, "scale inf"),
    ({"softcap": 0.0}, r"softcap 0\.0 is not in \(0, inf\)"),
    ({"softcap": -1.0}, r"softcap -1\.0"),
    ({"softcap": float("inf")}, "softcap inf"),
    ({"softcap": float("nan")}, "softcap nan"),
    ({"valid_vocab_size": 0}, "valid_vocab_size 0 is not in 1 to 5"),
    ({"valid_vocab_size": 6}, "valid_vocab_size 6 is not in 1 to 5"),
]
WRONG_INPUTS = [
    ({"hidden": torch.ones(4, 2)}, r"hidden \(4, 2\), weight \(5, 3\), targets \(4,\) do not fit"),
    ({"hidden": torch.ones(3, 3)}, r"hidden \(3, 3\)"),
    ({"hidden": torch.ones(1, 4, 3)}, r"hidden \(1, 4, 3\)"),
    ({"hidden": torch.ones(())}, r"hidden \(\)"),
    ({"targets": TARGETS[:, None]}, r"targets \(4, 1\) do not fit"),
    ({"hidden": HIDDEN.double()}, r"torch\.float64, torch\.float32\. Give one floating-point type"),
    ({"bias": torch.ones(5).half()}, r"torch\.float32, torch\.float32, torch\.float16\. Give one"),
    ({"hidden": HIDDEN.long(), "weight": WEIGHT.long()}, r"torch\.int64, torch\.int64\. Give one floating-point type"),
    ({"targets": TARGETS.float()}, r"targets are torch\.float32, as soft targets"),
    ({"targets": TARGETS > 0}, r"targets are torch\.bool"),
    ({"targets": TARGETS.to("meta")}, "are on cpu, cpu, meta. Move them to one device"),
    ({"weight": WEIGHT.to("meta")}, "are on cpu, meta, cpu"),
    ({"targets": torch.tensor([0, 5, 1, 1])}, "target 5 is outside the vocabulary of 5"),
    ({"targets": torch.tensor([0, -1, 1, 1])}, "target -1 is outside the vocabulary of 5.*ignore_index, which is -100"),
    ({"targets": TARGETS, "ignore_index": 0}, "target -100 is outside.*ignore_index, which is 0"),
    ({"valid_vocab_size": 4}, "target 4 is outside the vocabulary of 4"),
    ({"impl": "fast"}, "impl 'fast' is unknown"),
]
WRONG_LOSS = [
    ({"threshold": 0.0}, r"threshold 0\.0 is not in \(0, 1\]"),
    ({"threshold": 1.5}, r"threshold 1\.5 is not in \(0, 1\]"),
    ({"threshold": float("nan")}, "threshold nan"),
    ({"reduction": "avg"}, "reduction 'avg' is unknown"),
    ({"reduction": "sum", "num_items": 4}, "num_items has no effect with reduction 'sum'"),
    ({"num_items": -1}, "num_items -1 is not a count"),
]
WRONG_ENTROPY = [
    ({"return_entropy": 0}, 'return_entropy 0 is neither "full" nor a number of tokens'),
    ({"return_entropy": -3}, "return_entropy -3"),
    ({"return_entropy": "half"}, "return_entropy 'half'"),
    ({"return_entropy": 2.5}, r"return_entropy 2\.5"),
    ({"return_entropy": True}, "return_entropy True"),
]


def called(loss, *, hidden=HIDDEN, weight=WEIGHT, targets=TARGETS, **options):
    return loss(hidden, weight, targets, **options)


def sentence(caught):
    assert type(caught.value) is ConfigError
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("overrides", "message"), [*WRONG_HEAD, *WRONG_INPUTS])
@pytest.mark.parametrize("loss", [linear_token_nll, linear_truncated_cross_entropy])
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_inputs_that_do_not_fit_are_named_with_what_was_received(loss, impl, overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        called(loss, **{"impl": impl, **overrides})
    sentence(caught)


@pytest.mark.parametrize(("overrides", "message"), WRONG_LOSS)
def test_a_loss_that_does_not_exist_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        called(linear_truncated_cross_entropy, **overrides)
    sentence(caught)


@pytest.mark.parametrize(("overrides", "message"), WRONG_ENTROPY)
def test_an_entropy_that_does_not_exist_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        called(linear_token_nll, **overrides)
    sentence(caught)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_every_integer_type_can_name_a_class(dtype):
    targets = torch.tensor([0, 4, 1, 1])
    expected = called(linear_token_nll, targets=targets)
    assert torch.equal(called(linear_token_nll, targets=targets.to(dtype)), expected)


def test_any_class_may_be_the_one_that_is_ignored():
    losses = called(linear_token_nll, targets=torch.tensor([2, 0, 2, 1]), ignore_index=2)
    assert (losses == 0).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "mean", "expected_gradient": torch.tensor(1.0)}, "has no effect with reduction 'mean'"),
        ({"reduction": "sum", "expected_gradient": 0.5}, "expected_gradient 0.5 is no scalar tensor"),
        ({"reduction": "sum", "expected_gradient": torch.ones(2)}, "is no scalar tensor"),
    ],
)
def test_an_expected_gradient_that_cannot_be_used_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        linear_weighted_cross_entropy(
            torch.randn(2, 3), torch.randn(4, 3), torch.tensor([0, 1]), CROSS_ENTROPY, **options
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden": HIDDEN.tolist()}, r"hidden is a list, not a torch.Tensor. Give torch.as_tensor\(hidden\)"),
        ({"weight": WEIGHT.numpy()}, "weight is a ndarray, not a torch.Tensor"),
        ({"targets": [0, 1, 2, 3]}, "targets is a list, not a torch.Tensor"),
        ({"bias": [0.0] * 5}, "bias is a list, not a torch.Tensor"),
        ({"ignore_index": None}, "ignore_index None is a NoneType, not a whole number. Leave it at -100"),
        ({"num_items": -1}, "num_items -1 is not a count"),
        ({"num_items": torch.tensor(-1)}, "num_items tensor.-1. is not a count"),
        ({"ignore_index": 2**70}, r"ignore_index 1180591620717411303424 is not in \[-9223372036854775808"),
        ({"num_items": [3]}, r"num_items \[3\] is not a count"),
        ({"num_items": torch.tensor(True)}, r"num_items tensor\(True\) is not a count"),
        ({"low_rank": LowRankProduct(HIDDEN[:, :0], WEIGHT[:, :0])}, r"Pass \(V, r\), r at least 1"),
        ({"class_weight": torch.ones(5).to(torch.float8_e4m3fn)}, "of torch.float8_e4m3fn. Pass one floating-point"),
        ({"num_items": "12"}, "num_items '12' is not a count"),
        ({"num_items": float("nan")}, "num_items nan is not a count"),
        ({"num_items": float("inf")}, "num_items inf is not a count"),
        ({"num_items": torch.tensor(float("inf"))}, "num_items tensor.inf. is not a count"),
        ({"scale": torch.tensor(2.0)}, "scale tensor.2.. is a Tensor, not a number"),
        ({"scale": None}, "scale None is a NoneType, not a number"),
        ({"softcap": "30"}, "softcap '30' is a str, not a number"),
        ({"valid_vocab_size": 4.0}, r"valid_vocab_size 4\.0 is a float, not a whole number"),
        ({"low_rank": (HIDDEN, WEIGHT)}, r"low_rank is a tuple\. Pass LowRankProduct\(hidden, weight\)"),
        ({"threshold": torch.tensor(0.9)}, "is a Tensor, not a number. 0.99 is a mild choice"),
        ({"threshold": "0.9"}, "threshold '0.9' is a str, not a number"),
        ({"threshold": True}, "threshold True is a bool, not a number"),
    ],
)
def test_values_of_another_type_are_named(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        called(linear_truncated_cross_entropy, **overrides)
    sentence(caught)


@pytest.mark.parametrize("threshold", [np.float32(0.5), np.float64(0.5), 1])
def test_a_threshold_may_be_any_number(threshold):
    expected = called(linear_truncated_cross_entropy, threshold=float(threshold))
    assert torch.equal(called(linear_truncated_cross_entropy, threshold=threshold), expected)


def test_the_tokens_of_an_entropy_may_be_a_number_of_numpy():
    for number in (2, np.int64(2)):
        _, entropy = called(linear_token_nll, return_entropy=number)
        assert entropy.shape == (4,)


def test_a_count_is_exact_whatever_the_default_type():
    expected = called(linear_truncated_cross_entropy, num_items=1001.0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(called(linear_truncated_cross_entropy, num_items=1001.0), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_an_ignored_class_may_be_a_number_of_numpy():
    losses = called(linear_token_nll, targets=torch.tensor([2, 0, 2, 1]), ignore_index=np.int64(2))
    assert (losses == 0).tolist() == [True, False, True, False]
