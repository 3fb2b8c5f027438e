"""Each regime against a model whose every number says where it came from."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.errors import ConfigError
from tailkeep.lab import load
from tailkeep.lab.regimes import (
    Accumulate,
    AccumulateSubsample,
    FreshOnly,
    Mix,
    Regenerate,
    Replace,
    Revise,
    Stage,
    Weighted,
)
from tailkeep.lab.toy_data import ArrayData
from tests.lab.stubs import CallLog, TraceModel, listed, numbers, real

REPLACE = Replace(name="replace")
ACCUMULATE = Accumulate(name="accumulate")
SUBSAMPLE = AccumulateSubsample(name="accumulate_subsample")
REGENERATE = Regenerate(name="regenerate", fractions=3)


FRESH_ONLY = FreshOnly(name="fresh_only", fractions=3)


def half(share):
    return Mix(name="mix", real_share=share)


def recursion(regime, data, generations, *, seed=0):
    """The training set of each generation, what was asked of each model, and all that was generated."""
    call_log, generated, sets = CallLog(), {}, []
    for generation in range(generations):
        if generation:
            model = TraceModel(generation - 1, call_log, sets[-1].values)
            stage = Stage(generation, data, lambda: sets[-1], model)
            if not regime.keeps_history:
                generated.clear()
            generated[generation] = regime.generate(stage, seed=seed + generation)
        sets.append(regime.mix(generation, data, generated, seed=seed + 100 + generation))
    return sets, call_log, generated


@pytest.mark.parametrize("regime", [REPLACE, ACCUMULATE, SUBSAMPLE, half(0.5)])
def test_the_first_generation_trains_on_all_the_real_data(regime):
    sets, call_log, _ = recursion(regime, real(5), 1)
    assert listed(sets[0]) == [0, 1, 2, 3, 4]
    assert call_log.calls == []


def test_replace_trains_on_what_the_last_model_wrote_and_nothing_else():
    sets, call_log, _ = recursion(REPLACE, real(3), 3)
    assert listed(sets[1]) == [1000, 1001, 1002]
    assert listed(sets[2]) == [2000, 2001, 2002]
    assert call_log.of("sample") == [(0, 3, 1), (1, 3, 2)]


def test_accumulate_trains_on_the_real_data_and_on_every_generation_in_order():
    sets, call_log, _ = recursion(ACCUMULATE, real(2), 4)
    assert listed(sets[3]) == [0, 1, 1000, 1001, 2000, 2001, 3000, 3001]
    assert [n for _, n, _ in call_log.of("sample")] == [2, 2, 2]


def test_a_subsample_of_the_pool_has_the_size_of_the_real_data_and_no_example_twice():
    sets, _, generated = recursion(SUBSAMPLE, real(40), 4)
    pool = {*listed(real(40)), *(value for data in generated.values() for value in listed(data))}
    for training_set in sets[1:]:
        assert len(training_set) == 40
        assert len(set(listed(training_set))) == 40
        assert set(listed(training_set)) <= pool
        assert listed(training_set) == sorted(listed(training_set))
    assert {value // 1000 for value in listed(sets[3])} == {0, 1, 2, 3}


def test_a_subsample_takes_every_generation_in_equal_parts_on_average():
    counts = np.zeros(2)
    for seed in range(200):
        sets, _, _ = recursion(SUBSAMPLE, real(20), 2, seed=seed)
        counts += np.bincount((sets[1].values >= 1000).astype(int), minlength=2)
    # Hypergeometric: 20 of 40, half of them generated; the standard error of the mean share over 200 draws is 0.0057.
    assert counts[1] / counts.sum() == pytest.approx(0.5, abs=5 * 0.0057)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_mix_keeps_its_share_of_real_data_and_asks_the_model_only_for_the_rest(share):
    sets, call_log, _ = recursion(half(share), real(8), 3)
    num_real = int(8 * share)
    for generation, mixed in enumerate(sets[1:], start=1):
        assert len(mixed) == 8
        assert (mixed.values < 1000).sum() == num_real
        assert set(listed(mixed)[num_real:]) == {1000.0 * generation + i for i in range(8 - num_real)}
    assert [n for _, n, _ in call_log.of("sample")] == ([8 - num_real] * 2 if share < 1 else [])


def test_mix_draws_its_real_examples_anew_each_generation():
    sets, _, _ = recursion(half(0.5), real(40), 3)
    assert listed(sets[1])[:20] != listed(sets[2])[:20]


@given(share=st.floats(0, 1), size=st.integers(2, 50))
def test_mix_always_has_the_size_of_the_real_data(share, size):
    sets, _, _ = recursion(half(share), real(size), 2)
    assert len(sets[1]) == size


def test_regenerate_rewrites_the_whole_previous_training_set_and_adds_the_next_part():
    sets, call_log, _ = recursion(REGENERATE, real(6), 3)
    assert listed(sets[0]) == [0, 1]
    assert listed(sets[1]) == [0.5, 1.5, 2, 3]
    assert listed(sets[2]) == [1, 2, 2.5, 3.5, 4, 5]
    assert call_log.of("regenerate") == [(0, [0, 1], 1), (1, [0.5, 1.5, 2, 3], 2)]
    assert call_log.of("sample") == []


def test_the_written_share_of_regenerate_is_s_of_s_plus_one():
    regime = Regenerate(name="regenerate", fractions=6)
    sets, _, generated = recursion(regime, real(60), 6)
    for stage in range(1, 6):
        assert len(sets[stage]) == 10 * (stage + 1)
        given_anew = 10
        assert (len(sets[stage]) - given_anew) / len(sets[stage]) == pytest.approx(stage / (stage + 1))
    assert len(generated[5]) == 50


def test_after_the_last_part_regenerate_brings_no_real_data_any_more():
    sets, _, _ = recursion(REGENERATE, real(6), 5)
    assert listed(sets[3]) == [value + 0.5 for value in listed(sets[2])]
    assert listed(sets[4]) == [value + 1 for value in listed(sets[2])]


def test_more_parts_than_examples_are_refused_with_the_key():
    with pytest.raises(ConfigError, match=r"regime\.fractions: 2 examples cannot be split into 3 parts"):
        REGENERATE.budget(0, real(2))


@pytest.mark.parametrize("regime", [REPLACE, ACCUMULATE, SUBSAMPLE, half(0.3)])
def test_every_generation_stands_for_the_real_datas_size(regime):
    assert [regime.budget(generation, real(7)) for generation in range(4)] == [7, 7, 7, 7]


def test_the_budget_of_regenerate_grows_with_the_parts_that_have_arrived():
    assert [REGENERATE.budget(generation, real(7)) for generation in range(5)] == [3, 5, 7, 7, 7]


@pytest.mark.parametrize("regime", [REPLACE, ACCUMULATE, SUBSAMPLE, half(0.5), REGENERATE])
def test_a_regime_is_a_function_of_its_seed(regime):
    first, second = (recursion(regime, real(12), 4, seed=7)[0] for _ in range(2))
    assert [listed(data) for data in first] == [listed(data) for data in second]


@pytest.mark.parametrize("regime", [SUBSAMPLE, half(0.5)])
def test_another_seed_chooses_other_examples(regime):
    first, second = (recursion(regime, real(40), 2, seed=seed)[0][1] for seed in (1, 2))
    assert listed(first) != listed(second)


@pytest.mark.parametrize("regime", [REPLACE, half(0.5), REGENERATE])
def test_a_regime_without_history_needs_only_what_was_written_last(regime):
    everything = {1: numbers(-1.0, -2.0, -3.0), 2: numbers(7.0, 8.0, 9.0)}
    newest = {2: everything[2]}
    assert not regime.keeps_history
    assert listed(regime.mix(2, real(6), everything, seed=0)) == listed(regime.mix(2, real(6), newest, seed=0))


@pytest.mark.parametrize("regime", [ACCUMULATE, SUBSAMPLE])
def test_a_regime_with_history_says_so(regime):
    assert regime.keeps_history
    with pytest.raises(KeyError):
        regime.mix(2, real(3), {2: numbers(1.0)}, seed=0)


def revise(subset, share, factor=1.0):
    return Revise(name="revise", subset=subset, share=share, factor=factor)


def rewritten(before, after):
    """Where `after` holds what a model wrote in place of `before`; TraceModel adds a half."""
    return [place for place, (old, new) in enumerate(zip(listed(before), listed(after), strict=True)) if new != old]


@pytest.mark.parametrize("subset", ["disjoint", "overlapping", "anchored"])
def test_revise_writes_its_share_anew_in_place_and_keeps_the_rest(subset):
    sets, call_log, _ = recursion(revise(subset, 0.25), real(8), 3)
    base = real(8) if subset == "anchored" else sets[1]
    changed = rewritten(base, sets[2])
    assert len(changed) == 2
    assert [listed(sets[2])[place] for place in changed] == [listed(base)[p] + 0.5 for p in changed]
    assert [len(examples) for _, examples, _ in call_log.of("regenerate")] == [2, 2]


def test_disjoint_revisions_go_through_the_data_once():
    sets, _, _ = recursion(revise("disjoint", 0.4), real(10), 6)
    assert [rewritten(before, after) for before, after in pairwise(sets)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
        [],
        [],
    ]


def test_disjoint_shares_of_less_than_one_example_add_up():
    sets, _, _ = recursion(revise("disjoint", 0.025), real(10), 9)
    assert len(rewritten(sets[0], sets[8])) == 2


def test_anchored_revisions_keep_nothing_that_an_earlier_model_wrote():
    sets, call_log, _ = recursion(revise("anchored", 0.5), real(10), 4)
    for mixed in sets[1:]:
        assert len(rewritten(real(10), mixed)) == 5
    assert all(set(examples) <= set(listed(real(10))) for _, examples, _ in call_log.of("regenerate"))


def test_a_factor_makes_the_share_decay_and_a_model_is_never_asked_for_nothing():
    _, call_log, _ = recursion(revise("overlapping", 0.5, 0.5), real(16), 8)
    assert [len(examples) for _, examples, _ in call_log.of("regenerate")] == [8, 4, 2, 1]
    assert revise("overlapping", 0.5, 0.5).shares(3) == [0.5, 0.25, 0.125]
    assert sum(revise("disjoint", 0.4).shares(5)) == pytest.approx(1)


def test_which_examples_are_revised_depends_on_the_seed_and_the_generation_alone():
    first, second, other = (recursion(revise("overlapping", 0.5), real(40), 3, seed=seed)[0] for seed in (7, 7, 8))
    assert [listed(data) for data in first] == [listed(data) for data in second]
    assert listed(first[1]) != listed(other[1])


def test_a_model_that_writes_another_number_of_examples_cannot_revise():
    class Doubling(TraceModel):
        def regenerate(self, data, *, seed):
            return data.concat(data)

    data = real(4)
    stage = Stage(1, data, lambda: data, Doubling(0, CallLog(), data.values))
    with pytest.raises(ConfigError, match=r"regime\.name: 'revise'.*4 were generated for 2.*such as documents"):
        revise("overlapping", 0.5).generate(stage, seed=0)


@pytest.mark.parametrize(("key", "value"), [("share", 0.0), ("share", 1.1), ("factor", 0.0), ("factor", 1.1)])
def test_a_revision_out_of_range_is_refused(key, value):
    with pytest.raises(ValueError, match=key):
        Revise(**{"name": "revise", "subset": "overlapping", "share": 0.5, key: value})


def test_the_golden_weight_is_that_of_the_formula():
    assert Weighted(name="weighted").weight == pytest.approx((5**0.5 - 1) / 2)
    assert Weighted(name="weighted", generated_ratio=10).weight == pytest.approx(0.27, abs=0.001)
    assert Weighted(name="weighted", generated_ratio=0.1).weight == pytest.approx(0.92, abs=0.005)
    assert Weighted(name="weighted", real_weight=0.3).weight == 0.3


@pytest.mark.parametrize(("weight", "ratio"), [("golden", 1.0), (0.8, 0.5), (0.1, 2.0)])
def test_a_weighted_set_holds_real_data_in_its_share_and_each_example_about_equally_often(weight, ratio):
    regime = Weighted(name="weighted", real_weight=weight, generated_ratio=ratio)
    sets, call_log, _ = recursion(regime, real(40), 3)
    assert listed(sets[0]) == listed(real(40))
    assert [n for _, n, _ in call_log.of("sample")] == [round(40 * ratio)] * 2
    values = listed(sets[2])
    assert len(values) == 40 + round(40 * ratio)
    assert sum(value < 1000 for value in values) == round(regime.weight * len(values))
    for kind in ([v for v in values if v < 1000], [v for v in values if v >= 2000]):
        counts = [kind.count(value) for value in set(kind)]
        assert max(counts) - min(counts) <= 1
    assert all(value < 1000 or value >= 2000 for value in values)


def test_what_a_weighted_set_repeats_of_one_kind_says_nothing_of_the_other():
    regime = Weighted(name="weighted", real_weight=0.25)
    places = []
    for seed in range(20):
        mixed = listed(regime.mix(1, real(40), {1: ArrayData(1000.0 + np.arange(40))}, seed=seed))
        chosen = {value for value in mixed if value < 1000}
        repeated = {value - 1000 for value in mixed if value >= 1000 and mixed.count(value) == 2}
        assert len(chosen) == len(repeated) == 20
        places.append(len(chosen & repeated))
    # Half of 20 by chance; all of them if both were drawn alike.
    assert np.mean(places) == pytest.approx(10, abs=1.5)


def test_a_weight_without_real_or_written_data_is_refused():
    for weight in (0.0, 1.0):
        with pytest.raises(ValueError, match="real_weight"):
            Weighted(name="weighted", real_weight=weight)


def test_fresh_only_trains_on_each_part_of_the_real_data_once_and_asks_no_model():
    sets, call_log, _ = recursion(FRESH_ONLY, real(6), 3)
    assert [listed(data) for data in sets] == [[0, 1], [2, 3], [4, 5]]
    assert call_log.calls == []
    assert [FRESH_ONLY.budget(generation, real(6)) for generation in range(3)] == [2, 2, 2]


def test_fresh_only_has_no_more_generations_than_parts():
    arm = {"regime": {"name": "fresh_only", "fractions": 3}, "generations": 4}
    with pytest.raises(ConfigError, match=r"3 parts are no fresh data for 4 generations\. Use as many parts"):
        load({"learner": "gaussian", **arm})
    assert load({"learner": "gaussian", **arm, "generations": 3}).arms
