"""A mistake in the user's own code is one error that names the code, its file and what to do; never a traceback."""

import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.data_config import CodeCorpus
from tailkeep.lab.causal_lm.dataset import read_dataset
from tailkeep.lab.causal_lm.tokens import TokenData
from tailkeep.lab.causal_lm.training import check_weights
from tailkeep.lab.checks import check_data, check_numbers

EXAMPLES = Path(__file__).parents[2] / "examples" / "doors"
GAUSSIAN = {"learner": "gaussian", "generations": 2, "data": {"size": 8, "chains": 2}}
_numbers = count()


@pytest.fixture
def run_module(tailkeep, tmp_path):
    """Run a configuration beside a module with `source`; `MODULE` stands for its name -> (exit code, stderr, file)."""

    def run(tree, source, *, generations=2, workers=1):
        module = f"user_code_{next(_numbers)}"
        (tmp_path / f"{module}.py").write_text(source)
        text = yaml.safe_dump({"seeds": [0, 1], "generations": generations, **tree}).replace("MODULE", module)
        (tmp_path / "own.yaml").write_text(text)
        code, _, err = tailkeep(
            "lab", tmp_path / "own.yaml", "--out", tmp_path / "run", "--allow-code", "--workers", workers
        )
        return code, err, tmp_path / f"{module}.py"

    return run


def check_one_error(result, message):
    code, err, path = result
    assert code == 2
    assert "Traceback" not in err
    assert f"{path.stem}:" in err
    assert f"({path}" in err
    assert re.search(message, err), err
    assert len([line for line in err.splitlines() if path.stem in line]) == 1


# A learner: the example with one thing wrong

LEARNER = (EXAMPLES / "my_learner.py").read_text()
SCALES = {"learner": "MODULE:scales", "options": {"size": 20}}
SAMPLE = "return ArrayData(np.random.default_rng(seed).normal(0, self.value, n))"
MEASURE = 'lambda model, samples: {"scale": model.value}'
VIEW = "lambda model, seed: model.sample(size, seed=seed)"
SAVE = '(folder / "scale.txt").write_text(str(self.value))'
EXPERIMENT = 'Experiment("scales", real, Scale(), views,'


def replaced(old, new):
    assert LEARNER.count(old) == 1, old
    return LEARNER.replace(old, new)


LEARNER_FAULTS = {
    "fit returns None": (
        replaced("return Scale(data.values.std())", "return None"),
        r"what fit returned \(NoneType\) has no 'facts'",
    ),
    "fit without budget": (
        replaced("seed, budget, previous", "seed, previous"),
        r"its 'fit' cannot be called \(got an unexpected keyword argument 'budget'\)\. It takes "
        r"\(data, \*, seed, previous=None\); let it take \(data, \*, seed, budget, previous\)",
    ),
    "sample returns a list": (
        replaced(SAMPLE, "return [0.0] * n")
        .replace(VIEW, "lambda model, seed: ArrayData(np.zeros(3))")
        .replace("Scale().sample(size, seed=seed)", "ArrayData(np.zeros(size))"),
        r"sample returned list\. Return ArrayData",
    ),
    "sample returns data of a list": (
        replaced(SAMPLE, "return ArrayData(np.zeros(n) if n == 20 else [0.0] * n)").replace(
            VIEW, VIEW.replace("size", "3")
        ),
        r"'common' returned ArrayData of list\. Give an array",
    ),
    "no save": (replaced("def save", "def store"), r"fit returned \(Scale\) has no 'save'"),
    "no load": (replaced("def load", "def restore"), r"its learner \(Scale\) has no 'load'"),
    "no facts": (replaced("self.value, self.facts = value, {}", "self.value = value"), r"\(Scale\) has no 'facts'"),
    "facts of None": (
        replaced("value, {}", "value, None"),
        r"facts of Scale returned NoneType\. Return numbers by name",
    ),
    "facts that are metrics": (
        replaced("value, {}", "value, {'scale': 1.0}"),
        "measure: 'scale' is one of the model's facts",
    ),
    "measure returns None": (
        replaced(MEASURE, "lambda model, samples: None"),
        r"measure returned NoneType\. Return num",
    ),
    "measure returns text": (
        replaced(MEASURE, "lambda model, samples: 'many'"),
        r"measure returned str 'many'\. Return num",
    ),
    "measure returns an array": (
        replaced(MEASURE, "lambda model, samples: {'a': np.zeros((30, 40))}"),
        r"measure returned ndarray \(30, 40\) for 'a'\. Return a number",
    ),
    "measure without samples": (
        replaced(MEASURE, "lambda model: {}"),
        r"measure cannot be called .* \(model, samples\)",
    ),
    "a view returns None": (
        replaced(VIEW, "lambda model, seed: None"),
        r"the view 'common' returned NoneType\. Return Array",
    ),
    "a view without a seed": (
        replaced(VIEW, "lambda model: model.sample(size, seed=0)"),
        r"the view 'common' cannot be called \(too many positional arguments\)\. It takes \(model\); let it take \(mod",
    ),
    "views is a list": (replaced(f'{{"common": {VIEW}}}', f"[{VIEW}]"), r"views is list\. Give functions by name"),
    "a view named as a path": (replaced('"common"', '"a/b"'), "views is dict with 'a/b'"),
    "real is a list": (
        replaced(EXPERIMENT, 'Experiment("scales", [1.0], Scale(), views,'),
        r"real \(list\) has no 'units'",
    ),
    "real and learner swapped": (
        replaced(EXPERIMENT, 'Experiment("scales", Scale(), real, views,'),
        r"real is Scale, which has a 'fit', and learner is ArrayData\. Exchange them",
    ),
    "name is a number": (
        replaced(EXPERIMENT, "Experiment(3, real, Scale(), views,"),
        r"name of the Experiment is int 3",
    ),
    "save into a folder that is not there": (
        replaced(SAVE, '(folder / "parts" / "scale.txt").write_text("1")'),
        r"raised FileNotFoundError: .*, line \d+\)\. Correct it there",
    ),
}


