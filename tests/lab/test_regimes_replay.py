"""The regime `replay` with an experiment that records its calls, and what is refused before anything is trained."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tailkeep.lab.protocols import Measurement, Stage
from tailkeep.lab.text_regimes import Replay
from tailkeep.lab.toy_data import ArrayData
from tailkeep.metrics import copy_extinction, golden_weight
from tests.lab.stubs import CallLog, TraceModel, listed, real, trace_experiment, trace_learners

RANDOM = {"name": "random"}
EXTINCTION = {"name": "extinction", "until": 5}
LANGUAGE = {"learner": "causal_lm", "data": {"name": "world"}, "model": {"name": "scratch"}}
USER = {
    "learner": "user",
    "id": "trace",
    "version": "1",
    "generations": 3,
    "regime": {"name": "replay", "real_budget": 0.25, "by": RANDOM},
}


def regime(**keys):
    return Replay.model_validate({"name": "replay", "by": RANDOM, "real_budget": 0.25, **keys})


@dataclass(frozen=True)
class ReplayedNumbers(ArrayData):
    """Generated numbers with the real numbers 0 and 2 beside them."""

    @property
    def replayed(self):
        return SimpleNamespace(indices=np.array([0, 2]))

    @property
    def facts(self):
        return {"replayed_documents": 2.0}

    def read(self, folder):
        return ReplayedNumbers(super().read(folder).values)


def even_ones(model, texts, *, by, budget, extinction, seed):
    model.call_log.calls.append(("replay", ([listed(text) for text in texts], by.name, budget, extinction, seed)))
    return ReplayedNumbers(texts[-1].values)


def recursion(regime, size, generations):
    """The training sets, the facts, and the calls of a chain."""
    call_log, sets, facts, generated = CallLog(), [], [], {}
    for generation in range(generations):
        if generation:
            model = TraceModel(generation - 1, call_log, sets[-1].values)
            earlier = dict(generated)
            stage = Stage(generation, real(size), lambda: sets[-1], model, None, even_ones, earlier)
            generated[generation] = regime.generate(stage, seed=generation)
        sets.append(regime.mix(generation, real(size), generated, seed=0))
        facts.append(regime.facts(generation, generated))
    return [listed(data) for data in sets], facts, call_log


def test_in_base_mix_replayed_examples_stand_beside_the_newest_ones_that_are_missing():
    sets, facts, call_log = recursion(regime(), 4, 3)
    assert sets == [[0, 1, 2, 3], [0, 2, 1000, 1001, 1002], [0, 2, 2000, 2001, 2002]]
    assert [call[:2] for call in call_log.of("sample")] == [(0, 3), (1, 3)]
    assert [call[0] for call in call_log.of("replay")] == [[[1000, 1001, 1002]], [[2000, 2001, 2002]]]
    assert facts == [{}, {"replayed_documents": 2.0}, {"replayed_documents": 2.0}]
    assert regime().budget(2, real(4)) == 4


def test_in_base_accumulate_they_stand_beside_everything_generated_so_far():
    sets, _, call_log = recursion(regime(base="accumulate"), 3, 3)
    assert sets[2] == [0, 2, 1000, 1001, 1002, 2000, 2001, 2002]
    assert [call[:2] for call in call_log.of("sample")] == [(0, 3), (1, 3)]
    assert call_log.of("replay")[1][0] == [[1000, 1001, 1002], [2000, 2001, 2002]]


def test_a_real_weight_repeats_the_replayed_examples():
    sets, _, _ = recursion(regime(real_weight=0.5), 8, 2)
    # 6 of 12 are real: each of the two three times.
    assert sorted(sets[1][:6]) == [0, 0, 0, 2, 2, 2]
    assert len(sets[1]) == 12
    # Two of the three examples are real as they are.
    assert recursion(regime(real_budget=0.6, real_weight=0.61), 3, 2)[0][1] == [0, 2, 1000]
    golden = regime(real_weight="golden")
    assert golden.weight(1) == pytest.approx(golden_weight(0.25 / 0.75))
    assert golden.weight(1) > regime().weight(1) == pytest.approx(0.25)
    assert regime(base="accumulate").weight(3) == pytest.approx(0.25 / 3.25)
    assert regime(base="accumulate", real_weight="golden").weight(3) == pytest.approx(golden_weight(0.25 / 3))


def test_extinction_counts_the_rounds_that_remain_and_other_choices_none():
    assert regime().copy_extinction(1) is None
    mixed = regime(by=EXTINCTION)
    for generation in range(1, 5):
        extinction = mixed.copy_extinction(generation)
        assert extinction.synthetic == pytest.approx(copy_extinction(5 - generation)[-1])
        assert extinction.replayed == pytest.approx(extinction.synthetic)
    # In a pool three and a quarter texts in size a copy is written a third as often, but stays.
    last = regime(by=EXTINCTION, base="accumulate").copy_extinction(4)
    assert last.synthetic == last.replayed == pytest.approx(np.exp(-1 / 4.25))
    earlier = regime(by=EXTINCTION, base="accumulate").copy_extinction(1)
    assert earlier.synthetic < earlier.replayed
    # Repeated documents save more, and the synthetic copies beside them weigh less.
    weighted = regime(by=EXTINCTION, real_weight=0.5).copy_extinction(2)
    assert weighted.replayed < mixed.copy_extinction(2).replayed < weighted.synthetic


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"by": RANDOM}, r"the key 'regime\.real_budget' is missing"),
        ({"real_budget": 0.1}, r"the key 'regime\.by' is missing"),
        ({"real_budget": 0, "by": RANDOM}, r"regime\.real_budget"),
        ({"real_budget": 1, "by": RANDOM}, r"regime\.real_budget"),
        ({"real_budget": 0.1, "by": RANDOM, "base": "replace"}, r"regime\.base"),
        ({"real_budget": 0.1, "by": {"name": "dsir"}}, r"regime\.by\.name: 'dsir' is unknown"),
        ({"real_budget": 0.1, "by": {"name": "extinction"}}, r"the key 'regime\.by\.until' is missing"),
        ({"real_budget": 0.1, "by": {"name": "random", "until": 9}}, r"unknown key 'regime\.by\.until'"),
        ({"real_budget": 0.1, "by": RANDOM, "real_share": 0.1}, r"unknown key 'regime\.real_share'"),
        (
            {"real_budget": 0.3, "by": RANDOM, "real_weight": 0.3},
            r"real_weight 0\.3 repeats no document where real_budget 0\.3 is as large",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(keys, message):
    with pytest.raises(ConfigError, match=message) as caught:
        lab.load({**LANGUAGE, "regime": {"name": "replay", **keys}, "arms": {"a": {}, "b": {}}})
    assert len(str(caught.value).splitlines()) == 1


def test_the_text_that_counts_is_not_older_than_the_last_models():
    tree = {**LANGUAGE, "generations": 6, "regime": {"name": "replay", "real_budget": 0.1, "by": EXTINCTION}}
    message = (
        r"regime\.by\.until: the text of round 5 is written before the last of 6 generations .* Set it to 6 or more"
    )
    with pytest.raises(ConfigError, match=message):
        lab.load(tree)
    assert lab.load({**tree, "generations": 5}).arms["baseline"].regime.by.until == 5


def test_select_does_not_take_the_selector_of_real_documents():
    with pytest.raises(ConfigError, match=r"regime\.by\.name: 'extinction' is unknown"):
        lab.load({**LANGUAGE, "regime": {"name": "select", "by": EXTINCTION}})


@pytest.mark.parametrize("learner", ["gaussian", "mixture", "regression", "ecosystem", "flow", "gan", "vae"])
def test_a_learner_without_documents_of_its_own_replays_none(learner):
    with pytest.raises(ConfigError) as caught:
        lab.load({"learner": learner, "regime": USER["regime"], "arms": {"a": {}, "b": {}}})
    lines = [line for line in str(caught.value).splitlines() if "replay" in line]
    assert len(lines) == 1
    assert "regime: 'replay' chooses real documents by their tokens, but this learner has none" in lines[0]


def test_a_learner_of_ones_own_that_cannot_replay_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(ConfigError, match=r"regime\.name: 'replay' chooses real examples, but 'trace' does not say"):
        lab.run(USER, tmp_path / "run", learners=trace_learners(CallLog()))
    assert not (tmp_path / "run").exists()


def test_a_learner_of_ones_own_that_replays_is_measured_beside_all_that_was_generated(tmp_path):
    call_log = CallLog()

    def beside(generated, samples):
        return Measurement({"generations_so_far": float(len(generated)), "views": float(len(samples))})

    able = replace(trace_experiment(call_log, size=4), replay=even_ones, measure_by_generated=beside)
    run = lab.run(USER, tmp_path / "run", learners={"trace": lambda options, seed: able})
    rows = [run.generation_dir("baseline", 0, generation).metrics()["metrics"] for generation in range(3)]
    # Arms share generation 0, whatever their regime.
    assert [row.get("generations_so_far") for row in rows] == [None, 1.0, 2.0]
    assert [row.get("replayed_documents") for row in rows] == [None, 2.0, 2.0]
    assert [call[1] for call in call_log.of("fit")][2][:2] == [0, 2]
    hiding = replace(able, measure=lambda *_: Measurement({"views": 0.0}))
    with pytest.raises(ConfigError, match=r"'views' is a number of the metrics and of the further metrics"):
        lab.run(USER, tmp_path / "hidden", learners={"trace": lambda options, seed: hiding})
