"""What the chunked engine saves, counted: memory, and arithmetic of tokens that do not count."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tailkeep.errors import ConfigError
from tailkeep.losses.engines import buffers, logit_ops
from tailkeep.losses.engines.chunked import Chunked
from tailkeep.losses.linear import linear_token_nll, linear_truncated_cross_entropy, linear_weighted_cross_entropy
from tailkeep.losses.lm_head import Head
from tailkeep.losses.truncation import truncated
from tailkeep.losses.weighting import Weighting
from tests.losses.engines import truth

TOKENS, WIDTH, VOCABULARY = 4096, 8, 300


class TensorRecorder(TorchDispatchMode):
    """The shapes and types of all tensors that any operation gave."""

    def __init__(self):
        super().__init__()
        self.kinds = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.kinds.add((tuple(tensor.shape), tensor.dtype))
        return result


def model(*, seed=0, dtype=torch.float32, **head):
    problem = truth.problem(seed, shape=(TOKENS,), width=WIDTH, vocabulary=VOCABULARY, ignored=0, **head)
    return problem.leaves(dtype)


def largest_of(problem, impl, compute):
    with TensorRecorder() as recorder:
        loss = compute(problem.hidden, problem.weight, problem.targets, **problem.head, impl=impl)
        truth.gradients(loss.sum(), problem)
    return max(math.prod(shape) for shape, _ in recorder.kinds)


def token_losses(*args, **options):
    return linear_token_nll(*args, **options, return_entropy="full")[0]


def unsure(*args, **options):
    return linear_weighted_cross_entropy(*args, Weighting("unsure", lambda _, entropy: entropy, entropy=5), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("head", [{}, {"bias": True, "scale": 2.0, "softcap": 3.0}])
@pytest.mark.parametrize("compute", [linear_truncated_cross_entropy, token_losses, unsure])
def test_the_logits_of_all_tokens_are_never_in_memory(dtype, head, compute):
    problem = model(dtype=dtype, **head)
    assert largest_of(problem, "chunked", compute) <= TOKENS * VOCABULARY // 4
    assert largest_of(problem, "reference", compute) >= TOKENS * VOCABULARY  # the instrument sees them where they are


@pytest.mark.parametrize(("tokens", "widened"), [(TOKENS, True), (500, False)])
def test_a_weights_gradient_in_bfloat16_is_widened_only_to_be_added_up(tokens, widened):
    problem = model(dtype=torch.bfloat16)
    with TensorRecorder() as recorder:
        loss = linear_truncated_cross_entropy(problem.hidden[:tokens], problem.weight, problem.targets[:tokens])
        truth.gradients(loss, problem)
    assert (((VOCABULARY, WIDTH), torch.float32) in recorder.kinds) == widened


def flops_of(compute):
    with FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops() / (2 * TOKENS * WIDTH * VOCABULARY)


@pytest.mark.parametrize("share", [1, 0.75, 0.5, 0.25, 0])
def test_arithmetic_shrinks_with_the_kept_share(share):
    problem = model()
    p = torch.exp(-linear_token_nll(problem.hidden, problem.weight, problem.targets).detach()).sort().values
    num_kept = int(share * TOKENS)
    threshold = 1.0 if share == 1 else float(p[num_kept - 1] + p[num_kept]) / 2 if num_kept else float(p[0]) / 2

    def single():
        linear_truncated_cross_entropy(problem.hidden, problem.weight, problem.targets, threshold=threshold).backward()

    def recomputed():
        nll = linear_token_nll(problem.hidden, problem.weight, problem.targets)
        (nll * (nll.detach() >= -torch.tensor(threshold).log())).sum().backward()

    # Matrix products of the tokens' number: cross-entropy has one forward and two backward.
    assert flops_of(single) == pytest.approx(1 + 2 * share)
    assert flops_of(recomputed) == pytest.approx(1 + 3 * share)


def test_no_gradient_is_computed_that_nobody_wants():
    problem = model()

    def loss():
        return linear_truncated_cross_entropy(problem.hidden, problem.weight, problem.targets, threshold=1.0)

    with torch.no_grad():
        assert flops_of(loss) == 1
    problem.weight.requires_grad_(False)
    assert flops_of(lambda: loss().backward()) == 2
    problem.hidden.requires_grad_(False)
    assert flops_of(loss) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_expected_gradient_of_0_is_as_good_as_another(dtype):
    problem = model(dtype=dtype)
    first, other = (
        truth.gradients(
            linear_weighted_cross_entropy(
                problem.hidden,
                problem.weight,
                problem.targets,
                truncated(0.9),
                reduction="sum",
                expected_gradient=torch.tensor(expected),
            ),
            problem,
        )
        for expected in (0.0, 1.0)
    )
    for one, two in zip(first, other, strict=True):
        assert truth.finite(one)
        assert truth.distance(one, two) < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.fixture
def unwritten_is_nan():
    """Memory that is not written holds NaN, not what happens to be there."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("unwritten_is_nan")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [1.0, 0.5, 1e-9])
