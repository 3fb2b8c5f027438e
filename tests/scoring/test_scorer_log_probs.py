import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from tailkeep.errors import InputError
from tailkeep.scoring import token_log_probs
from tests.scoring.conftest import SIZE, pick, reference_log_probs, rows_of


@pytest.mark.parametrize("batch_tokens", [1, 20, 16_384])
def test_each_token_has_the_probability_that_its_row_alone_gives_it(network, batch_tokens):
    rows = rows_of(9, 2, 17, 5, 5, 30, 3)
    scored = token_log_probs(network, rows, batch_tokens=batch_tokens)
    assert len(scored) == len(rows)
    for row, values in zip(rows, scored, strict=True):
        assert values.dtype == np.float32
        assert np.abs(values - pick(reference_log_probs(network, row), row)).max() < 1e-5


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
        uniform = LlamaForCausalLM(network.config)
        uniform.lm_head.weight.zero_()
        uniform.model.norm.weight.zero_()
    values = token_log_probs(uniform, rows_of(30, 30))
    assert np.concatenate(values) == pytest.approx(-np.log(SIZE), rel=1e-6)
    assert all((row <= 0).all() for row in token_log_probs(network, rows_of(40, 40)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("part", ["model", "lm_head"])
def test_every_part_of_the_network_keeps_its_mode_even_if_it_fails(network, training, part):
    network.train(training)
    getattr(network, part).train(not training)
    modes = [module.training for module in network.modules()]
    try:
        token_log_probs(network, rows_of(5))
        assert [module.training for module in network.modules()] == modes
        with pytest.raises(InputError):
            token_log_probs(network, [np.array([1, SIZE + 1], np.int32)])
        assert [module.training for module in network.modules()] == modes
    finally:
        network.eval()


def test_what_the_caller_gets_is_no_view_of_the_batch(network):
    rows = rows_of(5, 5)
    scored = token_log_probs(network, rows)
    scored[0][:] = 0
    assert (scored[1] != 0).all()


def test_no_forward_pass_is_larger_than_asked_for(network):
    seen = []
    body = network.model
    handle = body.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        token_log_probs(network, [np.zeros(n, np.int32) for n in (3, 9, 5, 5, 2, 12)], batch_tokens=24)
    finally:
        handle.remove()
    assert all(rows * width <= 24 for rows, width in seen)
    # One pass splits the model.
    assert len(seen) - 1 < 6
