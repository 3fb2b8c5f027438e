"""Two processes, started once, compute every case; the tests compare what they saved with one process in float64."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from tailkeep.errors import ConfigError
from tailkeep.losses.nll import reduce_nll
from tailkeep.losses.truncation import truncation_mask
from tailkeep.losses.vocab_parallel import vocab_parallel_token_nll

RANKS = 2
CASES = {
    "even": {"size": 40, "split": 20},
    "not divisible": {"size": 37, "split": 20},
    "all on one rank": {"size": 11, "split": 11},
    "one row": {"size": 30, "split": 1},
    "bias, softcap and scale": {"size": 37, "split": 19, "bias": True, "softcap": 3.0, "scale": 0.5},
    "more rows than a chunk": {"size": 23, "split": 12, "shape": (5, 60)},
    "some ignored": {"size": 37, "split": 20, "ignored": 0.4, "bias": True},
    "another index ignored": {"size": 37, "split": 20, "ignored": 0.4, "ignore_index": 5},
    "all ignored": {"size": 37, "split": 20, "ignored": 1.0, "bias": True},
    "no target at all": {"size": 37, "split": 20, "shape": (0,)},
    "one token": {"size": 37, "split": 20, "shape": ()},
    "no upstream gradient": {"size": 37, "split": 20, "upstream": "zero"},
    "far apart": {"size": 37, "split": 20, "spread": 60.0},
    "float32": {"size": 37, "split": 20, "dtype": torch.float32, "ignored": 0.3, "softcap": 5.0},
    "bfloat16": {"size": 37, "split": 20, "dtype": torch.bfloat16},
}
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def tensors(case):
    """hidden, weight, bias, targets and upstream gradient of a case, the same in every process."""
    generator = torch.Generator().manual_seed(len(case))
    choices = CASES[case]
    shape, size = choices.get("shape", (3, 7)), choices["size"]

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    hidden, weight, bias = draw(*shape, 6) * choices.get("spread", 1.0), draw(size, 6), draw(size)
    targets = torch.randint(0, size, shape, generator=generator)
    ignore_index = choices.get("ignore_index", -100)
    targets = torch.where(torch.rand(shape, generator=generator) < choices.get("ignored", 0), ignore_index, targets)
    upstream = draw(*shape) * (torch.rand(shape, generator=generator) < 0.6)
    upstream = torch.zeros(shape) if choices.get("upstream") == "zero" else upstream
    dtype = choices.get("dtype", torch.float64)
    leaves = [tensor.to(dtype).requires_grad_() for tensor in (hidden, weight, bias)]
    return [*leaves[:2], leaves[2] if choices.get("bias") else None, targets, upstream]


def options(case):
    choices = CASES[case]
    return {key: choices[key] for key in ("softcap", "scale", "ignore_index") if key in choices}


def compute(case, rank):
    """What a rank has of a case: losses and its gradients."""
    hidden, weight, bias, targets, upstream = tensors(case)
    split = CASES[case]["split"]
    rows = slice(0, split) if rank == 0 else slice(split, None)
    shard, bias_shard = (None if whole is None else whole.detach()[rows].requires_grad_() for whole in (weight, bias))
    nll = vocab_parallel_token_nll(
        hidden,
        shard,
        targets,
        vocab_start=rows.start,
        group=None,
        bias_shard=bias_shard,
        **options(case),
    )
    nll.backward(upstream.to(nll.dtype))
    return [nll.detach(), hidden.grad, shard.grad, None if bias_shard is None else bias_shard.grad]


def error_message(rank, start, target):
    """The message for shards of 10 rows, the second of which begins at `start`."""
    targets = torch.tensor([3, target])
    try:
        vocab_parallel_token_nll(torch.ones(2, 4), torch.ones(10, 4), targets, vocab_start=rank * start, group=None)
    except ConfigError as error:
        return str(error)
    return None


def truncated_steps(rank):
    """Weights of this rank after some steps of training with truncated cross-entropy, and the kept shares."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(50, 6, generator=generator), torch.randn(9, 6, generator=generator)
    targets = torch.randint(0, 9, (50,), generator=generator)
    weight = weight[:5] if rank == 0 else weight[5:]
    weight.requires_grad_()
    shares = []
    for _ in range(5):
        nll = vocab_parallel_token_nll(hidden, weight, targets, vocab_start=0 if rank == 0 else 5, group=None)
        kept_mask = truncation_mask(nll, threshold=0.5)
        shares.append(kept_mask.float().mean().item())
        (gradient,) = torch.autograd.grad(reduce_nll(nll, kept_mask), weight)
        weight = (weight - 3 * gradient).detach().requires_grad_()
    return weight.detach(), shares


