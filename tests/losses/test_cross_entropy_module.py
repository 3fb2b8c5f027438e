import pytest
import torch
from torch import nn

from tailkeep.errors import ConfigError
from tailkeep.losses.cross_entropy import TruncatedCrossEntropyLoss
from tailkeep.losses.truncation import truncated_cross_entropy

SHAPES = [(5,), (7, 5), (0, 5), (3, 5, 4), (2, 5, 3, 4), (2, 5, 0)]


def batch(shape, *, scale=3.0, ignored=0.3):
    generator = torch.Generator().manual_seed(len(shape))
    logits = torch.randn(shape, generator=generator) * scale
    rest = shape[1:] if len(shape) == 1 else (shape[0], *shape[2:])
    targets = torch.randint(0, 5, rest, generator=generator)
    return logits, torch.where(torch.rand(rest, generator=generator) < ignored, -100, targets) if rest else targets


@pytest.mark.parametrize("weight", [None, torch.tensor([0.1, 2.0, 0.0, 0.3, 1.0])], ids=["alike", "weighted"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if 0 not in shape])
def test_a_threshold_of_one_is_the_loss_of_torch(shape, reduction, weight):
    logits, targets = batch(shape)
    inputs, reference = (logits.clone().requires_grad_() for _ in range(2))
    loss = TruncatedCrossEntropyLoss(1.0, weight=weight, reduction=reduction)(inputs, targets)
    expected = nn.CrossEntropyLoss(weight, reduction=reduction)(reference, targets)
    loss.sum().backward()
    expected.sum().backward()
    assert loss.shape == expected.shape
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert torch.allclose(inputs.grad, reference.grad, atol=1e-6)


@pytest.mark.parametrize("threshold", [0.3, 0.8])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_class_axis_is_the_second(shape, reduction, threshold):
    logits, targets = batch(shape)
    loss = TruncatedCrossEntropyLoss(threshold, reduction=reduction)(logits, targets)
    last = logits if len(shape) == 1 else logits.movedim(1, -1)
    assert torch.equal(loss, truncated_cross_entropy(last, targets, threshold=threshold, reduction=reduction))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
def test_class_weights_scale_the_loss_and_its_denominator_but_not_the_decision(reduction):
    logits, targets = batch((40, 5))
    weight = torch.tensor([0.1, 2.0, 0.0, 0.3, 5.0])
    inputs, reference = logits.clone().requires_grad_(), logits.double().requires_grad_()
    loss = TruncatedCrossEntropyLoss(0.6, weight=weight, reduction=reduction)(inputs, targets)
    total, mass, kept_mass, each = 0.0, 0.0, 0.0, []
    for row, target in zip(reference.softmax(-1), targets.tolist(), strict=True):
        each.append(torch.zeros(()))
        if target == -100:
            continue
        w, p = weight[target].item(), row[target]
        mass += w
        if p <= 0.6:
            kept_mass += w
            each[-1] = w * -p.log()
            total = total + each[-1]
    assert 0 < kept_mass < mass
    expected = {"none": torch.stack(each), "sum": total, "mean": total / mass, "mean_kept": total / kept_mass}[
        reduction
    ]
    loss.sum().backward()
    expected.sum().backward()
    assert torch.allclose(loss.double(), expected, rtol=1e-5)
    assert torch.allclose(inputs.grad.double(), reference.grad, atol=1e-6)


def test_small_class_weights_are_no_small_denominator():
    logits, targets = torch.zeros(2, 3), torch.tensor([0, 1])
    loss = TruncatedCrossEntropyLoss(weight=torch.full((3,), 1e-3))(logits, targets)
    assert loss.item() == pytest.approx(torch.tensor(3.0).log().item())


@pytest.mark.parametrize("weight", [None, torch.ones(5), torch.zeros(5)])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_kept"])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_nothing_to_learn_is_a_connected_zero(weight, reduction, threshold):
    logits = torch.zeros(3, 5, requires_grad=True)
    loss = TruncatedCrossEntropyLoss(threshold, weight=weight, reduction=reduction)(logits, torch.full((3,), -100))
    loss.sum().backward()
    assert (loss == 0).all()
    assert torch.equal(logits.grad, torch.zeros(3, 5))


