"""The doors of the laboratory: code of one's own, by module:name, wherever it can stand."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tailkeep import lab, report
from tailkeep.errors import CodeError, ConfigError, FingerprintError, InputError
from tailkeep.lab.causal_lm.data_config import CodeCorpus
from tailkeep.lab.causal_lm.dataset import read_dataset
from tailkeep.lab.causal_lm.generation import _LogitShaper
from tailkeep.lab.causal_lm.selection import _log_weights
from tailkeep.lab.learners import sources_of
from tests.lab.small_lab import outcome, run_though_killed
from tests.lab.stubs import CallLog, trace_learners
from tests.runs.faults import FaultyStorage, content

EXAMPLES = Path(__file__).parents[2] / "examples" / "doors"
GAUSSIAN = {"learner": "gaussian", "generations": 2, "data": {"size": 8, "chains": 2}}
ACCUMULATE = {"name": "accumulate"}
TRACE = {"learner": "user", "id": "trace", "version": "1", "generations": 2}


@pytest.fixture
def examples(monkeypatch):
    """The folder of the examples, on the path."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return EXAMPLES


def run(tree, out, **options):
    learners = trace_learners(CallLog()) if tree.get("learner") == "user" else None
    return lab.run(tree, out, learners=learners, storage=FaultyStorage(), **options)


def metrics_of(directory, arm="baseline"):
    return [cell.metrics()["metrics"] for cell in directory.generation_dirs() if cell.arm == arm]


# Every door, by the examples


@pytest.mark.slow
def test_every_example_stands_in_its_place_and_has_an_effect(tmp_path):
    """In two processes, from YAML, as the command runs it."""
    sys.path.append(str(EXAMPLES))
    try:
        directory = lab.run(EXAMPLES / "doors.yaml", tmp_path / "run", workers=2)
    finally:
        sys.path.remove(str(EXAMPLES))
    rows = {(cell.arm, cell.generation): cell.metrics()["metrics"] for cell in directory.generation_dirs()}
    baseline = rows["baseline", 1]
    for arm in ("loss", "regime", "decoder", "selector", "editor", "data"):
        assert rows[arm, 1]["held_out_nll"] != baseline["held_out_nll"], arm
    assert rows["regime", 1]["with_real_data"] == 1.0
    assert rows["selector", 1]["candidates"] > baseline["train_data_units"] / 100
    assert 0 <= rows["metric", 1]["repeated_3"] <= 1
    assert {name: value for name, value in rows["metric", 1].items() if name != "repeated_3"} == baseline
    assert "scale" in rows["learner", 2]


def test_every_example_is_an_arm_of_the_configuration():
    text = (EXAMPLES / "doors.yaml").read_text()
    assert all(f'"{path.stem}:' in text for path in EXAMPLES.glob("*.py"))
    assert len(lab.load(EXAMPLES / "doors.yaml").arms) == 1 + len(list(EXAMPLES.glob("*.py")))


def test_an_arm_of_ones_own_stands_beside_those_of_the_demo_and_changes_none():
    config, demo = lab.load(EXAMPLES / "demo.yaml"), lab.load("demo")
    assert list(config.arms) == [*demo.arms, "softened"]
    assert {name: config.arms[name] for name in demo.arms} == demo.arms
    assert (config.seeds, config.preset, config.name) == (demo.seeds, demo.preset, demo.name)
    differences = {"loss": config.arms["softened"].loss}
    assert config.arms["baseline"].model_copy(update=differences) == config.arms["softened"]


def test_a_learner_from_yaml_gives_the_same_bytes_in_processes(examples, tmp_path):
    tree = {"learner": "my_learner:scales", "options": {"size": 20}, "generations": 3, "seeds": [0, 1]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(tree))
    for workers in (1, 2):
        lab.run(tmp_path / "own.yaml", tmp_path / str(workers), workers=workers)
    without = ("timings.json", "timings.jsonl", ".lock")
    assert content(tmp_path / "1", without=without) == content(tmp_path / "2", without=without)
    config = lab.load(tmp_path / "1" / "config.yaml")
    assert config.arms["baseline"].code == "my_learner:scales"
    lab.run(config, tmp_path / "1")


