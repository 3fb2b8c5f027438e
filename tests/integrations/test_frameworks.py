"""The hooks of docs/integrations.md and of the page below it: what a user pastes, called as each framework calls it.

A framework that is installed is taken; otherwise a stand-in with its documented signature. Run them with the packages
on PYTHONPATH to try the real ones.
"""

import importlib
import inspect
import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer

from tests.integrations import page, standins
from tests.integrations.standins import gradients, per_token
from tests.integrations.tiny import THRESHOLD, arguments, collate, logged, unfused

IGNORED = -100


@pytest.fixture
def head():
    """Hidden states (2, 8, 16), a weight (97, 16) and shifted labels (2, 8), some ignored; about half are kept."""
    torch.manual_seed(0)
    hidden = torch.randn(2, 8, 16, requires_grad=True)
    weight = torch.randn(97, 16, requires_grad=True)
    likeliest = (hidden @ weight.T).argmax(-1)
    labels = torch.where(torch.rand(2, 8) < 0.6, likeliest, torch.randint(0, 97, (2, 8)))
    labels[:, -2:] = IGNORED
    return SimpleNamespace(hidden=hidden, weight=weight, labels=labels, items=int((labels != IGNORED).sum()))


def expected(head, threshold=THRESHOLD):
    """Sum over kept tokens divided by all valid ones, from the definition: kept if p <= threshold."""
    nll = per_token(head.hidden, head.weight, head.labels)
    kept_mask = nll.exp() >= 1 / threshold
    assert 0.2 < float(kept_mask[head.labels != IGNORED].float().mean()) <= 1
    return torch.where(kept_mask & (head.labels != IGNORED), nll, 0).sum() / head.items


def assert_same(loss, head, *tensors):
    truth = expected(head)
    assert loss.item() == pytest.approx(truth.item(), rel=1e-5)
    for gradient, true_gradient in zip(tensors, gradients(truth, head.hidden, head.weight), strict=True):
        torch.testing.assert_close(gradient, true_gradient, rtol=1e-4, atol=1e-6)


def test_torchtitan_sums_kept_losses_chunk_by_chunk(monkeypatch, head):
    page.provide(
        monkeypatch,
        "torchtitan.components.loss",
        BaseLoss=standins.TitanBaseLoss,
        ChunkedLossWrapper=standins.TitanChunkedLossWrapper,
        compute_logprobs=standins.titan_compute_logprobs,
    )
    loss_fn = page.run("torchtitan")["loss"].build(compile_config=None)
    lm_head = nn.Linear(16, 97, bias=False)
    lm_head.weight = nn.Parameter(head.weight.detach().clone())
    loss_fn.set_lm_head(lm_head)
    loss, metrics = loss_fn(head.hidden, head.labels, torch.tensor(head.items))
    loss.backward()
    assert metrics == {}
    assert_same(loss, head, head.hidden.grad, lm_head.weight.grad)
    with torch.no_grad():
        plain, _ = loss_fn(head.hidden.detach(), head.labels, torch.tensor(head.items))
    assert float(plain) == pytest.approx(expected(head, threshold=1.0).item(), rel=1e-5)


def test_megatron_divides_kept_losses_by_all_tokens(monkeypatch, head):
    schedules = page.provide(
        monkeypatch, "megatron.core.pipeline_parallel.schedules", forward_step_calc_loss=standins.megatron_step
    )
    loss_func = page.run("Megatron-LM")["loss_func"]
    mask = (head.labels != IGNORED).float()

    def step(output):
        reports = []
        loss, num_tokens = schedules.forward_step_calc_loss(
            None,
            output,
            partial(loss_func, mask),
            SimpleNamespace(calculate_per_token_loss=False, timers=None),
            None,
            False,
            1,
            reports,
            cp_group_size=1,
            is_last_stage=True,
        )
        assert int(num_tokens) == head.items
        return loss, reports[0]

    loss, report = step(per_token(head.hidden, head.weight, head.labels))
    assert_same(loss, head, *gradients(loss, head.hidden, head.weight))
    plain = expected(head, threshold=1.0).item()
    assert float(report["lm loss"][0] / report["lm loss"][1]) == pytest.approx(plain, rel=1e-5)
    assert 0.2 < float(report["kept fraction"][0] / report["kept fraction"][1]) < 0.8
    with torch.no_grad():
        evaluated, _ = step(per_token(head.hidden, head.weight, head.labels))
    assert float(evaluated) == pytest.approx(plain, rel=1e-5)


def test_nemo_automodel_calls_it_with_hidden_states(monkeypatch, head):
    page.provide(
        monkeypatch,
        "nemo_automodel.components.loss.linear_ce_base",
        LinearCrossEntropy=standins.NemoLinearCrossEntropy,
    )
    build = page.provide(
        monkeypatch, "nemo_automodel.components.loss.loss", build_loss_module=standins.nemo_build
    ).build_loss_module
    calculate = page.provide(
        monkeypatch, "nemo_automodel.components.loss.utils", calculate_loss=standins.nemo_calculate_loss
    ).calculate_loss
    loss_fn = build(page.run("NeMo AutoModel")["TruncatedCrossEntropy"], threshold=THRESHOLD)

    def call(items, loss_weights=None):
        return calculate(
            loss_fn,
            logits=None,
            labels=head.labels,
            model=None,
            hidden_states=head.hidden,
            lm_weight=head.weight,
            num_label_tokens=items,
            grad_reduce_group=None,
            **({} if loss_weights is None else {"loss_weights": loss_weights}),
        )

    loss = call(head.items)
    assert_same(loss, head, *gradients(loss, head.hidden, head.weight))
    torch.testing.assert_close(call(head.items, torch.full_like(head.labels, 3.0, dtype=torch.float32)), 3 * loss)
    with torch.no_grad():
        assert call(None).item() == pytest.approx(head.items * expected(head, threshold=1.0).item(), rel=1e-5)


