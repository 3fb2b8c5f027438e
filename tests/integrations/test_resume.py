"""Training that resumes from a Trainer's checkpoint has the losses of training that was never interrupted."""

import copy
import json
import shutil

import pytest
import trl.trainer.utils
from datasets import Dataset
from transformers import Trainer
from trl import SFTConfig, SFTTrainer

from tailkeep.errors import ConfigError, InputError
from tailkeep.integrations.hf_trainer import log_loss_stats
from tailkeep.integrations.trl import use_loss
from tailkeep.losses import attach
from tests.integrations import tiny
from tests.integrations.tiny import arguments, collate, logged

# transformers deprecates names that trl and peft use.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")

STATEFUL = {
    "scheduled": {"start": 1.0, "end": 0.1, "steps": 12},
    "target_kept": {"fraction": 0.5, "window": 2},
    "dynamic": {"alpha": 0.0},
    "random": {"kept_fraction": 0.5, "seed": 1},
    "random_matched": {"threshold": 0.3, "seed": 1},
}
OLD_TRL = {} if hasattr(trl.trainer.utils, "FusedCausalLMOutput") else {"loss_type": "nll"}
SAVING = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6, "gradient_accumulation_steps": 2}


def hf_trainer(model, rows, folder, loss, options, resume_from=None):
    trainer = Trainer(
        model=attach(model, loss, **options),
        args=arguments(folder, **SAVING),
        train_dataset=rows,
        data_collator=collate,
    )
    log_loss_stats(trainer, resume_from=resume_from)
    return trainer


def trl_trainer(model, rows, folder, loss, options, resume_from=None):
    trainer = SFTTrainer(
        model=model,
        args=arguments(folder, SFTConfig, **SAVING, **OLD_TRL, bf16=False, gradient_checkpointing=False),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny.tokenizer(),
    )
    return use_loss(trainer, loss, **options, resume_from=resume_from)


@pytest.fixture
def uninterrupted(weights, rows, tmp_path):
    """(trainer after 6 steps, its losses) with a checkpoint at step 3 in `tmp_path`."""

    def train(make, loss, options):
        trainer = make(copy.deepcopy(weights), rows, tmp_path, loss, options)
        trainer.train()
        return logged(trainer)

    return train


@pytest.mark.parametrize("name", STATEFUL)
def test_a_loss_with_a_state_goes_on_as_if_nothing_had_happened(name, weights, rows, uninterrupted, tmp_path):
    expected = uninterrupted(hf_trainer, name, STATEFUL[name])
    trainer = hf_trainer(copy.deepcopy(weights), rows, tmp_path, name, STATEFUL[name])
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert logged(trainer)[3:] == expected[3:]


def test_the_state_is_what_makes_the_difference(weights, rows, uninterrupted, tmp_path):
    expected = uninterrupted(hf_trainer, "scheduled", STATEFUL["scheduled"])
    trainer = hf_trainer(copy.deepcopy(weights), rows, tmp_path, "scheduled", STATEFUL["scheduled"])
    trainer.remove_callback(type(trainer.callback_handler.callbacks[0]))
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert logged(trainer)[3:] != expected[3:]


def test_so_it_is_in_trl(weights, rows, uninterrupted, tmp_path):
    expected = uninterrupted(trl_trainer, "scheduled", STATEFUL["scheduled"])
    trainer = trl_trainer(copy.deepcopy(weights), rows, tmp_path, "scheduled", STATEFUL["scheduled"])
    shutil.rmtree(tmp_path / "checkpoint-6")
    trainer.train(resume_from_checkpoint=True)
    assert logged(trainer)[3:] == expected[3:]


