"""An attached model of any family has the loss and the gradients of its unfused twin."""

import pytest
import torch

from tailkeep.losses.hf.attach import attach, read_stats
from tests.losses.hf.families import FAMILIES, REPRESENTATIVES, tiny
from tests.losses.hf.unfused import batch, fused, halving_threshold, unfused, worst

pytestmark = [
    # deprecations that transformers raises in its own modelling code
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers"),
]

CASES = [
    family if family in REPRESENTATIVES else pytest.param(family, marks=pytest.mark.slow) for family in sorted(FAMILIES)
]


def test_there_are_at_least_forty_families():
    assert len(FAMILIES) >= 40


@pytest.mark.parametrize("family", CASES)
def test_fused_loss_and_every_gradient_are_those_of_the_logits(family):
    model, inputs = tiny(family), batch()
    threshold = halving_threshold(model, inputs)
    expected = unfused(model, inputs, threshold=threshold)
    trained = fused(attach(model, threshold=threshold), inputs)
    torch.testing.assert_close(trained.loss, expected.loss, rtol=1e-6, atol=1e-7)
    assert worst(trained, expected) < 5e-6
    assert read_stats(model)["kept_fraction"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "cohere"])
def test_in_double_precision_they_agree_to_rounding(family):
    model, inputs = tiny(family).double(), batch()
    threshold = halving_threshold(model, inputs)
    expected = unfused(model, inputs, threshold=threshold)
    trained = fused(attach(model, threshold=threshold), inputs)
    # truncated_cross_entropy decides and sums in float32 whatever the logits' type
    assert float(trained.loss) == pytest.approx(float(expected.loss), rel=1e-6)
    assert worst(trained, expected) < 1e-6