def frozen(rank):
    """Which gradients there are where only the head is trained."""
    hidden, weight = torch.ones(3, 4), torch.ones(5, 4, requires_grad=True)
    vocab_parallel_token_nll(hidden, weight, torch.tensor([0, 4, 9]), vocab_start=5 * rank, group=None).sum().backward()
    return hidden.grad is None, weight.grad


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    results = {case: compute(case, rank) for case in CASES}
    results["gap"] = error_message(rank, 12, 11)
    results["overlap"] = error_message(rank, 5, 7)
    results["beyond"] = error_message(rank, 10, 20)
    results["negative"] = error_message(rank, 10, -1)
    results["fits"] = error_message(rank, 10, 19)
    results["steps"] = truncated_steps(rank)
    results["frozen"] = frozen(rank)
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, (folder,), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def expected(case):
    """Losses and gradients of one process that holds everything, in float64."""
    hidden, weight, bias, targets, upstream = tensors(case)
    hidden, weight = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    bias = None if bias is None else bias.detach().double().requires_grad_()
    choices = options(case)
    logits = F.linear(hidden, weight, bias) * choices.get("scale", 1.0)
    if "softcap" in choices:
        logits = choices["softcap"] * torch.tanh(logits / choices["softcap"])
    flat = logits.reshape(-1, logits.shape[-1])
    nll = F.cross_entropy(
        flat, targets.reshape(-1), reduction="none", ignore_index=choices.get("ignore_index", -100)
    ).view(targets.shape)
    nll.backward(upstream.double())
    return nll.detach(), hidden.grad, weight.grad, None if bias is None else bias.grad


