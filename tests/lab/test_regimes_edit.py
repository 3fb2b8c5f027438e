"""The regime `edit` against a model that says what it was asked, and what is refused before anything is trained."""

from dataclasses import dataclass, replace

import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tailkeep.lab.protocols import Stage
from tailkeep.lab.text_regimes import EditRegime
from tailkeep.lab.toy_data import ArrayData
from tailkeep.rules import Sampler, ToEdit
from tests.lab.stubs import CallLog, TraceModel, listed, real, trace_experiment, trace_learners

USER = {"learner": "user", "id": "trace", "version": "1", "generations": 2, "regime": {"name": "edit"}}
LANGUAGE = {"learner": "causal_lm", "data": {"name": "world"}, "model": {"name": "scratch"}}


@dataclass(frozen=True)
class EditedNumbers(ArrayData):
    @property
    def facts(self):
        return {"changed_share": float(self.values[0] % 1)}


@dataclass(frozen=True)
class EditingTrace(TraceModel):
    def edit(self, data, *, rule, sampler, seed):
        self.call_log.calls.append(("edit", (self.generation, listed(data), rule, sampler, seed)))
        return EditedNumbers(data.values + 0.25)


def recursion(regime, generations):
    """The training set and the facts of each generation, and what was asked of the models."""
    call_log, sets, facts, generated = CallLog(), [], [], {}
    for generation in range(generations):
        if generation:
            model = EditingTrace(generation - 1, call_log, sets[-1].values)
            stage = Stage(generation, real(2), lambda: sets[-1], model)
            generated = {generation: regime.generate(stage, seed=generation)}
        sets.append(regime.mix(generation, real(2), generated, seed=0))
        facts.append(regime.facts(generation, generated))
    return [listed(data) for data in sets], facts, call_log.of("edit")


def test_each_generation_trains_on_the_real_data_as_the_last_model_has_edited_it():
    regime = EditRegime(name="edit", rule=ToEdit(threshold=0.5), sampler=Sampler(temperature=2.0))
    sets, facts, call_log = recursion(regime, 3)
    assert sets == [[0, 1], [0.25, 1.25], [0.25, 1.25]]
    assert call_log == [(model, [0, 1], regime.rule, regime.sampler, model + 1) for model in (0, 1)]
    assert facts == [{}, {"changed_share": 0.25}, {"changed_share": 0.25}]


def test_without_the_anchor_edits_are_of_edits():
    sets, facts, _ = recursion(EditRegime(name="edit", anchored=False), 4)
    assert sets == [[0, 1], [0.25, 1.25], [0.5, 1.5], [0.75, 1.75]]
    assert [metrics.get("changed_share") for metrics in facts] == [None, 0.25, 0.5, 0.75]


def test_what_a_model_has_generated_can_be_edited_by_itself():
    sets, facts, call_log = recursion(EditRegime(name="edit", source="generated"), 3)
    generated = [TraceModel(generation, CallLog(), ()).sample(2, seed=generation + 1) for generation in (0, 1)]
    assert [call[1] for call in call_log] == [listed(data) for data in generated]
    assert sets[1:] == [[value + 0.25 for value in listed(data)] for data in generated]
    assert facts[1:] == [{"changed_share": pytest.approx(data.values[0] % 1 + 0.25)} for data in generated]


def test_every_generation_stands_for_the_real_data():
    assert EditRegime(name="edit").budget(3, real(7)) == 7


def test_the_defaults_are_the_papers_and_anchored():
    regime = lab.load({**LANGUAGE, "regime": {"name": "edit"}}).arms["baseline"].regime
    assert regime.anchored
    assert (regime.rule.name, regime.rule.threshold) == ("toedit", 0.99)
    assert (regime.sampler.top_k, regime.sampler.exclude_original) == (8, False)


def test_a_rule_without_a_name_is_toedit():
    config = lab.load({**LANGUAGE, "regime": {"name": "edit"}}, overrides=["regime.rule.threshold=0.9"])
    assert config.arms["baseline"].regime.rule == ToEdit(threshold=0.9)
    assert (
        lab.load({**LANGUAGE, "regime": {"name": "edit", "rule": {"name": "low"}}}).arms["baseline"].regime.rule.name
        == "low"
    )


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        ({"rule": {"treshold": 0.5}}, r"unknown key 'regime\.rule\.treshold'\. Did you mean 'threshold'"),
        ({"rule": {"name": "tooedit"}}, r"regime\.rule\.name: 'tooedit' is unknown\. Did you mean 'toedit'"),
        ({"source": "generated", "anchored": False}, "regime: anchored has no effect beside source: generated"),
        ({"sampler": {"top_k": 1}}, r"regime: sampler\.top_k 1 leaves only the original"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(regime, message):
    with pytest.raises(ConfigError, match=message):
        lab.load({**LANGUAGE, "regime": {"name": "edit", **regime}})


@pytest.mark.parametrize("learner", ["gaussian", "mixture", "regression"])
def test_a_learner_of_numbers_has_nothing_to_edit(learner):
    with pytest.raises(ConfigError) as caught:
        lab.load({"learner": learner, "regime": {"name": "edit"}, "arms": {"a": {}, "b": {}}})
    (line,) = str(caught.value).splitlines()
    assert "config: regime: 'edit' resamples tokens of a text, which this learner's models cannot" in line


def test_a_learner_of_ones_own_that_cannot_edit_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(ConfigError, match=r"regime\.name: 'edit' needs models that edit data, and those of 'trace'"):
        lab.run(USER, tmp_path / "run", learners=trace_learners(CallLog()))
    assert not (tmp_path / "run").exists()


def test_a_learner_of_ones_own_that_edits_is_asked_to(tmp_path):
    call_log = CallLog()
    experiment = trace_experiment(call_log, size=2)

    @dataclass(frozen=True)
    class Learner(type(experiment.learner)):
        def fit(self, data, *, seed, budget, previous=None):
            model = super().fit(data, seed=seed, budget=budget, previous=previous)
            return EditingTrace(model.generation, model.call_log, model.trained_on)

    able = replace(experiment, learner=Learner(call_log), edits=True)
    run = lab.run(USER, tmp_path / "run", learners={"trace": lambda options, seed: able})
    metrics = run.generation_dir("baseline", 0, 1).metrics()["metrics"]
    assert metrics["changed_share"] == 0.25
    assert len(call_log.of("edit")) == 1
