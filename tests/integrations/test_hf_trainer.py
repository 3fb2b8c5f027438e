"""Trainer on an attached model, against the same Trainer with the loss on logits."""

import copy
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback

from tailkeep.errors import AttachmentError, ConfigError
from tailkeep.integrations.hf_trainer import LossStatsCallback, log_loss_stats
from tailkeep.losses import attach, detach, initial_sequence_nll, sequence_nll, tail_sft, token_nll
from tests.integrations import tiny
from tests.integrations.tiny import THRESHOLD, arguments, collate, distance, facts, logged, unfused


def trained(model, rows, folder, compute_loss_func=None, **changes):
    trainer = Trainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=rows,
        eval_dataset=rows[:16],
        data_collator=collate,
        compute_loss_func=compute_loss_func,
    )
    if compute_loss_func is None:
        log_loss_stats(trainer)
    trainer.train()
    return trainer


@pytest.mark.slow
def test_an_attached_model_has_the_losses_of_the_unfused_one_for_a_hundred_steps(model, twin, rows, tmp_path):
    attached = trained(attach(model, threshold=THRESHOLD), rows, tmp_path, max_steps=100)
    plain = trained(twin, rows, tmp_path, unfused, max_steps=100)
    assert len(logged(attached)) == 100
    assert logged(attached) == pytest.approx(logged(plain), abs=1e-5)
    assert logged(attached)[-1] < 0.8 * logged(attached)[0]
    assert all(0.1 < share < 0.9 for share in logged(attached, "kept_fraction"))


def test_a_real_model_has_the_losses_of_the_unfused_one_for_a_hundred_steps(tmp_path, real_data):
    source = real_data / "priors" / "stories260k"
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, local_files_only=True)
    rows = real_rows(real_data, AutoTokenizer.from_pretrained(source, local_files_only=True))
    threshold = 0.5
    twin = copy.deepcopy(model)
    attached = trained(attach(model, threshold=threshold), rows, tmp_path, max_steps=100)
    plain = trained(
        twin, rows, tmp_path, lambda *args, **kwargs: unfused(*args, **kwargs, threshold=threshold), max_steps=100
    )
    assert logged(attached) == pytest.approx(logged(plain), abs=1e-5)
    assert all(0.1 < share < 0.9 for share in logged(attached, "kept_fraction"))


def real_rows(folder, tokenizer):
    text = (folder / "text" / "tinystories.txt").read_text(encoding="utf-8")[:60_000]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [{"input_ids": ids[i : i + 64], "labels": ids[i : i + 64]} for i in range(0, 64 * 64, 64)]


def test_gradient_accumulation_changes_nothing(model, twin, rows, tmp_path):
    whole = trained(attach(model, threshold=THRESHOLD), rows, tmp_path, per_device_train_batch_size=8)
    split = trained(
        attach(twin, threshold=THRESHOLD), rows, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    for name in ("loss", "kept_fraction", "cross_entropy"):
        assert logged(split, name) == pytest.approx(logged(whole, name), abs=1e-5)
    assert distance(model, twin) < 1e-5


def test_evaluation_is_that_of_a_model_with_nothing_attached(model, rows, tmp_path):
    trainer = trained(attach(model, threshold=THRESHOLD), rows, tmp_path, per_device_eval_batch_size=16)
    plain = Trainer(
        model=detach(copy.deepcopy(model)),
        args=arguments(tmp_path, per_device_eval_batch_size=16),
        eval_dataset=rows[:16],
        data_collator=collate,
    )
    assert trainer.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]


def test_the_log_tells_what_the_loss_did_in_its_first_step(model, twin, rows, tmp_path):
    trainer = trained(attach(model, threshold=THRESHOLD), rows, tmp_path, max_steps=1, per_device_train_batch_size=64)
    stats = {name: logged(trainer, name)[0] for name in ("kept_fraction", "cross_entropy")}
    assert stats == pytest.approx(facts(twin, collate(rows)), abs=1e-5)
    assert stats["cross_entropy"] > logged(trainer)[0]