@pytest.mark.parametrize("fault", LEARNER_FAULTS)
def test_a_mistake_in_a_learner_is_one_error(fault, run_module):
    source, message = LEARNER_FAULTS[fault]
    check_one_error(run_module(SCALES, source), message)


def test_the_example_without_a_mistake_runs(run_module):
    assert run_module(SCALES, LEARNER)[0] == 0


def test_a_model_that_the_regime_cannot_use_is_refused_after_its_first_fit(run_module, tmp_path):
    result = run_module({**SCALES, "regime": {"name": "regenerate", "fractions": 2}}, LEARNER)
    check_one_error(result, r"fit returned \(Scale\) has no 'regenerate'\. It needs what lab.protocols.Model lists")
    assert not list((tmp_path / "run").rglob("model"))


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (
            "lambda model, candidates: candidates",
            r"select cannot be called .*\(model, candidates, \*, by, size, s",
        ),
        ("lambda model, candidates, **options: candidates", r"what select returned \(ArrayData\) has no 'facts'"),
        ("lambda model, candidates, **options: None", r"select returned NoneType\. Return ArrayData"),
    ],
)
def test_a_mistake_in_what_selects_is_one_error(select, message, run_module):
    source = replaced(MEASURE, f"{MEASURE}, select={select}")
    tree = {**SCALES, "regime": {"name": "select", "by": {"name": "random"}}}
    check_one_error(run_module(tree, source), message)


def test_a_full_disk_is_not_the_fault_of_the_code_that_saves(run_module):
    source = replaced(SAVE, "raise OSError(28, 'No space left on device')")
    code, err, _ = run_module(SCALES, source)
    assert code == 2
    assert "No space left on device. Nothing finished is lost: free the disk" in err


def test_the_users_functions_get_the_users_model(run_module):
    seen = "lambda model, samples: {'same': float(type(model) is Scale), 'scale': model.value}"
    code, err, path = run_module(SCALES, replaced(MEASURE, seen))
    assert code == 0, err
    assert all('"same": 1.0' in line for line in (path.parent / "run" / "metrics.jsonl").read_text().splitlines())


# A regime: the example with one thing wrong

REGIME = (EXAMPLES / "my_regime.py").read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_regime_whose_method_lacks_an_argument_is_one_error(workers, run_module, tmp_path):
    source = REGIME.replace("real, generated, *, seed)", "real, generated)")
    result = run_module({**GAUSSIAN, "regime": {"name": "MODULE:Weaning"}}, source, workers=workers)
    check_one_error(result, r"its 'mix' cannot be called .*let it take \(generation, real, generated, \*, seed\)")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def budget(self, generation, real)", "def budget(self)", r"its 'budget' cannot be called \(too many"),
        (
            "return real.units",
            "return __import__('numpy').zeros((30, 40))",
            r"budget .* returned ndarray \(30, 40\)\. R",
        ),
        (
            "keeps_history = False",
            "def keeps_history(self): return False",
            r"keeps_history .* is method\. Give True or",
        ),
        ("return real.concat(", "return real.take([]) if real else real.concat(", r"mix .* returned no examples"),
        ('"with_real_data"', '"mean_abs_median"', "'mean_abs_median' is a number of the regime and of the metrics"),
    ],
)
def test_a_mistake_in_a_regime_is_one_error(old, new, message, run_module):
    assert REGIME.count(old) == 1
    tree = {**GAUSSIAN, "regime": {"name": "MODULE:Weaning"}}
    check_one_error(run_module(tree, REGIME.replace(old, new)), message)


