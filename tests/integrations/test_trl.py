"""SFTTrainer under `use_loss`, against an SFTTrainer whose loss is computed from the logits."""

import copy
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trl.trainer.utils
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import Trainer
from trl import SFTConfig, SFTTrainer

from tailkeep.errors import AttachmentError, ConfigError, MissingPackageError
from tailkeep.integrations.trl import use_loss
from tailkeep.losses import CROSS_ENTROPY, Weighting, attach, focal_weights, reduce_nll, tail_sft, token_nll, truncated
from tests.integrations import page, tiny
from tests.integrations.tiny import THRESHOLD, distance, facts, logged

# transformers deprecates names that trl and peft use.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")

FUSED = hasattr(trl.trainer.utils, "FusedCausalLMOutput")
needs_fused = pytest.mark.skipif(not FUSED, reason="this trl has no fused output layer")
ROOT = Path(__file__).parents[2]
SETTINGS = {"bf16": False, "gradient_checkpointing": False, **({} if FUSED else {"loss_type": "nll"})}
FOCAL = Weighting("focal", lambda nll, _: focal_weights(nll))
DOUBTFUL = Weighting("doubtful", lambda nll, entropy: entropy / (1 + entropy), entropy="full")


class Unfused(SFTTrainer):
    """The weighted loss from the logits; everything else is TRL's."""

    weighting = truncated(THRESHOLD)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        targets = inputs.pop("labels")[:, 1:]
        logits = model(**inputs).logits[:, :-1].float()
        nll = token_nll(logits, targets)
        p = logits.detach().softmax(-1)
        weights = self.weighting.weigh(nll, -(p * p.log()).sum(-1))
        return reduce_nll(nll, weights, valid=targets != -100, num_items=num_items_in_batch)


def trainer(model, rows, folder, kind=SFTTrainer, peft_config=None, **changes):
    return kind(
        model=model,
        args=tiny.arguments(folder, SFTConfig, **{**SETTINGS, **changes}),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:16]),
        processing_class=tiny.tokenizer(),
        peft_config=peft_config,
    )


def trained(model, rows, folder, loss=None, **changes):
    sft_trainer = trainer(model, rows, folder, **changes)
    if loss is not None:
        use_loss(sft_trainer, loss)
    sft_trainer.train()
    return sft_trainer


@pytest.mark.parametrize("loss", [truncated(THRESHOLD), FOCAL, DOUBTFUL], ids=lambda loss: loss.name)
def test_the_losses_and_weights_are_those_of_the_loss_on_logits(model, twin, rows, tmp_path, monkeypatch, loss):
    monkeypatch.setattr(Unfused, "weighting", loss)
    fused = trained(model, rows, tmp_path, loss, max_steps=20)
    plain = trained(twin, rows, tmp_path, kind=Unfused, max_steps=20)
    assert logged(fused) == pytest.approx(logged(plain), abs=1e-5)
    assert distance(model, twin) < 1e-5
    assert logged(fused)[0] != pytest.approx(logged(fused, "cross_entropy")[0], abs=1e-2)


def test_the_four_lines_of_the_page_train(model, twin, rows, tmp_path):
    names = {
        "model": model,
        "args": tiny.arguments(tmp_path, SFTConfig, **SETTINGS),
        "train_dataset": Dataset.from_list(rows),
        "tokenizer": tiny.tokenizer(),
    }
    sft_trainer = page.run("TRL SFTTrainer", names)["trainer"]
    assert logged(sft_trainer) == pytest.approx(logged(trained(twin, rows, tmp_path, kind=Unfused)), abs=1e-5)
    assert all(0.1 < share < 0.9 for share in logged(sft_trainer, "kept_fraction"))


def test_a_threshold_of_one_is_trl_s_own_loss(model, twin, rows, tmp_path):
    sft_trainer = trained(model, rows, tmp_path, truncated(1.0))
    assert logged(sft_trainer) == pytest.approx(logged(trained(twin, rows, tmp_path)), abs=0 if FUSED else 1e-5)
    assert distance(model, twin) <= (0 if FUSED else 1e-5)
    assert logged(sft_trainer, "kept_fraction") == [1.0] * 5


