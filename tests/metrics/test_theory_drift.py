"""Drift against simulated resampling, and against the closed forms of arXiv 2412.17646 and 2509.20101."""

from itertools import chain, combinations

import numpy as np
import pytest
from scipy.integrate import quad

from tailkeep.metrics import (
    DRIFT_REGIMES,
    CountHistory,
    Migration,
    SelectionKernel,
    copy_extinction,
    project_counts,
    required_real_share,
    survival,
)

MIGRATIONS = [
    Migration("replace"),
    Migration("accumulate"),
    Migration("accumulate_subsample"),
    Migration("mix", 0.2),
    Migration("mix", 0.5),
    Migration("weighted", 0.3),
]


def alive_after_resampling(counts, generations, rng, migration, kernel):
    """(generations, V): which items of real `counts` are written in each round of one simulated chain."""
    return project_counts(CountHistory(counts), [kernel] * generations, migration, rng) > 0


def test_the_first_rounds_of_one_copy_are_those_of_the_poisson_branching_process():
    q = copy_extinction(3)
    assert q == pytest.approx([0.0, np.exp(-1), np.exp(np.exp(-1) - 1), np.exp(np.exp(np.exp(-1) - 1) - 1)])


def test_ten_generations_leave_what_the_pilot_predicted():
    # The pilot's bands of WikiText, first counts 1 and 2-3: 0.158 and 0.334 with its mix of twos and threes.
    q = copy_extinction(10)[-1]
    assert survival(1, q) == pytest.approx(0.158, abs=1e-3)
    assert survival(2, q) < 0.334 < survival(3, q)


@pytest.mark.parametrize("migration", MIGRATIONS, ids=str)
@pytest.mark.parametrize("dispersion", [1.0, 2.5])
def test_each_regime_loses_what_a_simulation_of_it_loses(migration, dispersion):
    generations, items = 6, 40_000
    kernel = SelectionKernel(dispersion=dispersion)
    rng = np.random.default_rng(3)
    for count in (1.0, 3.0):
        alive = alive_after_resampling(np.full(items, count), generations, rng, migration, kernel).mean(axis=1)
        expected = survival(count, copy_extinction(generations, migration, dispersion=dispersion)[1:])
        assert alive == pytest.approx(expected, abs=5 * np.sqrt(0.25 / items))


def test_multinomial_resampling_of_whole_corpora_is_the_branching_process():
    # Counts of one corpus of 3,000 tokens, resampled with its size fixed; the branching process lets it vary.
    rng = np.random.default_rng(0)
    counts = np.concatenate([np.ones(600), np.full(200, 2.0), np.full(40, 50.0)])
    alive = np.zeros((5, len(counts)))
    for _ in range(200):
        written_counts = counts
        for generation in range(5):
            written_counts = rng.multinomial(int(counts.sum()), written_counts / written_counts.sum())
            alive[generation] += written_counts > 0
    q = copy_extinction(5)[1:]
    for count in (1.0, 2.0):
        assert alive[:, counts == count].mean(axis=1) / 200 == pytest.approx(survival(count, q), abs=0.005)


def resample_tokens(tokens, migration, generations, rng):
    """The text of the last of so many rounds: token by token, each training set made as `Migration` says."""
    size, texts, train = len(tokens), [tokens], tokens
    for _ in range(generations):
        texts.append(rng.choice(train, size))
        pool = np.concatenate(texts)
        match migration.regime:
            case "mix":
                real = round(migration.real_share * size)
                train = np.concatenate([rng.permutation(tokens)[:real], rng.permutation(texts[-1])[: size - real]])
            case "accumulate":
                train = pool
            case "accumulate_subsample":
                train = rng.permutation(pool)[:size]
    return texts[-1]


@pytest.mark.parametrize("migration", [m for m in MIGRATIONS if m.regime not in {"replace", "weighted"}], ids=str)
def test_resampling_tokens_with_real_data_kept_is_the_branching_process(migration):
    # No code of the package on this side: 6,000 tokens, of which each is drawn with replacement.
    counts, generations, chains = np.concatenate([np.ones(1500), np.full(500, 3.0), np.full(60, 50.0)]), 8, 30
    tokens, rng = np.repeat(np.arange(len(counts)), counts.astype(int)), np.random.default_rng(12)
    alive = np.zeros(len(counts))
    for _ in range(chains):
        alive += np.bincount(resample_tokens(tokens, migration, generations, rng), minlength=len(counts)) > 0
    q = copy_extinction(generations, migration)[-1]
    for count in (1.0, 3.0):
        expected = float(survival(count, q))
        items = chains * int((counts == count).sum())
        assert alive[counts == count].mean() / chains == pytest.approx(
            expected, abs=4 * np.sqrt(expected * (1 - expected) / items)
        )


def test_half_of_the_words_that_occur_once_are_left_at_the_required_share():
    tokens, rng, once = np.repeat(np.arange(2600), [1] * 1800 + [5] * 800), np.random.default_rng(13), 1800
    share = required_real_share([1.0], [once], 0.5, 10)
    texts = [resample_tokens(tokens, Migration("mix", share), 10, rng) for _ in range(25)]
    alive = np.mean([np.isin(np.arange(once), text).mean() for text in texts])
    assert alive == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / once / 25))


