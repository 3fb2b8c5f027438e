"""Where each engine is tried: on the CPU always, in Triton's interpreter and on a CUDA device where they are."""

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

ON_CPU = [("reference", "cpu"), ("chunked", "cpu"), ("torch", "cpu")]
ON_CUDA = [("chunked", "cuda"), ("torch", "cuda"), ("triton", "cuda")]


def places():
    """Pairs of engine and device. `test_triton` runs the tests again with TRITON_INTERPRET=1, for that engine alone."""
    if INTERPRETED:
        return [("triton", "cpu")]
    return ON_CPU + (ON_CUDA if torch.cuda.is_available() else [])


def computes(impl, *, softcap=None, dtype=torch.float64, entropy=None, **_):
    """Whether an engine has an answer to this; `test_choice` sees the refusals."""
    half = dtype in (torch.bfloat16, torch.float16)
    here = hasattr(torch.nn.functional, "linear_cross_entropy")
    return impl != "torch" or (here and not (half or softcap is not None or entropy is not None))


def everywhere(*names, cases=((),), needs=lambda *_: {}):
    """Parametrize over (impl, device) and over `names` whose values are `cases`, where the engine computes `needs`."""
    found = [
        pytest.param(impl, device, *case, marks=[pytest.mark.gpu] if device == "cuda" else [])
        for impl, device in places()
        for case in cases
        if computes(impl, **needs(*case))
    ]
    return pytest.mark.parametrize(("impl", "device", *names), found)
