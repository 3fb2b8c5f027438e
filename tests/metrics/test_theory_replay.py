"""The choice of documents against brute force, and the extinction of copies against simulated resampling."""

from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from tailkeep.metrics import (
    CountHistory,
    Migration,
    SelectionKernel,
    copy_extinction,
    greedy_replay,
    project_counts,
    remaining_loss,
    replay_extinction,
)


def random_case(seed, documents=8, items=12):
    rng = np.random.default_rng(seed)
    copies = sparse.csr_array(rng.poisson(0.5, (documents, items)))
    return copies, rng.random(items), rng.uniform(0.2, 0.8), rng.integers(3, 9, documents), float(rng.integers(8, 25))


def prevented(case, documents):
    copies, losses, extinction, _, _ = case
    return losses.sum() - remaining_loss(copies, losses, extinction, list(documents))


def greedy_by_brute_force(case):
    """Recompute the loss of every possible next document, one set at a time."""
    *_, costs, budget = case
    documents = []
    while True:
        fitting = [d for d in range(len(costs)) if d not in documents and costs[[*documents, d]].sum() <= budget]
        if not fitting:
            return documents
        before = prevented(case, documents)
        rates = [(prevented(case, [*documents, d]) - before) / costs[d] for d in fitting]
        documents.append(fitting[int(np.argmax(np.round(rates, 12)))])


def best_by_brute_force(case):
    *_, costs, budget = case
    subsets = (s for n in range(len(costs) + 1) for s in combinations(range(len(costs)), n))
    return max(prevented(case, s) for s in subsets if costs[list(s)].sum() <= budget)


@pytest.mark.parametrize("seed", range(20))
def test_the_lazy_choice_is_that_of_a_full_recomputation(seed):
    case = random_case(seed)
    documents = greedy_replay(*case)
    assert documents.tolist() == greedy_by_brute_force(case)
    assert case[3][documents].sum() <= case[4]


@pytest.mark.parametrize("seed", range(10))
def test_with_equal_costs_the_choice_is_within_its_bound_of_the_best_of_all_subsets(seed):
    copies, losses, extinction, costs, _ = random_case(seed)
    case = copies, losses, extinction, np.ones(len(costs)), 3.0
    reached, best = prevented(case, greedy_replay(*case)), best_by_brute_force(case)
    assert (1 - 1 / np.e) * best <= reached <= best + 1e-12
    assert reached > 0.95 * best


def test_where_no_item_is_shared_the_choice_is_the_best_of_all_subsets():
    copies = sparse.csr_array(np.diag([1, 2, 3, 1, 1]))
    case = copies, np.array([0.9, 0.2, 0.5, 0.1, 0.6]), 0.5, np.ones(5), 3.0
    # Gains: 0.45, 0.15, 0.4375, 0.05, 0.3.
    assert greedy_replay(*case).tolist() == [0, 2, 4]
    assert prevented(case, [0, 2, 4]) == pytest.approx(best_by_brute_force(case))


def test_an_item_that_is_replayed_already_counts_less():
    # Documents 0 and 1 hold the same two items, document 2 another, less endangered one.
    copies = sparse.csr_array(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))
    losses = np.array([1.0, 1.0, 0.9])
    assert greedy_replay(copies, losses, 0.25, np.ones(3), 2).tolist() == [0, 2]
    # A copy that hardly protects leaves them as endangered as before.
    assert greedy_replay(copies, losses, 0.99, np.ones(3), 2).tolist() == [0, 1]
    assert remaining_loss(copies, losses, 0.25, [0, 2]) == pytest.approx(0.25 + 0.25 + 0.225)


def test_gains_count_per_token_and_a_document_that_does_not_fit_is_passed_over():
    copies = sparse.csr_array(np.diag([1, 1, 1]))
    losses = np.array([1.0, 0.9, 0.1])
    assert greedy_replay(copies, losses, 0.5, [10, 4, 3], 8).tolist() == [1, 2]
    assert greedy_replay(copies, losses, 0.5, [10, 4, 3], 2).tolist() == []


def test_a_choice_among_thousands_of_documents_uses_the_whole_budget_and_takes_none_twice():
    rng = np.random.default_rng(0)
    copies = sparse.random_array((4000, 3000), density=0.01, rng=rng, format="csr")
    copies.data[:] = 1
    documents = greedy_replay(copies, rng.random(3000), 0.4, np.full(4000, 30.0), 400 * 30)
    assert len(set(documents.tolist())) == 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: np.ones(5)}, "copies have shape"),
        ({1: -np.ones(12)}, "losses >= 0"),
        ({3: np.zeros(8)}, "costs must be > 0"),
        ({2: 0.0}, r"extinction must be in \(0, 1\], got 0"),
        ({2: 1.5}, r"extinction must be in \(0, 1\], got 1.5"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    case = [change.get(index, value) for index, value in enumerate(random_case(0))]
    with pytest.raises(ValueError, match=message):
        greedy_replay(*case)


# The extinction of copies


def test_without_a_pool_both_kinds_of_copies_have_the_extinction_of_drift_alone():
    for rounds in (1, 2, 5):
        q = replay_extinction(rounds)
        assert q.synthetic == q.replayed == pytest.approx(copy_extinction(rounds)[-1])


def test_a_pool_of_the_real_texts_size_is_the_regime_accumulate():
    for rounds in (1, 2, 3, 7):
        q = replay_extinction(rounds, pool=1.0)
        assert q.synthetic == pytest.approx(copy_extinction(rounds, Migration("accumulate"))[-1])


def test_a_copy_repeated_twice_is_lost_as_two_copies_in_the_next_text():
    assert replay_extinction(1, replayed_mean=2.0).replayed == pytest.approx(replay_extinction(1).replayed ** 2)
    q = replay_extinction(4, synthetic_mean=0.5, replayed_mean=3.0)
    assert q.replayed < replay_extinction(4).replayed < q.synthetic


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_in_a_pool_of_texts_copies_are_lost_as_in_a_simulation(rounds):
    # Two texts and replayed documents of half a text; the documents leave the pool after the next model.
    rng, items, pool = np.random.default_rng(1), 60_000, 2.5
    lost = {}
    for kind in ("synthetic", "replayed"):
        inside, stays = np.ones(items), float(kind == "synthetic")
        for later in range(rounds):
            text = rng.poisson(inside / (pool + later))
            inside = (inside if later else stays) + text
        lost[kind] = float((text == 0).mean())
    q = replay_extinction(rounds, synthetic_mean=1 / pool, replayed_mean=1 / pool, pool=pool)
    assert (lost["synthetic"], lost["replayed"]) == pytest.approx((q.synthetic, q.replayed), abs=0.01)
    assert q.replayed >= q.synthetic


def test_without_a_pool_copies_are_lost_as_the_projection_of_the_forecast_says():
    counts = project_counts(
        CountHistory(np.full(40_000, 2.0)), [SelectionKernel()] * 3, Migration(), np.random.default_rng(0)
    )
    assert (counts[-1] == 0).mean() == pytest.approx(replay_extinction(3).synthetic ** 2, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": 0}, "rounds must be >= 1, got 0"),
        ({"rounds": 1, "synthetic_mean": -1.0}, "means must be >= 0, got -1"),
        ({"rounds": 1, "pool": 0.0}, "pool must be > 0, got 0"),
    ],
)
def test_impossible_rounds_means_and_pools_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        replay_extinction(**arguments)
