"""Triton's kernels compile for a GPU, and keep every promise of the engines in Triton's interpreter on a CPU.

The interpreter is chosen when triton is imported, so it has a process of its own.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")

ROOT = Path(__file__).parents[3]
PROMISES = [
    ("engines/test_triton_kernels.py", 40),
    pytest.param("engines/test_precision.py", 10, marks=pytest.mark.slow),
    pytest.param("test_linear.py", 60, marks=pytest.mark.slow),
    pytest.param("test_terms.py", 20, marks=pytest.mark.slow),
    pytest.param("test_low_rank.py", 9, marks=pytest.mark.slow),
    pytest.param("test_second_order.py", 9, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "fp64"])
@pytest.mark.parametrize(("scale", "softcap", "everything"), [(1.0, None, False), (0.5, 30.0, True)])
def test_the_kernels_compile_for_gpus_that_are_not_here(tmp_path, monkeypatch, dtype, scale, softcap, everything):
    from triton.backends.compiler import GPUTarget

    from tailkeep.losses.engines import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    wide = "fp64" if dtype == "fp64" else "fp32"
    constants = {
        "SCALE": scale,
        "SOFTCAP": softcap,
        "WIDE": getattr(triton.language, f"float{wide[2:]}"),
        "BLOCK": 4096,
    }
    integers = {"targets": "*i64", "rows_kept": "*i64", "beaten": "*i32", "stride": "i32", "vocabulary": "i32"}
    inputs = {"products": f"*{dtype}", "out": f"*{dtype}", "bias": f"*{dtype}"}
    absent = {} if everything else {"bias": None, "class_weight": None, "to_lse": None, "to_mean": None}
    facts = {"ENTROPY": everything, "MEAN": everything}
    for kernel, more in ((triton_kernels.forward_rows, facts), (triton_kernels.backward_rows, {})):
        fixed = {name: value for name, value in {**constants, **more, **absent}.items() if name in kernel.arg_names}
        types = {
            name: "constexpr" if name in fixed else {**integers, **inputs}.get(name, f"*{wide}")
            for name in kernel.arg_names
        }
        places = {(kernel.arg_names.index(name),): value for name, value in fixed.items()}
        source = triton.compiler.ASTSource(kernel, types, constexprs=places)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
        assert ".target sm_90" in compiled.asm["ptx"]


@pytest.mark.parametrize(("promises", "number"), PROMISES)
def test_every_promise_of_the_engines_is_kept_in_tritons_interpreter(promises, number):
    # NumPy warns of infinities that a GPU takes as they are.
    options = ["-W", "ignore::RuntimeWarning:triton.runtime.interpreter", "-p", "no:cacheprovider", "-q", "--tb=short"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"tests/losses/{promises}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) >= number