# From Python


@dataclass(frozen=True)
class RealAgain:
    """Every generation trains on real data; `note` changes nothing."""

    note: str = ""
    keeps_history = False

    def generate(self, stage, *, seed):
        return stage.model.sample(2, seed=seed)

    def mix(self, generation, real, generated, *, seed):
        return real

    def budget(self, generation, real):
        return real.units

    def facts(self, generation, generated):
        return {"real_again": 1.0}


@dataclass(frozen=True)
class AllThatIsThere(RealAgain):
    """Trains on real data and on all that it is given, which is the newest alone."""

    def mix(self, generation, real, generated, *, seed):
        return real.concat(*generated.values())

    def facts(self, generation, generated):
        return {"texts": float(len(generated))}


def half_width(model, samples, factor: float = 0.5):
    return {"half_width": factor * float(samples["common"].values.std())}


def width(model, samples):
    """Half of the standard deviation, which falls from generation to generation, and what it is."""
    limit = lab.FailureLimit(0.9, "width 10 % below generation 0", of="width")
    definition = lab.Metric(
        "Width of the samples", "Half of σ.", "higher", headline=True, range="positive", unit="cm", limits=(limit,)
    )
    return lab.Measurement(
        {"common.width": half_width(model, samples)["half_width"]}, definitions={"width": definition}
    )


def std_again(model, samples):
    return {"mean": 0.0}


def negate(model, data, *, seed):
    return type(data)(-data.values)


def test_functions_and_classes_can_be_given_as_they_are(tmp_path):
    directory = run({**TRACE, "regime": {"name": RealAgain, "note": "x"}, "metrics": [half_width]}, tmp_path)
    assert [row.get("real_again") for row in metrics_of(directory)] == [1.0, 1.0]
    assert all("half_width" in row for row in metrics_of(directory))
    assert [row["train_data_units"] for row in metrics_of(directory)] == [6.0, 6.0]


def test_a_regime_without_history_is_given_the_newest_alone_though_the_run_was_killed(tmp_path):
    tree = {**TRACE, "generations": 4, "regime": {"name": AllThatIsThere}}
    whole = metrics_of(run(tree, tmp_path / "whole"))
    assert [row["texts"] for row in whole] == [0.0, 1.0, 1.0, 1.0]
    run_though_killed(tree, tmp_path / "killed", learners=trace_learners(CallLog()))
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def test_a_metric_of_ones_own_is_drawn_and_tested_like_ours(tmp_path):
    tree = {**GAUSSIAN, "generations": 6, "seeds": [0, 1, 2], "arms": {"replace": {}, "all": {"regime": ACCUMULATE}}}
    run({**tree, "metrics": [width]}, tmp_path)
    page = report.write(tmp_path).read_text()
    assert "Width of the samples, cm ↑" in page
    assert "Half of σ. Line: mean of 3 seeds; band: 95" in page
    (group,) = report.summarise(tmp_path).groups
    assert "common.width" in group.metrics
    assert "common.width" in {one.metric for one in group.differences}
    rows = (tmp_path / "tables" / "failures.csv").read_text()
    assert "width 10 % below generation 0" in rows
    without = run({**tree, "metrics": [half_width]}, tmp_path / "without").path
    assert "half_width" not in report.summarise(without).groups[0].metrics


def test_an_editor_needs_no_model_that_edits(tmp_path):
    directory = run({**GAUSSIAN, "regime": {"name": "edit", "editor": negate}}, tmp_path)
    real, edited = (row["mean_abs_median"] for row in metrics_of(directory))
    assert real == pytest.approx(edited)


# What is refused


def test_a_metric_of_a_name_that_is_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"metrics\.0: .*:std_again \(.*\): there is a metric 'mean' already"):
        run({**TRACE, "metrics": [std_again]}, tmp_path)


