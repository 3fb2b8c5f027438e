"""The probe finds a model's own treatment of its logits exactly."""

import pytest
import torch
import transformers
from packaging.version import Version

from tailkeep.losses.hf.logit_transform import transformation_of
from tailkeep.losses.hf.state import Transformation
from tests.losses.hf.families import tiny

NANOCHAT = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.0"), reason="transformers has nanochat from 5.0 on"
)


@pytest.mark.parametrize(
    ("family", "settings", "expected"),
    [
        ("llama", {}, Transformation()),
        ("gemma2", {}, Transformation(softcap=30.0)),
        ("gemma2", {"final_logit_softcapping": 50.0}, Transformation(softcap=50.0)),
        ("gemma2", {"final_logit_softcapping": 3.0}, Transformation(softcap=3.0)),
        ("gemma2", {"final_logit_softcapping": 250.0}, Transformation(softcap=250.0)),
        pytest.param("nanochat", {}, Transformation(softcap=15.0), marks=NANOCHAT),
        ("cohere", {}, Transformation(scale=0.0625)),
        ("cohere", {"logit_scale": 0.7}, Transformation(scale=0.7)),
        ("granite", {"logits_scaling": 8.0}, Transformation(scale=0.125)),
        ("falcon_h1", {}, Transformation(scale=0.3)),
    ],
)
def test_factors_and_caps_are_found_to_the_last_digit(family, settings, expected):
    model = tiny(family, **settings)
    assert transformation_of(model, model.get_output_embeddings()) == expected


def test_a_factor_and_a_cap_together():
    model = tiny("gemma2")
    inner = type(model).forward

    class Scaled(type(model)):
        def forward(self, *args, **kwargs):
            hook = self.lm_head.register_forward_hook(lambda head, args, logits: logits * 0.4)
            try:
                return inner(self, *args, **kwargs)
            finally:
                hook.remove()

    model.__class__ = Scaled
    assert transformation_of(model, model.lm_head) == Transformation(scale=0.4, softcap=30.0)


def test_a_padded_vocabulary_that_the_model_cuts_off():
    model = tiny("llama")

    class Cut(type(model)):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits[..., :90]
            return output

    model.__class__ = Cut
    assert transformation_of(model, model.lm_head) == Transformation(vocab_size=90)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_models_type_does_not_blur_the_probe(dtype):
    model = tiny("gemma2").to(dtype)
    assert transformation_of(model, model.lm_head) == Transformation(softcap=30.0)
