"""The preregistered comparisons of replay, on invented metrics whose answer is known."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import replay


def write_run(folder, *, loss=0.0, nll=0.0, seeds=12, spread=0.01):
    """Chains whose chosen arms cover `loss` less than random 25 %, with `nll` more."""
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        common = rng.normal(0.5, 0.1)
        for arm in ("mix-extinction-10", "mix-random-25", "mix-random-10", "mix-golden-10"):
            is_chosen = arm.startswith("mix-extinction")
            coverage = common - loss * is_chosen - 0.2 * (arm == "mix-random-10") + rng.normal(0, spread)
            row = {"own.rare_fact_coverage": coverage, "own.rare_fact_coverage_outside": None}
            row |= {"held_out_nll": 0.6 + nll * is_chosen + rng.normal(0, spread)}
            write_cell(folder, arm, seed, 3, row)
            write_cell(folder, arm, seed, 2, {**row, "own.rare_fact_coverage": 9.0})
    return folder


def write_cell(folder, arm, seed, generation, metrics):
    path = folder / "cells" / arm / str(seed) / str(generation) / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"metrics": metrics, "tables": {}}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "The hypothesis holds in base mix."),
        ({"loss": 0.1}, "The hypothesis does not hold in base mix."),
        ({"nll": 0.1}, "The hypothesis does not hold in base mix."),
        # A tie that twelve seeds cannot see is none.
        ({"spread": 0.2}, "The hypothesis does not hold in base mix."),
        # Better is no reason to fail.
        ({"loss": -0.3, "nll": -0.3}, "The hypothesis holds in base mix."),
        ({"seeds": 11}, "Interim: not all of the 12 seeds have both measures, so there is no decision."),
    ],
)
def test_the_decision_is_that_of_the_margins_and_only_with_all_seeds(change, sentence, tmp_path, capsys):
    replay.main([str(write_run(tmp_path / "run", **change))])
    assert [line for line in capsys.readouterr().out.splitlines() if "ypothesis" in line or "Interim" in line] == [
        sentence
    ]


def test_rivals_are_compared_at_equal_budgets_and_arms_that_are_missing_are_left_out(tmp_path, capsys):
    replay.main([str(write_run(tmp_path / "run"))])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | 10 | 12 | " in line]
    assert {(row[0], row[1]) for row in rows} == {
        ("| coverage", "random"), ("| coverage", "golden"), ("| held-out NLL", "random"), ("| held-out NLL", "golden"),
    }  # fmt: skip
    (random_row,) = [row for row in rows if row[:2] == ["| coverage", "random"]]
    assert float(random_row[4]) == pytest.approx(0.2, abs=0.02)
    assert random_row[-1] == "< 0.001 |"


def test_a_run_of_text_is_measured_by_its_rare_words(tmp_path):
    write_cell(tmp_path, "a", 0, 3, {"own.coverage_1": 0.2, "own.coverage_2_3": 0.4, "held_out_nll": 5.0})
    assert replay.values_at(replay.read_rows(tmp_path), 3)["a", 0]["coverage"] == pytest.approx(0.3)


def test_a_saved_table_gives_the_tables_of_the_run(tmp_path, capsys):
    run, table = write_run(tmp_path / "run"), tmp_path / "replay.csv"
    replay.main([str(run), "--save", str(table)])
    of_run = capsys.readouterr().out
    replay.main([str(table)])
    assert capsys.readouterr().out == of_run
    assert len(table.read_text().splitlines()) == 1 + 12 * 4 * 2


def test_parts_of_a_run_are_joined_and_must_agree(tmp_path, capsys):
    run, table = write_run(tmp_path / "run"), tmp_path / "replay.csv"
    replay.main([str(run), "--save", str(table)])
    whole = capsys.readouterr().out
    head, *lines = table.read_text().splitlines()
    parts = {name: tmp_path / f"{name}.csv" for name in ("one", "two", "other")}
    parts["one"].write_text("\n".join([head, *lines[40:]]) + "\n")
    parts["two"].write_text("\n".join([head, *lines[:50]]) + "\n")
    replay.main([str(parts["one"]), str(parts["two"]), "--save", str(tmp_path / "joined.csv")])
    assert capsys.readouterr().out == whole
    assert (tmp_path / "joined.csv").read_text() == table.read_text()
    parts["other"].write_text("\n".join([head, lines[0] + "9"]) + "\n")
    with pytest.raises(SystemExit, match=r"other\.csv has other numbers of mix-extinction-10/0/2 than a run before"):
        replay.main([str(table), str(parts["other"])])


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("arm,seed\na,0\n")
    with pytest.raises(SystemExit, match=r"has no column .*generation.* Give a table that --save has written"):
        replay.main([str(tmp_path / "other.csv")])


def test_a_folder_without_finished_generations_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"no finished generation 3\. Give a run of the recipe replay"):
        replay.main([str(tmp_path)])


def test_an_arm_that_is_missing_is_named(tmp_path, capsys):
    replay.main([str(write_run(tmp_path / "run")), "--base", "accumulate"])
    assert "no seed has both accumulate-extinction-10 and accumulate-random-25" in capsys.readouterr().out


def test_a_measure_that_is_no_number_leaves_no_decision(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    path = run / "cells" / "mix-random-25" / "4" / "3" / "metrics.json"
    tree = json.loads(path.read_text())
    tree["metrics"]["held_out_nll"] = float("nan")
    path.write_text(json.dumps(tree))
    replay.main([str(run)])
    printed = capsys.readouterr().out
    assert "Interim" in printed
    assert "The hypothesis" not in printed


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a,b\n1,2\n"])
def test_a_file_that_is_no_table_of_replay_is_one_clear_line(content, tmp_path):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(SystemExit, match=r"x\.csv has no column .* Give a table that --save has written"):
        replay.main([str(tmp_path / "x.csv")])


def test_a_run_of_another_recipe_is_one_clear_line(tmp_path):
    write_cell(tmp_path, "baseline", 0, 3, {"kl": 1.0})
    with pytest.raises(SystemExit, match=r"metrics\.json has no coverage .* Give a run of replay"):
        replay.main([str(tmp_path)])
