import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.errors import ConfigError
from tailkeep.losses.adaptive import dynamic_truncation, scheduled_truncation, target_kept_fraction
from tailkeep.losses.cross_entropy import weighted_cross_entropy
from tailkeep.losses.linear import linear_weighted_cross_entropy
from tailkeep.losses.truncation import truncated, truncated_cross_entropy
from tests.losses.reference import logits_of

BUILDERS = {
    "dynamic": lambda: dynamic_truncation(1.0, start=0.8, window=4),
    "scheduled": lambda: scheduled_truncation(0.9, 0.5, steps=4),
    "target_kept": lambda: target_kept_fraction(0.5, start=0.8, window=3),
}


@pytest.fixture(params=BUILDERS)
def build(request):
    return BUILDERS[request.param]


def show(weighting, p):
    """Let a weighting see a micro-batch whose targets have the probabilities p."""
    weighting.move_on(-torch.as_tensor(p, dtype=torch.float64).log())


def kept_mask(weighting, p):
    return weighting.weigh(-torch.as_tensor(p, dtype=torch.float64).log(), None).bool().tolist()


# What holds for all of them


def test_the_threshold_decides_as_in_truncated_cross_entropy(build):
    weighting = build()
    logits, targets = logits_of([0.3, 0.85, 0.95, 0.6]).float(), torch.tensor([0, 0, -100, 0])
    for _ in range(3):
        threshold = weighting.threshold
        loss = weighted_cross_entropy(logits.requires_grad_(), targets, weighting)
        assert loss.item() == pytest.approx(truncated_cross_entropy(logits, targets, threshold=threshold).item())
    assert weighting.threshold != 0.8


def test_the_threshold_is_fixed_while_a_micro_batch_is_weighed(build):
    weighting = build()
    for _ in range(2):
        show(weighting, [0.2, 0.7])
    before = weighting.threshold
    weighting.weigh(torch.rand(50), None)
    assert weighting.threshold == before


def test_validation_moves_nothing(build):
    weighting = build()
    before = weighting.threshold
    with torch.no_grad():
        for _ in range(3):
            show(weighting, [0.2, 0.7])
            weighted_cross_entropy(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), weighting)
            linear_weighted_cross_entropy(torch.randn(4, 2), torch.randn(3, 2), torch.tensor([0, 1, 2, 0]), weighting)
    assert weighting.threshold == before
    assert weighting.state_dict() == build().state_dict()


@pytest.mark.parametrize("whole", [False, True])
def test_the_fused_loss_moves_it_once_a_micro_batch(build, whole):
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(2, 300, 4, generator=generator), torch.randn(7, 4, generator=generator)
    targets = torch.randint(0, 7, (2, 300), generator=generator)
    if not whole:
        targets[0, :100] = -100
    fused, plain = build(), build()
    for _ in range(3):
        linear_weighted_cross_entropy(hidden.requires_grad_(), weight, targets, fused)
        weighted_cross_entropy(hidden @ weight.T, targets, plain)
        assert fused.threshold == pytest.approx(plain.threshold, rel=1e-5)
    assert fused.threshold != build().threshold


@pytest.mark.parametrize("pass_on", [copy.deepcopy, lambda weighting: pickle.loads(pickle.dumps(weighting))])
def test_a_copy_has_a_state_of_its_own(build, pass_on):
    weighting = build()
    for p in (0.2, 0.4, 0.6):
        show(weighting, [p, p + 0.1])
    copied = pass_on(weighting)
    before = weighting.threshold
    assert copied.threshold == before
    for p in (0.05, 0.5, 0.01):
        show(copied, [p])
    assert weighting.threshold == before != copied.threshold
    between = (before + copied.threshold) / 2
    assert kept_mask(weighting, [between]) != kept_mask(copied, [between])


