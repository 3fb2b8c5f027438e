"""The verdict claims what is significant, names at most three arms and has at most 25 words."""

import math

import pytest

from tailkeep.metrics import Interval
from tailkeep.report.lab.paired_differences import Difference
from tailkeep.report.lab.run import read_lab_run
from tailkeep.report.lab.stats import summarise_run
from tailkeep.report.lab.verdict import Change, certainty, is_better, key_numbers, write_verdict
from tests.report.built_runs import finish, new_run

REPLACE = {"learner": "causal_lm", "loss": {"name": "cross_entropy"}, "regime": {"name": "replace"}}
CONFIGS = {
    "baseline": {},
    "truncated": {"loss": {"name": "truncated", "threshold": 0.99}},
    "accumulate": {"regime": {"name": "accumulate"}},
}


def group_of(path, table, *, metric="kr_accuracy", configs=None, start=0.9, nll=None):
    """A run in which arm -> the last value of each seed; every seed starts at `start`. `nll` is at both by seed."""
    seeds = tuple(range(len(next(iter(table.values())))))
    arms = configs or {arm: CONFIGS.get(arm, {"loss": {"name": arm}}) for arm in table}
    with new_run(path, arms=table, seeds=seeds, generations=2, **REPLACE) as run:
        for arm, row in table.items():
            for seed, value in enumerate(row):
                for generation, at in enumerate((start, value)):
                    more = {} if nll is None else {"held_out_nll": nll[generation][seed]}
                    finish(run.generation_dir(arm, seed, generation), {metric: at, **more}, learner="causal_lm")
    text = (path / "config.yaml").read_text()
    for arm, tree in arms.items():
        text = text.replace(f"  {arm}: {{}}\n", f"  {arm}: {tree}\n")
    (path / ".config.yaml").unlink(missing_ok=True)  # nothing records the sha256 of another text
    (path / "config.yaml").write_text(text)
    lab_run = read_lab_run(path)
    return lab_run.groups[0], summarise_run(lab_run).groups[0]


FALLS = (0.60, 0.61, 0.62)


def test_the_demos_sentence(tmp_path):
    table = {"baseline": FALLS, "truncated": (0.58, 0.63, 0.60), "accumulate": (0.88, 0.89, 0.91)}
    assert write_verdict(*group_of(tmp_path / "r", table)) == (
        "Trained on its own text, the model gets worse. Accumulating the real data prevents most of it; truncated "
        "cross-entropy makes no significant difference."
    )


def test_a_small_gain_prevents_some_of_it(tmp_path):
    table = {"baseline": FALLS, "accumulate": (0.65, 0.66, 0.672)}
    assert write_verdict(*group_of(tmp_path / "r", table)).endswith("Accumulating the real data prevents some of it.")


def test_most_is_said_only_where_more_than_half_is_significant(tmp_path):
    # Both keep 0.19 of the 0.29 that are lost, on average: more than half; the first one not beyond chance.
    table = {"baseline": FALLS, "accumulate": (0.73, 0.80, 0.87)}
    assert write_verdict(*group_of(tmp_path / "wide", table)).endswith("prevents some of it.")
    table = {"baseline": FALLS, "accumulate": (0.79, 0.80, 0.812)}
    assert write_verdict(*group_of(tmp_path / "narrow", table)).endswith("prevents most of it.")


def test_a_harm_is_said(tmp_path):
    table = {"baseline": FALLS, "truncated": (0.50, 0.51, 0.522)}
    assert write_verdict(*group_of(tmp_path / "r", table)).endswith("makes it significantly worse.")


def test_nothing_is_claimed_where_nothing_is_significant(tmp_path):
    table = {"baseline": (0.7, 0.9, 1.0), "truncated": (0.6, 0.9, 0.95)}
    assert write_verdict(*group_of(tmp_path / "r", table)) == (
        "Trained on its own text, the model does not change significantly. Truncated cross-entropy makes no "
        "significant difference."
    )


