"""The output layer under PEFT: attached losses train what PEFT would train on the logits, gradient for gradient."""

import copy

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model

from tailkeep.errors import AttachmentError, ConfigError
from tailkeep.losses.hf.attach import attach, detach, is_attached
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import batch, fused, halving_threshold, same, unfused

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore:.*(tie|save_embedding_layers).*:UserWarning:peft"),
    pytest.mark.filterwarnings("ignore:.lora_bias=True. was passed"),
    pytest.mark.filterwarnings("ignore:.*LoRA tensor.*have invalid shape"),  # a bias of one axis
]

SETTINGS = {
    "lora": {"target_modules": ["lm_head", "q_proj"], "r": 3, "lora_alpha": 5},
    "lora with a bias": {"target_modules": ["lm_head"], "lora_bias": True},
    "lora with dropout": {"target_modules": ["lm_head"], "lora_dropout": 0.3},
    "modules to save": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [5, 7, 96]},
}


def adapted(name, *, family="llama", **settings):
    """A tiny model in training mode whose adapters are not 0."""
    torch.manual_seed(0)
    model = get_peft_model(tiny(family, **settings), LoraConfig(**SETTINGS[name], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.train()


def compared(model, inputs):
    """The same loss and gradients from logits and fused, each after the same draws."""
    threshold = halving_threshold(copy.deepcopy(model).eval(), inputs)
    torch.manual_seed(1)
    expected = unfused(model, inputs, threshold=threshold)
    attach(model, threshold=threshold)
    torch.manual_seed(1)
    trained = fused(model, inputs)
    same(trained, expected)
    return trained


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_an_adapted_output_layer_is_trained_exactly(name, tied):
    if name == "lora with a bias":
        model = adapted(name, family="phi", tie_word_embeddings=tied)  # its output layer has a bias
    else:
        model = adapted(name, tie_word_embeddings=tied)
    trained = compared(model, batch())
    of_head = {
        "modules to save": "modules_to_save",
        "tokens": "trainable_tokens_delta",
    }.get(name, "lm_head.lora_B")
    assert any(of_head in parameter and gradient.any() for parameter, gradient in trained.gradients.items())
    frozen = ("base_layer", "original_module")
    assert not any(part in parameter for parameter in trained.gradients for part in frozen)


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_a_copy_that_peft_keeps_tied_is_trained_exactly(name):
    torch.manual_seed(0)
    config = LoraConfig(
        target_modules=["q_proj"], modules_to_save=[name], ensure_weight_tying=True, task_type="CAUSAL_LM"
    )
    model = get_peft_model(tiny("llama", tie_word_embeddings=True), config).train()
    trained = compared(model, batch())
    assert any("modules_to_save" in parameter and gradient.any() for parameter, gradient in trained.gradients.items())


@pytest.mark.parametrize("name", SETTINGS)
def test_an_adapted_output_layer_with_a_cap_is_trained_exactly(name):
    compared(adapted(name, family="gemma2"), batch())


def test_no_copy_of_the_weight_is_made_for_a_low_rank_product():
    model, inputs = attach(adapted("lora")), batch()
    weight, seen = model.base_model.model.lm_head.base_layer.weight, []

    def noted(tensor):
        seen.append(tensor.data_ptr() if tensor.shape == weight.shape else None)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(noted, lambda tensor: tensor):
        loss = model(**inputs).loss
    loss.backward()
    assert {pointer for pointer in seen if pointer is not None} == {weight.data_ptr()}
    assert weight.grad is None


def test_several_adapters_are_added_up():
    model = adapted("lora")
    model.add_adapter("second", LoraConfig(target_modules=["lm_head"], r=2, init_lora_weights=False))
    model.base_model.set_adapter(["default", "second"])
    trained = compared(model, batch())
    assert any("second" in name and gradient.any() for name, gradient in trained.gradients.items())


@pytest.mark.parametrize("name", ["lora", "tokens"])
def test_merged_adapters_are_part_of_the_weight(name):
    model, inputs = adapted(name), batch()
    model.merge_adapter()
    for parameter in model.base_model.model.model.norm.parameters():
        parameter.requires_grad_()
    trained = compared(model, inputs)
    assert [parameter for parameter in trained.gradients if "norm" in parameter]


@pytest.mark.parametrize("name", ["lora", "tokens", "modules to save"])
def test_disabled_adapters_have_no_part(name):
    model, inputs = adapted(name), batch()
    for parameter in model.base_model.model.model.norm.parameters():
        parameter.requires_grad_()
    with model.disable_adapter():
        compared(model, inputs)


def test_an_adapter_that_is_chosen_after_attach_is_trained_or_named():
    model, inputs = adapted("lora"), batch()
    model.add_adapter("second", LoraConfig(target_modules=["lm_head"], r=2, init_lora_weights=False))
    attach(model, threshold=1.0)
    model.set_adapter("second")
    expected = unfused(detach(copy.deepcopy(model)), inputs, threshold=1.0)
    same(fused(model, inputs), expected)
    saved = adapted("modules to save")
    saved.add_adapter("second", LoraConfig(**SETTINGS["modules to save"]))
    attach(saved)
    saved.set_adapter("second")
    with pytest.raises(AttachmentError, match=r"was replaced after attach.*attach\(model, ...\) again"):
        saved(**inputs)
    same_again = attach(detach(saved), threshold=1.0)
    assert torch.isfinite(same_again(**inputs).loss)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_copy_and_a_saved_adapter_are_those_of_the_unattached_model(name, tmp_path):
    model, inputs = adapted(name), batch()
    plain = copy.deepcopy(model)
    attach(model)
    copied = copy.deepcopy(model)
    assert is_attached(copied)
    assert model.state_dict().keys() == plain.state_dict().keys()
    model.save_pretrained(tmp_path / "attached")
    plain.save_pretrained(tmp_path / "plain")
    files = [(tmp_path / kind / "adapter_model.safetensors").read_bytes() for kind in ("attached", "plain")]
    assert files[0] == files[1]
    for module, other in zip(detach(model).modules(), plain.modules(), strict=True):
        assert type(module) is type(other)
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs).logits, plain.eval()(**inputs).logits)