def test_micro_batches_add_up_under_one_denominator():
    logits, targets = batch((20, 5))
    loss = TruncatedCrossEntropyLoss(0.7)
    items = int((targets != -100).sum())
    parts = [loss(rows, part, num_items=items) for rows, part in zip(logits.split(6), targets.split(6), strict=True)]
    assert sum(parts).item() == pytest.approx(loss(logits, targets).item(), rel=1e-5)


def test_class_weights_with_a_denominator_divide_by_it():
    logits, targets = torch.zeros(2, 3), torch.tensor([0, 1])
    loss = TruncatedCrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 1.0]))(logits, targets, num_items=8)
    assert loss.item() == pytest.approx(4 * torch.tensor(3.0).log().item() / 8)


def test_class_weights_move_with_the_module_and_are_saved_with_it():
    loss = TruncatedCrossEntropyLoss(weight=torch.ones(5))
    assert set(loss.state_dict()) == {"weight"}
    assert loss.to("meta").weight.is_meta
    assert set(TruncatedCrossEntropyLoss().state_dict()) == set()


def test_the_choices_are_shown():
    assert repr(TruncatedCrossEntropyLoss(0.9, ignore_index=0, reduction="sum")) == (
        "TruncatedCrossEntropyLoss(threshold=0.9, ignore_index=0, reduction='sum')"
    )


def test_another_index_can_be_ignored_also_with_class_weights():
    logits, targets = batch((20, 5))
    other = torch.where(targets == -100, 77, targets)
    weight = torch.rand(5, generator=torch.Generator().manual_seed(0))
    loss = TruncatedCrossEntropyLoss(weight=weight, ignore_index=77)(logits, other)
    assert torch.equal(loss, TruncatedCrossEntropyLoss(weight=weight)(logits, targets))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"threshold": 0.0}, "threshold 0.0 is not in"),
        ({"label_smoothing": 1.1}, r"label_smoothing 1.1 is not in \[0, 1\]"),
        ({"z_loss": -1}, r"z_loss -1 is not in \[0, inf\)"),
        ({"weight": torch.ones(2, 2)}, r"class_weight is \(2, 2\) of torch.float32"),
        ({"weight": torch.ones(5, dtype=torch.long)}, r"class_weight is \(5,\) of torch.int64"),
    ],
)
def test_what_has_no_meaning_is_refused_where_the_loss_is_made(choices, message):
    with pytest.raises(ConfigError, match=message):
        TruncatedCrossEntropyLoss(**choices)


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(4, 5), torch.zeros(5, dtype=torch.long), r"input \(4, 5\) does not fit target \(5,\)"),
        (torch.zeros(4, 3, 5), torch.zeros(4, 3, dtype=torch.long), r"input \(4, 3, 5\) does not fit target \(4, 3\)"),
        (torch.zeros(()), torch.zeros((), dtype=torch.long), r"input \(\) does not fit"),
        (torch.zeros(4, 5), torch.rand(4, 5), "targets are torch.float32, as soft targets"),
        (torch.zeros(4, 5), torch.zeros(4), "targets are torch.float32"),
        (torch.zeros(4, 7), torch.zeros(4, dtype=torch.long), "class_weight has 5 classes, the logits 7"),
    ],
)
def test_what_does_not_fit_is_named_with_what_was_received(logits, targets, message):
    with pytest.raises(ConfigError, match=message):
        TruncatedCrossEntropyLoss(weight=torch.ones(5))(logits, targets)


def test_an_unknown_reduction_is_refused_when_the_loss_is_made():
    with pytest.raises(ConfigError, match=r"reduction 'bogus' is unknown. Use one of none, sum, mean, mean_kept"):
        TruncatedCrossEntropyLoss(weight=torch.ones(3), reduction="bogus")
