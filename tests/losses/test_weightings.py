import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.errors import ConfigError
from tailkeep.losses.cross_entropy import weighted_cross_entropy
from tailkeep.losses.weightings import dft, eaft, mile, random_truncation, stm
from tests.losses.reference import logits_of

PROBABILITIES = st.floats(1e-4, 0.999)


def loss_and_slope(weighting, p, size=2):
    """The loss of a target of probability p, the rest shared alike, and d loss / d its logit."""
    logits = logits_of([p], size=size).float().requires_grad_()
    loss = weighted_cross_entropy(logits, torch.tensor([0]), weighting)
    loss.backward()
    return loss.item(), logits.grad[0, 0].item()


def entropy_of(p, size=2):
    rest = (1 - p) / (size - 1)
    return -p * math.log(p) - (1 - p) * math.log(rest)


@given(p=PROBABILITIES, exponent=st.floats(0, 4), size=st.integers(2, 30))
def test_mile_weighs_with_the_entropy_of_the_whole_prediction_as_a_constant(p, exponent, size):
    loss, slope = loss_and_slope(mile(exponent), p, size)
    factor = (1 + entropy_of(p, size)) ** exponent
    assert loss == pytest.approx(factor * -math.log(p), rel=1e-3)
    assert slope == pytest.approx(factor * (p - 1), rel=1e-3)


@given(p=st.floats(0.1, 0.999), size=st.integers(3, 9), k=st.integers(2, 3))
def test_eaft_weighs_with_the_entropy_of_the_likeliest_tokens_as_a_constant(p, size, k):
    rest = (1 - p) / (size - 1)
    shares = sorted([p, *[rest] * (size - 1)], reverse=True)[:k]
    shares = [share / sum(shares) for share in shares]
    factor = -sum(share * math.log(share) for share in shares) / math.log(k)
    loss, slope = loss_and_slope(eaft(k), p, size)
    assert loss == pytest.approx(factor * -math.log(p), rel=1e-3)
    assert slope == pytest.approx(factor * (p - 1), rel=1e-3)


def test_a_model_that_knows_nothing_has_eaft_weights_of_one():
    losses = weighted_cross_entropy(torch.zeros(3, 50), torch.arange(3), eaft(), reduction="none")
    assert losses.tolist() == pytest.approx([math.log(50)] * 3, rel=1e-6)


def test_a_vocabulary_of_fewer_than_k_tokens_is_taken_whole():
    loss = weighted_cross_entropy(torch.zeros(1, 4), torch.tensor([0]), eaft(20))
    assert loss.item() == pytest.approx(math.log(4) / math.log(20) * math.log(4), rel=1e-6)


@given(p=PROBABILITIES)
def test_dft_has_the_gradient_of_minus_p(p):
    loss, slope = loss_and_slope(dft(), p)
    assert loss == pytest.approx(-p * math.log(p), rel=1e-3)
    assert slope == pytest.approx(p * (p - 1), rel=1e-3)


@pytest.mark.parametrize(("p", "is_kept"), [(0.39, False), (0.41, True), (0.999, True), (1e-6, False)])
def test_stm_leaves_out_perplexities_above_two_and_a_half(p, is_kept):
    loss, slope = loss_and_slope(stm(), p)
    assert loss == pytest.approx(-math.log(p) if is_kept else 0, rel=1e-3)
    assert slope == pytest.approx(p - 1 if is_kept else 0, rel=1e-3)


def test_stm_keeps_a_token_of_exactly_the_threshold():
    assert weighted_cross_entropy(torch.zeros(1, 2), torch.tensor([0]), stm(0.5)) > 0


def test_stm_never_hides_a_loss_that_is_not_a_number():
    assert weighted_cross_entropy(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]), stm()).isnan()