def test_a_checkpoint_resumes_it(build, tmp_path):
    weighting, resumed = build(), build()
    for p in (0.2, 0.4, 0.6):
        show(weighting, [p, p + 0.1, 0.99])
    torch.save(weighting.state_dict(), tmp_path / "state.pt")
    saved = weighting.threshold
    show(weighting, [0.01])  # what was saved does not move with it
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.threshold == saved
    show(resumed, [0.01])
    assert resumed.threshold == weighting.threshold


def test_a_new_weighting_can_be_saved_and_resumed(build):
    resumed = build()
    resumed.load_state_dict(build().state_dict())
    assert resumed.threshold == build().threshold


def test_the_state_of_another_weighting_is_refused(build):
    others = [other().state_dict() for other in BUILDERS.values()] + [{}]
    refused = 0
    for state in others:
        if set(state) != set(build().state_dict()):
            with pytest.raises(ConfigError, match="Load what the same loss saved"):
                build().load_state_dict(state)
            refused += 1
    assert refused == 3


def test_a_weighting_without_a_state_saves_nothing_and_takes_nothing():
    truncated().load_state_dict(truncated().state_dict())
    with pytest.raises(ConfigError, match="the loss 'truncated' has the keys none, this one has 'seen'"):
        truncated().load_state_dict({"seen": 3})


def test_a_micro_batch_without_targets_or_without_numbers_leaves_a_usable_threshold(build):
    weighting = build()
    show(weighting, [0.3, 0.4])
    show(weighting, [0.5, 0.6])
    for p in ([], [math.nan], [math.nan, 0.5], [0.0]):
        show(weighting, p)
        assert 0 < weighting.threshold <= 1


# ForTIFAI's dynamic threshold


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 1.0, 2.0])
def test_dynamic_is_the_mean_and_spread_of_the_micro_batches_mean_probabilities(alpha):
    weighting = dynamic_truncation(alpha, start=0.7, window=10)
    show(weighting, [0.1, 0.5])  # mean .3
    assert weighting.threshold == 0.7
    show(weighting, [0.4])
    show(weighting, [0.4, 0.5, 0.6])
    # .3, .4, .5: mean .4, standard deviation .1
    assert weighting.threshold == pytest.approx(0.4 + alpha * 0.1, rel=1e-9)


def test_dynamic_forgets_what_left_its_window():
    weighting = dynamic_truncation(1.0, window=3)
    for p in (0.9, 0.9, 0.1, 0.2, 0.3):
        show(weighting, [p])
    assert weighting.threshold == pytest.approx(0.2 + 0.1, rel=1e-9)


@pytest.mark.parametrize(("alpha", "held"), [(1e3, 1.0), (-1e3, pytest.approx(0))])
def test_dynamic_is_held_within_the_probabilities(alpha, held):
    weighting = dynamic_truncation(alpha)
    show(weighting, [0.2])
    show(weighting, [0.4])
    assert weighting.threshold == held
    assert weighting.threshold > 0


# A schedule


def test_scheduled_moves_evenly_and_then_rests():
    weighting = scheduled_truncation(1.0, 0.6, steps=4)
    thresholds = []
    for _ in range(7):
        thresholds.append(weighting.threshold)
        show(weighting, [0.5])
    assert thresholds == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.6, 0.6])
    assert thresholds[0] == 1.0
    assert thresholds[4:] == [0.6] * 3


def test_scheduled_counts_micro_batches_without_targets_too():
    weighting = scheduled_truncation(1.0, 0.5, steps=2)
    show(weighting, [])
    assert weighting.threshold == 0.75


# A target


@given(seed=st.integers(0, 1000), fraction=st.floats(0.05, 1), sharp=st.floats(0.1, 5))
def test_target_kept_keeps_the_share_of_what_it_has_seen(seed, fraction, sharp):
    generator = torch.Generator().manual_seed(seed)
    weighting = target_kept_fraction(fraction)
    nll = -(torch.rand(500, generator=generator).log()) / sharp
    weighting.move_on(nll)
    expected = math.ceil(fraction * 500)
    # float32 draws may coincide, or the threshold's round trip through exp and log may miss the last bit.
    assert weighting.weigh(nll, None).sum().item() == pytest.approx(expected, abs=1)


