"""What Triton's kernels alone promise, compiled on a CUDA device, or in the interpreter that `test_triton` starts."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tailkeep.losses.engines.chunked import Chunked
from tailkeep.losses.linear import linear_truncated_cross_entropy
from tailkeep.losses.lm_head import Head
from tailkeep.losses.truncation import truncated
from tests.losses.engines import truth
from tests.losses.engines.places import INTERPRETED

if not (INTERPRETED or torch.cuda.is_available()):
    pytest.skip("no CUDA device here; test_triton runs these in Triton's interpreter", allow_module_level=True)

DEVICE = "cpu" if INTERPRETED else "cuda"
HEADS = [{}, {"bias": True, "scale": -0.5, "softcap": 3.0}]

pytestmark = [] if INTERPRETED else [pytest.mark.gpu]


def engine(block, *, padding=None, rows=None):
    """The engine with blocks so small that every row has several, and `padding` where no kernel should look."""
    from tailkeep.losses.engines.triton import TritonOps

    class Padded(TritonOps):
        def buffer(self, rows, hidden, head):
            buffer = super().buffer(rows, hidden, head)
            if padding is not None:
                torch.as_strided(buffer, (rows, buffer.stride(0)), buffer.stride()).fill_(padding)
            return buffer

    return Chunked(rows, Padded(block))


def weighted(chunked, problem, threshold):
    head = Head(problem.weight, problem.bias, problem.scale, problem.softcap)
    return chunked.weighted(problem.hidden, head, problem.targets, truncated(threshold))


@pytest.mark.parametrize("padding", [None, 1e4, torch.inf, torch.nan])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("vocabulary", [1, 15, 17, 64, 65])
def test_columns_beyond_the_vocabulary_count_for_nothing(vocabulary, head, padding):
    expected = truth.problem(0, shape=(9,), vocabulary=vocabulary, ignored=0, **head)
    leaves = expected.leaves(device=DEVICE)
    losses = weighted(engine(16, padding=padding, rows=4), leaves, 0.9).losses
    true = truth.truncated(expected, 0.9, reduction="none")
    assert truth.distance(losses, true) < 1e-10
    upstream = torch.ones(9, dtype=torch.float64)
    grads = truth.gradients(losses, leaves, upstream.to(losses.device))
    assert max(map(truth.distance, grads, truth.gradients(true, expected, upstream))) < 1e-10


@pytest.mark.parametrize("block", [4, 32, 256])
@pytest.mark.parametrize("head", HEADS)
def test_the_size_of_a_block_changes_no_number(block, head):
    expected = truth.problem(1, shape=(12,), vocabulary=70, ignored=0, **head)
    leaves = expected.leaves(device=DEVICE)
    shape = Head(leaves.weight, leaves.bias, leaves.scale, leaves.softcap)
    nll, _, entropy = engine(block).token_nll(leaves.hidden, shape, leaves.targets, entropy="full")
    assert truth.distance(nll, truth.token_nll(expected)) < 1e-10
    assert truth.distance(entropy, truth.entropy(expected)) < 1e-10


def test_a_row_whose_first_block_is_impossible_is_read_to_its_end():
    problem = truth.problem(2, shape=(5,), vocabulary=40, ignored=0, bias=True).leaves(device=DEVICE)
    with torch.no_grad():
        problem.bias[:20] = -torch.inf
    problem.targets.clamp_(min=20)
    head = Head(problem.weight, problem.bias)
    nll, _, entropy = engine(8).token_nll(problem.hidden, head, problem.targets, entropy="full")
    small = Head(problem.weight[20:], problem.bias[20:])
    other, _, spread = engine(8).token_nll(problem.hidden, small, problem.targets - 20, entropy="full")
    assert torch.allclose(nll, other, rtol=1e-12)
    assert torch.allclose(entropy, spread, rtol=1e-12)
    grads = truth.gradients(nll.sum(), problem)
    assert all(truth.finite(grad) for grad in grads)
    assert (grads[1][:20] == 0).all()


class Waits(TorchDispatchMode):
    """The operations that must wait for a device, since their result's size or value is used at once."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        mask = name in ("index", "index_put", "index_put_") and any(
            part is not None and part.dtype == torch.bool for part in args[1]
        )
        if mask or name in ("nonzero", "masked_select", "_local_scalar_dense", "equal"):
            self.operations.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("ignored", [0, 0.3])
def test_a_step_waits_for_the_device_once_for_each_of_its_questions(ignored, monkeypatch):
    problem = truth.problem(3, shape=(30,), ignored=ignored).leaves(torch.float32, DEVICE)
    with Waits() as waits:
        tolist = torch.Tensor.tolist
        monkeypatch.setattr(torch.Tensor, "tolist", lambda self: waits.operations.append("tolist") or tolist(self))
        linear_truncated_cross_entropy(
            problem.hidden, problem.weight, problem.targets, threshold=0.5, impl="triton"
        ).backward()
    # Are targets in the vocabulary, where are those that count; which rows are kept; is the gradient the expected one?
    assert waits.operations == ["tolist", *(["nonzero"] if ignored else []), "nonzero", "tolist"]


@pytest.mark.skipif(INTERPRETED, reason="the interpreter has no device memory")
def test_on_a_gpu_the_logits_of_all_tokens_are_never_in_memory():
    generator = torch.Generator("cuda").manual_seed(0)
    tokens, width, vocabulary = 8192, 64, 65536
    hidden = torch.randn(tokens, width, generator=generator, device="cuda", dtype=torch.bfloat16).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator, device="cuda", dtype=torch.bfloat16).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,), generator=generator, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    linear_truncated_cross_entropy(hidden, weight, targets, impl="triton").backward()
    logits = tokens * vocabulary * 4
    assert torch.cuda.max_memory_allocated() - before < 0.75 * logits