def test_memory_that_nobody_wrote_is_never_read(dtype, threshold):
    problem = model(dtype=dtype, bias=True, softcap=3.0)
    for compute in (linear_truncated_cross_entropy, linear_token_nll):
        options = {"threshold": threshold} if compute is linear_truncated_cross_entropy else {}
        loss = compute(problem.hidden, problem.weight, problem.targets, **problem.head, **options)
        assert truth.finite(loss)
        assert all(truth.finite(grad) for grad in truth.gradients(loss.sum() * (threshold > 0.1), problem))


@pytest.mark.parametrize(("vocabulary", "rows"), [(1, 3 << 17), (1 << 16, 6), (1 << 17, 3), (1 << 18, 3)])
def test_between_products_each_thread_has_as_many_rows(vocabulary, rows, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    first, *_ = logit_ops._pieces(torch.empty(1).expand(7, vocabulary))
    assert first == slice(0, rows)


@pytest.fixture
def small_parts(monkeypatch):
    """Every loop over a part of a chunk or of the vocabulary has several turns."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for module, name, size in (
        (logit_ops, "_CPU_PIECE", 15),
        (logit_ops, "_MOVED", 2),
        (buffers, "_WIDE_WORDS", 5),
        (buffers, "_NARROW_WORDS", 5),
    ):
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, size)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [7, 40])
@pytest.mark.parametrize("head", [{}, {"bias": True, "scale": 0.5, "softcap": 3.0}])
@pytest.mark.parametrize("kept_tokens", ["all", "half"])
def test_parts_change_no_number_beyond_rounding(dtype, rows, head, kept_tokens):
    problem = truth.problem(3, ignored=0, **head)
    threshold = 1.0 if kept_tokens == "all" else truth.middle(problem)
    leaves = problem.leaves(dtype)
    shape = Head(leaves.weight, leaves.bias, leaves.scale, leaves.softcap)
    losses = Chunked(rows).weighted(leaves.hidden, shape, leaves.targets, truncated(threshold)).losses
    exact = problem.leaves(dtype).leaves(torch.float64)
    true = truth.truncated(exact, threshold, reduction="none")
    near = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]
    assert truth.distance(losses, true) < near
    for grad, true_grad in zip(truth.gradients(losses.sum(), leaves), truth.gradients(true.sum(), exact), strict=True):
        assert truth.distance(grad, true_grad) < near


@pytest.mark.parametrize("rows", [1, 2, 7, 32, 33, 40, 41, 1000])
@pytest.mark.parametrize("head", [{}, {"bias": True, "softcap": 3.0}])
@pytest.mark.parametrize("parts", ["whole", "small"])
def test_the_size_of_a_chunk_changes_no_number(rows, head, parts, request):
    if parts == "small":
        request.getfixturevalue("small_parts")
    expected = truth.problem(1, ignored=0, **head)
    leaves, threshold = expected.leaves(), truth.middle(expected)
    shape = Head(leaves.weight, leaves.bias, leaves.scale, leaves.softcap)
    alike, differing = torch.full((40,), 2.0, dtype=torch.float64), torch.linspace(-1, 1, 40, dtype=torch.float64)
    for limit in (threshold, 0.98, 1.0):
        for upstream in (alike, differing):
            losses = Chunked(rows).weighted(leaves.hidden, shape, leaves.targets, truncated(limit)).losses
            true = truth.truncated(expected, limit, reduction="none")
            assert truth.distance(losses, true) < 1e-10
            grads, others = truth.gradients(losses, leaves, upstream), truth.gradients(true, expected, upstream)
            assert max(map(truth.distance, grads, others)) < 1e-10


def test_a_weighting_that_is_learned_is_refused_where_it_would_get_no_gradient():
    problem, power = truth.problem(1), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    weighting = Weighting("learned", lambda nll, entropy: torch.sigmoid(power * nll))
    with pytest.raises(ConfigError, match=r"weighs with a tensor that requires a gradient.*impl='reference'"):
        linear_weighted_cross_entropy(problem.hidden, problem.weight, problem.targets, weighting)
    loss = linear_weighted_cross_entropy(problem.hidden, problem.weight, problem.targets, weighting, impl="reference")
    assert torch.autograd.grad(loss, power)[0] != 0
