"""The Gaussian recursion against its closed forms (ForTIFAI, arXiv 2509.08972, section on theory)."""

import numpy as np
import pytest
from scipy.stats import norm

from tailkeep.errors import ConfigError, TrainingError
from tailkeep.lab import load
from tailkeep.lab.gaussian import (
    DensityTruncation,
    GaussianArm,
    GaussianLearner,
    GaussianModel,
    RelativeTruncation,
    build,
)
from tailkeep.lab.toy_data import ArrayData, NormalWorld
from tailkeep.metrics import accumulated_variance, balanced_width, median_variance, variance_growth

BASELINE = GaussianLearner(None)


def density(threshold):
    return GaussianLearner(DensityTruncation(name="density", threshold=threshold))


def relative(width):
    return GaussianLearner(RelativeTruncation(name="relative", width=width))


def fit(learner, data, *, seed=0):
    return learner.fit(data, seed=seed, budget=len(data))


def normal(n, chains, *, std=1.0, seed=0):
    return NormalWorld(std=std, size=n, chains=chains).draw(seed)


def widths(learner, *, n, chains, generations):
    """The standard deviations (generations, chains) when each model is fitted to its predecessor's n samples."""
    model = fit(learner, normal(n, chains))
    stds = [model.std]
    for generation in range(1, generations):
        model = fit(learner, model.sample(n, seed=generation))
        stds.append(model.std)
    return np.array(stds)


# One fit


def test_the_baseline_fit_is_maximum_likelihood_lineage_by_lineage():
    model = fit(BASELINE, ArrayData(np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])))
    assert model.mean == pytest.approx([3.0, 2.0])
    assert model.std == pytest.approx([np.sqrt(8 / 3), np.sqrt(8)])


@pytest.mark.parametrize("width", [0.01, 0.1, 0.5, 1.0, 2.0])
def test_a_relative_cut_multiplies_the_variance_by_eta(width):
    eta = 1 + width * norm.pdf(width) / norm.sf(width)
    model = fit(relative(width), normal(400_000, 2, std=3.0))
    # 800,000 values, of which the widest cut leaves 5 %: the standard error is at most sqrt(2 / 36,000), 0.75 %.
    assert (model.std**2).mean() / 9 == pytest.approx(eta, rel=0.02)
    assert model.facts["dropped_share"] == pytest.approx(1 - 2 * norm.sf(width), abs=0.003)
    assert model.facts["cut_growth"] == pytest.approx(variance_growth(width), rel=0.02)


def test_a_density_cut_does_nothing_while_the_peak_is_below_the_threshold():
    data = normal(1000, 4, std=0.5)
    threshold = norm.pdf(0) / data.values.std(axis=0).min()
    plain, cut = fit(BASELINE, data), fit(density(threshold * (1 + 1e-9)), data)
    # Masked sums add in another order than numpy's mean, so equality is up to rounding.
    assert cut.std == pytest.approx(plain.std, rel=1e-12)
    assert cut.mean == pytest.approx(plain.mean, rel=1e-12, abs=1e-15)
    assert cut.facts["dropped_share"] == 0
    assert fit(density(threshold * 0.98), data).facts["dropped_share"] > 0


def test_a_density_cut_drops_exactly_the_values_above_the_threshold():
    data = normal(500, 1, std=0.2)
    mean, std = data.values.mean(), data.values.std()
    remaining = data.values[norm.pdf(data.values, mean, std) <= 0.85]
    model = fit(density(0.85), data)
    assert 0 < len(remaining) < 500
    assert model.mean[0] == pytest.approx(remaining.mean())
    assert model.std[0] == pytest.approx(remaining.std())
    assert model.facts["dropped_share"] == pytest.approx(1 - len(remaining) / 500)


def test_a_lineage_that_would_lose_every_value_keeps_its_two_most_distant_ones():
    values = np.array([[-1e-9, -3.0], [0.0, 0.1], [1e-9, 0.2], [2e-9, 4.0]])
    model = fit(density(0.85), ArrayData(values))
    assert model.facts["guarded_share"] == 0.5
    assert model.mean[0] == pytest.approx((-1e-9 + 2e-9) / 2)
    assert model.std[0] == pytest.approx(1.5e-9)
    assert model.std[1] == pytest.approx(values[:, 1].std())


@pytest.mark.parametrize("learner", [BASELINE, density(0.85), relative(0.5)])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e-300])
def test_a_width_of_zero_neither_warns_nor_dies(learner, value):
    model = fit(learner, ArrayData(np.full((10, 3), value)))
    assert model.std == pytest.approx([0, 0, 0], abs=1e-15)
    again = fit(learner, model.sample(10, seed=1))
    assert np.isfinite(again.mean).all()
    world = NormalWorld(chains=3)
    config = GaussianArm(learner="gaussian", data=world)
    measured = build(config, seed=0).measure(model, {}).metrics
    assert measured["std_median"] == pytest.approx(0, abs=1e-15)
    assert measured["kl_model_real_median"] > 30