def test_gradient_accumulation_changes_nothing(model, twin, rows, tmp_path):
    whole = trained(model, rows, tmp_path, truncated(THRESHOLD), per_device_train_batch_size=8)
    split = trained(
        twin, rows, tmp_path, truncated(THRESHOLD), per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    for name in ("loss", "kept_fraction", "cross_entropy"):
        assert logged(split, name) == pytest.approx(logged(whole, name), abs=1e-5)
    assert distance(model, twin) < 1e-5


def test_the_log_tells_what_the_loss_did_and_what_trl_tells(model, twin, rows, tmp_path):
    sft_trainer = trained(model, rows, tmp_path, truncated(THRESHOLD), max_steps=1, per_device_train_batch_size=64)
    stats = {name: logged(sft_trainer, name)[0] for name in ("kept_fraction", "cross_entropy")}
    assert stats == pytest.approx(facts(twin, tiny.collate(rows)), abs=1e-5)
    assert sft_trainer.state.log_history[0].keys() >= {"entropy", "mean_token_accuracy", "num_tokens"}


def test_evaluation_is_trl_s_own(model, rows, tmp_path):
    changes = {"eval_strategy": "steps", "eval_steps": 5, "per_device_eval_batch_size": 16}
    sft_trainer = trained(model, rows, tmp_path, truncated(THRESHOLD), **changes)
    stats = sft_trainer.evaluate()
    plain = trainer(copy.deepcopy(model), rows, tmp_path, per_device_eval_batch_size=16).evaluate()
    assert stats["eval_loss"] == pytest.approx(plain["eval_loss"], abs=1e-6)
    assert not [name for name in stats if "kept_fraction" in name]


def test_low_rank_adapters_train_as_with_the_loss_on_logits(model, twin, rows, tmp_path):
    settings = {"max_steps": 10, "learning_rate": 1e-2}
    lora = {"r": 4, "init_lora_weights": True, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    torch.manual_seed(0)
    fused = trained(model, rows, tmp_path, truncated(THRESHOLD), peft_config=LoraConfig(**lora), **settings)
    torch.manual_seed(0)
    plain = trained(twin, rows, tmp_path, kind=Unfused, peft_config=LoraConfig(**lora), **settings)
    assert logged(fused) == pytest.approx(logged(plain), abs=1e-5)
    assert distance(fused.model, plain.model) < 1e-5


def test_a_batch_without_targets_is_a_connected_zero(model, rows, tmp_path):
    sft_trainer = use_loss(trainer(model, rows, tmp_path), threshold=THRESHOLD)
    batch = tiny.collate(rows[:4])
    batch["labels"] = torch.full_like(batch["labels"], -100)
    loss = sft_trainer.compute_loss(model, batch, num_items_in_batch=torch.tensor(7))
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_a_threshold_that_truncates_nothing_is_told(model, rows, tmp_path):
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with pytest.warns(UserWarning, match="No token was truncated in 100 training calls"):
        trained(model, rows, tmp_path, truncated(0.99), max_steps=100, learning_rate=0.0)


class Mean(SFTTrainer):
    """A loss of its own from TRL's fused output layer: rows count alike, however many targets they have."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs, fused_lm_head=True)
        return (-outputs.log_probs.sum(1) / outputs.label_mask.sum(1).clamp(min=1)).mean()


class Forgetful(SFTTrainer):
    """A loss that TRL's fused output layer sums up by itself."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return model(**inputs, fused_lm_head=True).loss


@needs_fused
@pytest.mark.parametrize(
    ("kind", "message"),
    [(Unfused, "without its fused output layer"), (Mean, "no part"), (Forgetful, "no part")],
)
def test_a_subclass_with_a_loss_of_its_own_stops_at_the_first_step(model, rows, tmp_path, kind, message):
    sft_trainer = use_loss(trainer(model, rows, tmp_path, kind), threshold=THRESHOLD)
    with pytest.raises(AttachmentError, match=message):
        sft_trainer.train()
    assert distance(model, tiny.new_model()) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_type": "dft"}, "loss_type is 'dft'.*(Leave it out|loss_type='nll')"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is 0.1.*Leave it out"),
    ],
)
@pytest.mark.filterwarnings("ignore:`label_smoothing_factor` is deprecated:FutureWarning")
def test_settings_that_change_trl_s_loss_are_refused(model, rows, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        use_loss(trainer(model, rows, tmp_path, **changes), threshold=THRESHOLD)


def test_what_cannot_be_weighted_is_refused(model, rows, tmp_path):
    sft_trainer = trainer(model, rows, tmp_path)
    with pytest.raises(ConfigError, match=r"threshold 1.5 is not in"):
        use_loss(sft_trainer, threshold=1.5)
    with pytest.raises(ConfigError, match=r"'tail_sft' judges whole sequences.*attach\(model\)"):
        use_loss(sft_trainer, tail_sft())
    with pytest.raises(ConfigError, match=r"label_smoothing, z_loss cannot be used here.*Leave them out"):
        use_loss(sft_trainer, z_loss=1e-4, label_smoothing=0.1)
    use_loss(sft_trainer, threshold=THRESHOLD)
    with pytest.raises(ConfigError, match="SFTTrainer has a loss already"):
        use_loss(sft_trainer, CROSS_ENTROPY)
    with pytest.raises(ConfigError, match=r"Trainer is no SFTTrainer.*attach\(model\)"):
        use_loss(Trainer(model=model, args=tiny.arguments(tmp_path)))


@needs_fused
def test_an_entropy_that_trl_does_not_have_is_refused(model, rows, tmp_path):
    with pytest.raises(ConfigError, match=r"entropy of the 20 most likely tokens.*Use attach"):
        use_loss(trainer(model, rows, tmp_path), Weighting("eaft", entropy=20))


def test_a_model_with_an_attached_loss_is_refused_and_would_stop_at_the_first_step(model, rows, tmp_path):
    sft_trainer = trainer(attach(model), rows, tmp_path)
    with pytest.raises(ConfigError, match="Call detach"):
        use_loss(sft_trainer)
    # A TRL without a fused output layer misses the logits, for its metrics.
    error, message = (
        (AttachmentError, r"tailkeep\.integrations\.trl") if FUSED else ((TypeError, AttributeError), "NoneType")
    )
    with pytest.raises(error, match=message):
        sft_trainer.train()


def test_a_missing_trl_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(MissingPackageError, match=r"trl is not installed.*pip install 'tailkeep\[trl\]'"):
        use_loss(object())


def ranks(count, size, out):
    """Run `count` processes; return the trained weights and the log of the first."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(count):
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        if count > 1:
            env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-m", "tests.integrations.sft_rank", str(size), str(out)]
        processes.append(
            subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, "\n".join(printed)
    return load_file(out / "weights.safetensors"), json.loads((out / "log.json").read_text())


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    two, log_of_two = ranks(2, 4, tmp_path / "two")
    one, log_of_one = ranks(1, 8, tmp_path / "one")
    assert max(float((two[name] - one[name]).abs().max()) for name in one) < 1e-5
    for both in zip(log_of_two[:4], log_of_one[:4], strict=True):
        losses, shares = ([entry[name] for entry in both] for name in ("loss", "kept_fraction"))
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)
        assert 0.1 < shares[0] < 0.9
