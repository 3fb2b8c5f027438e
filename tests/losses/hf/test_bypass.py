"""An attached model that is trained past its loss says so at the first step."""

import copy
import types

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn

from tailkeep.errors import AttachmentError
from tailkeep.losses.hf.attach import attach, detach, without_attached_loss
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import attached_llama, batch, fused, gradients, same

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

WITHOUT = r"`with without_attached_loss\(model\):`"


@pytest.mark.parametrize("family", ["llama", "gpt2", "modernbert-decoder"])
def test_logits_for_a_trainers_own_loss_are_refused(family):
    model, tokens = attach(tiny(family)), batch()["input_ids"]
    with pytest.raises(AttachmentError, match=rf"without labels.*compute_loss_func.*integrations.trl.*{WITHOUT}"):
        model(tokens)


@pytest.mark.parametrize("family", ["llama", "gpt2", "modernbert-decoder"])
def test_a_backbone_called_directly_is_refused(family):
    model, tokens = attach(tiny(family)), batch()["input_ids"]
    with pytest.raises(AttachmentError, match=r"backbone.*past the model's own forward.*integrations.trl"):
        model.base_model(tokens)


def test_an_output_layer_called_directly_is_refused():
    model = attach(tiny("llama"))
    with pytest.raises(AttachmentError, match=r"output layer.*past the model's own forward"):
        model.lm_head(torch.randn(2, 3, 32))


def test_a_forward_put_on_the_object_afterwards_is_refused():
    model, inputs = attach(tiny("llama")), batch()

    def patched(self, input_ids, labels):
        return self.model(input_ids).last_hidden_state.sum()

    model.forward = types.MethodType(patched, model)
    with pytest.raises(AttachmentError, match="backbone"):
        model(**inputs)


def test_an_output_layer_replaced_afterwards_is_refused_until_attached_again():
    model, inputs = attach(tiny("llama")), batch()
    model.resize_token_embeddings(120)
    with pytest.raises(AttachmentError, match="replaced after attach"):
        model(**inputs)
    attach(detach(model))
    assert torch.isfinite(model(**inputs).loss)


def test_a_forward_put_on_the_output_layer_afterwards_is_refused():
    model, inputs = attach(tiny("llama")), batch()
    model.lm_head.forward = lambda hidden: hidden
    with pytest.raises(AttachmentError, match="replaced after attach"):
        model(**inputs)


def test_low_rank_training_of_the_output_layer_afterwards_is_refused():
    model, inputs = attach(tiny("llama")), batch()
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM"))
    with pytest.raises(AttachmentError, match="replaced after attach"):
        wrapped(**inputs)


def test_logits_cut_on_the_way_are_refused():
    model, inputs = attach(tiny("llama")), batch()
    with pytest.raises(AttachmentError, match="logits_to_keep"):
        model(**inputs, logits_to_keep=4)


def of_logits(logits, inputs):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten())


def by_hand(model, inputs):
    return of_logits(model.lm_head(model.base_model(inputs["input_ids"])[0]), inputs)


WAYS_PAST = {
    "its own loss": lambda model, inputs: model(**inputs).loss,
    "its own loss in a tuple": lambda model, inputs: model(**inputs, return_dict=False)[0],
    "logits": lambda model, inputs: of_logits(model(inputs["input_ids"]).logits, inputs),
    "logits beside labels": lambda model, inputs: of_logits(model(**inputs).logits, inputs),
    "backbone and output layer": by_hand,
    "backbone and weight": lambda model, inputs: of_logits(
        model.base_model(inputs["input_ids"])[0] @ model.lm_head.weight.T, inputs
    ),
    "output layer of detached states": lambda model, inputs: of_logits(
        model.lm_head(model.base_model(inputs["input_ids"])[0].detach()), inputs
    ),
}


@pytest.mark.parametrize("way", WAYS_PAST)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_training_in_evaluation_mode_is_refused_at_the_backward_pass(family, way):
    model, inputs = attach(tiny(family)).eval(), batch()
    loss = WAYS_PAST[way](model, inputs)
    with pytest.raises(AttachmentError, match=rf"evaluation mode.*model\.train\(\).*{WITHOUT}"):
        loss.backward()
    model.zero_grad()
    with without_attached_loss(model):
        loss = WAYS_PAST[way](model, inputs)
    loss.backward()
    assert gradients(model)


def test_a_backbone_alone_in_evaluation_mode_is_refused_at_the_backward_pass():
    model, inputs = attach(tiny("llama")), batch()
    model.model.eval()
    hidden = model.model(inputs["input_ids"]).last_hidden_state
    with pytest.raises(AttachmentError, match="evaluation mode"):
        of_logits(hidden @ model.lm_head.weight.T, inputs).backward()


def test_parts_in_evaluation_mode_still_train_with_the_attached_loss():
    model, inputs, _, expected = attached_llama()
    model.model.eval()
    model.lm_head.eval()
    same(fused(model, inputs), expected)


def test_a_loss_function_set_afterwards_is_refused_until_it_is_gone():
    model, inputs, _, expected = attached_llama()
    model.loss_function = lambda logits, labels, **kwargs: logits.sum()
    with pytest.raises(AttachmentError, match=r"loss_function.*after attach.*detach"):
        model(**inputs)
    del model._loss_function
    same(fused(model, inputs), expected)


def test_an_error_inside_leaves_no_trace_of_the_call():
    model, inputs = attach(tiny("llama")), batch()
    with pytest.raises(AttachmentError):
        model(**inputs, logits_to_keep=4)
    assert torch.isfinite(model(**inputs).loss)
    assert not any(name.startswith("_tailkeep_call") for module in model.modules() for name in vars(module))


def test_without_gradients_everything_may_be_called():
    model, tokens = attach(tiny("llama")), batch()["input_ids"]
    with torch.no_grad():
        assert model(tokens).logits.shape[-1] == 97
        assert model.model(tokens).last_hidden_state.shape[-1] == 32


def test_plain_allows_what_is_meant():
    model, inputs = attach(tiny("llama")), batch()
    detached = detach(copy.deepcopy(model))
    with without_attached_loss(model), without_attached_loss(model):
        assert torch.equal(model(inputs["input_ids"]).logits, detached(inputs["input_ids"]).logits)
        model.model(inputs["input_ids"])
        model.eval()(**inputs).loss.backward()
    with pytest.raises(AttachmentError):
        model.train()(inputs["input_ids"])


def test_a_copy_made_within_plain_is_no_longer_in_it():
    model = attach(tiny("llama"))
    with without_attached_loss(model):
        other = copy.deepcopy(model)
    with pytest.raises(AttachmentError):
        other(batch()["input_ids"])


def test_a_head_that_the_model_calls_twice_is_refused():
    model, inputs = attach(tiny("llama")), batch()
    model.lm_head.register_forward_pre_hook(lambda head, args: (head.forward(*args), None)[1])
    with pytest.raises(AttachmentError, match="twice"):
        model(**inputs)


def test_module_hooks_of_others_still_run():
    model, inputs = attach(tiny("llama")), batch()
    seen: list[torch.Size] = []
    model.lm_head.register_forward_hook(lambda head, args, output: seen.append(output.shape))
    model(**inputs)
    assert seen == [torch.Size([3, 16, 1])]
    assert isinstance(model.lm_head, nn.Linear)