def near(value, reference, dtype):
    scale = max(1.0, float(reference.abs().max())) if reference.numel() else 1.0
    return value.shape == reference.shape and torch.allclose(value.double(), reference, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("case", CASES)
def test_every_rank_has_the_losses_of_the_whole_vocabulary(results, case):
    nll = expected(case)[0]
    dtype = CASES[case].get("dtype", torch.float64)
    for rank in range(RANKS):
        value = results[rank][case][0]
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert near(value, nll, dtype)
    assert torch.equal(results[0][case][0], results[1][case][0])


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_one_process_for_any_upstream_ones(results, case):
    _, to_hidden, to_weight, to_bias = expected(case)
    dtype = CASES[case].get("dtype", torch.float64)
    for rank in range(RANKS):
        assert near(results[rank][case][1], to_hidden, dtype)
    assert near(torch.cat([results[rank][case][2] for rank in range(RANKS)]), to_weight, dtype)
    if to_bias is not None:
        assert near(torch.cat([results[rank][case][3] for rank in range(RANKS)]), to_bias, dtype)


def test_the_cases_reach_both_ranks_and_have_gradients():
    _, to_hidden, to_weight, _ = expected("not divisible")
    assert (to_hidden != 0).any()
    assert (to_weight[:20] != 0).any()
    assert (to_weight[20:] != 0).any()


@pytest.mark.parametrize("fault", ["gap", "overlap", "beyond", "negative"])
def test_a_target_that_not_exactly_one_rank_holds_is_refused_by_all(results, fault):
    for rank in range(RANKS):
        assert results[rank][fault].startswith("1 of 2 targets are in no shard or in several.")
        assert results[rank]["fits"] is None


def test_truncated_training_is_that_of_one_process(results):
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(50, 6, generator=generator), torch.randn(9, 6, generator=generator)
    targets = torch.randint(0, 9, (50,), generator=generator)
    shares = []
    for _ in range(5):
        weight = weight.detach().requires_grad_()
        nll = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
        kept_mask = nll.detach() >= -torch.tensor(0.5).log()
        shares.append(kept_mask.float().mean().item())
        (gradient,) = torch.autograd.grad((nll * kept_mask).mean(), weight)
        weight = weight - 3 * gradient
    assert 0 < min(shares) < 1
    assert results[0]["steps"][1] == results[1]["steps"][1] == shares
    assert torch.allclose(torch.cat([results[rank]["steps"][0] for rank in range(RANKS)]), weight.detach(), atol=1e-4)


def test_hidden_states_without_a_gradient_get_none(results):
    for rank in range(RANKS):
        nothing, to_weight = results[rank]["frozen"]
        assert nothing
        assert (to_weight != 0).any()


# What one process can see alone


def test_without_a_process_group_it_says_what_to_do():
    with pytest.raises(ConfigError, match=r"there is no process group\. Call torch.distributed.init_process_group"):
        vocab_parallel_token_nll(torch.ones(1, 2), torch.ones(3, 2), torch.tensor([0]), vocab_start=0, group=None)


@pytest.fixture
def single_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("single_process")
@pytest.mark.parametrize(
    ("hidden", "weight", "bias", "message"),
    [
        (torch.ones(2, 3), torch.ones(5, 4), None, r"have the shapes \(2, 3\), \(5, 4\), \(2,\) and do not fit"),
        (torch.ones(3, 4), torch.ones(5, 4), None, "do not fit"),
        (torch.ones(2, 4), torch.ones(5, 4), torch.ones(4), r"\(4,\) and do not fit"),
        (torch.ones(2, 4), torch.ones(5, 4).double(), None, "are torch.float32, torch.float64"),
        (torch.ones(2, 4).long(), torch.ones(5, 4).long(), None, "are torch.int64, torch.int64"),
    ],
)
def test_what_does_not_fit_is_named_with_what_was_received(hidden, weight, bias, message):
    with pytest.raises(ConfigError, match=message):
        vocab_parallel_token_nll(hidden, weight, torch.tensor([0, 1]), vocab_start=0, group=None, bias_shard=bias)


@pytest.mark.usefixtures("single_process")
def test_one_process_with_the_whole_vocabulary_is_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(9, 4, generator=generator), torch.randn(6, 4, generator=generator)
    targets = torch.randint(0, 6, (9,), generator=generator)
    nll = vocab_parallel_token_nll(hidden, weight, targets, vocab_start=0, group=None)
    assert torch.allclose(nll, F.cross_entropy(hidden @ weight.T, targets, reduction="none"), atol=1e-6)


@pytest.mark.usefixtures("single_process")
def test_autocast_multiplies_as_a_linear_layer_would():
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(6, 4, generator=generator).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nll = vocab_parallel_token_nll(hidden, weight, torch.arange(6), vocab_start=0, group=None)
        logits = F.linear(hidden, weight)
    assert torch.allclose(nll, F.cross_entropy(logits.float(), torch.arange(6), reduction="none"), atol=1e-6)
    nll.sum().backward()
    assert hidden.grad.dtype == torch.float32


@pytest.mark.usefixtures("single_process")
def test_a_second_order_gradient_is_refused():
    hidden, weight = torch.ones(2, 4, requires_grad=True), torch.ones(10, 4)
    nll = vocab_parallel_token_nll(hidden, weight, torch.tensor([0, 1]), vocab_start=0, group=None)
    with pytest.raises(ConfigError, match=r"no second-order gradients \(create_graph=True\)\. Use linear_token_nll"):
        torch.autograd.grad(nll.sum(), hidden, create_graph=True)
