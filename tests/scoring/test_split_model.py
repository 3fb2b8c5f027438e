import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tailkeep.errors import InputError
from tailkeep.rules.config import Sampler
from tailkeep.rules.sampler import sample_tokens
from tailkeep.scoring import split_model, token_log_probs
from tailkeep.scoring.scorer import score_rows
from tailkeep.scoring.split_model import SplitModel
from tests.scoring.conftest import SIZE, new_network, pick, reference_log_probs, rows_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_are_those_of_the_models_own_logits(any_network, dtype):
    network = any_network.to(dtype)
    try:
        rows = rows_of(9, 2, 17, 5, 30)
        for row, values in zip(rows, token_log_probs(network, rows), strict=True):
            assert np.abs(values - pick(reference_log_probs(network, row), row)).max() < 1e-5
    finally:
        network.to(torch.float32)


def test_a_softcap_and_a_logit_scale_are_applied():
    for kind, name in (("gemma2", "final_logit_softcapping"), ("cohere", "logit_scale")):
        rows = rows_of(30)
        with_it = token_log_probs(new_network(kind), rows)[0]
        without = token_log_probs(new_network(kind, **{name: 1e6 if kind == "gemma2" else 1.0}), rows)[0]
        assert np.abs(with_it - without).max() > 0.5


def test_chunks_of_any_size_give_the_same_scores(any_network, monkeypatch):
    rows = rows_of(9, 17, 30)
    whole = token_log_probs(any_network, rows)
    for size in (1, 3 * SIZE, 7 * SIZE + 1):
        monkeypatch.setattr(split_model, "_MIN_ROWS", 1)
        monkeypatch.setitem(split_model._LOGITS, "cpu", size)
        for one, other in zip(whole, token_log_probs(any_network, rows), strict=True):
            assert np.abs(one - other).max() < 1e-5


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "cohere"])
def test_no_tensor_of_all_tokens_times_the_vocabulary_exists(kind, monkeypatch):
    vocabulary, rows = 5000, rows_of(50, 50, 50, 50)
    network = new_network(kind, vocab_size=vocabulary)
    with Largest() as unchunked, torch.no_grad():
        network(input_ids=torch.tensor(np.stack(rows).astype(np.int64)))
    assert unchunked.numbers == 200 * vocabulary
    monkeypatch.setattr(split_model, "_MIN_ROWS", 1)
    monkeypatch.setitem(split_model._LOGITS, "cpu", 8 * vocabulary)
    with Largest() as chunked:
        token_log_probs(network, rows)
    assert chunked.numbers <= max(8, network.config.hidden_size) * vocabulary