def test_a_fit_beyond_the_largest_float_is_one_clear_error():
    with pytest.raises(TrainingError, match=r"no longer finite.*smaller truncate\.width"):
        fit(relative(1.0), ArrayData(np.array([[-1e300], [1e300], [0.0]])))


# The recursion


def test_the_expected_variance_falls_by_n_minus_one_over_n_each_generation():
    variances = widths(BASELINE, n=20, chains=4000, generations=11) ** 2
    for generation in (0, 4, 10):
        expected = (19 / 20) ** (generation + 1)
        error = variances[generation].std() / np.sqrt(4000)
        assert abs(variances[generation].mean() - expected) < 5 * error


@pytest.mark.parametrize(
    ("learner", "expected"),
    [
        (BASELINE, 0.37),
        (density(0.85), 0.575),
        (density(0.99), 0.49),
        (density(0.5), 0.97),
        (density(0.42), 1.15),
    ],
    ids=["baseline", "0.85", "0.99", "0.5", "0.42"],
)
def test_the_median_width_at_generation_100_is_the_known_one(learner, expected):
    median = np.median(widths(learner, n=100, chains=600, generations=101)[-1])
    # ln std wanders by sqrt(100 / 200) in the plain recursion: the median's standard error is 3.6 %, less with a floor.
    assert median == pytest.approx(expected, rel=0.11 if learner is BASELINE else 0.04)


def test_a_density_threshold_holds_its_floor_where_the_plain_width_is_gone():
    plain = widths(BASELINE, n=50, chains=100, generations=400)
    truncated = widths(density(0.85), n=50, chains=100, generations=400)
    assert np.median(plain[-1]) < 0.05
    assert np.median(truncated[-1]) == pytest.approx(np.median(truncated[200]), rel=0.1)
    assert np.median(truncated[-1]) > norm.pdf(0) / 0.85


def test_accumulated_data_keep_the_width():
    data = normal(100, 200)
    pool = data
    for generation in range(100):
        model = fit(BASELINE, pool)
        pool = pool.concat(model.sample(100, seed=generation + 1))
    assert 0.85 < np.median(model.std) < 1.0


# What it is made of


def test_samples_have_the_models_mean_and_width():
    model = GaussianModel(np.array([-5.0, 2.0]), np.array([0.5, 3.0]))
    values = model.sample(40_000, seed=3).values
    assert values.mean(axis=0) == pytest.approx(model.mean, abs=5 * 3 / 200)
    assert values.std(axis=0) == pytest.approx(model.std, rel=5 / np.sqrt(80_000))
    assert model.sample(7, seed=3).values.tobytes() == model.sample(7, seed=3).values.tobytes()


def test_a_rewriting_has_as_many_values_as_what_it_rewrites():
    model = GaussianModel(np.zeros(3), np.ones(3))
    assert model.regenerate(normal(7, 3), seed=0).values.shape == (7, 3)


def test_a_saved_model_writes_the_same_samples(tmp_path):
    model = fit(density(0.85), normal(30, 5, std=0.3))
    model.save(tmp_path)
    again = density(0.85).load(tmp_path)
    assert again.sample(9, seed=1).values.tobytes() == model.sample(9, seed=1).values.tobytes()
    assert again.facts == model.facts


def test_the_measure_of_the_true_model_is_no_divergence_at_all():
    config = GaussianArm(learner="gaussian", data=NormalWorld(mean=2.0, std=3.0, chains=4))
    experiment = build(config, seed=0)
    measured = experiment.measure(GaussianModel(np.full(4, 2.0), np.full(4, 3.0)), {})
    assert measured.metrics["kl_model_real_median"] == pytest.approx(0, abs=1e-12)
    assert measured.metrics["std_median"] == measured.metrics["std_low"] == 3.0
    assert measured.metrics["variance_mean"] == pytest.approx(9.0)
    assert measured.metrics["mean_abs_median"] == 0
    assert measured.tables["density"]["model"] == measured.tables["density"]["real"]


def test_a_model_without_width_has_no_finite_divergence():
    experiment = build(GaussianArm(learner="gaussian"), seed=0)
    assert experiment.measure(GaussianModel(np.zeros(3), np.zeros(3)), {}).metrics["kl_model_real_median"] == np.inf


@pytest.mark.parametrize(
    ("truncate", "message"),
    [
        ({"name": "density", "threshold": 0}, r"truncate\.threshold: .*greater than 0 \(received 0\)"),
        ({"name": "density", "threshold": -1}, r"truncate\.threshold"),
        ({"name": "relative", "width": 0}, r"truncate\.width: .*greater than 0"),
        ({"name": "relative", "threshold": 0.5}, r"unknown key 'truncate\.threshold'"),
        ({"name": "densty"}, r"'densty' is unknown\. Did you mean 'density'"),
    ],
)
def test_a_cut_that_cannot_be_used_is_refused_with_its_key(truncate, message):
    with pytest.raises(ConfigError, match=message):
        load({"learner": "gaussian", "truncate": truncate})


