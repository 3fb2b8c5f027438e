"""Which rows wait for which: how often there is a backward product, and how much memory waiting takes."""

import pytest
import torch

from tailkeep.losses.engines.chunked import Chunked
from tailkeep.losses.engines.elementwise import Narrow, plain
from tailkeep.losses.engines.gradients import Gradients
from tailkeep.losses.head import Head
from tailkeep.losses.truncation import truncated
from tests.losses.engines import truth

TOKENS, ROWS, VOCABULARY = 64, 8, 11


class Apart(Narrow):
    """Products and waiting rows in buffers of their own, as on a GPU; remembers how many rows each has."""

    in_place = False

    def __init__(self):
        self.rows = []

    def buffer(self, rows, hidden, head):
        self.rows.append(rows)
        return super().buffer(rows, hidden, head)


@pytest.fixture
def products(monkeypatch):
    """The number of rows in each backward product."""
    counts, add = [], Gradients.add

    def counted(self, rows, *args, **options):
        counts.append(len(rows))
        return add(self, rows, *args, **options)

    monkeypatch.setattr(Gradients, "add", counted)
    return counts


def given(width, *, order=None, seed=4):
    """Inputs that bfloat16 has too, and the thresholds that keep a share; `order` sorts tokens by their loss."""
    made = truth.problem(seed, shape=(TOKENS,), width=width, vocabulary=VOCABULARY, ignored=0, spread=width**-0.5)
    made = made.leaves(torch.bfloat16).leaves(torch.float64)
    if order is not None:
        ranks = truth.token_nll(made).argsort(descending=order == "unsure first")
        made = truth.Problem(made.hidden.detach()[ranks].requires_grad_(), made.weight, made.targets[ranks])
    p = torch.exp(-truth.token_nll(made).detach()).sort().values

    def keeping(share):
        kept = int(share * TOKENS)
        return 1.0 if kept == TOKENS else float(p[kept - 1] + p[kept]) / 2

    return made, keeping


def gradients(made, threshold, elementwise, rows=ROWS, dtype=torch.bfloat16):
    """Of the summed losses, and the same in float64."""
    ours = made.leaves(dtype)
    losses = (
        Chunked(rows, elementwise)
        .weighted(ours.hidden, Head(ours.weight, None), ours.targets, truncated(threshold))
        .losses
    )
    true = truth.truncated(made, threshold, reduction="sum")
    return truth.gradients(losses.sum(), ours), truth.gradients(true, made)


@pytest.mark.parametrize("share", [1, 0.5, 0.25])
@pytest.mark.parametrize("order", [None, "sure first", "unsure first"])
@pytest.mark.parametrize("width", [4, 16, 32, 128])
def test_however_rows_wait_the_gradients_are_the_same(width, order, share):
    made, keeping = given(width, order=order)
    for ours, true in zip(*gradients(made, keeping(share), Apart()), strict=True):
        assert truth.distance(ours, true) < 2e-2


@pytest.mark.parametrize(
    ("width", "share", "waiting", "times"),
    [
        (32, 1, 64, 1),  # in bfloat16 64 rows of the vocabulary are as large as a sum in float32
        (31, 1, 31, 3),
        (16, 0.25, 20, 1),
        (128, 0.25, 20, 1),
        (128, 0.0625, 8, 1),
        (4, 1, 16, 4),
    ],
)
def test_all_rows_wait_where_that_takes_no_more_than_a_wide_sum(width, share, waiting, times, products):
    made, keeping = given(width)
    # As many in the first chunk as in all.
    order = truth.token_nll(made).argsort().view(8, 8).T.flatten()
    made = truth.Problem(made.hidden.detach()[order].requires_grad_(), made.weight, made.targets[order])
    elementwise = Apart()
    gradients(made, keeping(share), elementwise)
    assert elementwise.rows == [ROWS, waiting]
    assert len(products) == times
    assert sum(products) == share * TOKENS


def test_in_float16_a_wide_sum_is_not_to_be_saved():
    made, _ = given(32)
    elementwise = Apart()
    gradients(made, 1.0, elementwise, dtype=torch.float16)
    assert elementwise.rows == [ROWS, 32]


def test_where_the_weight_is_frozen_rows_wait_for_two_chunks():
    made, _ = given(128)
    made.weight.requires_grad_(False)
    elementwise = Apart()
    gradients(made, 1.0, elementwise)
    assert elementwise.rows == [ROWS, 2 * ROWS]


def test_where_nobody_wants_a_gradient_no_room_is_made_for_it():
    made, _ = given(16)
    elementwise = Apart()
    Chunked(ROWS, elementwise).token_nll(made.hidden, Head(made.weight, None), made.targets, entropy=None)
    assert elementwise.rows == [ROWS]


def test_a_few_last_rows_wait_with_those_before_them(products):
    made, keeping = given(4)
    gradients(made, keeping(0.5), plain(torch.float32), rows=52, dtype=torch.float32)
    assert products == [32]