@pytest.mark.parametrize("make", [hf_trainer, trl_trainer])
def test_a_checkpoint_without_the_state_is_refused(make, weights, rows, uninterrupted, tmp_path):
    uninterrupted(make, "scheduled", STATEFUL["scheduled"])
    (tmp_path / "checkpoint-3" / "tailkeep_loss_0.pt").unlink()
    trainer = make(copy.deepcopy(weights), rows, tmp_path, "scheduled", STATEFUL["scheduled"])
    with pytest.raises(InputError, match=r"tailkeep_loss_0\.pt is missing"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_a_checkpoint_of_more_processes_is_refused(weights, rows, uninterrupted, tmp_path):
    uninterrupted(hf_trainer, "scheduled", STATEFUL["scheduled"])
    shutil.copy(tmp_path / "checkpoint-3" / "tailkeep_loss_0.pt", tmp_path / "checkpoint-3" / "tailkeep_loss_1.pt")
    trainer = hf_trainer(copy.deepcopy(weights), rows, tmp_path, "scheduled", STATEFUL["scheduled"])
    with pytest.raises(InputError, match="states of more than 1 processes of the loss 'scheduled', and 1 resume"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_a_checkpoint_elsewhere_is_named(weights, rows, uninterrupted, tmp_path):
    expected = uninterrupted(hf_trainer, "dynamic", STATEFUL["dynamic"])
    checkpoint = shutil.copytree(tmp_path / "checkpoint-3", tmp_path / "moved")
    run = (rows, tmp_path / "new", "dynamic", STATEFUL["dynamic"])
    trainer = hf_trainer(copy.deepcopy(weights), *run)
    with pytest.raises(
        ConfigError, match=r"resumes at step 3 with the loss 'dynamic'.*is none of .*checkpoint-3.*resume_from"
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    trainer = hf_trainer(copy.deepcopy(weights), *run, resume_from=checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert logged(trainer)[3:] == expected[3:]


def test_the_checkpoint_of_another_run_under_the_same_name_is_not_taken(weights, rows, uninterrupted, tmp_path):
    uninterrupted(hf_trainer, "dynamic", STATEFUL["dynamic"])
    new = shutil.copytree(tmp_path / "checkpoint-3", tmp_path / "new" / "checkpoint-3").parent
    state = json.loads((new / "checkpoint-3" / "trainer_state.json").read_text())
    state["log_history"][0]["loss"] += 1
    (new / "checkpoint-3" / "trainer_state.json").write_text(json.dumps(state))
    trainer = hf_trainer(copy.deepcopy(weights), rows, new, "dynamic", STATEFUL["dynamic"])
    with pytest.raises(ConfigError, match="is none of"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_runs_without_a_log_are_told_apart(weights, rows, uninterrupted, tmp_path):
    uninterrupted(hf_trainer, "scheduled", STATEFUL["scheduled"])
    for step in (3, 6):
        path = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
        state = json.loads(path.read_text())
        path.write_text(json.dumps({**state, "log_history": []}))
    other = shutil.copytree(tmp_path / "checkpoint-3", tmp_path / "other" / "checkpoint-3")
    state = json.loads((other / "trainer_state.json").read_text())
    state["stateful_callbacks"]["tailkeep"]["attributes"]["run"] = "another"
    (other / "trainer_state.json").write_text(json.dumps(state))
    trainer = hf_trainer(copy.deepcopy(weights), rows, other.parent, "scheduled", STATEFUL["scheduled"])
    with pytest.raises(ConfigError, match="is none of"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    trainer = hf_trainer(copy.deepcopy(weights), rows, tmp_path, "scheduled", STATEFUL["scheduled"])
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_a_loss_without_a_state_resumes_from_any_checkpoint(weights, rows, uninterrupted, tmp_path):
    expected = uninterrupted(hf_trainer, "truncated", {"threshold": 0.3})
    (tmp_path / "checkpoint-3" / "tailkeep_loss_0.pt").unlink()
    trainer = hf_trainer(copy.deepcopy(weights), rows, tmp_path, "truncated", {"threshold": 0.3})
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert logged(trainer)[3:] == expected[3:]
