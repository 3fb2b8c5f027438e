import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from tailkeep.scoring import token_log_probs
from tailkeep.scoring.log_probs import _batches

SIZE = 40


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=SIZE, max_position_embeddings=64, **shape))
    # Random weights are nearly uniform: larger ones make probabilities that differ.
    network.lm_head.weight.data.mul_(20)
    return network.eval()


def rows_of(*lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, SIZE, n).astype(np.int32) for n in lengths]


def naive(network, row):
    """ln p of each token but the first, the row alone in its batch, softmax in float64."""
    with torch.no_grad():
        logits = network(input_ids=torch.tensor(row[None].astype(np.int64))).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(-1, torch.tensor(row[1:, None].astype(np.int64))).squeeze(-1).numpy()


@pytest.mark.parametrize("batch_tokens", [1, 20, 16_384])
def test_each_token_has_the_probability_that_its_row_alone_gives_it(network, batch_tokens):
    rows = rows_of(9, 2, 17, 5, 5, 30, 3)
    scored = token_log_probs(network, rows, batch_tokens=batch_tokens)
    assert len(scored) == len(rows)
    for row, values in zip(rows, scored, strict=True):
        assert values.dtype == np.float32
        assert np.abs(values - naive(network, row)).max() < 1e-5


@pytest.mark.parametrize("pad", [0, 7])
def test_padding_changes_nothing(network, pad):
    short, long = rows_of(4, 33)
    alone = token_log_probs(network, [short], pad=pad)[0]
    beside = token_log_probs(network, [short, long], pad=pad)[0]
    assert np.abs(alone - beside).max() < 1e-5


def test_rows_come_back_in_their_order(network):
    rows = rows_of(12, 3, 8, 3)
    forward = token_log_probs(network, rows)
    backward = token_log_probs(network, rows[::-1])[::-1]
    assert [len(values) for values in forward] == [11, 2, 7, 2]
    for one, other in zip(forward, backward, strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_a_row_of_one_token_has_nothing_to_predict(network):
    scored = token_log_probs(network, rows_of(1, 4, 1))
    assert [len(values) for values in scored] == [0, 3, 0]
    assert token_log_probs(network, []) == []


def test_no_probability_exceeds_one(network):
    with torch.no_grad():
        sure = LlamaForCausalLM(network.config)
        sure.lm_head.weight.zero_()
        sure.model.norm.weight.zero_()
    values = token_log_probs(sure, rows_of(30, 30))
    assert np.concatenate(values) == pytest.approx(-np.log(SIZE), rel=1e-6)
    assert all((row <= 0).all() for row in token_log_probs(network, rows_of(40, 40)))


@pytest.mark.parametrize("training", [True, False])
def test_the_network_keeps_its_mode_even_if_it_fails(network, training):
    network.train(training)
    try:
        token_log_probs(network, rows_of(5))
        assert network.training is training
        with pytest.raises(IndexError):
            token_log_probs(network, [np.array([1, SIZE + 1], np.int32)])
        assert network.training is training
    finally:
        network.eval()


def test_what_the_caller_gets_is_no_view_of_the_batch(network):
    rows = rows_of(5, 5)
    scored = token_log_probs(network, rows)
    scored[0][:] = 0
    assert (scored[1] != 0).all()


class Counting(torch.nn.Module):
    """A model with a vocabulary of a given size that notes the shape of what it is asked."""

    def __init__(self, vocabulary):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.vocabulary = vocabulary
        self.seen = []

    @property
    def config(self):
        return self

    def get_text_config(self):
        return self

    @property
    def vocab_size(self):
        return self.vocabulary

    def forward(self, input_ids, attention_mask, use_cache):
        self.seen.append(tuple(input_ids.shape))
        logits = torch.zeros(1).expand(*input_ids.shape, 4)
        return type("Output", (), {"logits": logits})


def test_no_forward_pass_is_larger_than_asked_for():
    network = Counting(4)
    token_log_probs(network, [np.zeros(n, np.int32) for n in (3, 9, 5, 5, 2, 12)], batch_tokens=24)
    assert all(rows * width <= 24 for rows, width in network.seen)
    assert len(network.seen) < 6


def test_a_large_vocabulary_makes_the_batches_smaller():
    network = Counting(1 << 22)
    token_log_probs(network, [np.zeros(4, np.int32)] * 8)
    assert network.seen == [(4, 4), (4, 4)]


@given(lengths=st.lists(st.integers(1, 40)), limit=st.integers(1, 100))
def test_every_row_that_predicts_something_is_in_one_batch_within_the_limit(lengths, limit):
    batches = list(_batches(lengths, limit))
    assert sorted(i for batch in batches for i in batch) == [i for i, n in enumerate(lengths) if n > 1]
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= limit
