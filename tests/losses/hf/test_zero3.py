"""Models that DeepSpeed has partitioned: gradients as in one process, and refusals where nothing gathers a weight.

The runs under DeepSpeed itself are part of `make test-matrix`, since the package is not among the requirements.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tailkeep.errors import AttachmentError, ConfigError
from tailkeep.losses.hf import output_layer
from tailkeep.losses.hf.attach import attach, is_attached
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import attached_llama, fused, same

RUNS = [(stage, order) for stage in (1, 2, 3) for order in ("before", "after")] + [(3, "init")]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed; make test-matrix runs it")
@pytest.mark.parametrize(("stage", "order"), RUNS)
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_under_deepspeed_are_those_of_one_process(stage, order, tied, tmp_path: Path):
    module = "tests.losses.hf.deepspeed_rank"
    command = [sys.executable, "-m", module, str(stage), order, str(int(tied)), str(tmp_path)]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "DS_IGNORE_CUDA_DETECTION": "1"}
    workers = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True, env=environment) for rank in range(2)
    ]
    try:
        # The first one compiles DeepSpeed's operators.
        errors = [worker.communicate(timeout=600)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)


def split(weight):
    """What a partitioned parameter looks like: no rows, and its own shape on demand."""
    weight.data, weight.whole = torch.empty(0), weight.data
    return weight


def test_an_output_layer_that_nothing_can_gather_is_refused():
    model = tiny("llama")
    split(model.lm_head.weight)
    with pytest.raises(ConfigError, match=r"weight has the shape \(0,\), not \(97, 32\).*before the model is wrapped"):
        attach(model)
    assert not is_attached(model)


def test_a_training_call_past_the_engine_says_what_to_call():
    model, inputs, _, _ = attached_llama()
    split(model.lm_head.weight)
    with pytest.raises(AttachmentError, match=r"shape \(0,\).*not gathered. Call the wrapper"):
        model(**inputs)


@pytest.fixture
def deepspeed(monkeypatch):
    """DeepSpeed's part in this: a context in which parameters are whole, and the order of its events."""
    events = []

    class GatheredParameters:
        def __init__(self, parameters):
            self.parameters = parameters

        def __enter__(self):
            for parameter in self.parameters:
                assert parameter.ds_status.name == "NOT_AVAILABLE", "gathered twice"
                parameter.data, parameter.ds_status.name = parameter.whole, "AVAILABLE"
            events.append(len(self.parameters))

        def __exit__(self, *args):
            for parameter in self.parameters:
                parameter.data, parameter.ds_status.name = torch.empty(0), "NOT_AVAILABLE"
            events.append(-len(self.parameters))

    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "deepspeed.runtime", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "deepspeed.runtime.zero", SimpleNamespace(GatheredParameters=GatheredParameters))
    return events


def partition(model):
    for number, parameter in enumerate(model.parameters()):
        split(parameter)
        parameter.ds_id, parameter.ds_status = number, SimpleNamespace(name="NOT_AVAILABLE")


@pytest.mark.parametrize("tied", [False, True])
def test_a_partitioned_model_is_gathered_module_by_module_and_left_as_it_was(deepspeed, tied):
    model, inputs, threshold, expected = attached_llama(tie_word_embeddings=tied)
    model = tiny("llama", tie_word_embeddings=tied)
    partition(model)
    attach(model, threshold=threshold)
    assert all(parameter.shape == (0,) for parameter in model.parameters())
    assert sum(deepspeed) == 0
    assert max(sum(deepspeed[:stop]) for stop in range(len(deepspeed))) <= 2
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for parameter in model.parameters():
        parameter.data = parameter.whole
    same(fused(model, inputs), expected)


def test_a_refused_model_is_left_partitioned(deepspeed):
    model = tiny("llama")
    forward = type(model).forward

    class Model(type(model)):
        def forward(self, *args, **kwargs):
            output = forward(self, *args, **kwargs)
            output.logits = output.logits**3
            return output

    model.__class__ = Model
    partition(model)
    with pytest.raises(ConfigError, match="neither a factor nor a tanh cap"):
        attach(model)
    assert all(parameter.shape == (0,) for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_ordinary_model_is_left_alone():
    model = tiny("llama")
    with output_layer.gathered(model, model.lm_head):
        assert not any(module._forward_hooks for module in model.modules())
