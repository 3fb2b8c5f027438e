"""The regime `select` with an experiment that records its calls, and what is refused before anything is trained."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tailkeep.lab.protocols import Stage
from tailkeep.lab.regimes import SelectRegime
from tailkeep.lab.selectors import Detector, Surplexity, Uniform
from tailkeep.lab.toy_data import ArrayData
from tests.lab.stubs import CallLog, TraceModel, listed, real, trace_experiment, trace_learners

RANDOM = {"name": "select", "by": {"name": "random"}}
USER = {"learner": "user", "id": "trace", "version": "1", "generations": 2, "regime": RANDOM}
LANGUAGE = {"learner": "causal_lm", "data": {"name": "world"}, "model": {"name": "scratch"}}


@dataclass(frozen=True)
class SelectedNumbers(ArrayData):
    @property
    def facts(self):
        return {"selected_share": float(self.values[0])}


def last_ones(model, candidates, *, by, size, seed):
    model.call_log.calls.append(("select", (len(candidates), by, size, seed)))
    return SelectedNumbers(candidates.values[-size:])


def recursion(regime, size, generations):
    """The training set and the facts of each generation, and what was asked of the models and of the selection."""
    call_log, sets, facts, generated = CallLog(), [], [], {}
    for generation in range(generations):
        if generation:
            model = TraceModel(generation - 1, call_log, sets[-1].values)
            stage = Stage(generation, real(size), lambda: sets[-1], model, last_ones)
            generated = {generation: regime.generate(stage, seed=generation)}
        sets.append(regime.mix(generation, real(size), generated, seed=0))
        facts.append(regime.facts(generation, generated))
    return [listed(data) for data in sets], facts, call_log


def test_each_generation_trains_on_what_was_selected_of_several_times_as_much():
    regime = SelectRegime(name="select", by=Surplexity(name="surplexity"), oversampling=3)
    sets, facts, call_log = recursion(regime, 2, 3)
    assert sets == [[0, 1], [1004, 1005], [2004, 2005]]
    assert call_log.of("sample") == [(0, 6, 1), (1, 6, 2)]
    assert call_log.of("select") == [(6, regime.by, 2, 1), (6, regime.by, 2, 2)]
    assert facts == [{}, {"selected_share": 1004}, {"selected_share": 2004}]
    assert [regime.budget(generation, real(7)) for generation in range(3)] == [7, 7, 7]


def test_beside_real_data_only_the_missing_examples_are_written_and_selected():
    regime = SelectRegime(name="select", by=Uniform(name="random"), oversampling=2, real_share=0.75)
    sets, _, call_log = recursion(regime, 8, 2)
    assert call_log.of("sample") == [(0, 4, 1)]
    assert sets[1][-2:] == [1002, 1003]
    assert len(sets[1]) == 8
    assert max(sets[1][:6]) < 8


def test_every_selector_has_as_many_candidates_and_there_is_always_a_choice():
    calls = {}
    for by in ("random", "surplexity", "dsir", "verifier", "detector"):
        tree = {**LANGUAGE, "regime": {"name": "select", "by": {"name": by}}}
        _, _, call_log = recursion(lab.load(tree).arms["baseline"].regime, 5, 2)
        calls[by] = call_log.of("sample")
    assert set(map(str, calls.values())) == {"[(0, 20, 1)]"}
    _, _, call_log = recursion(SelectRegime(name="select", by=Uniform(name="random"), oversampling=1.01), 5, 2)
    assert call_log.of("sample") == [(0, 6, 1)]


def test_the_detector_weighs_as_in_the_paper_by_default():
    assert (Detector(name="detector").exponent, Detector(name="detector").max_repeats) == (10, 3)


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        ({}, r"the key 'regime\.by' is missing"),
        ({"by": {"name": "perplexity"}}, r"regime\.by\.name: 'perplexity' is unknown\. Did you mean 'surplexity'"),
        ({"by": {"name": "verifier", "eror_rate": 0.1}}, r"unknown key 'regime\.by\.eror_rate'\. Did you mean"),
        ({"by": {"name": "surplexity", "max_repeats": 3}}, r"unknown key 'regime\.by\.max_repeats'"),
        ({"by": {"name": "verifier", "error_rate": 0.6}}, r"regime\.by\.error_rate"),
        ({"by": {"name": "detector", "exponent": 0}}, r"regime\.by\.exponent"),
        ({"by": {"name": "random"}, "oversampling": 1}, r"regime\.oversampling"),
        ({"by": {"name": "random"}, "real_share": 1}, r"regime\.real_share"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(regime, message):
    with pytest.raises(ConfigError, match=message) as caught:
        lab.load({**LANGUAGE, "regime": {"name": "select", **regime}, "arms": {"a": {}, "b": {}}})
    assert len(str(caught.value).splitlines()) == 1


def test_a_verifier_of_a_text_file_is_refused():
    tree = {**LANGUAGE, "data": {"name": "text", "path": "x.txt"}}
    with pytest.raises(ConfigError) as caught:
        lab.load({**tree, "regime": {"name": "select", "by": {"name": "verifier"}}})
    (line,) = str(caught.value).splitlines()
    assert "regime.by 'verifier' knows the truth of the embedded world, but not of a text file" in line


@pytest.mark.parametrize("learner", ["gaussian", "mixture", "regression", "flow", "gan", "vae"])
def test_a_learner_that_writes_no_text_has_nothing_to_select_from(learner):
    with pytest.raises(ConfigError) as caught:
        lab.load({"learner": learner, "regime": RANDOM, "arms": {"a": {}, "b": {}}})
    lines = [line for line in str(caught.value).splitlines() if "regime" in line]
    assert len(lines) == 1
    assert "regime: 'select' weights generated texts, but this learner generates none" in lines[0]


def test_a_learner_of_ones_own_that_cannot_select_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(ConfigError, match=r"regime\.name: 'select' weights what models generate, but 'trace' does not"):
        lab.run(USER, tmp_path / "run", learners=trace_learners(CallLog()))
    assert not (tmp_path / "run").exists()


def test_a_subject_of_ones_own_that_selects_is_asked_to(tmp_path):
    call_log = CallLog()
    able = replace(trace_experiment(call_log, size=2), select=last_ones)
    run = lab.run(USER, tmp_path / "run", learners={"trace": lambda options, seed: able})
    assert run.generation_dir("baseline", 0, 1).metrics()["metrics"]["selected_share"] == 1006
    assert [call[:3] for call in call_log.of("select")] == [(8, Uniform(name="random"), 2)]
    assert np.load(run.path / "cells/baseline/0/1/generated/1/values.npy").tolist() == [1006, 1007]
