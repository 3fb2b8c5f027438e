"""Which rows wait for which: how often there is a backward product, and how much memory waiting takes."""

import weakref
from collections import namedtuple

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from tailkeep.losses.engines import buffers, logit_ops
from tailkeep.losses.engines.buffers import Gradients, Workspace
from tailkeep.losses.engines.chunked import Chunked
from tailkeep.losses.engines.logit_ops import Partials, StoredLogitOps, logit_ops_for
from tailkeep.losses.lm_head import Head
from tests.losses.engines import truth

TOKENS, ROWS, VOCABULARY = 64, 8, 11

Product = namedtuple("Product", "rows last dtype")
"""A backward product: its number of rows, whether no other follows, and the type of the sum after it."""


class Apart(StoredLogitOps):
    """Products and waiting rows in buffers of their own, as on a GPU; remembers how many rows each has."""

    in_place = False

    def __init__(self):
        self.rows = []
        self.buffers = []

    def buffer(self, rows, hidden, head):
        assert sum(buffer() is not None for buffer in self.buffers) <= 1, "rows wait in two buffers at once"
        self.rows.append(rows)
        made = super().buffer(rows, hidden, head)
        self.buffers.append(weakref.ref(made))
        return made


@pytest.fixture
def products(monkeypatch):
    """The backward products of a test, in their order."""
    found, add = [], Gradients.add

    def noted(self, rows, *args, last):
        add(self, rows, *args, last=last)
        found.append(Product(len(rows), last, None if self.main.right is None else self.main.right.dtype))

    monkeypatch.setattr(Gradients, "add", noted)
    return found


def factors_of(share, order="mixed"):
    """(64,) 0 or 1: `share` of them 1, in each chunk alike, or the first or last ones."""
    kept = torch.zeros(TOKENS, dtype=torch.float64)
    kept[: int(share * TOKENS)] = 1
    return {"mixed": kept.view(ROWS, -1).T.flatten(), "first": kept, "last": kept.flip(0)}[order]


def problem(width):
    """Inputs that bfloat16 has too."""
    made = truth.problem(4, shape=(TOKENS,), width=width, vocabulary=VOCABULARY, ignored=0, spread=width**-0.5)
    return made.leaves(torch.bfloat16).leaves(torch.float64)


def errors(made, factors, ops, *, rows=ROWS, dtype=torch.bfloat16, needs_grad=(True, True, False, False, False)):
    """Of the gradients of hidden states and weight that a workspace gives for sum(factors * nll)."""
    ours = made.leaves(dtype)
    hidden, head = ours.hidden.detach(), Head(ours.weight.detach(), None)
    work = Workspace.of(hidden, head, ops, tokens=TOKENS, rows=rows, needs_grad=needs_grad)
    for chunk in work.chunks():
        stats = work.forward_chunk(chunk, ours.targets[chunk])
        work.accumulate_backward(stats, chunk.start, Partials(factors[chunk].float()))
    true = truth.gradients((truth.token_nll(made) * factors).sum(), made)
    found = work.gradients.finish(head)[:2]
    return [truth.distance(one, two) for one, two in zip(found, true, strict=True) if one is not None]


