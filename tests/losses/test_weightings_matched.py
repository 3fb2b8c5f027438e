import math

import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.losses import random_matched, truncation_mask, weighted_cross_entropy


def nll_of(*probabilities):
    return -torch.tensor(probabilities, dtype=torch.float32).log()


def test_the_first_micro_batch_is_kept_whole():
    assert random_matched(0.9, seed=0).weigh(nll_of(*[0.99] * 200), None).all()


@pytest.mark.parametrize("sure", [0.1, 0.5, 0.9])
def test_as_many_tokens_are_kept_as_truncation_would_keep(sure):
    weighting = random_matched(0.9, seed=3)
    nll = nll_of(*[0.95] * round(10_000 * sure), *[0.3] * round(10_000 * (1 - sure)))
    weighting.move_on(nll)
    expected = truncation_mask(nll, threshold=0.9).float().mean().item()
    kept_mask = weighting.weigh(nll, None)
    assert kept_mask.mean().item() == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 10_000))
    # The control knows nothing of tokens: sure ones are kept as often as the others.
    boundary = round(10_000 * sure)
    few = min(boundary, 10_000 - boundary)
    assert kept_mask[:boundary].mean().item() == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(few))


def test_the_share_is_that_of_the_recent_micro_batches_by_their_size():
    weighting = random_matched(0.9, seed=0, window=2)
    for nll in (nll_of(*[0.95] * 500), nll_of(*[0.3] * 300), nll_of(*[0.95] * 100)):
        weighting.move_on(nll)
    assert weighting.state.share == 300 / 400


def test_a_micro_batch_without_targets_changes_nothing():
    weighting = random_matched(0.9, seed=0)
    weighting.move_on(nll_of(0.95, 0.3))
    weighting.move_on(torch.zeros(0))
    assert weighting.state.share == 0.5


def test_it_is_resumed_by_its_state():
    weighting, other = random_matched(0.9, seed=1), random_matched(0.9, seed=2)
    weighting.move_on(nll_of(0.95, 0.3, 0.2))
    weighting.weigh(torch.ones(17), None)
    other.load_state_dict(weighting.state_dict())
    assert torch.equal(other.weigh(torch.ones(100), None), weighting.weigh(torch.ones(100), None))


def test_training_moves_it_and_validation_does_not():
    weighting = random_matched(0.9, seed=1)
    logits, targets = torch.tensor([[9.0, 0.0], [0.0, 0.0]], requires_grad=True), torch.tensor([0, 1])
    with torch.no_grad():
        weighted_cross_entropy(logits, targets, weighting)
    assert weighting.state.share == 1
    weighted_cross_entropy(logits, targets, weighting)
    assert weighting.state.share == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threshold": 0.0}, "threshold 0.0 is not in"), ({"threshold": 0.9, "window": 0}, "window 0 is below 1")],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        random_matched(seed=0, **options)
