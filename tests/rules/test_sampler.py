"""Samples against the distributions they claim to come from."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tailkeep.rules import Sampler, position_uniforms
from tailkeep.rules.sampler import sample_tokens

DRAWS = 40_000
FULL = {"top_k": None}


def grid(n, max_attempts=1):
    """Stratified numbers: shares of samples are then exact to 1 / n."""
    return torch.linspace(0.5 / n, 1 - 0.5 / n, n, dtype=torch.float64)[:, None].expand(n, max_attempts)


def independent(n, max_attempts):
    return torch.from_numpy(np.stack([position_uniforms(0, "d", n, f"draw-{i}") for i in range(max_attempts)], 1))


def draws(p, original, sampler, *, n=DRAWS, numbers=None, allowed=None):
    log_probs = torch.tensor(p, dtype=torch.float64).log().float().expand(n, -1)
    originals = torch.full((n,), original)
    mask = None if allowed is None else torch.tensor(allowed)
    ids, values = sample_tokens(log_probs, originals, grid(n) if numbers is None else numbers, sampler, allowed=mask)
    assert torch.equal(values, log_probs[torch.arange(n), ids])
    return ids


def shares(ids, size):
    return np.bincount(ids.numpy(), minlength=size) / len(ids)


def expected(p, original, sampler, allowed=None):
    """The distribution of a sample, from the definition, in float64 and one step at a time."""
    size = len(p)
    candidates = [i for i in range(size) if allowed is None or allowed[i] or i == original]
    if sampler.exclude_original:
        candidates.remove(original)
    candidates = sorted(candidates, key=lambda i: (-p[i], i))[: sampler.top_k]
    weight = np.array([p[i] ** (1 / sampler.temperature) for i in candidates])
    weight /= weight.sum()
    if sampler.top_p is not None:
        weight[np.concatenate([[0], weight.cumsum()[:-1]]) >= sampler.top_p] = 0
        weight /= weight.sum()
    q = np.zeros(size)
    q[candidates] = weight
    if sampler.max_attempts > 1:
        stay = q[original]
        q *= (1 - stay**sampler.max_attempts) / (1 - stay)
        q[original] = stay**sampler.max_attempts
    return q


SAMPLERS = [
    Sampler(),
    Sampler(**FULL),
    Sampler(top_k=3),
    Sampler(top_k=3, exclude_original=True),
    Sampler(top_k=None, exclude_original=True),
    Sampler(top_k=None, top_p=0.8),
    Sampler(top_k=6, top_p=0.7, temperature=1.5),
    Sampler(temperature=0.5),
    Sampler(top_k=None, temperature=2, exclude_original=True),
    Sampler(max_attempts=3),
    Sampler(top_k=None, max_attempts=5, temperature=1.5),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("forbidden", [(), (1, 4)])
def test_draws_follow_the_samplers_distribution(sampler, forbidden):
    p = np.array([0.05, 0.4, 0.1, 0.1, 0.2, 0.03, 0.02, 0.04, 0.01, 0.05])
    allowed = [i not in forbidden for i in range(10)]
    q = expected(p, 1, sampler, allowed)
    ids = draws(p, 1, sampler, numbers=independent(DRAWS, sampler.max_attempts), allowed=allowed)
    counts = np.bincount(ids.numpy(), minlength=10)
    assert counts[q == 0].sum() == 0
    assert stats.chisquare(counts[q > 0], q[q > 0] * DRAWS).pvalue > 1e-4


@pytest.mark.parametrize("p", [0.99, 0.999, 0.9999])
@pytest.mark.parametrize(
    ("sampler", "candidates"),
    [
        (Sampler(**FULL), 64),
        (Sampler(), 8),
        (Sampler(temperature=1.5), 8),
        (Sampler(top_k=64, temperature=1.5), 64),
        (Sampler(max_attempts=4), 8),
    ],
    ids=str,
)
def test_a_flagged_token_changes_as_rarely_as_the_closed_form_says(p, sampler, candidates):
    q = [p] + [(1 - p) / (candidates - 1)] * (candidates - 1)
    tempered = np.array(q) ** (1 / sampler.temperature)
    changes = 1 - (tempered[0] / tempered.sum()) ** sampler.max_attempts
    numbers = grid(DRAWS) if sampler.max_attempts == 1 else independent(DRAWS, sampler.max_attempts)
    share = (draws(q, 0, sampler, numbers=numbers) != 0).double().mean().item()
    noise = 1.5 / DRAWS if sampler.max_attempts == 1 else 5 * math.sqrt(changes / DRAWS)
    assert share == pytest.approx(changes, abs=noise)


@pytest.mark.parametrize(
    ("temperature", "candidates", "p", "percent"),
    [(1, 8, 0.99, 1), (1.5, 8, 0.99, 8.2), (1.5, 8, 0.999, 1.9), (1.5, 64, 0.99, 15.7), (1.5, 64, 0.999, 3.8)],
)
def test_the_published_settings_change_this_share_of_the_flagged_tokens(temperature, candidates, p, percent):
    q = [p] + [(1 - p) / (candidates - 1)] * (candidates - 1)
    changed = draws(q, 0, Sampler(temperature=temperature, top_k=candidates)) != 0
    assert 100 * changed.double().mean().item() == pytest.approx(percent, abs=0.05)


def test_top_p_at_the_threshold_leaves_nothing_but_the_original():
    q = [0.992] + [0.001] * 8
    assert (draws(q, 0, Sampler(top_k=None, top_p=0.99)) == 0).all()


def test_without_the_original_every_draw_changes():
    q = [0.9999] + [0.00001] * 10
    assert (draws(q, 0, Sampler(exclude_original=True)) != 0).all()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_where_nothing_is_allowed_the_original_stays(sampler):
    ids = draws([0.2, 0.3, 0.5], 1, sampler, n=50, numbers=independent(50, sampler.max_attempts), allowed=[False] * 3)
    assert (ids == 1).all()


def test_an_original_that_is_not_allowed_can_stay():
    assert shares(draws([0.7, 0.2, 0.1], 0, Sampler(), allowed=[False, True, False]), 3) == pytest.approx(
        [7 / 9, 2 / 9, 0], abs=1e-3
    )


def test_among_equally_probable_tokens_the_lower_id_comes_first():
    ids = draws([1 / 64] * 64, 63, Sampler(top_k=4))
    assert shares(ids, 64)[:4] == pytest.approx([0.25] * 4, abs=1e-3)
    ids = draws([0.1, 0.3] * 2 + [0.1] * 2, 0, Sampler(top_k=3))
    assert sorted(ids.unique().tolist()) == [0, 1, 3]


@pytest.mark.parametrize("temperature", [1e-3, 1e6])
def test_temperature_goes_from_the_most_probable_to_any(temperature):
    q = shares(draws([0.2, 0.5, 0.3], 0, Sampler(top_k=None, temperature=temperature)), 3)
    assert q == pytest.approx([0, 1, 0] if temperature < 1 else [1 / 3] * 3, abs=1e-3)


@given(st.integers(0, 2**32), st.sampled_from(SAMPLERS))
def test_a_draw_does_not_depend_on_the_rows_beside_it(seed, sampler):
    source = torch.Generator().manual_seed(seed)
    # Coarse values, so that there are ties.
    log_probs = (torch.randn(6, 30, generator=source) * 4).round().log_softmax(1)
    originals = torch.randint(30, (6,), generator=source)
    numbers = torch.rand(6, sampler.max_attempts, dtype=torch.float64, generator=source)
    allowed = torch.rand(30, generator=source) < 0.7
    ids, values = sample_tokens(log_probs, originals, numbers, sampler, allowed=allowed)
    for row in range(6):
        one = slice(row, row + 1)
        alone = sample_tokens(log_probs[one], originals[one], numbers[one], sampler, allowed=allowed)
        assert (ids[row], values[row]) == (alone[0][0], alone[1][0])
        assert allowed[ids[row]] or ids[row] == originals[row]


@given(st.floats(0, 1, exclude_max=True), st.sampled_from([50, 70_000]))
def test_the_inverse_of_the_distribution_function_is_that_of_float64(u, size):
    p = np.random.default_rng(size).dirichlet(np.full(size, 0.5)) + 1e-12
    p /= p.sum()
    log_probs = torch.from_numpy(np.log(p))[None].float()
    (span,), _ = sample_tokens(
        log_probs, torch.zeros(1, dtype=torch.long), torch.tensor([[u]]).double(), Sampler(**FULL)
    )
    sums = log_probs[0].double().exp().cumsum(0)
    sums /= sums[-1].clone()
    # float32 probabilities are off by 1e-7 each.
    assert sums[span] > u - 1e-5
    assert span == 0 or sums[span - 1] <= u + 1e-5


def test_improbable_tokens_are_neither_lost_nor_favoured():
    # A tail of 100,000 tokens holds the hundredth part, as under ToEdit with a large vocabulary.
    size = 100_001
    q = torch.tensor([0.99] + [0.01 / (size - 1)] * (size - 1), dtype=torch.float64).log().float().expand(200, -1)
    ids, _ = sample_tokens(q, torch.zeros(200, dtype=torch.long), grid(200), Sampler(**FULL))
    assert (ids != 0).sum() == 2


def test_a_row_with_nan_stays_as_it_is():
    log_probs = torch.tensor([[float("nan"), -1.0, -1.0], [-1.0, -1.0, -1.0]])
    for sampler in SAMPLERS:
        ids, _ = sample_tokens(
            log_probs, torch.tensor([1, 1]), torch.full((2, sampler.max_attempts), 0.9).double(), sampler
        )
        assert ids[0] == 1


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_no_positions_give_no_draws(sampler):
    ids, values = sample_tokens(
        torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), torch.zeros(0, sampler.max_attempts).double(), sampler
    )
    assert ids.shape == values.shape == (0,)


def test_the_largest_uniform_draws_the_last_candidate():
    u = torch.tensor([[1 - 2**-53]], dtype=torch.float64)
    ids, _ = sample_tokens(torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([0]), u, Sampler(**FULL))
    assert ids.tolist() == [2]


@pytest.mark.parametrize("sampler", [Sampler(**FULL), Sampler(), Sampler(top_k=2, exclude_original=True)], ids=str)
def test_the_smallest_uniform_samples_no_forbidden_token(sampler):
    log_probs, allowed = torch.tensor([[0.2, 0.3, 0.5]]).log(), torch.tensor([False, True, True])
    ids, _ = sample_tokens(log_probs, torch.tensor([2]), torch.zeros(1, 1).double(), sampler, allowed=allowed)
    assert ids.item() != 0