@pytest.mark.parametrize("share", [1, 0.75, 0.25, 0.125, 0])
@pytest.mark.parametrize("order", ["mixed", "first", "last"])
@pytest.mark.parametrize("width", [4, 16, 32, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_however_rows_wait_the_gradients_are_the_same(dtype, width, order, share):
    assert max(errors(problem(width), factors_of(share, order), Apart(), dtype=dtype)) < 1e-2


@pytest.mark.parametrize(
    ("width", "share", "waiting"),
    [
        (32, 1, 64),  # in bfloat16 64 rows of the vocabulary are as large as a sum in float32
        (32, 0.25, 20),  # 2 of the first 8, and a quarter more than 14 of the others
        (128, 0.25, 20),
        (128, 0.125, 10),
    ],
)
def test_all_rows_wait_where_they_take_no_more_than_a_wide_sum(width, share, waiting, products):
    ops = Apart()
    errors(problem(width), factors_of(share), ops)
    assert ops.rows == [ROWS, waiting]
    assert products == [(share * TOKENS, True, torch.bfloat16)]


@pytest.mark.parametrize(
    ("width", "dtype", "waiting"),
    [
        (31, torch.bfloat16, 31),  # as large as the gradient
        (4, torch.bfloat16, 16),  # two chunks
        (64, torch.float16, 64),
        (32, torch.float16, 32),  # its sum is wide in any case
        (64, torch.float32, 16),  # whose sum is not copied in the end
    ],
)
def test_where_they_would_take_more_few_rows_wait(width, dtype, waiting):
    work = Workspace.of(
        torch.empty(TOKENS, width, dtype=dtype),
        Head(torch.empty(VOCABULARY, width, dtype=dtype), None),
        ops := Apart(),
        tokens=TOKENS,
        rows=ROWS,
        needs_grad=(True, True, False, False, False),
    )
    next(work.chunks())
    assert work._will_wait(ROWS, ROWS) == waiting
    assert ops.rows == [ROWS]


@pytest.mark.parametrize(("width", "buffers"), [(128, [8, 0, 55]), (20, [8, 0, 20]), (4, [8, 0, 16])])
def test_where_more_rows_come_than_the_first_chunk_foretold_there_is_room_for_them(width, buffers, products):
    factors = factors_of(0.875, "last")
    factors[ROWS] = 0
    ops = Apart()
    errors(problem(width), factors, ops)
    assert ops.rows == buffers
    assert sum(product.rows for product in products) == 55
    if len(products) > 1:
        assert {product.dtype for product in products} == {torch.float32}
    assert [product.last for product in products] == [False] * (len(products) - 1) + [True]


@pytest.mark.parametrize(("width", "room"), [(128, 48), (20, 20), (4, 16)])
def test_rows_that_no_longer_fit_are_added_up_in_the_wide_type(width, room, products):
    factors = factors_of(0.875, "last")
    factors[0] = 1  # foretells 9 rows more
    ops = Apart()
    assert max(errors(problem(width), factors, ops)) < 1e-2
    assert ops.rows == [ROWS, 10, room]
    assert len(products) > 1
    assert {product.dtype for product in products} == {torch.float32}
    assert [product.last for product in products] == [False] * (len(products) - 1) + [True]


def test_a_single_chunk_makes_room_for_what_it_keeps():
    ops = Apart()
    errors(problem(128), factors_of(0.125), ops, rows=TOKENS)
    assert ops.rows == [TOKENS, 8]


def test_where_the_weight_is_frozen_two_chunks_wait():
    ops = Apart()
    errors(problem(128), factors_of(1), ops, needs_grad=(True, False, False, False, False))
    assert ops.rows == [ROWS, 2 * ROWS]


def test_where_nobody_wants_a_gradient_no_room_is_made_for_it():
    made, ops = problem(16), Apart()
    Chunked(ROWS, ops).token_nll(made.hidden, Head(made.weight, None), made.targets, entropy=None)
    assert ops.rows == [ROWS]


def test_a_few_last_rows_wait_with_those_before_them(products):
    factors = factors_of(1)
    factors[26:52] = 0
    errors(problem(4), factors, logit_ops_for(torch.float32), rows=52, dtype=torch.float32)
    assert [product.rows for product in products] == [38]


def test_two_buffers_hold_as_many_logits_as_one():
    hidden, head = torch.empty(2048, 2), Head(torch.empty(3, 2), None)
    one, two = (
        Workspace.of(hidden, head, ops, tokens=2048, rows=None, needs_grad=(True, True, False, False, False))
        for ops in (logit_ops_for(torch.float32), Apart())
    )
    assert len(one.products) == 2 * len(two.products)


def test_in_one_buffer_a_narrow_weight_is_added_up_in_the_wide_type_too(products):
    assert max(errors(problem(128), factors_of(1), logit_ops_for(torch.bfloat16))) < 1e-2
    assert products == [(ROWS, last, torch.float32) for last in [False] * 7 + [True]]


class Live(TorchDispatchMode):
    """The most bytes that tensors had at once, without those of `inputs`."""

    def __init__(self, *inputs):
        super().__init__()
        self.given = {tensor.untyped_storage()._cdata for tensor in inputs}
        self.storages = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata not in self.given:
                self.storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.storages = {key: found for key, found in self.storages.items() if not found[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.storages.values()))
        return result


@pytest.mark.parametrize("share", [1, 0.75, 0.5, 0.125])
@pytest.mark.parametrize("order", ["mixed", "first", "last"])
@pytest.mark.parametrize("width", [16, 24, 32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nothing_takes_more_than_a_chunk_and_three_times_the_gradient(dtype, width, order, share, monkeypatch):
    # What a CPU has between products, and a GPU keeps in registers, is to be small.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(logit_ops, "_CPU_PIECE", 1)
    monkeypatch.setattr(buffers, "_NARROW_WORDS", 16)
    vocabulary = 4096
    made = truth.problem(5, shape=(TOKENS,), width=width, vocabulary=vocabulary, ignored=0).leaves(dtype)
    hidden, head, factors = made.hidden.detach(), Head(made.weight.detach(), None), factors_of(share, order).float()
    gradient = vocabulary * width * dtype.itemsize
    with Live(hidden, head.weight, made.targets, factors) as live:
        work = Workspace.of(
            hidden, head, Apart(), tokens=TOKENS, rows=ROWS, needs_grad=(True, True, False, False, False)
        )
        for chunk in work.chunks():
            stats = work.forward_chunk(chunk, made.targets[chunk])
            work.accumulate_backward(stats, chunk.start, Partials(factors[chunk]))
        sums = work.gradients
        del work
        sums.finish(head)
    chunk = ROWS * vocabulary * dtype.itemsize
    # Beside them the gradient of the hidden states, and copies of single rows.
    assert gradient < live.peak < 3 * gradient + 2 * chunk