def test_what_does_not_change_significantly_is_not_prevented(tmp_path):
    # Accuracy falls with p 0.04; corrected for both main metrics that is 0.08.
    table = {"baseline": (0.68, 0.55, 0.44), "accumulate": (0.90, 0.78, 0.68)}
    group, summary = group_of(tmp_path / "r", table, nll=((1.0, 1.1, 0.9), (1.1, 1.0, 0.9)))
    assert write_verdict(group, summary) == (
        "Trained on its own text, the model does not change significantly. Accumulating the real data is significantly "
        "better."
    )


def two_metrics(path, arms, *, baseline=((0.9, 0.60), (1.0, 1.5))):
    """arm -> (KR-test accuracy, held-out NLL) after one round, in three seeds that hardly differ.

    `baseline` has both metrics at generation 0 and after one round. NaN is no value.
    """
    table = {"baseline": (baseline[0][1], baseline[1][1]), **arms}
    with new_run(path, arms=table, generations=2, **REPLACE) as run:
        for arm, after in table.items():
            for seed in (0, 1, 2):
                for generation in (0, 1):
                    pairs = zip(("kr_accuracy", "held_out_nll"), baseline, after, strict=True)
                    noise = 1 + 0.002 * seed * (2 if arm == "baseline" else 1)
                    row = {name: (end if generation else at[0]) * noise for name, at, end in pairs}
                    finish(run.generation_dir(arm, seed, generation), row, learner="causal_lm")
    lab_run = read_lab_run(path)
    return lab_run.groups[0], summarise_run(lab_run).groups[0]


def test_better_in_one_metric_and_worse_in_another_is_no_missing_difference(tmp_path):
    """The typical effect of truncation: more facts are kept, and held-out text becomes less likely."""
    group, summary = two_metrics(tmp_path / "one", {"cut": (0.8, 1.9)})
    assert write_verdict(group, summary).endswith("cut is better in KR-test accuracy and worse in held-out NLL.")
    group, summary = two_metrics(tmp_path / "two", {"cut": (0.8, 1.9), "more": (0.85, 2.5)})
    assert write_verdict(group, summary).endswith("cut and more are better in one metric and worse in another.")


def test_an_arm_that_cannot_be_tested_is_not_without_a_difference(tmp_path):
    group, summary = two_metrics(tmp_path / "r", {"diverged": (math.nan, math.nan), "same": (0.60, 1.5)})
    assert write_verdict(group, summary).endswith("same makes no significant difference; diverged could not be tested.")


def test_what_the_baseline_does_not_lose_is_not_prevented(tmp_path):
    """The baseline loses accuracy alone; the arm is better in NLL alone."""
    group, summary = two_metrics(tmp_path / "r", {"x": (0.60, 0.8)}, baseline=((0.9, 0.6), (1.0, 1.0)))
    assert write_verdict(group, summary) == (
        "Trained on its own text, the model gets worse. x is significantly better."
    )


def test_a_seed_without_any_value_leaves_no_claim_on_the_baseline(tmp_path):
    with new_run(tmp_path / "r", arms=("baseline",), seeds=(0, 1, 2, 3), generations=2, **REPLACE) as run:
        for seed in (0, 1, 2, 3):
            for generation in (0, 1):
                value = math.nan if seed == 3 else 0.9 - (0.3 + 0.01 * seed) * generation
                finish(run.generation_dir("baseline", seed, generation), {"kr_accuracy": value}, learner="causal_lm")
    lab_run = read_lab_run(tmp_path / "r")
    assert "worse" not in write_verdict(lab_run.groups[0], summarise_run(lab_run).groups[0])


@pytest.mark.parametrize(
    ("change", "final", "better"),
    [((1.0, 0.5), 0.7, True), ((1.0, 0.5), 3.0, False), ((1.0, 0.5), 0.3, False), ((1.0, 1.001), 0.7, None)],
)
def test_without_a_better_direction_nearer_to_generation_0_is_better(change, final, better):
    """A standard deviation; where the baseline does not change significantly no direction is known."""
    start, end = change
    p_value = 0.001 if abs(end - start) > 0.1 else 0.6
    moved = Change("std", Interval(start, 0, 0), Interval(end, 0, 0), Interval(end - start, 0, 0), p_value)
    difference = Difference("a", "b", "std", 3, 1, Interval(final - end, 0, 0), Interval(0, 0, 0))
    assert is_better(difference, None, moved) is better