def test_half_precision_with_adapters_in_float32_is_near_the_unfused_loss():
    torch.manual_seed(0)
    model = get_peft_model(
        tiny("llama").to(torch.bfloat16),
        LoraConfig(target_modules=["lm_head"], init_lora_weights=False, task_type="CAUSAL_LM"),
    ).train()
    inputs = batch()
    assert model.base_model.model.lm_head.lora_A["default"].weight.dtype == torch.float32
    expected = unfused(model, inputs, threshold=1.0)
    trained = fused(attach(model, threshold=1.0), inputs)
    torch.testing.assert_close(trained.loss, expected.loss, rtol=1e-2, atol=0)
    for name, gradient in trained.gradients.items():
        exact = expected.gradients[name]
        assert gradient.dtype == exact.dtype == torch.float32
        assert (gradient - exact).norm() < 3e-2 * exact.norm()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(target_modules=["lm_head"], use_dora=True), "DoraLinearVariant, which is more than W"),
        (IA3Config(target_modules=["lm_head"], feedforward_modules=[]), "ia3.*not a torch.nn.Linear or LoRA"),
    ],
)
def test_other_adapters_of_the_output_layer_are_refused_before_anything_is_changed(config, message):
    model = get_peft_model(tiny("llama"), config)
    classes = [type(module) for module in model.modules()]
    with pytest.raises(ConfigError, match=message + r"(?s:.*)truncated_cross_entropy"):
        attach(model)
    assert [type(module) for module in model.modules()] == classes


def test_adapters_that_differ_from_row_to_row_stop_at_the_first_step():
    model, inputs = attach(adapted("lora")), batch()
    head = model.base_model.model.lm_head
    handle = head.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, "adapter_names": ["default"] * 3}), with_kwargs=True
    )
    with pytest.raises(AttachmentError, match=r"called with adapter_names.*one set of adapters"):
        model(**inputs)
    handle.remove()
    assert torch.isfinite(model(**inputs).loss)