def test_a_regime_without_a_method_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(ConfigError, match=r"regime: .*:CallLog \(.*stubs\.py\) has no 'keeps_history'\. It needs "):
        run({**TRACE, "regime": {"name": CallLog}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rule_and_editor_exclude_each_other():
    rule = {"name": "low", "threshold": 0.1}
    with pytest.raises(ConfigError, match="rule and sampler have no effect beside an editor"):
        lab.load({**TRACE, "regime": {"name": "edit", "editor": negate, "rule": rule}})


def test_a_learner_that_makes_no_experiment_is_refused(tmp_path):
    (tmp_path / "no_learner.py").write_text("def build(*, seed):\n    return 3\n")
    sys.path.append(str(tmp_path))
    try:
        with pytest.raises(ConfigError, match=r"no_learner:build \(.*\) returned int 3\. Return a tailkeep\.lab\.Exp"):
            run({"learner": "no_learner:build"}, tmp_path / "run")
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_that_cannot_be_used_are_refused(weights):
    with pytest.raises(ConfigError, match=r"own:weigh returned .* Return 2 finite ones, none below 0 and one above"):
        _log_weights(weights, 2, "own:weigh")
    assert _log_weights([1.0, 0.0], 2, "own:weigh").tolist() == [0.0, -np.inf]


def no_held_out():
    return {"real": ["a text"]}


def test_a_source_without_held_out_texts_is_refused():
    with pytest.raises(InputError, match=r"no_held_out \(.*test_doors\.py\) returned NoneType under 'held_out'"):
        read_dataset(CodeCorpus(name="code", code=f"{__name__}:no_held_out"))


# What raises, or returns what cannot be used: one error that names the code


def raise_key_error(model, samples):
    raise KeyError("no such word")


def leave(model, samples):
    sys.exit(3)


def give_none(model, samples):
    return None


def give_text(model, samples):
    return {"words": "many"}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raise_key_error, r"raise_key_error raised KeyError: 'no such word' \(.*test_doors\.py, line \d+\)"),
        (leave, r"leave raised SystemExit: 3 \(.*test_doors\.py, line \d+\)"),
        (give_none, r"metrics\.0: .*give_none \(.*test_doors\.py\) returned NoneType\. Return numbers by name"),
        (give_text, r"metrics\.0: .*give_text \(.*\) returned str 'many' for 'words'\. Return a number"),
    ],
)
def test_a_metric_that_fails_is_one_error_that_says_where(function, message, tmp_path):
    with pytest.raises((CodeError, ConfigError), match=message):
        run({**TRACE, "metrics": [function]}, tmp_path)


def test_an_exception_in_a_worker_says_where_too(examples, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_fault.py").write_text("def f(model, samples):\n    return 1 / 0\n")
    tree = {**GAUSSIAN, "seeds": [0, 1], "metrics": ["own_fault:f"]}
    with pytest.raises(CodeError, match=r"own_fault:f raised ZeroDivisionError: division by zero .*, line 2\)"):
        lab.run(tree, tmp_path / "run", workers=2)


def test_an_estimate_says_where_too():
    with pytest.raises(CodeError, match="raise_key_error raised KeyError"):
        lab.estimate(lab.load({**GAUSSIAN, "metrics": [raise_key_error]}))


def test_an_exception_from_elsewhere_is_not_blamed_on_the_code(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["tailkeep.lab.run"], "run_chain", json.loads)
    with pytest.raises(TypeError, match="positional argument"):
        run({**TRACE, "metrics": [half_width]}, tmp_path)


def no_seed(model, data):
    return data


def give_nothing(model, data, *, seed):
    return None


def test_a_function_that_cannot_be_called_is_refused_before_a_folder_is_made(tmp_path):
    message = r"no_seed \(.*\) cannot be called \(got an unexpected keyword argument 'seed'\)\. It is \(model, data\)"
    with pytest.raises(ConfigError, match=message):
        run({**TRACE, "regime": {"name": "edit", "editor": no_seed}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_editor_that_returns_no_data_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"regime\.editor: .*give_nothing \(.*\) returned NoneType\. Return .* as it"):
        run({**GAUSSIAN, "regime": {"name": "edit", "editor": give_nothing}}, tmp_path)


class WithoutResult(RealAgain):
    def mix(self, generation, real, generated, *, seed):
        return None


class WithoutBudget(RealAgain):
    def budget(self, generation, real):
        return "many"


class WithoutFacts(RealAgain):
    def facts(self, generation, generated):
        return 3


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        (WithoutResult, r"mix \(.*test_doors\.py\) returned NoneType"),
        (WithoutBudget, r"budget \(.*\) returned str 'many'\. Return a whole number of units >= 1"),
        (WithoutFacts, r"facts \(.*\) returned int 3\. Return numbers by name"),
    ],
)
def test_a_regime_whose_method_returns_something_else_is_refused(regime, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run({**TRACE, "regime": {"name": regime}}, tmp_path)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, r"own:f returned NoneType\. Return logits \(2, 4\)"),
        (torch.zeros(2, 3), r"own:f returned Tensor \(2, 3\)\. Return logits \(2, 4\)"),
        (torch.full((2, 4), torch.nan), "returned logits that are NaN, or none of them finite"),
        (torch.full((2, 4), -torch.inf), "returned logits that are NaN, or none of them finite"),
    ],
)
def test_logits_that_cannot_be_sampled_from_are_refused(returned, message):
    shaper = _LogitShaper(lambda logits, ids: returned, "own:f")
    with pytest.raises(ConfigError, match=message):
        shaper(torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 4))


