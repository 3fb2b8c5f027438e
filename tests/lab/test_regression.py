"""Linear regression on its own labels, against its closed forms and an exact recursion of covariances."""

import numpy as np
import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.loop import phase_seed
from tailkeep.lab.regimes import Accumulate, Replace, Revise, Stage
from tailkeep.lab.regression import LabelData, LeastSquares, LinearFit, LinearWorld, RegressionArm, build
from tailkeep.metrics import accumulated_error, error_unit, replaced_error, wide_edit_error
from tests.runs.faults import FaultyStorage

REPLACE, ACCUMULATE = Replace(name="replace"), Accumulate(name="accumulate")
SMALL = LinearWorld(size=20, width=4, chains=50)


def revise(subset, share, factor=1.0):
    return Revise(name="revise", subset=subset, share=share, factor=factor)


def recursion(learner, real, regime, generations):
    """The model of each generation, and its training set."""
    history, models, sets = {}, [], []
    for generation in range(generations):
        if generation:
            stage = Stage(generation, real, lambda: sets[-1], models[-1])
            history[generation] = regime.generate(stage, seed=1000 + generation)
        sets.append(regime.mix(generation, real, history, seed=0))
        previous = models[-1] if models else None
        models.append(learner.fit(sets[-1], seed=0, budget=len(real), previous=previous))
    return models, sets


def errors(regime, *, generations, size=100, width=10, chains=250, drop=0.0):
    """The measured test error of each generation, in units, and its Monte-Carlo error; no theory beside it."""
    world = LinearWorld(size=size, width=width, chains=chains, noise=2.0)
    experiment = build(RegressionArm(learner="regression", data=world, regime=regime, drop=drop), seed=3)
    models, _ = recursion(experiment.learner, experiment.real, regime, generations)
    metrics = [experiment.measure(model, {}).metrics for model in models]
    return [row["test_error"] for row in metrics], [row["test_error_se"] for row in metrics]


# One fit


def test_a_fit_is_numpys_least_squares_lineage_by_lineage():
    experiment = build(RegressionArm(learner="regression", data=SMALL), seed=0)
    fit = experiment.learner.fit(experiment.real, seed=0, budget=20)
    for chain in (0, 7):
        design = experiment.learner.design[chain]
        expected = np.linalg.lstsq(design, experiment.real.values[:, chain], rcond=None)[0]
        assert fit.coefficients[chain] == pytest.approx(expected)


def test_a_row_with_two_labels_counts_twice_and_one_without_none():
    design = np.random.default_rng(0).standard_normal((1, 6, 2))
    rows = np.array([0, 0, 1, 2, 3])
    labels = LabelData(np.arange(5.0)[:, None], rows)
    fit = LeastSquares(design, 1.0).fit(labels, seed=0, budget=5)
    expected = np.linalg.lstsq(design[0][rows], np.arange(5.0), rcond=None)[0]
    assert fit.coefficients[0] == pytest.approx(expected)


def test_truncation_leaves_out_the_labels_nearest_to_the_plain_fit():
    experiment = build(RegressionArm(learner="regression", data=SMALL), seed=0)
    design, values = experiment.learner.design[0], experiment.real.values[:, 0]
    plain = np.linalg.lstsq(design, values, rcond=None)[0]
    remaining = np.argsort(np.abs(values - design @ plain))[5:]
    truncated = LeastSquares(experiment.learner.design, 1.0, drop=0.25).fit(experiment.real, seed=0, budget=20)
    assert truncated.coefficients[0] == pytest.approx(
        np.linalg.lstsq(design[remaining], values[remaining], rcond=None)[0]
    )
    assert truncated.facts["dropped_share"] == 0.25


def test_labels_without_noise_are_fitted_exactly():
    design, truth, _ = SMALL.draw(0)
    labels = LabelData(LinearFit(truth, 0, design, 0.0).predict(), np.arange(20))
    assert LeastSquares(design, 0.0).fit(labels, seed=0, budget=20).coefficients == pytest.approx(truth)


# The recursion


def test_replacing_adds_one_unit_a_generation():
    measured, error = errors(REPLACE, generations=11)
    for generation in (0, 1, 5, 10):
        assert abs(measured[generation] - replaced_error(generation)) < 5 * error[generation]


def test_accumulating_is_the_sum_of_inverse_squares():
    measured, error = errors(ACCUMULATE, generations=11)
    for generation in (0, 1, 5, 10):
        assert abs(measured[generation] - accumulated_error(generation)) < 5 * error[generation]


REVISIONS = [
    revise("disjoint", 0.25),
    revise("disjoint", 0.4, 0.5),
    revise("overlapping", 0.25),
    revise("overlapping", 0.5, 0.5),
    revise("anchored", 0.25),
]