# A metric


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{'a': [1.0]}", r"returned list for 'a'\. Return a number"),
        ("{'a': __import__('numpy').zeros((30, 40))}", r"returned ndarray \(30, 40\) for 'a'\. Return a number"),
        ("{'mean_abs_median': 0.0}", "there is a metric 'mean_abs_median' already"),
        ("lab.Measurement({'a': 1.0}, {'density': [1]})", "there is a table 'density' already"),
        ("lab.Measurement({'a': 1.0}, definitions={'b': lab.Metric('B')})", r"defines 'b', which it did not return\. "),
        ("lab.Measurement({'a': 1.0}, definitions={'a': 'A'})", r"defines 'a' as str 'A'\. Give a lab\.Metric"),
        (
            "lab.Measurement({'a': 1.0}, definitions={'a': lab.Metric('A', better='up')})",
            r"defines a\.better: Input should be 'higher' or 'lower' \(received 'up'\)",
        ),
    ],
)
def test_a_mistake_in_a_metric_is_one_error(returned, message, run_module):
    source = f"from tailkeep import lab\n\n\ndef f(model, samples):\n    return {returned}\n"
    check_one_error(run_module({**GAUSSIAN, "metrics": ["MODULE:f"]}, source), message)


def test_what_becomes_a_number_is_one():
    values = {"a": np.float32(0.5), "b": torch.tensor(0.5), "c": 1}
    assert check_numbers(values, "own:f") == {"a": 0.5, "b": 0.5, "c": 1.0}


# Text


class Bytes:
    """As much of a tokenizer as documents need."""

    size = 4


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 1, 4], r"with ids from 0 to 4\. The tokenizer has 0 to 3\."),
        ([0, -1, 2], r"with ids from -1 to 2\. "),
        ([0, 1], r"with 2 ids for 1 documents of 3 tokens\. Keep their number"),
        ([0.0, 1.0, 2.0], r"with ids \(3,\) of float64\. Give whole numbers"),
        ([[0, 1, 2]], r"with ids \(1, 3\) of int64\. Give whole numbers"),
    ],
)
def test_ids_that_are_no_text_are_refused(ids, message):
    real = TokenData(np.array([0, 1, 3]), np.array([3]), np.array([0]), Bytes())
    assert check_data(real, real, "own:edit") is real
    with pytest.raises(ConfigError, match=f"own:edit returned TokenData {message}"):
        check_data(real.with_ids(np.array(ids)), real, "own:edit")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, r"own:weigh returned NoneType for 3 tokens\. Return a tensor"),
        (np.zeros(3), r"returned ndarray \(3,\) for 3 tokens"),
        (torch.ones(2), r"returned Tensor \(2,\) for 3 tokens"),
        (torch.tensor([1.0, torch.nan, 1.0]), "returned weights that are not finite"),
    ],
)
def test_weights_of_a_loss_that_cannot_be_used_are_refused(weights, message):
    with pytest.raises(ConfigError, match=message):
        check_weights(weights, torch.ones(3), "own:weigh")


def test_a_weight_of_what_is_not_finite_is_not_the_fault_of_the_loss():
    weights = torch.tensor([1.0, torch.nan])
    assert check_weights(weights, torch.tensor([1.0, torch.nan]), "own:weigh") is weights
    assert check_weights(torch.tensor([True, False]), torch.ones(2), "own:weigh").tolist() == [True, False]


def text_alone():
    return "a text"


def text_for_a_list():
    return {"real": "a text", "held_out": ["a text"]}


def number_among_texts():
    return {"real": ["a text", 3], "held_out": ["a text"]}


def nothing_real():
    return {"real": [], "held_out": ["a text"]}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (text_alone, "returned str 'a text'"),
        (text_for_a_list, "returned str 'a text' under 'real'"),
        (number_among_texts, "returned int 3 among the texts under 'real'"),
        (nothing_real, "returned no text under 'real'"),
    ],
)
def test_a_source_that_gives_no_texts_is_refused(function, message):
    where = rf"data: .*:{function.__name__} \(.*test_user_faults\.py\) {message}\. Return \{{'real': \[text"
    with pytest.raises(InputError, match=where):
        read_dataset(CodeCorpus(name="code", code=f"{__name__}:{function.__name__}"))
