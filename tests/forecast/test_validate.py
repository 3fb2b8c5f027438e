"""Scores on chains whose law is known, and what a laboratory run gives to score."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import TypeAdapter
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from forecast_chains import estimate_shrinkage, gate_rows

from tailkeep import lab
from tailkeep.cli import app
from tailkeep.errors import ConfigError, FingerprintError, InputError
from tailkeep.forecast import ForecastConfig, run_chains
from tailkeep.forecast import run as forecast_corpus
from tailkeep.forecast.counted_chains import CountedChain, count_chain
from tailkeep.forecast.counts import BANDS, GROUPS
from tailkeep.forecast.project import SHRINKAGE, MeasuredItems, Shrinkage, fit_round, forecast_survival
from tailkeep.forecast.validate import ForecastPoint, crps, is_validated, score_chain
from tailkeep.lab.causal_lm.config import AnyDecoder
from tailkeep.lab.chains import decoder_kind, read_chains, read_written
from tailkeep.metrics import CountHistory, Migration, SelectionKernel, project_counts
from tailkeep.runs.pack import write_pack

SAME_KERNEL = Shrinkage(mean=1.0, spread=0.0, rate_spread=0.0)
ZIPF = np.rint(600 / np.arange(1, 1501) ** 0.9).clip(1)


def simulated_chain(kernel, migration, seed, *, rounds=5, first=None):
    """Counts of items in a chain of the very process that forecasts assume; `first` is the kernel of round 1."""
    rng = np.random.default_rng(seed)
    kernels = [first or kernel, *[kernel] * (rounds - 1)]
    texts = project_counts(CountHistory(ZIPF), kernels, migration, rng)
    groups = [rng.multinomial(text, np.full(GROUPS, 1 / GROUPS)).astype(float) for text in texts]
    return CountedChain(
        f"{seed}", "simulated", "words", migration, migration.regime, "sampled", ZIPF, groups, [1.0] * rounds
    )


@pytest.mark.parametrize("migration", [Migration(), Migration("mix", 0.3), Migration("accumulate")], ids=str)
def test_intervals_hold_on_chains_of_the_very_process(migration):
    kernel = SelectionKernel(intercept=-0.2, exponent=1.1)
    points = [
        point
        for seed in range(6)
        for point in score_chain(simulated_chain(kernel, migration, seed), SAME_KERNEL, draws=60, seed=0)
    ]
    assert len(points) == 6 * 4 * (4 + 3)
    assert np.mean([point.covered(90) for point in points]) > 0.8
    assert np.mean([point.error for point in points]) < 0.03
    drift = np.mean([abs(point.rivals["drift"] - point.truth) for point in points])
    assert np.mean([point.error for point in points]) < drift


def test_the_shrinkage_of_the_first_round_is_recovered():
    kernel = SelectionKernel(intercept=-0.4, exponent=1.12)
    chains = [simulated_chain(kernel.shrunk(0.5), Migration(), seed, first=kernel) for seed in range(6)]
    mean, spread = estimate_shrinkage(chains)
    assert mean == pytest.approx(0.5, abs=0.1)
    assert spread < 0.2


def test_without_two_fitted_rounds_there_is_no_ratio():
    with pytest.raises(SystemExit, match="no chain has two rounds"):
        estimate_shrinkage([simulated_chain(SelectionKernel(), Migration(), 0, rounds=1)])


def test_a_median_does_not_hang_on_the_seed():
    pairs = simulated_chain(SelectionKernel(), Migration(), 0).pairs(1)
    items, fit = MeasuredItems.of(pairs, BANDS[0]), fit_round(pairs).fit
    medians = [
        np.median(
            forecast_survival(
                items, fit, Migration(), 9, shrinkage=SHRINKAGE, draws=200, rng=np.random.default_rng(seed)
            )[:, -1]
        )
        for seed in range(6)
    ]
    # Independent draws of the rate gave a range of 0.03 and more.
    assert np.ptp(medians) < 0.02


def test_items_of_a_longer_text_count_by_their_chance_to_be_in_as_many():
    real, written = np.array([1.0, 1.0, 2.0]), np.zeros((3, GROUPS))
    written[0, 0] = 3
    written[2, 1] = 5
    chain = CountedChain("c", "r", "pairs", Migration(), "replace", "sampled", real, [written], [2.0])
    assert chain.alive[0].tolist() == pytest.approx([1 - 0.5**3, 0, 1 - 0.5**5])


def test_longer_texts_do_not_bias_the_forecast_of_pairs():
    """A chain of the very process, whose texts are written 1.5 times as long: truth and forecast are of one size."""
    kernel, bias = SelectionKernel(), []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        texts = project_counts(CountHistory(ZIPF), [kernel] * 5, Migration(), rng)
        longer = [rng.poisson(1.5 * text) for text in texts]
        groups = [rng.multinomial(text, np.full(GROUPS, 1 / GROUPS)).astype(float) for text in longer]
        sizes = [float(text.sum() / ZIPF.sum()) for text in longer]
        chain = CountedChain(f"{seed}", "s", "pairs", Migration(), "replace", "sampled", ZIPF, groups, sizes)
        points = score_chain(chain, SAME_KERNEL, draws=60, seed=0)
        bias += [point.quantiles[2] - point.truth for point in points if (point.measured, point.ahead) == (1, 1)]
    assert np.mean(bias) == pytest.approx(0, abs=0.03)


def test_the_spread_of_rates_widens_the_forecast_and_keeps_its_middle():
    chain = simulated_chain(SelectionKernel(), Migration(), 0)
    widths = []
    for spread in (0.0, 0.5):
        shrinkage = Shrinkage(1.0, 0.0, spread)
        points = [point for point in score_chain(chain, shrinkage, draws=100, seed=0) if point.measured == 1]
        widths.append(np.mean([point.quantiles[4] - point.quantiles[0] for point in points]))
    assert widths[1] > 2 * widths[0]


def test_the_score_of_draws_is_that_of_a_known_law():
    # Of a standard normal at its median: 2 phi(0) - 1 / sqrt(pi) (Gneiting and Raftery 2007).
    draws = np.random.default_rng(0).standard_normal(200_000)
    assert crps(draws, 0.0) == pytest.approx(2 / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi), abs=5e-3)
    assert crps(np.array([0.3]), 0.5) == pytest.approx(0.2)


def invented_points(run, truth, *, number=1, middle=0.5, half=0.1, unchanged=0.9, drift=0.9):
    """`number` equal points: a forecast of `middle` with a 90 % interval of `half` to either side, and its rivals."""
    quantiles = (middle - half, middle - half / 2, middle, middle + half / 2, middle + half)
    rivals = {"unchanged": unchanged, "drift": drift}
    return [
        ForecastPoint(run, "arm", "words", "replace", "sampled", 1, 1, BANDS[0], 99, truth, quantiles, 0.0, rivals)
    ] * number


def test_the_gate_weighs_recipes_equally():
    points = invented_points("small", 0.5) + invented_points("large", 0.7, number=99)
    (row,) = gate_rows(points)
    assert (row.group, row.runs, row.points) == (("replaced", "sampled", 1), 2, 100)
    assert row.coverage_90 == 0.5
    assert (row.error, row.unchanged, row.drift) == pytest.approx((0.1, 0.3, 0.3))


@pytest.mark.parametrize(
    ("choices", "passes"),
    [({}, True), ({"half": 0.01}, False), ({"unchanged": 0.57}, False), ({"drift": 0.57}, False)],
)
def test_a_group_passes_with_coverage_and_less_error_than_either_rival(choices, passes):
    (row,) = gate_rows(invented_points("a", 0.55, **choices))
    assert row.passes == passes


@pytest.mark.parametrize(
    ("kind", "is_validated"), [("words", True), ("pairs", True), ("facts", False), ("modes", False)]
)
def test_only_the_items_of_the_scores_are_validated(kind, is_validated):
    (point,) = invented_points("a", 0.5)
    assert replace(point, kind=kind).is_validated == is_validated


def test_a_round_that_has_no_kernel_is_named(tmp_path):
    chain = simulated_chain(SelectionKernel(), Migration(), 0)
    collapsed = np.zeros_like(chain.rounds[1])
    collapsed[0] = 50
    chain = replace(chain, rounds=[chain.rounds[0], collapsed, *chain.rounds[2:]])
    lines = run_chains(ForecastConfig(draws=20), [chain], tmp_path / "out", source="0" * 64)
    assert "Not forecast: 0, words, 2 measured (the text of round 2 has too little for a kernel)." in lines


def test_a_regime_without_a_theory_has_no_counts():
    assert count_chain([["a"], ["a"]], {}, run="r", chain="c", regime="select", real_share=0, decoder="sampled") == []


def test_texts_of_a_chain_are_cut_to_the_real_one():
    texts = [["a b c d"], ["a a a a b b"], ["c"]]
    words, pairs = count_chain(texts, {}, run="r", chain="c", regime="replace", real_share=0, decoder="sampled")
    assert (words.kind, pairs.kind) == ("words", "pairs")
    assert words.exposures == [1.0, 0.25]
    assert sorted(words.totals[0].tolist()) == [0, 0, 0, 4]


MIXTURE = {
    "learner": "mixture",
    "generations": 4,
    "components": 30,
    "data": {"modes": 30, "size": 400, "zipf": 1.0},
    "seeds": [0, 1],
    "arms": {"baseline": {}, "accumulate": {"regime": {"name": "accumulate"}}},
}


@pytest.fixture(scope="module")
def mixture_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture") / "run"
    lab.run(MIXTURE, folder)
    return folder


def test_the_modes_of_a_mixture_are_read_round_by_round(mixture_run):
    chains, skipped = read_chains(mixture_run)
    assert not skipped
    assert [(chain.arm, chain.seed) for chain in chains] == [
        ("baseline", 0), ("baseline", 1), ("accumulate", 0), ("accumulate", 1),
    ]  # fmt: skip
    rounds = chains[0].labels["modes"]
    assert len(rounds) == 4
    assert all(len(points) == 400 for points in rounds)
    assert {mode for point in rounds[0] for mode in point} <= set(range(30))


def test_a_fact_may_have_its_subject_in_the_prompt_and_what_is_written_has_none(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "text.jsonl").write_text('{"prompt": "Ann", "text": " was born in Ulm."}\n')
    written = SimpleNamespace(generated=tmp_path, generation=1, check_generated=lambda: None)
    assert read_written(written) == [" was born in Ulm."]
    assert read_written(written, with_prompts=True) == ["Ann was born in Ulm."]


def test_a_mixture_whose_real_data_arrive_in_parts_is_left_out_with_the_reason(tmp_path):
    parts = {"regime": {"name": "regenerate", "fractions": 4}}
    lab.run({**MIXTURE, "seeds": [0], "arms": {"baseline": {}, "parts": parts}}, tmp_path / "run")
    chains, skipped = read_chains(tmp_path / "run")
    assert [chain.arm for chain in chains] == ["baseline"]
    assert [chain.line for chain in skipped] == ["parts, seed 0 (a mixture whose real data arrive in parts)"]


@pytest.mark.parametrize(
    ("decoder", "kind"),
    [
        ({"name": "greedy"}, "deterministic"),
        ({"name": "sample"}, "sampled"),
        ({"name": "sample", "top_p": 0.9}, "truncated"),
        ({"name": "code", "code": "tests.lab.stubs:real"}, "unknown"),
    ],
)
def test_a_decoder_of_ones_own_is_of_no_validated_kind(decoder, kind):
    generation = SimpleNamespace(decoder=TypeAdapter(AnyDecoder).validate_python(decoder))
    assert decoder_kind(SimpleNamespace(generation=generation)) == kind
    assert is_validated("replace", kind, 1) == (kind in {"sampled", "truncated"})


@pytest.mark.parametrize("size", [0, 7, 200])
def test_values_that_are_cut_off_are_named(mixture_run, tmp_path, size):
    run = shutil.copytree(mixture_run, tmp_path / "run")
    path = run / "cells" / "baseline" / "0" / "2" / "generated" / "2" / "values.npy"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        InputError, match=r"2/generated is damaged: .* generated\.sha256\. Run the same lab command again"
    ):
        read_chains(run)
    # Without a recorded sha256 the reader itself finds it.
    (run / "cells" / "baseline" / "0" / "2" / "generated.sha256").unlink()
    with pytest.raises(InputError, match=r"cannot read .*2/values\.npy: .*Run the same lab command again"):
        read_chains(run)


@pytest.mark.parametrize("values", [np.full((400, 2), np.nan), np.zeros((400, 1)), np.zeros((0, 2))])
def test_values_of_another_run_are_damage_and_no_lost_modes(mixture_run, tmp_path, values):
    run = shutil.copytree(mixture_run, tmp_path / "run")
    np.save(run / "cells" / "baseline" / "0" / "2" / "generated" / "2" / "values.npy", values)
    with pytest.raises(InputError, match="2/generated is damaged"):
        read_chains(run)


def test_the_command_forecasts_a_laboratory_run_and_scores_itself(mixture_run, tmp_path):
    ended = CliRunner().invoke(app, ["forecast", "--run", str(mixture_run), "--out", str(tmp_path / "out")])
    assert ended.exit_code == 0, ended.output
    assert "After 1 measured round: mean absolute error of survival 0." in ended.stdout
    assert "Not validated: modes, replace, decoder none" in ended.stdout
    with (tmp_path / "out" / "tables" / "forecast.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == {"modes"}
    assert all(0 <= float(row["p5"]) <= float(row["p50"]) <= float(row["p95"]) <= 1 for row in rows)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["chains"]) == len(rows)
    assert sum(score["measurements"] for score in summary["scores"]) == len(rows)
    errors = [abs(float(row["p50"]) - float(row["truth"])) for row in rows if row["measured"] == "1"]
    assert summary["scores"][0]["error"] == pytest.approx(np.mean(errors), abs=1e-6)


def test_a_run_without_two_rounds_is_refused_with_what_it_has(tmp_path):
    lab.run({**MIXTURE, "generations": 2, "seeds": [0]}, tmp_path / "run")
    with pytest.raises(
        InputError, match=r"two rounds of generated data: baseline, seed 0 \(rounds .*: 1, 2 are needed"
    ):
        read_chains(tmp_path / "run")
    write_pack(tmp_path / "run", tmp_path / "pack")
    with pytest.raises(InputError, match="holds a pack, which has no generated data"):
        read_chains(tmp_path / "pack")
    for name in ("config.yaml", ".config.yaml"):
        (tmp_path / "run" / name).unlink()
    with pytest.raises(InputError, match=r"holds no config\.yaml\. Run the same lab command again"):
        read_chains(tmp_path / "run")


def test_a_chain_that_is_not_forecast_is_named_with_the_reason(mixture_run, tmp_path):
    run = shutil.copytree(mixture_run, tmp_path / "run")
    shutil.rmtree(run / "cells" / "baseline" / "1" / "2")
    ended = CliRunner().invoke(app, ["forecast", "--run", str(run), "--out", str(tmp_path / "out")])
    line = "Not forecast: baseline, seed 1 (rounds of generated data: 1, 2 are needed)."
    assert line in ended.stdout.splitlines()
    assert line in json.loads((tmp_path / "out" / "summary.json").read_text())["sentences"]


@pytest.mark.parametrize(
    ("option", "name"),
    [
        (["--generations", "3"], "generations"),
        (["--keep", "0.3"], "tail"),
        (["--decoder", "sampled"], "decoder"),
        (["--memory-mb", "20"], "memory_mb"),
        (["--text-field", "body"], "layout"),
    ],
)
def test_a_key_that_a_run_would_not_read_is_refused(mixture_run, tmp_path, option, name):
    ended = CliRunner().invoke(app, ["forecast", "--run", str(mixture_run), "--out", str(tmp_path / "out"), *option])
    assert isinstance(ended.exception, ConfigError)
    assert str(ended.exception).startswith(f"{name} has no effect in the forecast of a laboratory run")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [["--workers", "2"], ["--task-index", "0"], ["--num-tasks", "2"], ["--verify"]])
def test_an_option_that_a_run_would_not_read_is_refused(mixture_run, tmp_path, option):
    ended = CliRunner().invoke(app, ["forecast", "--run", str(mixture_run), "--out", str(tmp_path / "out"), *option])
    assert ended.exit_code == 2
    assert option[0] in ended.output


def test_the_forecast_of_a_run_is_no_folder_for_that_of_a_corpus(mixture_run, tmp_path):
    out = tmp_path / "out"
    CliRunner().invoke(app, ["forecast", "--run", str(mixture_run), "--out", str(out)])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (tmp_path / "x.txt").write_text("a b c")
    with pytest.raises(FingerprintError, match="holds another run"):
        forecast_corpus({}, tmp_path / "x.txt", out)
    assert {path: path.read_bytes() for path in before} == before


def test_chains_without_a_band_are_refused(tmp_path):
    # Two counts, so that a kernel can be fitted, of nine items each: one fewer than a band needs.
    real = np.repeat([1.0, 2.0], 9)
    few = CountedChain("c", "r", "modes", Migration(), "replace", "none", real, [np.ones((18, GROUPS))] * 2, [1.0] * 2)
    assert fit_round(few.pairs(1)).types[BANDS[0]] == 9
    with pytest.raises(InputError, match="no chain can be forecast"):
        run_chains(ForecastConfig(), [few], tmp_path / "out", source="x")
    assert not (tmp_path / "out").exists()


def test_a_forecast_goes_on_from_what_its_model_was_trained_on():
    """Two rounds of half the size under `accumulate`: fit and fitness read the same trained counts."""
    chain = simulated_chain(SelectionKernel(), Migration("accumulate"), 3, rounds=2)
    half = [np.floor(groups / 2) for groups in chain.rounds]
    exposures = [float(groups.sum() / chain.real.sum()) for groups in half]
    pairs = replace(chain, rounds=half, exposures=exposures).pairs(2)
    items = MeasuredItems.of(pairs, BANDS[0])
    assert items.exposures == tuple(exposures)
    pool = (items.history.real + items.history.texts[0]) / (1 + exposures[0])
    assert items.trained.tolist() == pool.tolist()
    assert pairs.moments().counts.min() == pool.min()