@pytest.mark.parametrize("regime", REVISIONS, ids=lambda r: f"{r.subset}-{r.factor}")
def test_edits_follow_the_covariances_of_the_labels_exactly(regime):
    rows, width, chains, generations = 20, 4, 4000, 5
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, width))
    learner = LeastSquares(np.broadcast_to(x, (chains, rows, width)), 1.0)
    real = LabelData(rng.standard_normal((rows, chains)), np.arange(rows))
    models, sets = recursion(learner, real, regime, generations)
    # Label noise y' = (1 - M) base + M (P y + e), so its covariance, and that with the real noise, follow in turn.
    inverse = np.linalg.pinv(x)
    project = x @ inverse
    covariance, shared = np.eye(rows), np.eye(rows)
    for generation in range(1, generations):
        base = real.values if regime.subset == "anchored" else sets[generation - 1].values
        edited = np.diag((sets[generation].values != base).all(axis=1).astype(float))
        unedited = np.eye(rows) - edited
        if regime.subset == "anchored":
            step = edited @ project
            cross = step @ shared @ unedited
            covariance = step @ covariance @ step.T + unedited + cross + cross.T + edited
            shared = step @ shared + unedited
        else:
            step = unedited + edited @ project
            covariance = step @ covariance @ step.T + edited
        squares = (models[generation].coefficients ** 2).sum(axis=1)
        expected = np.trace(inverse @ covariance @ inverse.T)
        assert abs(squares.mean() - expected) < 5 * squares.std() / np.sqrt(chains)


@pytest.mark.parametrize("regime", REVISIONS, ids=lambda r: f"{r.subset}-{r.factor}")
def test_with_many_rows_edits_cost_what_the_closed_form_says(regime):
    measured, error = errors(regime, generations=5, size=400, width=2, chains=300)
    expected = wide_edit_error(regime.shares(4), regime.subset)
    # With d / T = 1/200 the closed form is within 2 % of the recursion.
    assert abs(measured[4] - expected) < 5 * error[4] + 0.02 * expected


@pytest.mark.parametrize(
    ("regime", "generation", "low", "high"),
    [
        (revise("disjoint", 0.05), 20, 3.45, 3.75),
        (revise("disjoint", 0.025), 20, 2.0, 2.2),
        (revise("overlapping", 0.27), 20, 8.9, 9.7),
        (revise("overlapping", 0.125, 0.5), 20, 1.38, 1.54),
        (revise("anchored", 0.27), 20, 1.4, 1.5),
    ],
    ids=["disjoint-100", "disjoint-50", "overlapping-27", "decaying-0.5", "anchored-27"],
)
def test_the_known_figures_come_out(regime, generation, low, high):
    measured, error = errors(regime, generations=generation + 1)
    assert low - 4 * error[-1] < measured[-1] < high + 4 * error[-1]


def test_disjoint_edits_of_everything_pass_the_published_bound():
    measured, error = errors(revise("disjoint", 0.1), generations=11)
    assert measured[-1] - 5 * error[-1] > 2


# What it is made of


def test_what_is_written_has_the_rows_asked_for_and_the_noise_of_the_world():
    design, truth, _ = LinearWorld(chains=200, noise=3.0).draw(0)
    fit = LinearFit(truth, 0, design, 3.0)
    labels = fit.sample(250, seed=5)
    assert labels.rows.tolist() == [*range(100), *range(100), *range(50)]
    again = fit.regenerate(labels.take(np.array([3, 1])), seed=5)
    assert again.rows.tolist() == [3, 1]
    noise = labels.values - fit.predict()[labels.rows]
    assert noise.std() == pytest.approx(3.0, rel=5 / np.sqrt(2 * noise.size))
    assert labels.values.tobytes() == fit.sample(250, seed=5).values.tobytes()


def test_labels_come_back_from_their_folder_and_keep_their_rows(tmp_path):
    labels = LabelData(np.arange(12.0).reshape(6, 2), np.array([5, 4, 3, 2, 1, 0]))
    labels.save(tmp_path)
    again = labels.take(np.arange(0)).read(tmp_path)
    assert again.rows.tolist() == labels.rows.tolist()
    assert again.values.tobytes() == labels.values.tobytes()
    parts = labels.split(4)
    assert [len(part) for part in parts] == [2, 2, 1, 1]
    assert parts[0].concat(*parts[1:]).rows.tolist() == labels.rows.tolist()
    assert labels.units == 6