def test_parts_of_regenerated_real_data_die_from_their_arrival_on():
    q = copy_extinction(4, Migration("regenerate", fractions=3))
    replaced = copy_extinction(4)
    assert q[1:] == pytest.approx(
        [
            (replaced[1] + 1 + 1) / 3,
            (replaced[2] + replaced[1] + 1) / 3,
            (replaced[3] + replaced[2] + replaced[1]) / 3,
            (replaced[4] + replaced[3] + replaced[2]) / 3,
        ]
    )


def test_without_real_data_every_regime_that_names_a_share_is_replacement():
    for regime in ("mix", "weighted"):
        assert copy_extinction(8, Migration(regime, 0.0)) == pytest.approx(copy_extinction(8))
    assert copy_extinction(8, Migration("regenerate")) == pytest.approx(copy_extinction(8))


def test_all_real_data_every_time_loses_one_generation_of_drift():
    for regime in ("mix", "weighted"):
        assert copy_extinction(8, Migration(regime, 1.0))[1:] == pytest.approx(np.exp(-1))


def test_accumulating_keeps_more_than_a_fixed_budget_and_that_more_than_replacing():
    last = {regime: copy_extinction(10, Migration(regime))[-1] for regime in DRIFT_REGIMES if regime != "mix"}
    assert last["accumulate"] < last["accumulate_subsample"] < last["replace"]


def test_no_generation_remembers_less_than_the_bound_of_suresh_and_others():
    # arXiv 2412.17646: a symbol of expected count c is alive in iteration k with probability >= 1 - exp(-c / k).
    generations = 200
    q = copy_extinction(generations)[1:]
    for count in (1, 5, 50):
        assert np.all(survival(count, q) >= -np.expm1(-count / np.arange(1, generations + 1)) - 1e-12)


def test_the_time_to_forget_a_word_grows_linearly_with_its_count():
    # arXiv 2412.17646; of the diffusion exp(-2 c / t) = 1/2, so t = 2 c / ln 2.
    q = copy_extinction(1000)
    half_lives = [int(np.argmax(survival(count, q) <= 0.5)) for count in (25, 50, 100, 200)]
    assert half_lives == pytest.approx([2 * count / np.log(2) for count in (25, 50, 100, 200)], rel=0.05)


def first_extinction(counts, times):
    """P(some item is extinct by t), by independent items with Q_t^c, between whole generations by interpolation."""
    logs = np.log(copy_extinction(int(max(times)) + 1)[1:])
    q = np.exp(np.interp(times, np.arange(1, len(logs) + 1), logs))
    return 1 - np.prod([survival(count, q) for count in counts], axis=0)


def test_the_first_extinction_follows_the_law_of_the_square_root_diffusion():
    # arXiv 2509.20101: P(T <= t) = 1 - prod (1 - exp(-2 N p_i / t)).
    counts, times = np.array([150.0, 200.0, 400.0]), np.arange(60.0, 900.0, 40.0)
    law = 1 - np.prod(-np.expm1(-2 * counts[:, None] / times), axis=0)
    assert first_extinction(counts, times) == pytest.approx(law, abs=0.012)


def test_the_mean_first_extinction_is_that_of_wright_and_fisher():
    # arXiv 2509.20101 with Baxter, Blythe and McKane 2007: the mean of the law above is
    # 2 N sum over sets S of items of (-1)^|S| p_S ln p_S.
    p = np.array([0.2, 0.3, 0.5])
    subsets = chain.from_iterable(combinations(range(3), size) for size in (1, 2, 3))
    exact = sum(2 * (-1) ** len(items) * p[list(items)].sum() * np.log(p[list(items)].sum()) for items in subsets)
    mean, _ = quad(lambda t: np.prod(-np.expm1(-2 * p / t)), 0, np.inf, limit=500)
    assert mean == pytest.approx(exact, rel=1e-4)
    # And the branching process of this package has it, in units of N = 500 tokens.
    times = np.arange(1.0, 6000.0)
    alive = 1 - first_extinction(500 * p, times)
    assert (alive.sum() + 0.5) / 500 == pytest.approx(exact, rel=0.02)


def test_the_required_share_keeps_exactly_the_target():
    counts, types = np.array([1.0, 2.0, 3.0]), np.array([50.0, 20.0, 10.0])
    share = required_real_share(counts, types, 0.5, 10)
    last = copy_extinction(10, Migration("mix", share))[-1]
    assert types @ survival(counts, last) / types.sum() == pytest.approx(0.5, abs=1e-4)
    assert required_real_share([100.0], [1.0], 0.5, 3) == 0.0
    assert np.isnan(required_real_share([1.0], [1.0], 0.9, 3))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Migration("replaced"), "regime must be one of replace, accumulate"),
        (lambda: Migration("replace", 0.1), "real_share has no effect"),
        (lambda: Migration("mix", 1.1), r"real_share must be in \[0, 1\], got 1.1"),
        (lambda: Migration("mix", fractions=3), "fractions has no effect"),
        (lambda: Migration("regenerate", fractions=0), "fractions must be >= 1, got 0"),
        (lambda: copy_extinction(-1), "generations must be >= 0, got -1"),
        (lambda: copy_extinction(1, mean=-1.0), "mean must be >= 0"),
        (lambda: copy_extinction(1, dispersion=0.5), "dispersion must be >= 1"),
        (lambda: required_real_share([], [], 0.5, 3), "hold no item"),
        (lambda: required_real_share([1.0], [1.0], 1.0, 3), r"target must be in \(0, 1\)"),
    ],
)
def test_a_choice_out_of_range_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
