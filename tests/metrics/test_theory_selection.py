"""The exponent of selection, fitness and projections, on counts whose truth is known."""

import numpy as np
import pytest

from tailkeep.metrics import (
    CountHistory,
    CountMoments,
    Migration,
    SelectionKernel,
    copy_extinction,
    fit_selection,
    mean_training_counts,
    posterior_fitness,
    project_counts,
    survival,
)

TRUTH = SelectionKernel(intercept=-0.2, exponent=1.12)
ZIPF = np.rint(400 / np.arange(1, 2001) ** 0.9).clip(1)


def sample_moments(kernel, counts, rng, *, groups=10, fitness=1.0):
    """Moments of written counts of items, each split evenly at random over groups of documents."""
    text = project_counts(CountHistory(counts), [kernel], Migration(), rng, fitness=fitness)[0]
    by_group = rng.multinomial(text, np.full(groups, 1 / groups))
    values, index = np.unique(counts, return_inverse=True)
    sums = np.zeros((len(values), groups))
    np.add.at(sums, index, by_group)
    return CountMoments(
        values,
        np.bincount(index).astype(float),
        sums,
        np.bincount(index, text.astype(float) ** 2),
    )


def test_the_exponent_is_recovered_and_its_interval_covers_it():
    rng = np.random.default_rng(0)
    fits = [fit_selection(sample_moments(TRUTH, ZIPF, rng)) for _ in range(60)]
    assert np.mean([fit.kernel.exponent for fit in fits]) == pytest.approx(TRUTH.exponent, abs=0.01)
    assert np.mean([fit.kernel.intercept for fit in fits]) == pytest.approx(TRUTH.intercept, abs=0.02)
    inside = [low <= TRUTH.exponent <= high for low, high in (fit.exponent_interval for fit in fits)]
    assert np.mean(inside) > 0.85


@pytest.mark.parametrize("groups", [2, 10])
def test_the_interval_of_the_exponent_covers_95_percent_whatever_the_number_of_groups(groups):
    # Bursts of four words in one document; normal quantiles cover 72 and 91 %.
    rng, values, index = np.random.default_rng(9), *np.unique(ZIPF, return_inverse=True)
    inside = []
    for _ in range(300):
        by_group = 4 * rng.poisson(np.tile(TRUTH.mean(ZIPF)[:, None] / 4 / groups, groups))
        sums, totals = np.zeros((len(values), groups)), by_group.sum(axis=1).astype(float)
        np.add.at(sums, index, by_group)
        types, squares = np.bincount(index).astype(float), np.bincount(index, totals**2)
        shares = by_group.sum(axis=0) / by_group.sum()
        fit = fit_selection(CountMoments(values, types, sums, squares, 1.0, shares))
        inside.append(fit.exponent_interval[0] <= TRUTH.exponent <= fit.exponent_interval[1])
    assert 0.92 < np.mean(inside) <= 0.99


def test_groups_without_text_do_not_narrow_the_interval():
    moments = sample_moments(TRUTH, ZIPF, np.random.default_rng(10), groups=3)
    empty = np.pad(moments.sums, ((0, 0), (0, 7)))
    shares = np.array([1 / 3] * 3 + [0.0] * 7)
    padded = CountMoments(moments.counts, moments.types, empty, moments.squares, 1.0, shares)
    assert fit_selection(padded).exponent_interval == pytest.approx(fit_selection(moments).exponent_interval)
    one = CountMoments(moments.counts, moments.types, empty[:, 2:], moments.squares, 1.0, shares[2:])
    with pytest.raises(ValueError, match=r"at least 2 groups of documents, got 1\. Give more documents"):
        fit_selection(one)


def test_drift_alone_has_exponent_one_also_where_words_come_in_bursts():
    rng = np.random.default_rng(1)
    fits = [fit_selection(sample_moments(SelectionKernel(dispersion=3.0), ZIPF, rng)) for _ in range(40)]
    assert np.mean([fit.kernel.exponent for fit in fits]) == pytest.approx(1, abs=0.01)


def test_a_shorter_text_moves_nothing_once_its_size_is_known():
    rng = np.random.default_rng(2)
    moments = sample_moments(SelectionKernel(intercept=TRUTH.intercept + np.log(0.5), exponent=1.12), ZIPF, rng)
    half = CountMoments(moments.counts, moments.types, moments.sums, moments.squares, exposure=0.5)
    assert fit_selection(half).kernel.intercept == pytest.approx(TRUTH.intercept, abs=0.08)


def test_frequent_words_do_not_decide_the_exponent():
    rng = np.random.default_rng(3)
    moments = sample_moments(TRUTH, ZIPF, rng)
    loud = np.where((moments.counts > 100)[:, None], 50 * moments.sums, moments.sums)
    other = CountMoments(moments.counts, moments.types, loud, moments.squares)
    assert fit_selection(other).kernel == fit_selection(moments).kernel


def test_an_exponent_that_the_counts_do_not_tell_is_refused():
    """Items of one count alone were written, in all groups or in all but one: the likelihood has no maximum."""
    counts, types, squares = np.array([1.0, 2.0]), np.array([50.0, 20.0]), np.zeros(2)
    only_once, one_group = np.zeros((2, 10)), np.zeros((2, 10))
    only_once[0] = one_group[0] = 3
    one_group[1, 4] = 2
    for sums in (only_once, only_once[::-1], one_group):
        with pytest.raises(ValueError, match="too little for an exponent"):
            fit_selection(CountMoments(counts, types, sums, squares))
    one_group[1, 5] = 1
    assert np.isfinite(fit_selection(CountMoments(counts, types, one_group, squares)).exponent_interval).all()


