"""What attach leaves alone, what it changes, and what detach gives back."""

import copy
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tailkeep.errors import ConfigError
from tailkeep.losses.hf.attach import attach, detach, is_attached, read_stats, weighting_of, without_attached_loss
from tailkeep.losses.options import named_weighting
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import attached_llama, batch, fused, gradients, same, unfused

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


def test_a_model_in_evaluation_mode_is_its_own():
    model, inputs, _, _ = attached_llama()
    original = detach(copy.deepcopy(model)).eval()
    model.eval()
    with torch.no_grad():
        output, expected = model(**inputs), original(**inputs)
        prompt = inputs["input_ids"][:, :4]
        settings = {"max_new_tokens": 5, "do_sample": False, "attention_mask": torch.ones_like(prompt)}
        assert torch.equal(model.generate(prompt, **settings), original.generate(prompt, **settings))
    assert torch.equal(output.loss, expected.loss)
    assert torch.equal(output.logits, expected.logits)


def test_generation_in_training_mode_needs_no_permission():
    model, inputs, _, _ = attached_llama()
    prompt = inputs["input_ids"][:, :4]
    assert model.generate(prompt, max_new_tokens=3, attention_mask=torch.ones_like(prompt)).shape[1] >= 5


def test_training_returns_a_loss_and_no_logits():
    model, inputs, _, expected = attached_llama()
    output = model(**inputs)
    assert output.logits is None
    assert next(iter(output)) == "loss"
    as_tuple = model(**inputs, return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple[0].detach(), expected.loss, rtol=1e-6, atol=0)
    assert torch.equal(model(inputs["input_ids"], None, None, None, None, inputs["labels"]).loss, output.loss)


def test_detach_restores_every_class_and_leaves_nothing_behind():
    model = tiny("modernbert-decoder")
    before = [(type(module), set(vars(module))) for module in model.modules()]
    attach(model)
    assert is_attached(model)
    assert [type(module) for module in model.modules()] != [kind for kind, _ in before]
    assert [type(module).__name__ for module in model.modules()] == [kind.__name__ for kind, _ in before]
    assert detach(model) is model
    assert not is_attached(model)
    assert [(type(module), set(vars(module))) for module in model.modules()] == before


def test_attach_disturbs_neither_gradients_nor_buffers_nor_modes_nor_random_numbers():
    model = tiny("llama", attention_dropout=0.1)
    model.model.layers[0].eval()
    model(**batch()).loss.backward()
    modes = [module.training for module in model.modules()]
    before = gradients(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers()}
    random = torch.get_rng_state()
    attach(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(gradient, before[name]) for name, gradient in gradients(model).items())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in model.named_buffers())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_trains_its_own_weights_and_counts_for_itself(copied):
    model, inputs, _, expected = attached_llama()
    other = copied(model)
    assert type(other) is type(model)
    same(fused(other, inputs), expected)
    assert read_stats(model) == {}
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    # All tokens are equally likely now, and the threshold of before might truncate them all.
    other.__dict__["_tailkeep"].weighting = named_weighting("cross_entropy")
    assert other(**inputs).loss.item() == pytest.approx(math.log(97))
    same(fused(model, inputs), expected)


def test_a_copy_of_a_stateful_loss_has_its_own_state():
    model, inputs = tiny("llama"), batch()
    attach(model, "target_kept", fraction=0.5)
    before = weighting_of(model).threshold
    other = copy.deepcopy(model)
    other(**inputs)
    assert weighting_of(model).threshold == before != weighting_of(other).threshold


def test_a_saved_model_is_an_ordinary_one(tmp_path: Path):
    model, inputs, threshold, expected = attached_llama()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "LlamaForCausalLM"
    assert loaded.config.architectures == ["LlamaForCausalLM"]
    assert not is_attached(loaded)
    same(unfused(loaded.train(), inputs, threshold=threshold), expected)


def test_a_new_model_of_an_attached_ones_class_has_nothing_attached(tmp_path: Path):
    model, inputs, threshold, expected = attached_llama()
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).train()
    assert not is_attached(loaded)
    same(unfused(loaded, inputs, threshold=threshold), expected)
    same(fused(attach(loaded, threshold=threshold), inputs), expected)
    assert type(detach(loaded)) is type(tiny("llama"))


@pytest.mark.parametrize("name", ["focal", "mile", "eaft", "dft", "stm", "cross_entropy"])
def test_any_named_loss_attaches(name):
    model, inputs = attach(tiny("gemma2"), name), batch()
    assert weighting_of(model).name == name
    assert torch.isfinite(model(**inputs).loss)


def test_a_random_loss_attaches_without_spending_its_draws():
    draws = named_weighting("random", kept_fraction=0.5, seed=3)
    before = draws.state_dict()["generator"].clone()
    attach(tiny("llama"), draws)
    assert torch.equal(draws.state_dict()["generator"], before)


def test_plain_cross_entropy_is_the_models_own_loss():
    model, inputs = tiny("qwen3_moe"), batch()
    detached_output = model(**inputs)
    attach(model, "cross_entropy")
    torch.testing.assert_close(model(**inputs).loss, detached_output.loss, rtol=1e-6, atol=0)
    with without_attached_loss(model):
        output = model(**inputs)
        assert torch.equal(output.loss, detached_output.loss)
        assert torch.equal(output.logits, detached_output.logits)


def test_options_of_a_loss_that_would_do_nothing_are_refused():
    model = tiny("llama")
    with pytest.raises(ConfigError, match="threshold"):
        attach(model, "cross_entropy", threshold=0.9)
    with pytest.raises(ConfigError, match="threshold have no effect"):
        attach(model, named_weighting("truncated"), threshold=0.9)
    with pytest.raises(ConfigError, match="unknown"):
        attach(model, "trunctated")
    assert not is_attached(model)


@pytest.mark.parametrize("loss", [None, 3, lambda nll: nll])
def test_what_is_neither_a_name_nor_a_weighting_is_refused(loss):
    model = tiny("llama")
    with pytest.raises(ConfigError, match="neither a name nor a Weighting"):
        attach(model, loss, threshold=0.9)
    assert not is_attached(model)


def test_the_default_threshold_is_that_of_the_loss():
    model = attach(tiny("llama"))
    nll = -torch.log(torch.tensor([0.989, 0.991]))
    assert weighting_of(model).weigh(nll, None).tolist() == [1, 0]


def test_what_is_not_attached_cannot_be_read_or_detached():
    for thing in (tiny("llama"), None, "gpt2"):
        assert not is_attached(thing)
        for ask in (detach, read_stats, weighting_of):
            with pytest.raises(ConfigError, match="no loss attached"):
                ask(thing)


def test_a_wrapper_is_asked_like_the_model_itself():
    model, inputs, _, _ = attached_llama()
    wrapper = nn.ModuleDict({"inner": model})
    model(**inputs)
    assert is_attached(wrapper)
    assert read_stats(wrapper).keys() >= {"kept_fraction", "cross_entropy", "confidence", "accuracy"}
    detach(wrapper)
    assert not is_attached(model)


class CachelessLlama(LlamaForCausalLM):
    """A model whose forward knows no cache, as those of masked models in transformers before 5."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, return_dict=None):
        return super().forward(
            input_ids, attention_mask=attention_mask, labels=labels, return_dict=return_dict, use_cache=False
        )


def test_a_forward_without_a_cache_is_attached_like_any_other():
    model = CachelessLlama(tiny("llama").config).train()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    expected = model(**batch()).loss
    torch.testing.assert_close(attach(model)(**batch()).loss, expected, rtol=1e-6, atol=0)
