"""Where each engine is tried: on the CPU always, in Triton's interpreter and on a CUDA device where they are."""

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

ON_CPU = [("reference", "cpu"), ("chunked", "cpu")]
ON_CUDA = [("chunked", "cuda"), ("triton", "cuda")]


def places():
    """Pairs of engine and device. `test_triton` runs the tests again with TRITON_INTERPRET=1, for that engine alone."""
    if INTERPRETED:
        return [("triton", "cpu")]
    return ON_CPU + (ON_CUDA if torch.cuda.is_available() else [])


def everywhere(*names, cases=((),)):
    """Parametrize over (impl, device) and over `names` whose values are `cases`."""
    params = [
        pytest.param(impl, device, *case, marks=[pytest.mark.gpu] if device == "cuda" else [])
        for impl, device in places()
        for case in cases
    ]
    return pytest.mark.parametrize(("impl", "device", *names), params)