def swift_trainer(training=True, parallel=1):
    return SimpleNamespace(
        model=SimpleNamespace(training=training), template=SimpleNamespace(sequence_parallel_size=parallel)
    )


def test_ms_swift_finds_it_by_name_and_hands_over_logits(monkeypatch, head):
    swift = page.provide(monkeypatch, "swift.loss", BaseLoss=standins.SwiftLoss, loss_map={})
    monkeypatch.setattr(swift, "loss_map", dict(swift.loss_map))
    page.run("ms-swift")
    outputs = SimpleNamespace(logits=head.hidden @ head.weight.T)
    labels = torch.cat([torch.full((2, 1), 5), head.labels[:, :-1]], 1)
    assert int((labels[:, 1:] != IGNORED).sum()) == head.items
    loss = swift.loss_map["truncated"](None, swift_trainer())(outputs, labels, num_items_in_batch=head.items)
    assert_same(loss, head, *gradients(loss, head.hidden, head.weight))

    scale = torch.full(labels.shape, 2.0).view(-1)
    call = swift.loss_map["truncated"](None, swift_trainer(training=False))
    plain = call(outputs, labels, num_items_in_batch=head.items, loss_scale=scale, trainer=None)
    assert plain.item() == pytest.approx(2 * expected(head, threshold=1.0).item(), rel=1e-5)
    with pytest.raises(ValueError, match="sequence_parallel_size"):
        swift.loss_map["truncated"](None, swift_trainer(parallel=2))(outputs, labels)


def trained_unfused(model, rows, folder):
    trainer = Trainer(
        model=model, args=arguments(folder), train_dataset=rows, data_collator=collate, compute_loss_func=unfused
    )
    trainer.train()
    return trainer


def test_the_five_lines_for_the_trainer_train(model, twin, rows, tmp_path):
    names = {"model": model, "args": arguments(tmp_path), "train_dataset": rows, "collator": collate}
    trainer = page.run("Hugging Face Trainer", names)["trainer"]
    plain = trained_unfused(twin, rows, tmp_path)
    assert logged(trainer) == pytest.approx(logged(plain), abs=1e-5)
    assert len(logged(trainer, "kept_fraction")) == len(logged(trainer))


def test_an_axolotl_plugin_attaches_and_logs(monkeypatch, model, twin, rows, tmp_path):
    base = page.provide(monkeypatch, "axolotl.integrations.base", BasePlugin=standins.AxolotlPlugin)
    module = ModuleType("truncation_plugin")
    monkeypatch.setitem(sys.modules, "truncation_plugin", module)
    vars(module).update(page.run("Axolotl"))
    if hasattr(base, "load_plugin"):
        plugin = base.load_plugin("truncation_plugin.TruncationPlugin")
    else:
        plugin = module.TruncationPlugin()
    source, _, name = plugin.get_input_args().rpartition(".")
    cfg = getattr(sys.modules[source], name)(truncation_threshold=THRESHOLD)
    plugin.post_model_load(cfg, model)
    trainer = Trainer(model=model, args=arguments(tmp_path), train_dataset=rows, data_collator=collate)
    plugin.post_trainer_create(cfg, trainer)
    trainer.train()
    assert logged(trainer) == pytest.approx(logged(trained_unfused(twin, rows, tmp_path)), abs=1e-5)
    assert all(0.1 < share < 0.9 for share in logged(trainer, "kept_fraction"))


def test_a_llama_factory_launcher_hands_over_callbacks(monkeypatch, model, twin, rows, tmp_path):
    tuner = page.provide(monkeypatch, "llamafactory.train.tuner", run_exp=standins.llamafactory_run)
    assert [*inspect.signature(tuner.run_exp).parameters] == ["args", "callbacks"]
    registered = []
    monkeypatch.setattr(tuner, "run_exp", lambda args=None, callbacks=None: registered.extend(callbacks))
    page.run("LLaMA-Factory", {"__name__": "__main__"})
    trainer = sft_trainer(model, rows, tmp_path, registered)
    trainer.train()
    assert logged(trainer) == pytest.approx(logged(trained_unfused(twin, rows, tmp_path)), abs=1e-5)
    assert all(0.1 < share < 0.9 for share in logged(trainer, "kept_fraction"))


def sft_trainer(model, rows, folder, callbacks):
    """LLaMA-Factory's trainer if it is installed, or the class of transformers that it extends."""
    if "llamafactory.train.sft.trainer" in sys.modules:
        hparams = importlib.import_module("llamafactory.hparams")
        kind = sys.modules["llamafactory.train.sft.trainer"].CustomSeq2SeqTrainer
        settings = arguments(folder, hparams.TrainingArguments)
        extra = {"finetuning_args": hparams.FinetuningArguments(), "processor": None, "tokenizer": None}
    else:
        kind, settings, extra = Seq2SeqTrainer, arguments(folder, Seq2SeqTrainingArguments), {}
    return kind(
        model=model,
        args=settings,
        train_dataset=rows,
        data_collator=collate,
        callbacks=callbacks,
        **extra,
    )


RUN_HERE = {
    "Hugging Face Trainer",
    "Axolotl",
    "LLaMA-Factory",
    "NeMo AutoModel",
    "torchtitan",
    "Megatron-LM",
    "ms-swift",
}
RUN_ELSEWHERE = {"TRL SFTTrainer", "Lightning", "Accelerate, or a loop of your own"}


def test_every_block_of_the_page_is_run_somewhere():
    assert set(page.sections()) == RUN_HERE | RUN_ELSEWHERE
    assert all(page.sections().values())
