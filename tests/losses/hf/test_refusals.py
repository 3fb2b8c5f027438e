"""Models whose fused loss would not be exact are refused before anything is changed, with the unfused way."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from tailkeep.errors import AttachmentError, ConfigError
from tailkeep.losses.hf.attach import attach, is_attached, read_stats
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import attached_llama, batch, fused, gradients, halving_threshold, unfused, worst

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


def refused(model, match: str) -> None:
    classes = [type(module) for module in model.modules()]
    with pytest.raises(ConfigError, match=match):
        attach(model)
    assert [type(module) for module in model.modules()] == classes
    assert not is_attached(model)


def masked_bert() -> nn.Module:
    config = AutoConfig.for_model(
        "bert", vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    return AutoModelForMaskedLM.from_config(config)


def test_output_layers_of_another_class():
    class FourBit(nn.Linear):
        pass

    model = tiny("llama")
    model.lm_head = FourBit(32, 97)
    refused(model, "FourBit, not a torch.nn.Linear or LoRA around one")


def test_weights_that_are_no_plain_parameters():
    class Packed(nn.Parameter):
        pass

    model = tiny("llama")
    model.lm_head.weight = Packed(model.lm_head.weight.data)
    refused(model, "Packed, not a plain parameter")


def test_device_hooks():
    model = tiny("llama")
    model.lm_head._hf_hook = object()
    refused(model, "device_map or offload")


def test_forwards_that_were_replaced_on_the_object():
    model = tiny("llama")
    model.forward = model.forward
    refused(model, r"was replaced on the object.*before that")


def test_models_without_weights():
    refused(tiny("llama").to("meta"), "meta device")


def test_encoder_decoders():
    config = AutoConfig.for_model("t5", vocab_size=97, d_model=32, d_ff=48, d_kv=8, num_layers=1, num_heads=4)
    refused(AutoModelForSeq2SeqLM.from_config(config), "encoder-decoder")


def test_models_without_an_output_layer():
    refused(AutoModel.from_config(tiny("llama").config), "no output layer")
    refused(nn.Linear(3, 4), "no get_output_embeddings")


def test_models_whose_labels_are_not_shifted():
    refused(masked_bert(), "value of the fused loss.*differs from its own cross-entropy")


def test_a_second_loss():
    model = attach(tiny("llama"))
    with pytest.raises(ConfigError, match=r"attached already.*detach"):
        attach(model)


def test_models_with_a_loss_function_of_their_own():
    model = tiny("llama")
    model.loss_function = type(model).loss_function.fget(tiny("llama"))
    refused(model, "loss_function set on the object")
    with pytest.raises(ConfigError, match="loss_function"):
        attach(model, check=False)


def test_logits_that_are_changed_in_an_unknown_way():
    model = tiny("llama")
    model.lm_head.register_forward_hook(lambda head, args, logits: logits)  # harmless: the probe comes after it
    attach(model)

    class Shifted(type(tiny("llama"))):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits + 1
            return output

    other = tiny("llama")
    other.__class__ = Shifted
    refused(other, "neither a factor nor a tanh cap")


def test_a_loss_that_the_model_computes_in_its_own_way():
    class Doubled(type(tiny("llama"))):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            if output.loss is not None:
                output.loss = 2 * output.loss
            return output

    model = tiny("llama")
    model.__class__ = Doubled
    refused(model, "differs from its own cross-entropy")
    assert is_attached(attach(model, check=False))


def test_logits_that_have_something_of_every_word_added():
    class Biased(type(tiny("llama"))):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits + torch.zeros(97)
            return output

    model = tiny("llama")
    model.__class__ = Biased
    refused(model, "changed the shape")


def test_a_model_that_tokens_do_not_suffice_for_is_named():
    class Seeing(type(tiny("llama"))):
        def forward(self, pixels, **kwargs):
            return super().forward(**kwargs)

    model = tiny("llama")
    model.__class__ = Seeing
    with pytest.raises(TypeError, match="pixels") as caught:
        attach(model)
    assert "2 x 8 tokens" in caught.value.__notes__[0]


def test_low_rank_training_of_the_backbone_is_exact():
    torch.manual_seed(0)
    settings = LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    model, inputs = get_peft_model(tiny("llama"), settings).train(), batch()
    threshold = halving_threshold(model, inputs)
    expected = unfused(model, inputs, threshold=threshold)
    assert attach(model, threshold=threshold) is model
    trained = fused(model, inputs)
    torch.testing.assert_close(trained.loss, expected.loss, rtol=1e-6, atol=0)
    assert worst(trained, expected) < 5e-6
    assert all("lora" in name for name in trained.gradients)
    assert read_stats(model)["kept_fraction"] == pytest.approx(0.5, abs=0.02)
    assert gradients(model) == {}


TOKENS = torch.tensor([[5, 6, 7, 8]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items_in_batch": -1}, "num_items -1 is not a count"),
        ({"num_items_in_batch": float("inf")}, "num_items inf is not a count"),
        ({"labels": TOKENS.tolist()}, r"labels is a list, not a torch.Tensor. Give torch.as_tensor\(labels\)"),
        ({"labels": torch.tensor(3)}, r"labels is one number. Pass \(B, T\)"),
        ({"labels": TOKENS.numpy()}, "labels is a ndarray, not a torch.Tensor"),
        ({"shift_labels": TOKENS.tolist()}, "shift_labels is a list, not a torch.Tensor"),
        ({"ignore_index": None}, "ignore_index None is a NoneType, not a whole number"),
    ],
)
def test_arguments_of_a_training_call_that_cannot_be_used_are_named(arguments, message):
    model = attach(tiny("llama").train())
    with pytest.raises(ConfigError, match=message):
        model(TOKENS, **{"labels": TOKENS, **arguments})


def test_a_compiled_model_is_to_be_attached_to_before():
    with pytest.raises(ConfigError, match=r"compiled already. Call attach\(model\) first, then torch.compile"):
        attach(torch.compile(tiny("llama"), backend="eager"))


class Quantised(torch.Tensor):
    """A weight of another kind, as quantisation leaves one."""


def test_an_output_layer_that_is_quantised_after_attach_stops_at_the_first_step():
    model, inputs, _, _ = attached_llama()
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.data.as_subclass(Quantised))
    with pytest.raises(AttachmentError, match=r"became a Quantised after attach, as quantisation does. Leave"):
        model(**inputs)


def with_own_logits(change):
    """A tiny llama whose logits go through `change(model, logits)`."""
    model = tiny("llama")

    class Changed(type(model)):
        def forward(self, *args, labels=None, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = change(self, output.logits)
            if labels is not None:
                output.loss = self.loss_function(output.logits, labels, self.config.vocab_size)
            return output

    model.__class__ = Changed
    return model


def test_a_factor_that_is_learned():
    model = with_own_logits(lambda model, logits: logits * model.logit_scale)
    model.logit_scale = nn.Parameter(torch.tensor(2.0))
    refused(model, "learns a parameter behind its output layer")
    model.logit_scale.requires_grad_(False)
    attach(model, threshold=0.5)


def test_logits_that_depend_on_the_mode():
    model = with_own_logits(lambda model, logits: logits * 0.5 if model.training else logits)
    refused(model, "other logits of the same output in training mode")
    assert model.training


def test_a_hook_of_the_output_layer_that_came_later():
    model, inputs = tiny("llama"), batch()
    attach(model, threshold=0.5)
    handle = model.lm_head.register_forward_hook(lambda head, args, output: output * 0.5)
    with pytest.raises(AttachmentError, match="forward hook of the output layer changes what it returns"):
        model(**inputs)
    handle.remove()
    expected = model(**inputs).loss
    model.lm_head.register_forward_hook(lambda head, args, output: output.clone())
    assert torch.equal(model(**inputs).loss, expected)


def test_a_configuration_that_changed_later():
    model = tiny("gemma2")
    attach(model, threshold=0.5)
    model.config.final_logit_softcapping = None
    with pytest.raises(AttachmentError, match=r"config.final_logit_softcapping was 30.0 when .* and is None now"):
        model(**batch())