def test_a_target_of_all_tokens_is_plain_cross_entropy():
    weighting = target_kept_fraction(1.0, start=0.5)
    show(weighting, [0.1, 0.2])
    assert weighting.threshold == 1.0


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_target_kept_is_the_quantile_of_what_follows_the_same_law(fraction):
    generator = torch.Generator().manual_seed(7)
    weighting = target_kept_fraction(fraction)
    for _ in range(16):
        show(weighting, torch.rand(2000, generator=generator, dtype=torch.float64))
    assert weighting.threshold == pytest.approx(fraction, abs=4 * math.sqrt(fraction * (1 - fraction) / 32_000))


def test_target_kept_follows_a_model_that_grows_sure():
    weighting = target_kept_fraction(0.5, window=2)
    shares = []
    generator = torch.Generator().manual_seed(7)
    for step in range(30):
        p = torch.rand(3000, generator=generator, dtype=torch.float64) ** (1 / (1 + step / 3))
        shares.append(sum(kept_mask(weighting, p)) / 3000)
        show(weighting, p)
    assert weighting.threshold > 0.9
    # Two micro-batches behind, while p doubles its sureness in a few.
    assert shares[15:] == pytest.approx([0.5] * 15, abs=0.06)


def test_target_kept_pools_micro_batches_instead_of_averaging_their_thresholds():
    weighting = target_kept_fraction(0.5)
    show(weighting, [0.1] * 90)
    show(weighting, [0.9] * 10)
    assert weighting.threshold == pytest.approx(0.1)


def test_target_kept_tells_nearly_certain_tokens_apart():
    weighting = target_kept_fraction(0.5)
    weighting.move_on(torch.tensor([1e-9, 2e-9, 3e-9, 4e-9]))
    assert weighting.weigh(torch.tensor([1e-9, 2e-9, 3.1e-9, 4e-9]), None).tolist() == [0, 0, 1, 1]


def test_target_kept_remembers_a_sample_of_a_large_micro_batch():
    weighting = target_kept_fraction(0.25, window=2)
    for _ in range(3):
        show(weighting, torch.rand(100_000, generator=torch.Generator().manual_seed(1)))
    remembered = weighting.state_dict()["recent"]
    assert len(remembered) == 2
    assert all(len(nll) <= 8192 for nll in remembered)
    assert weighting.threshold == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dynamic_truncation(math.inf), r"alpha inf is not in \(-inf, inf\)"),
        (lambda: dynamic_truncation(math.nan), "alpha nan is not in"),
        (lambda: dynamic_truncation(1.0, start=0.0), "threshold 0.0 is not in"),
        (lambda: dynamic_truncation(1.0, window=1), "window 1 is below 2"),
        (lambda: scheduled_truncation(1.2, 0.5, 3), "threshold 1.2 is not in"),
        (lambda: scheduled_truncation(1.0, 0.0, 3), "threshold 0.0 is not in"),
        (lambda: scheduled_truncation(1.0, 0.5, 0), "steps 0 is below 1"),
        (lambda: target_kept_fraction(0.0), "fraction 0.0 is not in"),
        (lambda: target_kept_fraction(1.5), "fraction 1.5 is not in"),
        (lambda: target_kept_fraction(0.5, start=2.0), "threshold 2.0 is not in"),
        (lambda: target_kept_fraction(0.5, window=0), "window 0 is below 1"),
    ],
)
def test_an_option_outside_its_range_is_refused_where_the_weighting_is_made(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_fresh_state_undoes_a_used_threshold():
    used, fresh = (target_kept_fraction(0.5) for _ in range(2))
    used.move_on(torch.linspace(0.1, 3, 50))
    assert used.threshold != fresh.threshold
    used.load_state_dict(fresh.state_dict())
    assert used.threshold == fresh.threshold
