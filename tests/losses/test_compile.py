"""torch.compile takes the fused losses as one graph, with the numbers and gradients of the eager ones."""

import numpy as np
import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.losses import (
    LowRankProduct,
    Weighting,
    linear_token_nll,
    linear_truncated_cross_entropy,
    linear_weighted_cross_entropy,
    truncated_cross_entropy,
)
from tailkeep.losses.adaptive import scheduled_truncation
from tailkeep.losses.operators import first_order, token_facts, truncated_total
from tailkeep.losses.weightings import dft, eaft, focal, mile, stm
from tests.losses.engines import truth

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

HEADS = [{}, {"bias": True, "scale": -0.7, "softcap": 3.0}]
CLASSES = torch.linspace(0, 2, 11, dtype=torch.float64)
SLOW = pytest.mark.slow
TERMS = [{}, {"label_smoothing": 0.2, "class_weight": CLASSES, "z_loss": 0.01}]


@pytest.fixture(autouse=True)
def forgotten():
    """Nothing compiled before, so that no limit of recompilations is met."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def same(function, problem, *, low_rank=False, error=1e-12):
    """Results and gradients of `function` compiled as one graph, and of itself."""
    down, up = (torch.linspace(-1, 1, 2 * size, dtype=torch.float64).view(-1, 2).requires_grad_() for size in (6, 11))

    def step(hidden, weight, targets, **head):
        more = {"low_rank": LowRankProduct(hidden @ down, up)} if low_rank else {}
        return function(hidden, weight, targets, **head, **more)

    found = []
    for call in (torch.compile(step, fullgraph=True, backend="aot_eager"), step):
        leaves = problem.leaves()
        results = call(leaves.hidden, leaves.weight, leaves.targets, **leaves.head)
        results = results if isinstance(results, tuple) else (results,)
        total = sum(result.cos().sum() for result in results if result.requires_grad)
        inputs = [*leaves.inputs, down, up] if low_rank else leaves.inputs
        found.append(([*results], torch.autograd.grad(total, inputs)))
    (results, grads), (expected, exact) = found
    assert len(results) == len(expected)
    for value, true in zip([*results, *grads], [*expected, *exact], strict=True):
        assert value.shape == true.shape
        assert value.dtype == true.dtype
        assert truth.distance(value.double(), true.double()) < error


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("options", "low_rank"),
    [({}, True), ({"return_lse": True}, False), ({"return_entropy": "full"}, False), ({"return_entropy": 3}, False)],
)
def test_token_losses_are_one_graph(head, options, low_rank):
    same(
        lambda hidden, weight, targets, **more: linear_token_nll(hidden, weight, targets, **more, **options),
        truth.problem(1, shape=(4, 9), **head),
        low_rank=low_rank,
    )


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize(
    ("reduction", "return_lse"),
    [
        ("mean", False),
        ("none", False),
        ("mean", True),
        *(pytest.param(r, False, marks=SLOW) for r in ("mean_kept", "sum")),
    ],
)
def test_truncated_losses_are_one_graph(terms, reduction, return_lse):
    problem = truth.problem(2, shape=(4, 9), **HEADS[1])
    threshold = truth.middle(problem)

    def loss(hidden, weight, targets, **head):
        return linear_truncated_cross_entropy(
            hidden, weight, targets, threshold=threshold, reduction=reduction, return_lse=return_lse, **head, **terms
        )

    same(loss, problem, low_rank=reduction != "none")


@pytest.mark.parametrize("weighting", [dft(), eaft(3), focal(2.0), mile(1.0), stm(0.1)], ids=lambda w: w.name)
@pytest.mark.parametrize("terms", TERMS)
def test_any_weighting_without_a_state_is_one_graph(weighting, terms):
    same(
        lambda hidden, weight, targets, **head: linear_weighted_cross_entropy(
            hidden, weight, targets, weighting, num_items=torch.tensor(30), **head, **terms
        ),
        truth.problem(3, **HEADS[1]),
    )


def test_statistics_of_one_graph_are_those_of_the_eager_pass():
    problem = truth.problem(4)

    def stats(hidden, weight, targets, impl):
        return linear_truncated_cross_entropy(
            hidden, weight, targets, threshold=truth_threshold, return_stats=True, impl=impl
        )

    truth_threshold = truth.middle(problem)
    compiled = torch.compile(stats, fullgraph=True, backend="aot_eager")
    loss, found = compiled(problem.hidden, problem.weight, problem.targets, "auto")
    true_loss, expected = stats(problem.hidden, problem.weight, problem.targets, "chunked")
    assert loss.item() == pytest.approx(true_loss.item(), rel=1e-12)
    for name in ("kept_fraction", "cross_entropy", "confidence", "accuracy", "targets"):
        assert getattr(found, name).item() == pytest.approx(getattr(expected, name).item(), rel=1e-12)
        assert not getattr(found, name).requires_grad


@pytest.mark.parametrize("shape", [(), (2, 0), (3,)])
def test_any_number_of_targets_is_one_graph(shape):
    for ignored in (0.0, 1.0):
        problem = truth.problem(5, shape=shape, ignored=ignored).leaves()
        compiled = torch.compile(linear_truncated_cross_entropy, fullgraph=True, backend="aot_eager")
        loss = compiled(problem.hidden, problem.weight, problem.targets, threshold=0.5)
        true = linear_truncated_cross_entropy(problem.hidden, problem.weight, problem.targets, threshold=0.5)
        for value, exact in zip(truth.gradients(loss, problem), truth.gradients(true, problem), strict=True):
            torch.testing.assert_close(value, exact)
        torch.testing.assert_close(loss, true)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_inputs_stay_narrow(dtype):
    problem = truth.problem(6, shape=(60,)).leaves(dtype)

    def loss(hidden, weight, targets):
        return linear_truncated_cross_entropy(hidden, weight, targets, threshold=0.9)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found, exact = (call(problem.hidden, problem.weight, problem.targets) for call in (compiled, loss))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact)
    # float16 is computed in two passes, whose products are rounded in another order: up to four of its last places.
    tolerance = {"rtol": 4e-3, "atol": 1e-4} if dtype == torch.float16 else {}
    for grad, true in zip(truth.gradients(found, problem), truth.gradients(exact, problem), strict=True):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad, true, **tolerance)


def test_autocast_casts_as_it_does_eagerly():
    problem = truth.problem(7, shape=(60,)).leaves(torch.float32)

    def loss(hidden, weight, targets):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return linear_truncated_cross_entropy(hidden, weight, targets, threshold=0.9)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found, exact = (call(problem.hidden, problem.weight, problem.targets) for call in (compiled, loss))
    torch.testing.assert_close(found, exact)
    for grad, true in zip(truth.gradients(found, problem), truth.gradients(exact, problem), strict=True):
        assert grad.dtype == torch.float32
        torch.testing.assert_close(grad, true, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "average"}, "reduction 'average' is unknown"),
        ({"reduction": "sum", "num_items": 100}, "num_items has no effect with reduction 'sum'"),
        ({"reduction": "mean_kept", "num_items": 100}, "num_items has no effect with reduction 'mean_kept'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_graph_too(options, message):
    problem = truth.problem(7, shape=(6,)).leaves()

    def loss(hidden, weight, targets):
        return linear_truncated_cross_entropy(hidden, weight, targets, threshold=0.5, **options)

    with pytest.raises(ConfigError, match=message):
        torch.compile(loss, backend="eager")(problem.hidden, problem.weight, problem.targets)


@pytest.mark.slow
def test_the_default_compiler_trains_a_layer_below_the_loss():
    problem = truth.problem(8, shape=(30,)).leaves(torch.float32)
    layer = torch.nn.Linear(6, 6)

    def loss(hidden, weight, targets):
        return linear_truncated_cross_entropy(layer(hidden).relu(), weight, targets, threshold=0.9)

    compiled = torch.compile(loss, fullgraph=True)
    grads = [
        torch.autograd.grad(
            call(problem.hidden, problem.weight, problem.targets), [*layer.parameters(), problem.weight]
        )
        for call in (compiled, loss)
    ]
    torch.testing.assert_close(grads[0], grads[1])


def test_shapes_may_change_without_a_new_graph():
    graphs = []

    def counting(graph, inputs):
        del inputs
        graphs.append(graph)
        return graph.forward

    def loss(hidden, weight, targets):
        return linear_truncated_cross_entropy(hidden, weight, targets, threshold=0.9)

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend=counting)
    for tokens in (8, 9, 13):
        problem = truth.problem(9, shape=(tokens,))
        found, exact = (call(problem.hidden, problem.weight, problem.targets) for call in (compiled, loss))
        torch.testing.assert_close(found, exact)
    assert len(graphs) == 1


@pytest.mark.parametrize("needs", [True, False])
@pytest.mark.parametrize("full", [True, False])
def test_the_operators_keep_what_pytorch_asks_of_them(needs, full):
    problem = truth.problem(10, shape=(3, 5), bias=full).leaves()
    for tensor in problem.inputs:
        tensor.requires_grad_(needs)
    low = torch.randn(3, 5, 2, dtype=torch.float64).requires_grad_(needs) if full else None
    up = torch.randn(11, 2, dtype=torch.float64).requires_grad_(needs) if full else None
    tensors = (problem.hidden, problem.weight, problem.bias, low, up)
    classes, smoothing = (CLASSES, 0.1) if full else (None, 0.0)
    torch.library.opcheck(
        token_facts,
        (*tensors, problem.targets, classes, 1.0, 3.0 if full else None, -100, smoothing, not full, "", "auto"),
    )
    share = torch.tensor(0.1, dtype=torch.float64)
    flags = [needs and tensor is not None for tensor in tensors]
    torch.library.opcheck(
        truncated_total,
        (*tensors, problem.targets, classes, share, 0.5, 1.0, None, -100, smoothing, 0.0, "auto", flags),
    )
    torch.library.opcheck(first_order, (share, [problem.hidden, problem.weight]), test_utils="test_schema")
    torch.library.opcheck(first_order, (share, [problem.hidden, problem.weight]), test_utils="test_faketensor")


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    ("backend", "error", "message"),
    [
        ("eager", ConfigError, r"no second-order gradients \(create_graph=True\). Call it outside the compiled"),
        ("aot_eager", RuntimeError, "does not currently support double backward"),
    ],
)
def test_a_second_order_gradient_of_a_graph_is_an_error(backend, error, message, reduction):
    problem = truth.problem(15)
    compiled = torch.compile(linear_truncated_cross_entropy, backend=backend)
    loss = compiled(problem.hidden, problem.weight, problem.targets, threshold=0.5, reduction=reduction).sum()
    grads = torch.autograd.grad(loss, problem.inputs, create_graph=True)
    with pytest.raises(error, match=message):
        torch.autograd.grad(sum(grad.square().sum() for grad in grads), problem.inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.full((40,), 11)}, "target 11 is outside the vocabulary"),
        ({"threshold": 1.5}, "threshold 1.5 is not in"),
        ({"scale": 0.0}, "scale 0.0 leaves nothing of the logits"),
        ({"impl": "fast"}, "impl 'fast' is unknown"),
        ({"targets": torch.rand(40)}, "soft targets"),
    ],
)
def test_what_cannot_be_used_is_named_when_the_graph_is_made_or_runs(change, message):
    problem = truth.problem(11)
    compiled = torch.compile(linear_truncated_cross_entropy, backend="aot_eager")
    arguments = {"hidden": problem.hidden, "weight": problem.weight, "targets": problem.targets, **change}
    with pytest.raises(ConfigError, match=message):
        compiled(**arguments)


def test_a_weighting_with_a_state_moves_on_outside_the_graph():
    problem, weighting = truth.problem(12), scheduled_truncation(0.9, 0.5, 10)
    compiled = torch.compile(linear_weighted_cross_entropy, backend="aot_eager")
    for _ in range(3):
        compiled(problem.hidden, problem.weight, problem.targets, weighting)
    assert weighting.threshold == pytest.approx(0.78)


TRANSFORMS = {
    "grad": lambda loss, hidden: torch.func.grad(loss)(hidden),
    "vmap": lambda loss, hidden: torch.func.vmap(loss)(hidden[:, None]),
    "jvp": lambda loss, hidden: torch.func.jvp(loss, (hidden,), (hidden,)),
    "jacrev": lambda loss, hidden: torch.func.jacrev(loss)(hidden),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_torch_func_is_one_clear_error(transform, impl):
    problem = truth.problem(13, ignored=0)
    rows = problem.targets[:1] if transform == "vmap" else problem.targets
    weight = problem.weight.detach()
    for loss in (
        lambda hidden: linear_token_nll(hidden, weight, rows, impl=impl).sum(),
        lambda hidden: linear_truncated_cross_entropy(hidden, weight, rows, impl=impl),
    ):
        with pytest.raises(ConfigError, match=r"inside a torch.func transform.*create_graph=True.*loss on the logits"):
            TRANSFORMS[transform](loss, problem.hidden.detach())


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_so_is_forward_mode_differentiation(impl):
    problem = truth.problem(13)
    with torch.autograd.forward_ad.dual_level():
        hidden = torch.autograd.forward_ad.make_dual(problem.hidden.detach(), torch.ones_like(problem.hidden))
        with pytest.raises(ConfigError, match="forward-mode differentiation"):
            linear_token_nll(hidden, problem.weight, problem.targets, impl=impl)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_so_are_several_upstream_gradients_at_once(reduction, create_graph):
    problem = truth.problem(13)
    for loss in (
        linear_truncated_cross_entropy(problem.hidden, problem.weight, problem.targets, reduction=reduction),
        linear_token_nll(problem.hidden, problem.weight, problem.targets),
    ):
        with pytest.raises(ConfigError, match=r"several upstream gradients at once.*one upstream gradient at a time"):
            torch.autograd.grad(
                loss, problem.hidden, torch.ones(2, *loss.shape), is_grads_batched=True, create_graph=create_graph
            )


def test_the_loss_on_logits_goes_through_torch_func():
    problem = truth.problem(14)
    logits = truth.logits_of(problem).detach().float().requires_grad_()

    def loss(logits):
        return truncated_cross_entropy(logits, problem.targets, threshold=0.5)

    (expected,) = torch.autograd.grad(loss(logits), logits)
    assert torch.equal(torch.func.grad(loss)(logits.detach()), expected)


@pytest.mark.parametrize("reduction", ["mean_kept", "mean", "sum"])
def test_float16_is_multiplied_by_the_upstream_gradient_before_it_is_narrow(reduction):
    hidden, weight = (torch.full((4096, 4), 30.0)).half(), torch.zeros(8, 4).half()
    targets = torch.zeros(4096, dtype=torch.long)

    def loss(hidden, weight):
        value = linear_truncated_cross_entropy(hidden, weight, targets, threshold=0.9, reduction=reduction)
        return value / 4096 if reduction == "sum" else value

    results = []
    for call in (torch.compile(loss, fullgraph=True, backend="aot_eager"), loss):
        leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        results.append(torch.autograd.grad(call(*leaves), leaves))
    for compiled, eager in zip(*results, strict=True):
        assert compiled.isfinite().all()
        assert torch.equal(compiled, eager)


def test_a_loss_scaler_finds_small_gradients_of_float16():
    torch.manual_seed(0)
    weight, targets = torch.randn(64, 32).half(), torch.randint(0, 64, (4096,))
    hidden = (weight[targets].float() * 0.35 + torch.randn(4096, 32) * 0.1).half().requires_grad_()

    def scaled(hidden):
        return linear_truncated_cross_entropy(hidden, weight, targets, threshold=0.9999) * 2.0**14

    compiled, eager = (
        torch.autograd.grad(call(hidden), hidden)[0]
        for call in (torch.compile(scaled, fullgraph=True, backend="aot_eager"), scaled)
    )
    assert torch.equal(compiled == 0, eager == 0)


def test_a_weighting_that_only_observes_sees_a_compiled_micro_batch_too():
    seen = []
    weighting = Weighting("own", lambda nll, entropy: torch.ones_like(nll), observe=lambda nll: seen.append(len(nll)))
    hidden, weight, targets = torch.randn(6, 4, requires_grad=True), torch.randn(5, 4), torch.arange(6) % 5
    torch.compile(lambda: linear_weighted_cross_entropy(hidden, weight, targets, weighting), backend="aot_eager")()
    assert seen == [6]


def test_a_number_of_numpy_is_named_in_one_graph_and_works_beside_it():
    logits, targets = torch.randn(8, 16, dtype=torch.float64), torch.arange(8)

    def loss(logits, targets):
        return truncated_cross_entropy(logits, targets, threshold=np.float64(0.05))

    with pytest.raises(torch._dynamo.exc.Unsupported, match="threshold is a number of numpy"):
        torch.compile(loss, fullgraph=True, backend="eager")(logits, targets)
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="eager")(logits, targets)
    assert torch.equal(compiled, loss(logits, targets))
