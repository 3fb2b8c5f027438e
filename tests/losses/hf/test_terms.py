"""Label smoothing, class weights and z-loss through `attach`: those of a copy's logits, written out in float64."""

import copy

import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.losses.hf.attach import attach, is_attached, read_stats
from tests.losses.engines import truth
from tests.losses.hf.families import VOCABULARY, tiny
from tests.losses.hf.unfused import Trained, batch, fused, gradients, halving_threshold, worst

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

CLASSES = torch.linspace(0, 2, VOCABULARY, dtype=torch.float64)
TERMS = [{"label_smoothing": 0.1}, {"class_weight": CLASSES}, {"label_smoothing": 0.2, "z_loss": 0.01}]


def written_out(model, inputs, threshold, num_items, terms):
    """The loss and gradients of a copy of `model` with nothing attached."""
    model = copy.deepcopy(model)
    logits, targets = model(inputs["input_ids"]).logits[:, :-1], inputs["labels"][:, 1:]
    problem = truth.Problem(logits, torch.eye(VOCABULARY, dtype=torch.float64), targets)
    kept = (torch.exp(-truth.token_nll(problem).detach()) <= threshold).double()
    valid = targets != truth.IGNORED
    shares = terms["class_weight"][targets.where(valid, 0)] * valid if "class_weight" in terms else valid
    loss = truth.with_terms(problem, kept, **terms).sum() / (shares.sum() if num_items is None else num_items)
    loss.backward()
    return Trained(loss.detach(), gradients(model))


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("num_items", [None, 50])
def test_an_attached_model_trains_on_the_terms_of_its_kept_tokens(family, terms, num_items):
    model, inputs = tiny(family).double(), batch()
    threshold = halving_threshold(model, inputs)
    expected = written_out(model, inputs, threshold, num_items, terms)
    attach(model, threshold=threshold, **terms)
    trained = fused(model, inputs, num_items_in_batch=num_items)
    assert truth.distance(trained.loss, expected.loss) < 1e-10
    assert worst(trained, expected) < 1e-10
    plain = written_out(model_without(model), inputs, 1.0, None, {})
    assert read_stats(model)["cross_entropy"] == pytest.approx(plain.loss.item(), rel=1e-6)


@pytest.mark.parametrize(("dtype", "weight"), [(torch.float16, 100.0), (torch.bfloat16, 1.0)])
def test_class_weights_in_half_precision_are_summed_in_single(dtype, weight):
    """900 targets of weight 100 are more than float16 has, and bfloat16 counts no further than 256."""
    inputs = batch(rows=9, length=100)
    expected = torch.nn.functional.cross_entropy(
        tiny("llama")(inputs["input_ids"]).logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten()
    )
    model = attach(tiny("llama"), threshold=1.0, class_weight=torch.full((VOCABULARY,), weight, dtype=dtype))
    assert model(**inputs).loss.item() == pytest.approx(expected.item(), rel=1e-4)


def model_without(model):
    """A copy with nothing attached."""
    from tailkeep.losses.hf.attach import detach

    return detach(copy.deepcopy(model))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"label_smoothing": 2}, "label_smoothing 2 is not in"),
        ({"class_weight": torch.ones(VOCABULARY + 1)}, f"class_weight has {VOCABULARY + 1} classes"),
        ({"label_smooting": 0.1}, "no option 'label_smooting'"),
    ],
)
def test_terms_that_cannot_be_used_are_refused_before_anything_is_changed(terms, message):
    model = tiny("llama")
    with pytest.raises(ConfigError, match=message):
        attach(model, **terms)
    assert not is_attached(model)


def test_soft_labels_are_refused_by_name():
    model, inputs = attach(tiny("llama")), batch()
    with pytest.raises(ConfigError, match="soft targets"):
        model(inputs["input_ids"], labels=torch.rand(3, 16))
