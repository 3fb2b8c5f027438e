"""Oracles are closed forms: counts of questions by hand, and the binomial test of coin throws."""

import csv
import math

import pytest

from tailkeep.report import summarise, write
from tailkeep.report.lab.paired_differences import paired_p_value
from tailkeep.report.lab.sentences import mcnemar_sentences
from tests.report.built_runs import finish, new_run

BASELINE = [1.0, 1.0, -1.0, -1.0, 0.0, 1.0]
OTHER = [1.0, -1.0, 1.0, 1.0, 1.0, 1.0]


def knowledge(margins, numbers=None, file="f"):
    """A table `knowledge` as the laboratory writes it."""
    share = sum(margin > 0 for margin in margins) / len(margins)
    bounds = {"mean": share, "low": 0.0, "high": 1.0}
    row = {"part": "total", "items": len(margins), "accuracy": bounds, "bootstrap": bounds}
    row |= {"by_sum": 0.25, "by_mean": 0.75}
    numbers = list(range(len(margins))) if numbers is None else numbers
    return {"knowledge": {"file": file, "numbers": numbers, "margins": margins, "rows": [row]}}


def lab_run(path, tables):
    """A run in which arm -> the tables of generation 0, 1, ... under seed 0."""
    with new_run(path, arms=tables, seeds=(0,), generations=max(map(len, tables.values()))) as run:
        for arm, generations in tables.items():
            for generation, table in enumerate(generations):
                finish(run.generation_dir(arm, 0, generation), {"kr_accuracy": 0.6}, learner="causal_lm", tables=table)
    return path


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_arms_are_compared_question_by_question_at_every_generation(tmp_path):
    run = lab_run(tmp_path / "r", {"baseline": [knowledge(BASELINE)] * 2, "b": [knowledge(BASELINE), knowledge(OTHER)]})
    before, after = summarise(run).groups[0].mcnemar
    assert (before.test, before.ties) == ((0, 0, 1.0), 1)
    assert (after.arm, after.seed, after.generation, after.questions, after.ties) == ("b", 0, 1, 6, 1)
    # Two questions against one: of three throws all but none are as far from even.
    assert after.test == (2, 1, pytest.approx(1.0))


def test_only_questions_that_both_were_scored_on_count(tmp_path):
    tables = {"baseline": [knowledge(BASELINE[:3], [0, 1, 2])], "b": [knowledge(OTHER[1:4], [1, 2, 3])]}
    (one,) = summarise(lab_run(tmp_path / "r", tables)).groups[0].mcnemar
    assert (one.questions, one.test.only_first, one.test.only_second) == (2, 1, 1)


def test_a_sentence_has_every_seed_at_the_last_generation_that_all_have(tmp_path):
    with new_run(tmp_path / "r", arms=("baseline", "b"), seeds=(0, 1), generations=3) as run:
        for seed, last in enumerate((2, 1)):
            for generation in range(last + 1):
                for arm, answers in (("baseline", BASELINE), ("b", OTHER)):
                    cell = run.generation_dir(arm, seed, generation)
                    finish(cell, {"kr_accuracy": 0.6}, learner="causal_lm", tables=knowledge(answers))
    (line,) = mcnemar_sentences(summarise(tmp_path / "r").groups[0])
    assert line.startswith("Discordant pairs at generation 1, by seed: 2, 2 questions that only b answers correctly")


def test_answers_to_another_file_are_not_compared(tmp_path):
    tables = {"baseline": [knowledge(BASELINE)], "b": [knowledge(OTHER, file="g")], "c": [{}]}
    assert summarise(lab_run(tmp_path / "r", tables)).groups[0].mcnemar == ()


def test_the_page_and_the_tables_show_the_discordant_pairs(tmp_path):
    run = lab_run(tmp_path / "r", {"baseline": [knowledge(BASELINE)] * 2, "b": [knowledge(OTHER)] * 2})
    page = write(run).read_text(encoding="utf-8")
    assert "The same questions, one by one" in page
    cells = {"Seed": 0, "Generation": 1, "Questions": 5, "Only the arm correct": 2, "Only the baseline correct": 1}
    assert "".join(f'<td data-label="{label}">{value}</td>' for label, value in cells.items()) in page
    assert [row["generation"] for row in rows(run / "tables" / "mcnemar.csv")] == ["0", "1"]
    assert {(row["part"], row["by_sum"]) for row in rows(run / "tables" / "kr_accuracy.csv")} == {("total", "0.25")}


def test_in_a_grid_the_table_names_what_each_arm_is_compared_with(tmp_path):
    arms = {f"{decoder}-{loss}": BASELINE for decoder in ("greedy", "sample") for loss in ("baseline", "truncated")}
    grid = {"decoder": ["greedy", "sample"], "loss": ["baseline", "truncated"]}
    with new_run(tmp_path / "r", arms=arms, seeds=(0,), generations=1, grid=grid) as run:
        for arm, margins in arms.items():
            finish(run.generation_dir(arm, 0, 0), {"kr_accuracy": 0.6}, learner="causal_lm", tables=knowledge(margins))
    write(tmp_path / "r")
    table = rows(tmp_path / "r" / "tables" / "mcnemar.csv")
    assert [(row["arm"], row["baseline"]) for row in table] == [
        ("greedy-truncated", "greedy-baseline"), ("sample-truncated", "sample-baseline"),
    ]  # fmt: skip


def test_a_sentence_per_arm_names_the_discordant_pairs(tmp_path):
    group = summarise(lab_run(tmp_path / "r", {"baseline": [knowledge(BASELINE)], "b": [knowledge(OTHER)]})).groups[0]
    assert mcnemar_sentences(group) == (
        "Discordant pairs at generation 0, by seed: 2 questions that only b answers correctly, 1 that only baseline "
        "does (McNemar p 1.0).",
    )


def test_without_questions_there_is_no_such_table(tmp_path):
    run = lab_run(tmp_path / "r", {"baseline": [{}], "b": [{}]})
    assert "one by one" not in write(run).read_text(encoding="utf-8")
    assert not (run / "tables" / "mcnemar.csv").exists()


def test_where_real_data_arrives_in_fractions_the_first_is_judged(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=3) as run:
        for generation, share in enumerate((0.9, 0.8, 0.6)):
            metrics = {"kr_accuracy": 0.4, "kr_fraction_0": share, "kr_fraction_0.items": 100.0}
            finish(run.generation_dir("a", 0, generation), metrics, learner="causal_lm")
    failures = summarise(tmp_path / "r").groups[0].arms[0].failures
    assert failures.keys() == {"kr_fraction_0", "kr_fraction_0_margin"}
    assert failures["kr_fraction_0"].time == pytest.approx(1.25)
    # Half of the margin of .4 over guessing is lost at .7.
    assert failures["kr_fraction_0_margin"].time == pytest.approx(1.5)


def test_the_p_value_is_students_and_equal_differences_have_that_of_the_sign_test():
    from scipy import stats

    values = [0.1, 0.3, 0.35, -0.05]
    assert paired_p_value(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert paired_p_value([-1.0, -1.0]) == 0.5
    assert paired_p_value([0.5] * 8) == 2**-7
    assert paired_p_value([0.0, 0.0]) == 1.0
    assert math.isnan(paired_p_value([1.0]))
    assert math.isnan(paired_p_value([1.0, math.nan]))