def test_an_evaluation_between_two_logs_leaves_them_as_they_are(model, twin, rows, tmp_path):
    settings = {"max_steps": 4, "logging_steps": 4}
    without = trained(attach(model, threshold=THRESHOLD), rows, tmp_path, **settings)
    between = trained(
        attach(twin, threshold=THRESHOLD), rows, tmp_path, **settings, eval_strategy="steps", eval_steps=2
    )
    assert len(logged(between, "eval_loss")) == 2
    for name in ("kept_fraction", "cross_entropy"):
        assert logged(between, name) == logged(without, name)
        assert len(logged(between, name)) == 1


class Tracker(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


def test_trackers_that_were_there_before_see_the_numbers_too(model, rows, tmp_path):
    trainer = Trainer(
        model=attach(model, threshold=THRESHOLD),
        args=arguments(tmp_path, max_steps=1),
        train_dataset=rows,
        data_collator=collate,
    )
    tracker = Tracker()
    trainer.callback_handler.callbacks.insert(0, tracker)
    log_loss_stats(trainer)
    trainer.train()
    assert tracker.seen[0].keys() >= {"kept_fraction", "cross_entropy", "loss"}


def test_a_log_of_nothing_is_refused(model, rows, tmp_path):
    trainer = Trainer(model=model, args=arguments(tmp_path), train_dataset=rows, data_collator=collate)
    log_loss_stats(trainer)
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM has no loss attached.*Call attach"):
        trainer.train()


def test_a_second_log_is_refused(model, tmp_path):
    trainer = Trainer(model=attach(model), args=arguments(tmp_path), callbacks=[LossStatsCallback()])
    with pytest.raises(ConfigError, match="already"):
        log_loss_stats(trainer)


@pytest.mark.parametrize("custom", [{"compute_loss_func": unfused}, {"label_smoothing_factor": 0.1}])
def test_a_trainer_with_a_loss_of_its_own_stops_at_the_first_step(model, rows, tmp_path, custom):
    changes = {name: value for name, value in custom.items() if name != "compute_loss_func"}
    trainer = Trainer(
        model=attach(model, threshold=THRESHOLD),
        args=arguments(tmp_path, **changes),
        train_dataset=rows,
        data_collator=collate,
        compute_loss_func=custom.get("compute_loss_func"),
    )
    with pytest.raises(AttachmentError, match="without labels"):
        trainer.train()
    assert distance(model, tiny.new_model()) == 0


def test_tail_sft_trains_on_the_sequences_that_fell_least(model, twin, rows, tmp_path):
    initial = initial_sequence_nll(model, [collate([row]) for row in rows])
    rows = [{**row, "initial_nll": float(nll)} for row, nll in zip(rows, initial, strict=True)]

    def with_initial_nll(batch):
        return {**collate(batch), "initial_nll": torch.tensor([row["initial_nll"] for row in batch])}

    def compute(outputs, labels, num_items_in_batch=None):
        nll = token_nll(outputs.logits[:, :-1], labels[:, 1:])
        margins = sequence_nll(nll, labels[:, 1:]).detach() - batches.pop(0)
        kept = torch.ones(4).index_fill(0, margins.argsort()[:2], 0)
        return (nll * kept[:, None]).sum() / num_items_in_batch

    def noted(batch):
        inputs = with_initial_nll(batch)
        batches.append(inputs.pop("initial_nll"))
        return inputs

    losses, batches = [], []
    for trained_model, collator, loss in (
        (attach(model, tail_sft(0.5)), with_initial_nll, None),
        (twin, noted, compute),
    ):
        trainer = Trainer(
            model=trained_model,
            args=arguments(tmp_path, remove_unused_columns=False),
            train_dataset=rows,
            data_collator=collator,
            compute_loss_func=loss,
        )
        trainer.train()
        losses.append(logged(trainer))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert distance(model, twin) < 1e-5


@pytest.mark.parametrize("adapter", ["hf_trainer", "trl"])
def test_without_transformers_an_adapter_names_the_install_line(adapter):
    code = f"import sys; sys.modules['transformers'] = None; import tailkeep.integrations.{adapter}"
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "tailkeep.errors.MissingPackageError: transformers is not installed, and this needs it. "
        "Install it with: pip install 'tailkeep[hf]'"
    )