def test_a_density_threshold_above_one_is_a_density_like_any_other():
    assert load({"learner": "gaussian", "truncate": {"name": "density", "threshold": 1.5}}).arms


# Theory beside the numbers


def measured(config, model):
    return build(config, seed=0).measure(model, {}).metrics


def test_a_saved_model_knows_its_generation(tmp_path):
    first = fit(BASELINE, normal(30, 5))
    second = BASELINE.fit(first.sample(30, seed=1), seed=0, budget=30, previous=first)
    second.save(tmp_path)
    assert (first.generation, second.generation, BASELINE.load(tmp_path).generation) == (0, 1, 1)


def test_a_plain_arm_has_the_closed_forms_of_mean_and_median_beside_it():
    config = GaussianArm(learner="gaussian", data=NormalWorld(size=50, std=3.0, chains=2))
    metrics = measured(config, GaussianModel(np.zeros(2), np.ones(2), generation=4))
    assert metrics["variance_mean_theory"] == pytest.approx(9 * (49 / 50) ** 5)
    assert metrics["std_theory"] == pytest.approx(3 * np.sqrt(median_variance(50, 4)))


def test_a_relative_cut_multiplies_both_by_eta():
    cut = RelativeTruncation(name="relative", width=0.2)
    config = GaussianArm(learner="gaussian", data=NormalWorld(size=50, chains=2), truncate=cut)
    metrics = measured(config, GaussianModel(np.zeros(2), np.ones(2), generation=1))
    assert metrics["variance_mean_theory"] == pytest.approx((49 / 50 * variance_growth(0.2)) ** 2)
    assert metrics["std_theory"] == pytest.approx(np.sqrt(median_variance(50, 1)) * variance_growth(0.2))


def test_relative_truncation_has_eta_beside_its_measured_growth_and_no_other_has():
    for cut, beside in (
        (RelativeTruncation(name="relative", width=0.5), True),
        (DensityTruncation(name="density"), False),
    ):
        config = GaussianArm(learner="gaussian", data=NormalWorld(chains=2), truncate=cut)
        metrics = measured(config, GaussianModel(np.zeros(2), np.ones(2)))
        assert metrics.get("cut_growth_theory") == (variance_growth(0.5) if beside else None)


def test_monte_carlo_errors_are_the_spread_of_repeated_measures():
    config = GaussianArm(learner="gaussian", data=NormalWorld(chains=400))
    widths_of = np.random.default_rng(0).lognormal(sigma=0.5, size=(600, 400))
    metrics = [measured(config, GaussianModel(np.zeros(400), std)) for std in widths_of]
    for name in ("variance_mean", "std_median"):
        spread = np.std([row[name] for row in metrics])
        reported = np.mean([row[f"{name}_se"] for row in metrics])
        # 600 repetitions know their own spread to 3 %; the order statistics are a little wide.
        assert reported == pytest.approx(spread, rel=0.15)


def test_a_single_lineage_has_no_monte_carlo_error():
    config = GaussianArm(learner="gaussian", data=NormalWorld(chains=1))
    assert not {"variance_mean_se", "std_median_se"} & measured(config, GaussianModel(np.zeros(1), np.ones(1))).keys()


def test_a_density_cut_has_its_floor_and_accumulation_its_mean():
    cut = DensityTruncation(name="density", threshold=0.85)
    floor_metrics = measured(GaussianArm(learner="gaussian", truncate=cut), GaussianModel(np.zeros(2), np.ones(2)))
    assert floor_metrics["std_theory"] == pytest.approx(norm.pdf(0) / 0.85)
    assert "variance_mean_theory" not in floor_metrics
    both = GaussianArm(learner="gaussian", truncate=cut, regime={"name": "accumulate"})
    assert not {"std_theory", "variance_mean_theory"} & measured(both, GaussianModel(np.zeros(2), np.ones(2))).keys()
    accumulating = GaussianArm(learner="gaussian", regime={"name": "accumulate"})
    metrics = measured(accumulating, GaussianModel(np.zeros(2), np.ones(2), generation=7))
    assert metrics["variance_mean_theory"] == accumulated_variance(100, 7)
    assert "std_theory" not in metrics


def test_the_mean_variance_of_accumulated_data_is_the_closed_form():
    pool = normal(20, 8000)
    for generation in range(6):
        model = fit(BASELINE, pool)
        variances = model.std**2
        error = variances.std() / np.sqrt(8000)
        assert abs(variances.mean() - accumulated_variance(20, generation)) < 5 * error
        pool = pool.concat(model.sample(20, seed=generation + 1))


@pytest.mark.parametrize("n", [20, 100])
def test_a_balanced_cut_holds_the_mean_variance(n):
    variances = widths(relative(balanced_width(n)), n=n, chains=8000, generations=11)[-1] ** 2
    error = variances.std() / np.sqrt(8000)
    # The balance is of first order: ten cuts of n values are off by about 10 / n².
    assert abs(variances.mean() - 1) < 5 * error + 15 / n**2
    assert np.median(variances) < 0.98