def test_weights_that_are_no_numbers_are_refused():
    with pytest.raises(ConfigError, match=r"own:weigh returned str 'abc'\. Return 2 numbers"):
        _log_weights("abc", 2, "own:weigh")


# The command


@pytest.fixture
def trap(tmp_path):
    """A configuration whose module must not be imported."""
    (tmp_path / "trap.py").write_text("raise RuntimeError('imported')\n")
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**GAUSSIAN, "metrics": [{"name": "trap:spring"}]}))
    return path


def test_code_is_refused_unless_it_is_allowed_and_named_with_its_file(tailkeep, trap, tmp_path):
    code, _, err = tailkeep("lab", trap, "--out", tmp_path / "run")
    assert code == 2
    assert f"metrics.0: the configuration names code, trap:spring, in {tmp_path / 'trap.py'}." in err
    assert "give --allow-code" in err
    assert not (tmp_path / "run").exists()
    assert "trap" not in sys.modules
    code, _, err = tailkeep("lab", trap, "--out", tmp_path / "run", "--allow-code", "--workers", 1)
    assert code == 2
    assert f"the import of trap raised RuntimeError: imported ({tmp_path / 'trap.py'}, line 1)" in err


def test_allowed_code_beside_the_configuration_runs(tailkeep, tmp_path):
    (tmp_path / "beside.py").write_text("def one(model, samples, value: float):\n    return {'one': value}\n")
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**GAUSSIAN, "metrics": [{"name": "beside:one", "value": 2}]}))
    code, _, _ = tailkeep("lab", path, "--out", tmp_path / "run", "--allow-code", "--workers", 1)
    assert code == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["one"] for row in rows] == [2.0, 2.0]


# The fingerprint


def test_the_source_is_in_the_fingerprint(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "def spread(model, samples):\n    return {'spread': 1.0}\n"
    (tmp_path / "own_metric.py").write_text(source)
    tree = {**GAUSSIAN, "metrics": ["own_metric:spread"]}
    run(tree, tmp_path / "run")
    (tmp_path / "own_metric.py").write_text(source + "# changed\n")
    with pytest.raises(FingerprintError, match=r"arms.baseline.code_sources.metrics.0: "):
        run(tree, tmp_path / "run")


def test_doors_that_are_not_used_leave_no_trace_in_the_fingerprint():
    config = lab.load({**TRACE, "arms": {"a": {}, "b": {"regime": {"name": "edit"}}}})
    for source in sources_of(config).values():
        assert {"metrics", "code_sources"}.isdisjoint(source.inputs)
        assert "editor" not in source.inputs["regime"]