def test_with_a_vocabulary_of_262144_an_edit_holds_the_logits_of_256_tokens_at_once():
    vocabulary = 1 << 18

    def flag(documents, positions, log_probs):
        return positions % 16 == 0

    def sample(documents, positions, log_probs, originals):
        uniforms = torch.full((len(originals), 1), 0.5, dtype=torch.float64)
        return sample_tokens(log_probs, originals, uniforms, Sampler())

    for length in (300, 900):
        rows = rows_of(*[60] * (length // 60))
        model = SplitModel(new_network("llama", vocab_size=vocabulary))
        with Largest() as chunked:
            scored = list(score_rows(model, rows, flag, sample, batch_tokens=length, window=60))
        assert sum(len(document.ids) for document in scored) == 3 * len(rows)
        assert chunked.numbers == 256 * vocabulary


def test_probabilities_near_one_keep_their_distance_from_it(network):
    model = SplitModel(network)
    logits = torch.full((2, SIZE), 100.0)
    logits[0, 5], logits[1, 6] = 114.0, 116.0
    model._head, model._steps = nn.Identity(), split_model._Steps(logits, [], logits)
    expected = -torch.log1p(torch.tensor([60 * np.exp(-14.0), 60 * np.exp(-16.0)]))
    log_probs = model.log_probs(logits)[[0, 1], [5, 6]]
    assert log_probs.tolist() == pytest.approx(expected.tolist(), abs=2e-7, rel=1e-2)


class Odd(nn.Module):
    """A causal language model with the given forward function."""

    def __init__(self, forward):
        super().__init__()
        self.embedding, self.head, self.body = nn.Embedding(SIZE, 4), nn.Linear(4, SIZE), forward

    def get_output_embeddings(self):
        return self.head

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask, use_cache):
        logits = self.body(self, self.embedding(input_ids))
        return type("Output", (), {"logits": logits})


def make_forward(name):
    def masked(odd, hidden):
        logits = odd.head(hidden)
        logits[..., 7] = -50.0
        return logits

    return {
        "sliced and scaled in place": lambda odd, hidden: odd.head(hidden).mul_(3)[..., :40],
        "masked": masked,
        "two uses of the logits": lambda odd, hidden: (lambda z: z * 2 + torch.tanh(z))(odd.head(hidden)),
    }[name]


@pytest.mark.parametrize("name", ["sliced and scaled in place", "masked", "two uses of the logits"])
def test_the_operations_on_the_logits_are_replayed_on_each_chunk(name, monkeypatch):
    torch.manual_seed(0)
    odd = Odd(make_forward(name))
    rows = [row % 40 for row in rows_of(9, 5)]
    monkeypatch.setattr(split_model, "_MIN_ROWS", 1)
    monkeypatch.setitem(split_model._LOGITS, "cpu", 2 * SIZE)
    for row, values in zip(rows, token_log_probs(odd, rows), strict=True):
        ids = torch.tensor(row[None].astype(np.int64))
        with torch.no_grad():
            table = odd(ids, None, None).logits[0, :-1].double().log_softmax(-1).numpy()
        assert np.abs(values - pick(table, row)).max() < 1e-5


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda odd, hidden: odd.head(hidden) + odd.head(hidden), "not once with all of them"),
        (lambda odd, hidden: odd.head(hidden[:, -1:]), "not once with all of them"),
        (lambda odd, hidden: odd.head(hidden).reshape(1, 3, SIZE), "cannot be replayed"),
        (lambda odd, hidden: odd.head(hidden).cumsum(1), "cannot be replayed"),
        (
            lambda odd, hidden: odd.head(hidden) + hidden.sum(-1, keepdim=True) * torch.arange(SIZE),
            "cannot be replayed",
        ),
        (lambda odd, hidden: hidden @ odd.head.weight.T, "not once with all of them"),
    ],
)
def test_a_model_that_cannot_be_split_is_an_error(forward, reason):
    with pytest.raises((InputError, RuntimeError), match=reason):
        SplitModel(Odd(forward))


def test_a_model_whose_tokens_attend_to_later_ones_is_an_error():
    with pytest.raises(InputError, match="tokens of Odd attend to later tokens"):
        SplitModel(Odd(lambda odd, hidden: odd.head(hidden + hidden.mean(1, keepdim=True))))


def test_padding_cannot_make_a_score_of_a_sliding_window_nan():
    network = new_network("gemma2").double()
    assert all(np.isfinite(values).all() for values in token_log_probs(network, rows_of(2, 60)))


def test_a_model_without_an_lm_head_is_an_error():
    odd = Odd(lambda odd, hidden: odd.head(hidden))
    odd.get_output_embeddings = lambda: None
    with pytest.raises(InputError, match="Odd has no output embeddings"):
        SplitModel(odd)


def test_splitting_leaves_no_hook_behind(network):
    network.train()
    try:
        SplitModel(network)
        assert network.training
    finally:
        network.eval()
    head = network.get_output_embeddings()
    assert not head._forward_hooks
    assert not head._forward_pre_hooks
    model = SplitModel(network)
    with pytest.raises(IndexError), torch.no_grad():
        model.hidden_states(torch.tensor([[SIZE]]))
    assert not head._forward_pre_hooks


@pytest.mark.parametrize("wrong", [-1, SIZE])
def test_an_id_that_the_model_does_not_know_is_named_with_the_number_that_it_does(network, wrong):
    rows = [*rows_of(5, 4), np.array([4, wrong, 3], np.int32)]
    message = f"document 2 has the token id {wrong}, but the model has {SIZE} tokens"
    with pytest.raises(InputError, match=re.escape(message)):
        token_log_probs(network, rows)
