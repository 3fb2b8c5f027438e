import pytest
import torch
import torch.nn.functional as F

from tailkeep.errors import ConfigError
from tailkeep.losses import reduce_nll, token_nll

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
TARGETS = torch.tensor([0, -100, 2, 1])


def test_the_loss_of_a_uniform_row_is_the_logarithm_of_its_size():
    nll = token_nll(torch.full((4, 7), 3.0), torch.arange(4))
    assert torch.allclose(nll, torch.full((4,), 7.0).log(), atol=1e-6)


def test_an_ignored_target_costs_nothing_and_moves_nothing():
    logits = LOGITS.clone().requires_grad_()
    nll = token_nll(logits, TARGETS)
    nll.sum().backward()
    assert nll[1] == 0
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[[0, 2, 3]] != 0).any(-1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_loss_is_float32_whatever_the_logits_are(dtype):
    logits = LOGITS.to(dtype)
    nll = token_nll(logits, TARGETS)
    assert nll.dtype == torch.float32
    expected = F.cross_entropy(logits.double(), TARGETS, reduction="none")
    assert torch.allclose(nll.double(), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3), (0,), (2, 0)])
def test_any_number_of_leading_axes_is_kept(shape):
    logits = torch.randn(*shape, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(shape, dtype=torch.long)
    assert token_nll(logits, targets).shape == shape
    assert torch.allclose(token_nll(logits, targets), -logits.log_softmax(-1)[..., 0], atol=1e-6)


def test_logits_need_not_be_contiguous():
    logits = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0)).permute(1, 2, 0)
    targets = torch.arange(6).reshape(3, 2).T % 5
    assert torch.equal(token_nll(logits, targets), token_nll(logits.contiguous(), targets.contiguous()))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_every_integer_type_can_name_a_class(dtype):
    targets = torch.tensor([0, 1, 2, 1], dtype=dtype)
    assert torch.equal(token_nll(LOGITS, targets, ignore_index=255), token_nll(LOGITS, targets.long()))


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long), r"logits \(2, 3\) do not fit targets \(3,\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long), r"do not fit targets \(2, 3\)"),
        (torch.zeros(()), torch.zeros((), dtype=torch.long), r"logits \(\) do not fit"),
        (torch.zeros(0, 0), torch.zeros(0, dtype=torch.long), r"logits \(0, 0\) do not fit"),
        (torch.zeros(2, 3), torch.zeros(2), "targets are torch.float32"),
        (torch.zeros(2, 3), torch.zeros(2, dtype=torch.bool), "targets are torch.bool"),
        (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, dtype=torch.long), "logits are torch.int64"),
        (torch.zeros(2, 3, dtype=torch.complex64), torch.zeros(2, dtype=torch.long), "logits are torch.complex64"),
        (torch.zeros(2, 3), torch.zeros(2, dtype=torch.long, device="meta"), "logits are on cpu, targets on meta"),
    ],
)
def test_what_does_not_fit_is_named_with_what_was_received(logits, targets, message):
    with pytest.raises(ConfigError, match=message):
        token_nll(logits, targets)


NLL = torch.tensor([1.0, 2.0, 4.0, 0.0])
WEIGHTS = torch.tensor([0.5, 0.0, 1.0, 1.0])
VALID = torch.tensor([True, True, True, False])


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"reduction": "none"}, torch.tensor([0.5, 0.0, 4.0, 0.0])),
        ({"reduction": "sum"}, torch.tensor(4.5)),
        ({"reduction": "mean"}, torch.tensor(1.5)),
        ({"reduction": "mean_kept"}, torch.tensor(2.25)),
        ({"num_items": 9}, torch.tensor(0.5)),
        ({"num_items": torch.tensor(9)}, torch.tensor(0.5)),
        ({"num_items": 4.5}, torch.tensor(1.0)),
    ],
)
def test_each_reduction_divides_by_what_it_says(choice, expected):
    assert torch.equal(reduce_nll(NLL, WEIGHTS, valid=VALID, **choice), expected)


def test_all_targets_are_valid_unless_it_is_said():
    assert reduce_nll(NLL, WEIGHTS) == 4.5 / 4


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
@pytest.mark.parametrize("size", [0, 3])
def test_nothing_to_learn_is_a_zero_that_can_be_differentiated(reduction, size):
    nll = torch.ones(size, requires_grad=True)
    loss = reduce_nll(nll, torch.zeros(size), reduction=reduction)
    loss.sum().backward()
    assert (loss == 0).all()
    assert torch.equal(nll.grad, torch.zeros(size))


def test_no_items_at_all_do_not_divide_by_zero():
    assert reduce_nll(torch.zeros(2), torch.zeros(2), num_items=0) == 0


def test_a_weight_of_zero_silences_an_infinite_loss_and_its_gradient():
    nll = torch.tensor([float("inf"), 1.0], requires_grad=True)
    loss = reduce_nll(nll, torch.tensor([0.0, 1.0]), reduction="sum")
    loss.backward()
    assert loss == 1
    assert torch.equal(nll.grad, torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("reduction", ["avg", "Mean", "", None])
def test_an_unknown_reduction_is_refused(reduction):
    with pytest.raises(ConfigError, match=r"is unknown\. Use one of none, sum, mean, mean_kept"):
        reduce_nll(NLL, WEIGHTS, reduction=reduction)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean_kept"])
def test_a_denominator_that_would_not_be_used_is_refused(reduction):
    with pytest.raises(ConfigError, match=f"num_items has no effect with reduction '{reduction}'"):
        reduce_nll(NLL, WEIGHTS, reduction=reduction, num_items=3)


@pytest.mark.parametrize("num_items", [-1, -0.5, float("nan")])
def test_a_denominator_that_is_no_count_is_refused(num_items):
    with pytest.raises(ConfigError, match=f"num_items {num_items} is not a count"):
        reduce_nll(NLL, WEIGHTS, num_items=num_items)


@pytest.mark.parametrize(("weights", "valid"), [(torch.ones(1), VALID), (torch.ones(4, 4), VALID), (NLL, VALID[:3])])
def test_shapes_that_would_be_broadcast_are_refused(weights, valid):
    with pytest.raises(ConfigError, match="have the shapes"):
        reduce_nll(NLL, weights, valid=valid)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_losses_are_added_up_in_float32(dtype):
    nll = torch.full((9000,), 9.0, dtype=dtype)
    assert reduce_nll(nll, torch.ones_like(nll), reduction="sum") == 81_000


def test_a_share_of_the_windows_targets_may_be_below_one():
    nll = torch.tensor([2.0])
    assert reduce_nll(nll, torch.ones(1), num_items=torch.tensor(0.25)) == 8
    assert reduce_nll(nll, torch.ones(1), num_items=0) == 2


def test_a_target_outside_the_vocabulary_is_named():
    with pytest.raises(ConfigError, match=r"outside the vocabulary of 4 .* Mark targets"):
        token_nll(torch.zeros(1, 4), torch.tensor([4]))


def test_small_integers_do_not_alias_the_ignored_index():
    targets = torch.tensor([156], dtype=torch.uint8)  # -100 modulo 256
    assert token_nll(torch.zeros(1, 200), targets).item() == pytest.approx(5.298317)