def test_equal_differences_are_equal_in_spite_of_rounding(tmp_path):
    """Two seeds gain three of 400 questions each: the sign test, and no correction for one arm."""
    _, summary = group_of(tmp_path / "r", {"baseline": (240 / 400, 247 / 400), "x": (243 / 400, 250 / 400)})
    (one,) = summary.differences
    assert certainty(one) == "equal in all seeds: not significant (sign test)"


def test_one_seed_gives_numbers_and_no_claim(tmp_path):
    verdict = write_verdict(*group_of(tmp_path / "r", {"baseline": (0.6,), "accumulate": (0.9,)}))
    assert verdict == (
        "Trained on its own text, the model goes from 0.90 to 0.60 in KR-test accuracy. One seed: no difference can be "
        "called significant."
    )


def test_significance_is_corrected_for_the_number_of_arms(tmp_path):
    # The 95 % CI of the pair excludes 0 (p = 0.049); among five such arms nothing remains.
    gain = (0.03, 0.05, 0.07)
    better = tuple(round(base + more, 6) for base, more in zip(FALLS, gain, strict=True))
    group, summary = group_of(tmp_path / "one", {"baseline": FALLS, "accumulate": better})
    assert summary.differences[0].is_significant
    assert "prevents some of it" in write_verdict(group, summary)
    arms = {"baseline": FALLS, **{f"other-{n}": better for n in range(5)}}
    _, summary = group_of(tmp_path / "five", arms)
    (first, *_) = summary.differences
    assert first.excludes_zero
    assert first.p_value == pytest.approx(0.0494, abs=1e-4)
    assert first.corrected_p == pytest.approx(5 * first.p_value)
    assert not first.is_significant
    assert certainty(first).endswith("not significant after correction for 5 arms")


@pytest.mark.parametrize("count", [1, 4, 12, 40])
def test_a_verdict_has_at_most_25_words_and_counts_the_arms_it_does_not_name(tmp_path, count):
    table = {"baseline": FALLS, **{f"arm-{n}": tuple(v + 0.001 * n for v in FALLS) for n in range(count)}}
    verdict = write_verdict(*group_of(tmp_path / "r", table))
    assert len(verdict.split()) <= 25
    named = sum(f"arm-{n} " in verdict or f"arm-{n}," in verdict or f"arm-{n};" in verdict for n in range(count))
    assert named >= 1
    assert (" others" in verdict) == (named < count)


def test_the_three_numbers_are_the_loss_the_largest_significant_difference_and_another_arm(tmp_path):
    table = {"baseline": FALLS, "truncated": (0.58, 0.63, 0.60), "accumulate": (0.88, 0.89, 0.91)}
    group, summary = group_of(tmp_path / "r", table)
    loss, largest, other = key_numbers(group, summary)
    assert loss.number == "0.900 → 0.610"
    assert loss.words == "KR-test accuracy of baseline, generation 0 to 1"
    assert loss.certainty.endswith("guessing: 0.50")
    assert largest.words.endswith("accumulate − baseline")
    assert largest.certainty.endswith(": significant")
    assert other.words.endswith("truncated − baseline")
    assert other.certainty.endswith(": not significant")
    assert {loss.role.css, largest.role.css, other.role.css} == {"r-base", "r-real", "r-trunc"}


def test_the_first_number_is_the_change_that_the_verdict_speaks_of(tmp_path):
    table = {"baseline": (0.7, 0.9, 1.0), "truncated": (0.6, 0.9, 0.95)}
    group, summary = group_of(tmp_path / "r", table, nll=((1.0, 1.1, 0.9), (2.0, 2.1, 1.93)))
    assert write_verdict(group, summary).startswith("Trained on its own text, the model gets worse.")
    assert key_numbers(group, summary)[0].words.startswith("Held-out NLL of baseline")


def test_without_significance_the_largest_difference_is_the_one_that_is_surest(tmp_path):
    table = {"baseline": (0.7, 0.9, 1.0), "noisy": (0.2, 0.9, 0.95), "close": (0.71, 0.93, 1.05)}
    group, summary = group_of(tmp_path / "r", table)
    assert not any(one.is_significant for one in summary.differences)
    assert key_numbers(group, summary)[1].words.endswith("close − baseline")