def test_a_saved_fit_writes_the_same_labels_and_knows_its_generation(tmp_path):
    experiment = build(RegressionArm(learner="regression", data=SMALL), seed=0)
    first = experiment.learner.fit(experiment.real, seed=0, budget=20)
    second = experiment.learner.fit(first.sample(20, seed=1), seed=0, budget=20, previous=first)
    second.save(tmp_path)
    again = experiment.learner.load(tmp_path)
    assert again.generation == 1
    assert again.sample(9, seed=1).values.tobytes() == second.sample(9, seed=1).values.tobytes()
    assert again.facts == second.facts


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_generation_writes_with_the_noise_of_the_real_labels(seed):
    design, truth, noise = SMALL.draw(seed)
    nothing = LinearFit(np.zeros_like(truth), 0, design, 1.0)
    for generation in range(1, 5):
        labels = nothing.sample(20, seed=phase_seed(seed, generation, "generate"))
        # 1,000 pairs: the standard error of a correlation is 0.032.
        assert abs(np.corrcoef(labels.values.ravel(), noise.ravel())[0, 1]) < 0.16


def test_a_truncated_generation_runs_and_has_no_theory_beside_it(tmp_path):
    config = {
        "learner": "regression",
        "generations": 2,
        "drop": 0.2,
        "data": {"size": 20, "width": 3, "chains": 4},
        "arms": {"replace": {}, "anchored": {"regime": {"name": "revise", "subset": "anchored", "share": 0.5}}},
    }
    run = lab.run(config, tmp_path, storage=FaultyStorage())
    metrics = run.generation_dir("replace", 0, 1).metrics()["metrics"]
    assert metrics["dropped_share"] == 0.2
    assert metrics["test_error"] > 0
    assert "test_error_theory" not in metrics


def test_a_measure_says_what_the_papers_say_of_each_regime():
    metrics = {}
    for regime in (REPLACE, ACCUMULATE, revise("disjoint", 0.05), revise("overlapping", 0.1, 0.25)):
        experiment = build(RegressionArm(learner="regression", data=SMALL, regime=regime), seed=0)
        fit = LinearFit(
            experiment.learner.fit(experiment.real, seed=0, budget=1).coefficients, 4, experiment.learner.design, 1.0
        )
        metrics[regime.name + str(regime.model_dump().get("factor", ""))] = experiment.measure(fit, {}).metrics
    assert metrics["replace"]["test_error_theory"] == 5
    assert metrics["replace"]["closed_form_ratio"] == pytest.approx(metrics["replace"]["test_error"] / 5)
    assert (
        metrics["accumulate"]["test_error_theory"] == metrics["accumulate"]["test_error_exact"] == accumulated_error(4)
    )
    assert "bound_ratio" not in metrics["accumulate"]
    assert metrics["revise1.0"]["test_error_theory"] == pytest.approx(1.2)
    assert metrics["revise1.0"]["test_error_bound"] == 2
    wide = wide_edit_error([0.05] * 4, "disjoint")
    assert metrics["revise1.0"]["closed_form_ratio"] == pytest.approx(metrics["revise1.0"]["test_error"] / wide)
    assert "test_error_exact" not in metrics["revise1.0"]
    assert metrics["revise1.0"]["bound_ratio"] == metrics["revise1.0"]["test_error"] / 2
    # eta = .5; E tr (X'X)^-2 = 4 * 19 / (16 * 15 * 13), T share = 2, unit = 4 / 15.
    bound = 1 + np.sqrt(4 * 19 / (16 * 15 * 13)) * np.sqrt(2) / 0.5 / error_unit(20, 4)
    assert metrics["revise0.25"]["test_error_bound"] == 2
    assert metrics["revise0.25"]["test_error_decay_bound"] == pytest.approx(bound)
    assert metrics["revise0.25"]["decay_bound_ratio"] == pytest.approx(metrics["revise0.25"]["test_error"] / bound)
    assert "test_error_decay_bound" not in metrics["revise1.0"]


# Refusals


@pytest.mark.parametrize(("size", "width"), [(11, 10), (10, 10), (2, 10)])
def test_as_many_coefficients_as_rows_are_one_clear_error(size, width):
    with pytest.raises(ConfigError, match=rf"size {size} and width {width}.*Use a size of width \+ 2 = 12 or more"):
        lab.load({"learner": "regression", "data": {"size": size, "width": width}})


def test_a_drop_that_leaves_fewer_labels_than_coefficients_is_an_error_before_a_folder_is_made(tmp_path):
    config = {"learner": "regression", "drop": 0.9, "data": {"size": 20, "width": 4}}
    with pytest.raises(InputError, match=r"4 coefficients need labels of at least 4 rows, got 2\..*a smaller drop"):
        lab.run(config, tmp_path / "run", storage=FaultyStorage())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(drop):
    with pytest.raises(ConfigError, match="drop"):
        lab.load({"learner": "regression", "drop": drop})