@pytest.mark.parametrize(
    ("weighting", "sure", "unsure"),
    [(mile(2.0), "less", "more"), (eaft(2), "less", "more"), (dft(), "more", "less"), (stm(), "more", "less")],
    ids=["mile", "eaft", "dft", "stm"],
)
def test_each_goes_in_the_direction_that_it_says(weighting, sure, unsure):
    def factor(p):
        return loss_and_slope(weighting, p)[0] / -math.log(p)

    assert sure != unsure
    # Under two classes the entropy is greatest at p = 1/2, where the target is unsure too.
    assert (factor(0.99) > factor(0.3)) == (sure == "more")


@pytest.mark.parametrize("weighting", [mile(), eaft(2), dft()], ids=["mile", "eaft", "dft"])
def test_a_certain_or_an_impossible_token_has_finite_loss_and_gradient(weighting):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.tensor([0, 0]), weighting)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def sample_mask(weighting, n):
    return weighting.weigh(torch.ones(n), None)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_random_truncation_keeps_the_share_whatever_the_tokens_are(share):
    weighting = random_truncation(share, seed=3)
    nll = torch.linspace(0, 9, 40_000)
    kept_mask = weighting.weigh(nll, None)
    error = 4 * math.sqrt(share * (1 - share) / 20_000)
    assert kept_mask[:20_000].mean().item() == pytest.approx(share, abs=error)
    assert kept_mask[20_000:].mean().item() == pytest.approx(share, abs=error)


def test_the_default_type_of_torch_does_not_round_the_share():
    weighting = random_truncation(0.999, seed=1)
    expected = weighting.weigh(torch.ones(100_000), None).sum()
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = random_truncation(0.999, seed=1).weigh(torch.ones(100_000, dtype=torch.float32), None).sum()
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == expected
    assert expected < 100_000


def test_random_truncation_of_nothing_keeps_all():
    assert sample_mask(random_truncation(1.0, seed=0), 1000).all()


def test_random_truncation_draws_anew_and_again_from_its_seed():
    first, second, other = (random_truncation(0.5, seed) for seed in (1, 1, 2))
    one, two = sample_mask(first, 100), sample_mask(first, 100)
    assert not torch.equal(one, two)
    assert torch.equal(sample_mask(second, 200), torch.cat([one, two]))
    assert not torch.equal(sample_mask(other, 100), one)


def test_random_truncation_neither_reads_nor_moves_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = sample_mask(random_truncation(0.5, seed=1), 50)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(sample_mask(random_truncation(0.5, seed=1), 50), one)


def test_random_truncation_is_resumed_by_its_state_and_copied_with_it():
    weighting, other = random_truncation(0.5, seed=1), random_truncation(0.5, seed=99)
    sample_mask(weighting, 17)
    other.load_state_dict(weighting.state_dict())
    copied = copy.deepcopy(weighting)
    expected = sample_mask(weighting, 100)
    assert torch.equal(sample_mask(other, 100), expected)
    assert torch.equal(sample_mask(copied, 100), expected)


def test_ignored_targets_do_not_move_the_draws():
    logits, targets = torch.zeros(6, 2), torch.tensor([0, -100, 0, 0, -100, 0])
    kept_mask = weighted_cross_entropy(logits, targets, random_truncation(0.5, seed=4), reduction="none") > 0
    assert torch.equal(kept_mask[targets == 0], sample_mask(random_truncation(0.5, seed=4), 4) > 0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mile(-1.0), r"exponent -1.0 is not in \[0, inf\)"),
        (lambda: mile(math.inf), "exponent inf is not in"),
        (lambda: eaft(1), "k 1 is below 2"),
        (lambda: stm(0.0), r"threshold 0.0 is not in \(0, 1\]"),
        (lambda: stm(math.nan), "threshold nan is not in"),
        (lambda: random_truncation(0.0, seed=1), r"kept_fraction 0.0 is not in \(0, 1\]"),
        (lambda: random_truncation(1.1, seed=1), "kept_fraction 1.1 is not in"),
    ],
)
def test_an_option_outside_its_range_is_refused_where_the_weighting_is_made(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
