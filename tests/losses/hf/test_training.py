"""Ways to train that must not change the numbers: accumulation, checkpointing, compilation, given denominators."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from transformers.modeling_outputs import CausalLMOutput

from tailkeep.losses.hf.attach import attach, detach, without_attached_loss
from tailkeep.losses.hf.state import Monitor
from tailkeep.losses.nll import LossStats
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import (
    Trained,
    attached_llama,
    batch,
    fused,
    gradients,
    halving_threshold,
    same,
    unfused,
    worst,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied_output_layers(family, tied):
    model, inputs = tiny(family, tie_word_embeddings=tied), batch()
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied
    threshold = halving_threshold(model, inputs)
    expected = unfused(model, inputs, threshold=threshold)
    same(fused(attach(model, threshold=threshold), inputs), expected)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    model, inputs, _, expected = attached_llama()
    items = (inputs["labels"][:, 1:] != -100).sum()
    for row in range(len(inputs["labels"])):
        part = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
        model(**part, num_items_in_batch=items).loss.backward()
    assert worst(Trained(expected.loss, gradients(model)), expected) < 5e-6


def test_num_items_may_be_a_number_and_0_of_them_are_no_division():
    model, inputs, threshold, _ = attached_llama()
    same(fused(model, inputs, num_items_in_batch=7), unfused(detach(model), inputs, threshold=threshold, num_items=7))
    attach(model, threshold=threshold)
    assert torch.isfinite(model(**inputs, num_items_in_batch=torch.tensor(0)).loss)


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("return_dict", [True, False])
def test_the_evaluation_loss_of_a_model_that_knows_no_num_items_is_its_part_of_the_step(says, return_dict):
    """Trainer multiplies the loss of every attached model by the number of processes, which average theirs."""
    llama, inputs = tiny("llama").eval(), batch()

    def own_mean(self, input_ids=None, attention_mask=None, labels=None, return_dict=None, **ignored):
        output = type(llama).forward(self, input_ids, attention_mask=attention_mask)
        if labels is None:
            return output
        loss = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=output.logits) if return_dict else (loss, output.logits)

    def without_options(self, input_ids=None, attention_mask=None, labels=None, return_dict=None):
        return own_mean(self, input_ids, attention_mask, labels, return_dict)

    body = {"forward": own_mean, "accepts_loss_kwargs": False} if says else {"forward": without_options}
    model = type("Own", (type(llama),), body)(llama.config).eval()
    alone = model(**inputs, return_dict=return_dict)[0]
    attach(model, threshold=0.5)
    valid = (inputs["labels"][:, 1:] != -100).sum()
    with torch.no_grad():
        assert model(**inputs, return_dict=return_dict)[0] == alone
        of_two_ranks = model(**inputs, return_dict=return_dict, num_items_in_batch=2 * valid)[0]
    torch.testing.assert_close(2 * of_two_ranks, alone.detach())


def test_shifted_labels_are_taken_as_they_are():
    model, inputs, _, expected = attached_llama()
    shifted = torch.nn.functional.pad(inputs["labels"][:, 1:], (0, 1), value=-100)
    shifted_inputs = {"input_ids": inputs["input_ids"], "shift_labels": shifted}
    same(fused(model, shifted_inputs), expected)
    same(fused(model, {**shifted_inputs, "labels": inputs["labels"]}), expected)


def test_labels_in_bytes_are_those_in_longs():
    model, inputs = attach(tiny("llama", vocab_size=200), threshold=0.9), batch()
    labels = torch.full_like(inputs["labels"], 156)  # -100 in 8 bits
    expected = model(inputs["input_ids"], labels=labels).loss
    assert torch.equal(model(inputs["input_ids"], labels=labels.to(torch.uint8)).loss, expected)


def test_a_batch_without_targets_is_a_connected_zero():
    model, inputs, _, _ = attached_llama()
    trained = fused(model, {**inputs, "labels": torch.full_like(inputs["labels"], -100)})
    assert trained.loss == 0
    assert trained.gradients.keys() == {name for name, _ in model.named_parameters()}
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in trained.gradients.values())


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_nothing(reentrant):
    model, inputs, _, expected = attached_llama()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    same(fused(model, {**inputs, "use_cache": False}), expected)


@pytest.mark.slow
# After any graph break torch itself looks at the .grad of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_model_trains_as_an_eager_one():
    model, inputs, _, expected = attached_llama(num_hidden_layers=1)
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(model, backend="aot_eager")
    for _ in range(2):
        compiled.zero_grad()
        loss = compiled(**inputs).loss
        loss.backward()
        same(Trained(loss.detach(), gradients(model)), expected)
    assert len(torch._dynamo.utils.counters["graph_break"]) == 2  # the loss and the monitor
    torch._dynamo.reset()


def test_half_precision_and_autocast_train():
    model, inputs, _, expected = attached_llama()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**inputs).loss
    loss.backward()
    assert loss.item() == pytest.approx(expected.loss.item(), rel=0.1)
    narrow = attach(tiny("gemma2").bfloat16())
    assert torch.isfinite(narrow(**inputs).loss)


def test_threads_that_train_one_model_do_not_mix():
    model, _, _, _ = attached_llama()
    batches = [batch(seed=seed, rows=2) for seed in range(4)]
    expected = [model(**inputs).loss.item() for inputs in batches]
    meeting = threading.Barrier(4)

    def losses(inputs):
        meeting.wait(timeout=60)
        return [model(**inputs).loss.item() for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(losses, batches)] == [[loss] * 5 for loss in expected]


def test_the_targets_of_all_threads_are_counted():
    monitor = Monitor(truncates=False)
    one = torch.tensor(1.0)
    stats = LossStats(targets=torch.tensor(3), kept_fraction=one, cross_entropy=one, confidence=one, accuracy=one)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            assert len([*pool.map(lambda _: monitor.add(stats), range(600))]) == 600
    finally:
        sys.setswitchinterval(before)
    assert monitor.read()["targets"] == 1800


def test_a_thread_without_the_attached_loss_leaves_it_to_the_others():
    model, inputs, _, expected = attached_llama()
    with ThreadPoolExecutor(1) as pool, without_attached_loss(model):
        assert model(**inputs).logits is not None
        assert pool.submit(lambda: model(**inputs).logits).result() is None
        assert pool.submit(lambda: model(**inputs).loss.item()).result() == pytest.approx(expected.loss.item())
    assert model(**inputs).logits is None


# As above.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(
    ("family", "graphs"),
    [
        ("llama", 2),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in [("gemma2", 3), ("qwen3_moe", 4), ("gpt2", 2)]),
    ],
)
def test_the_graph_of_an_attached_model_breaks_at_its_output_layer(family, graphs):
    torch._dynamo.reset()
    found = torch._dynamo.explain(attach(tiny(family), threshold=0.9))(**batch())
    torch._dynamo.reset()
    assert (found.graph_count, found.graph_break_count) == (graphs, graphs - 1)
    assert any("torch.compiler.disable" in reason.reason for reason in found.break_reasons)
