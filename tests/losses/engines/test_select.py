import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from tailkeep.errors import ConfigError, MissingPackageError
from tailkeep.losses.engines import IMPLEMENTATIONS, select_engine
from tailkeep.losses.engines.chunked import Chunked
from tailkeep.losses.engines.logit_ops import FullPrecisionOps, StoredLogitOps, logit_ops_for
from tailkeep.losses.linear import explain_engine, linear_token_nll

# All that a choice looks at.
ON_CPU, ON_CUDA, ON_METAL = (
    SimpleNamespace(device=torch.device(name), dtype=torch.float32) for name in ("cpu", "cuda:1", "mps")
)


@pytest.fixture
def without_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)


def test_on_a_cpu_auto_is_chunked_and_says_why():
    engine, reason = select_engine("auto", ON_CPU)
    assert isinstance(engine, Chunked)
    assert reason == "chunked: hidden is on cpu, and triton needs a CUDA device."
    assert explain_engine(torch.ones(2, 3)) == reason


def test_on_a_device_that_triton_does_not_know_auto_is_chunked():
    assert select_engine("auto", ON_METAL)[1] == "chunked: hidden is on mps, and triton needs a CUDA device."


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_on_a_gpu_auto_is_triton_where_it_is_installed():
    from tailkeep.losses.engines.triton import TritonOps

    engine, reason = select_engine("auto", ON_CUDA)
    assert isinstance(engine.logit_ops, TritonOps)
    assert reason == "triton: hidden is on a CUDA device, and triton is installed."


@pytest.mark.usefixtures("without_triton")
def test_on_a_gpu_without_triton_auto_is_chunked_and_says_how_to_get_it():
    engine, reason = select_engine("auto", ON_CUDA)
    assert isinstance(engine, Chunked)
    assert engine.logit_ops is None
    assert reason == "chunked: triton is not installed; pip install 'tailkeep[triton]' brings the faster kernels."
    with pytest.raises(MissingPackageError, match=r"triton is not installed.*pip install 'tailkeep\[triton\]'"):
        select_engine("triton", ON_CUDA)


def test_plain_pytorch_keeps_half_precision_narrow():
    assert all(isinstance(logit_ops_for(dtype), FullPrecisionOps) for dtype in (torch.float32, torch.float64))
    assert all(isinstance(logit_ops_for(dtype), StoredLogitOps) for dtype in (torch.bfloat16, torch.float16))


def test_auto_never_refuses():
    for softcap in (None, 3.0):
        for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
            hidden, weight = torch.ones(2, 3, dtype=dtype), torch.ones(5, 3, dtype=dtype)
            for entropy in (None, "full", 2):
                linear_token_nll(hidden, weight, torch.tensor([0, 4]), softcap=softcap, return_entropy=entropy)


@pytest.mark.parametrize("impl", ["Chunked", "liger", "", None])
def test_an_unknown_engine_is_refused_with_those_that_exist(impl):
    with pytest.raises(ConfigError, match=r"is unknown\. Use one of auto, reference, chunked, triton"):
        select_engine(impl, ON_CPU)


def test_each_engine_can_be_asked_for():
    assert IMPLEMENTATIONS == ("auto", "reference", "chunked", "triton")
    for impl in ("reference", "chunked"):
        assert select_engine(impl, ON_CPU)[1] == f"{impl}: requested by name."


def test_triton_without_a_gpu_is_refused_with_what_to_use(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ConfigError, match=r"'triton' needs a CUDA device, and hidden is on cpu\. Use impl='chunked'"):
        select_engine("triton", ON_CPU)


def test_triton_is_imported_only_where_it_computes():
    code = (
        "import json, sys, torch\n"
        "from tailkeep.losses import linear_truncated_cross_entropy\n"
        "hidden, weight = torch.ones(2, 3, requires_grad=True), torch.ones(5, 3)\n"
        "linear_truncated_cross_entropy(hidden, weight, torch.tensor([0, 4])).backward()\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert {"triton", "transformers", "trl", "lightning", "peft"} & set(json.loads(ended.stdout)) == set()