def test_the_variance_of_fitness_is_told_from_bursts():
    rng = np.random.default_rng(4)
    kernel = SelectionKernel(dispersion=2.0)
    equal = [fit_selection(sample_moments(kernel, ZIPF, rng), dispersion=2.0) for _ in range(30)]
    assert np.mean([fit.kernel.fitness_variance for fit in equal]) < 0.05
    unequal = [
        fit_selection(sample_moments(kernel, ZIPF, rng, fitness=rng.gamma(2, 0.5, len(ZIPF))), dispersion=2.0)
        for _ in range(30)
    ]
    assert np.mean([fit.kernel.fitness_variance for fit in unequal]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("exposure", [0.5, 1.0, 2.0])
def test_the_posterior_of_fitness_is_calibrated_in_texts_of_any_size(exposure):
    rng = np.random.default_rng(5)
    kernel = SelectionKernel(fitness_variance=0.5)
    trained = rng.integers(1, 30, 100_000).astype(float)
    fitness = rng.gamma(2, 0.5, len(trained))
    history = CountHistory(trained)
    text = project_counts(history, [kernel], Migration(), rng, fitness=fitness, exposures=[exposure])[0]
    shapes, scales = posterior_fitness(kernel, trained, text, exposure=exposure)
    for low, high in ((0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 9.0)):
        inside = (shapes * scales >= low) & (shapes * scales < high)
        assert fitness[inside].mean() == pytest.approx((shapes * scales)[inside].mean(), rel=0.03)


def test_selection_removes_the_rare_and_spares_the_frequent():
    rng = np.random.default_rng(6)
    kernel = SelectionKernel(intercept=-0.5, exponent=1.2)
    assert kernel.mean(1) < 1 < kernel.mean(100) / 100
    assert kernel.mean(500) / 500 == pytest.approx(float(kernel.mean(100)) / 100)
    assert kernel.mean(5000) == 5000
    alive = project_counts(CountHistory(np.full(20_000, 2.0)), [kernel] * 4, Migration(), rng) > 0
    assert alive.mean(axis=1)[-1] < survival(2, copy_extinction(4)[-1]) - 0.1


def test_no_item_outgrows_the_text_however_fit_it_is():
    # Ten times as many in each round would be 10^30 after thirty, more than a Poisson number holds.
    rng, fitness = np.random.default_rng(11), np.array([10.0, 0.1])
    counts = project_counts(CountHistory(np.full(2, 50.0)), [SelectionKernel()] * 30, Migration(), rng, fitness=fitness)
    assert 500 < counts[-1, 0] < 2000
    assert counts[-1, 1] == 0


def test_shrinking_a_kernel_to_nothing_leaves_drift():
    assert TRUTH.shrunk(0.0) == SelectionKernel()
    assert TRUTH.shrunk(1.0) == TRUTH


@pytest.mark.parametrize("exposure", [0.3, 1.0, 1.5])
@pytest.mark.parametrize("migration", [
    Migration(), Migration("mix"), Migration("mix", 0.3), Migration("weighted", 0.3), Migration("accumulate"),
    Migration("accumulate_subsample"),
], ids=str)  # fmt: skip
def test_a_training_set_has_as_many_tokens_as_the_real_text_whatever_the_size_of_the_texts(migration, exposure):
    rng = np.random.default_rng(12)
    real = np.full(20_000, 10.0)
    # The text before was of another size.
    sizes = [0.6, exposure]
    texts = tuple(rng.poisson(size * real).astype(float) for size in sizes)
    trained = mean_training_counts(CountHistory(real, texts), migration, sizes)
    assert trained.mean() == pytest.approx(10, rel=0.01)
    # A projection draws what is expected.
    history = CountHistory(real, texts)
    later = project_counts(history, [SelectionKernel()] * 4, migration, rng, exposures=sizes)
    assert later[0].mean() == pytest.approx(exposure * trained.mean(), rel=0.01)
    assert later[-1].mean() == pytest.approx(exposure * 10, rel=0.02)


def test_training_counts_are_those_of_the_regime():
    history = CountHistory(np.array([4.0]), (np.array([2.0]), np.array([0.0])))
    expected = {"replace": 0.0, "accumulate": 2.0, "accumulate_subsample": 2.0, "regenerate": 0.0}
    assert {name: mean_training_counts(history, Migration(name))[0] for name in expected} == expected
    assert mean_training_counts(history, Migration("mix", 0.25))[0] == 1.0
    assert mean_training_counts(CountHistory(np.array([4.0])), Migration("mix", 0.25))[0] == 4.0


def test_a_projection_goes_on_from_the_texts_that_were_measured():
    rng = np.random.default_rng(7)
    measured = CountHistory(np.full(20_000, 5.0), (np.full(20_000, 1.0),))
    alive = project_counts(measured, [SelectionKernel()] * 2, Migration(), rng) > 0
    assert alive.mean(axis=1) == pytest.approx(survival(1, copy_extinction(2)[1:]), abs=0.02)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda m: fit_selection(CountMoments(m.counts, m.types, m.sums[:, :1], m.squares)), "at least 2 gr"),
        (lambda m: fit_selection(m.between(5, 5)), "too little for an exponent. Give more text"),
        (lambda m: fit_selection(CountMoments(m.counts, m.types, 0 * m.sums, m.squares)), "written 0 times"),
        (lambda m: posterior_fitness(SelectionKernel(), m.counts, m.counts), "fitness 1"),
    ],
)
def test_too_little_to_fit_is_refused(build, message):
    moments = sample_moments(TRUTH, ZIPF, np.random.default_rng(8))
    with pytest.raises(ValueError, match=message):
        build(moments)
