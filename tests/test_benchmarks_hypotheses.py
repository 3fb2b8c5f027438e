"""H1 and H2 by the preregistered rules, on invented margins whose answer is known."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import hypotheses

from tailkeep.metrics import resampled_failure_times, standardised_margin_failure

ARTICLES = [number // 4 for number in range(160)]
FAST, SLOW, NEVER = (1.0, 0.6, 0.3, 0.2, 0.1), (1.0, 0.9, 0.8, 0.7, 0.6), (1.0,) * 5


def write_run(folder, *, kept=0.5, seeds=(1, 2, 3), **arms):
    """Chains whose standardised margins are about the levels of each arm, round by round."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 1, len(ARTICLES))
        noise = (noise - noise.mean()) / noise.std(ddof=1)
        for arm, levels in arms.items():
            name = {"truncated": "truncated-0.99"}.get(arm, arm)
            for number, level in enumerate(levels):
                margins = noise + level + rng.normal(0, 0.05, len(ARTICLES))
                path = folder / "cells" / name / str(seed) / str(number) / "metrics.json"
                path.parent.mkdir(parents=True)
                metrics = {"kr_accuracy": float((margins > 0).mean()), "kept_fraction": kept if number else 1.0}
                table = {"margins": margins.tolist(), "locations": ARTICLES}
                path.write_text(json.dumps({"metrics": metrics, "tables": {"knowledge": table}}))
    return folder


def lines_of(capsys, *runs):
    hypotheses.main([str(run) for run in runs])
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("truncated", "options", "sentence"),
    [
        (NEVER, {}, "H1 (seeds 1, 2, 3): holds: 1.3 rounds for baseline, never for truncated-0.99"),
        (FAST, {}, "H1 (seeds 1, 2, 3): does not hold: 1.3 rounds for baseline, 1.3 for truncated-0.99"),
        ((1.0, 0.85, 0.6, 0.45, 0.4), {}, "H1 (seeds 1, 2, 3): undecided: 1.3 rounds for baseline, 2.7"),
        (NEVER, {"kept": 0.95}, "H1 (seeds 1, 2, 3): not tested, since truncation kept 0.950"),
        (NEVER, {"kept": 0.01}, "H1 (seeds 1, 2, 3): true by not training, since truncation kept 0.010"),
    ],
)
def test_h1_asks_for_twice_the_time_where_truncation_trains(truncated, options, sentence, tmp_path, capsys):
    run = write_run(tmp_path, baseline=FAST, truncated=truncated, **options)
    assert [line for line in lines_of(capsys, run) if line.startswith(sentence)]


@pytest.mark.parametrize(
    ("baseline", "truncated", "sentence"),
    [
        (SLOW, NEVER, "undecided: never rounds for baseline, never for"),
        ((1.0, 0.9, 0.7, 0.4, 0.3), FAST, "does not hold: 2.7 rounds for baseline, 1.3 for truncated-0.99;"),
        (SLOW, FAST, "does not hold: never rounds for baseline, 1.3 for truncated-0.99;"),
        # Just before round 2, so in many resamples after it, and then four rounds do not show twice the time.
        ((1.0, 0.8, 0.485, 0.4, 0.3), NEVER, "undecided: 2.0 rounds for baseline, never for"),
        # A failure by a hair is no decision.
        ((1.0, 0.9, 0.8, 0.7, 0.51), (1.0, 0.9, 0.8, 0.7, 0.49), "undecided: never rounds for baseline, 3.9 for"),
        ((1.0, 0.9, 0.7, 0.4, 0.3), NEVER, "undecided: 2.7 rounds for baseline, never for"),
    ],
)
def test_a_baseline_that_lasts_decides_only_against_h1(baseline, truncated, sentence, tmp_path, capsys):
    printed = lines_of(capsys, write_run(tmp_path, baseline=baseline, truncated=truncated))
    assert [line for line in printed if line.startswith(f"H1 (seeds 1, 2, 3): {sentence}")]


@pytest.mark.parametrize(
    ("stop", "verdict"), [(SLOW, "holds"), (NEVER, "does not hold"), ((1.0, 1.0, 0.9, 0.8, 0.7), "undecided")]
)
def test_h2_holds_where_the_interval_lies_within_a_tenth_of_the_first_margin(stop, verdict, tmp_path, capsys):
    run = write_run(tmp_path, baseline=FAST, truncated=SLOW, stop=stop)
    (line,) = [line for line in lines_of(capsys, run) if line.startswith("H2")]
    assert line.startswith(f"H2 (seeds 1, 2, 3): {verdict}: truncated-0.99 minus stop")
    assert float(line.split("bound ")[1].split(",")[0]) == pytest.approx(0.1, abs=0.002)


def test_a_resample_in_which_neither_arm_fails_says_nothing_for_h1(tmp_path, capsys):
    """The baseline falls just below half, so in many resamples it does not."""
    (line,) = [
        line
        for line in lines_of(capsys, write_run(tmp_path, baseline=(1.0, 0.8, 0.49, 0.55, 0.55), truncated=NEVER))
        if line.startswith("H1")
    ]
    assert line.startswith("H1 (seeds 1, 2, 3): undecided: 2.0 rounds for baseline, never for truncated-0.99")
    assert float(line.split("p of H1 ")[1].split(",")[0]) > 0.1


def test_a_seed_without_all_rounds_of_both_arms_decides_nothing(tmp_path, capsys):
    write_run(tmp_path, baseline=FAST, seeds=(1, 2))
    write_run(tmp_path, truncated=NEVER, seeds=(1,))
    write_run(tmp_path, truncated=NEVER[:4], seeds=(2,))
    printed = lines_of(capsys, tmp_path)
    assert [line for line in printed if line.startswith("H1 (seeds 1): holds")]
    assert "H2: no seed has all rounds of truncated-0.99, stop and baseline." in printed


def test_runs_are_joined_and_a_chain_stands_in_one_of_them(tmp_path, capsys):
    one, two = write_run(tmp_path / "one", baseline=FAST), write_run(tmp_path / "two", truncated=NEVER)
    assert [line for line in lines_of(capsys, one, two) if line.startswith("H1 (seeds 1, 2, 3): holds")]
    with pytest.raises(SystemExit, match=r"one has baseline, seed 1, as a run before has\. Give one of them"):
        hypotheses.main([str(one), str(two), str(one)])


def test_times_of_resamples_are_those_of_the_library(tmp_path):
    chains = hypotheses.read_chains([write_run(tmp_path, baseline=FAST)])
    table, articles = hypotheses.margins_of(chains, "baseline", [1, 2, 3]), np.array(ARTICLES).astype(str)
    low, high = np.quantile(resampled_failure_times(range(5), table, articles), [0.025, 0.975])
    expected = standardised_margin_failure(range(5), table, articles)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_a_run_without_questions_or_without_a_round_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"no run has questions\. Give runs of the recipe fortifai-fig6"):
        hypotheses.main([str(tmp_path)])
    write_run(tmp_path, baseline=FAST, seeds=(1,))
    (tmp_path / "cells" / "baseline" / "1" / "2" / "metrics.json").unlink()
    with pytest.raises(SystemExit, match=r"baseline, seed 1 has no round 2\. Give a run that has it"):
        hypotheses.main([str(tmp_path)])