def test_equal_seeds_are_said_instead_of_an_interval_without_width(tmp_path):
    group, summary = group_of(tmp_path / "r", {"baseline": (0.5, 0.5, 0.5), "truncated": (0.5, 0.5, 0.5)})
    loss, difference, *_ = key_numbers(group, summary)
    assert loss.certainty.startswith("equal in all seeds")
    assert difference.certainty == "equal in all seeds: not significant"


def test_a_single_arm_is_described_by_its_metrics(tmp_path):
    group, summary = group_of(tmp_path / "r", {"baseline": FALLS})
    assert write_verdict(group, summary) == "Trained on its own text, the model gets worse."
    assert len(key_numbers(group, summary)) == 1


def test_arms_that_share_only_generation_0_are_not_compared(tmp_path):
    with new_run(tmp_path / "r", arms=("baseline", "late"), seeds=(0, 1), generations=3) as run:
        for arm, last in {"baseline": 2, "late": 0}.items():
            for seed in (0, 1):
                for generation in range(last + 1):
                    metrics = {"kr_accuracy": 0.9 - 0.1 * generation}
                    finish(run.generation_dir(arm, seed, generation), metrics, learner="causal_lm")
    lab_run = read_lab_run(tmp_path / "r")
    verdict = write_verdict(lab_run.groups[0], summarise_run(lab_run).groups[0])
    assert verdict == "Not all arms have a generation after 0, so their changes cannot be compared."


def test_most_is_corrected_for_the_number_of_arms(tmp_path):
    """Alone the arm prevents more than half with p = 0.022; beside three others that is 0.087."""
    gains = {"baseline": FALLS, "accumulate": (0.787, 0.805, 0.823)}
    assert write_verdict(*group_of(tmp_path / "one", gains)).endswith("prevents most of it.")
    noisy = {f"noisy-{n}": (0.60, 0.75, 0.90) for n in range(3)}
    assert "accumulate prevents some of it;" in write_verdict(*group_of(tmp_path / "four", {**gains, **noisy}))


def test_equal_differences_that_are_significant_name_their_test():
    equal = Interval(0.1, 0.1, 0.1)
    one = Difference("a", "b", "std", 6, 1, equal, equal, p_value=2**-5, corrected_p=2**-5)
    assert certainty(one) == "equal in all seeds: significant (sign test)"


def test_a_difference_without_a_change_of_the_baseline_has_a_sentence_of_its_own(tmp_path):
    table = {"baseline": FALLS, "edited": (0.50, 0.51, 0.522)}
    with new_run(tmp_path / "r", arms=table, generations=1, **REPLACE) as run:
        for arm, values in table.items():
            for seed, value in enumerate(values):
                finish(run.generation_dir(arm, seed, 0), {"kr_accuracy": value}, learner="causal_lm")
    lab_run = read_lab_run(tmp_path / "r")
    verdict = write_verdict(lab_run.groups[0], summarise_run(lab_run).groups[0])
    assert verdict == "edited is significantly worse."


def test_an_arm_that_ends_earlier_is_not_ranked_against_later_generations(tmp_path):
    with new_run(tmp_path / "r", arms=("baseline", "short", "long"), seeds=(0, 1, 2), generations=5) as run:
        for arm, last in {"baseline": 4, "short": 2, "long": 4}.items():
            for seed in (0, 1, 2):
                for generation in range(last + 1):
                    loss = {"baseline": 0.1, "short": 0.0, "long": 0.05}[arm]
                    metrics = {"kr_accuracy": 0.9 - loss * generation + 0.001 * seed * generation}
                    finish(run.generation_dir(arm, seed, generation), metrics, learner="causal_lm")
    summary = summarise_run(read_lab_run(tmp_path / "r")).groups[0]
    assert {one.generation for one in summary.differences} == {2}
    gains = {one.arm: one.final.mean for one in summary.differences}
    assert gains["short"] == pytest.approx(0.2)
    assert gains["long"] == pytest.approx(0.1)
