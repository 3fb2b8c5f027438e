import copy
import sys

import numpy as np
import pytest
import torch
from transformers import TrainingArguments, get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from tailkeep.errors import ConfigError, MissingPackageError
from tailkeep.lab import load
from tailkeep.lab.causal_lm.config import Training
from tailkeep.lab.causal_lm.tokens import training_rows
from tailkeep.lab.causal_lm.trainer_arguments import _OTHER_KEYS, TrainerArguments
from tailkeep.lab.causal_lm.training import check_arguments, train
from tailkeep.lab.learners import sources_of
from tailkeep.losses import CROSS_ENTROPY
from tests.lab.causal_lm.tiny import config_tree, write_stories


def config(tmp_path, **arguments):
    return load(config_tree(write_stories(tmp_path), training={"arguments": arguments}))


def fit(network, rows, **arguments):
    training = Training(block=8, batch=len(rows), epochs=4, arguments=TrainerArguments(**arguments))
    budget = sum(len(row) - 1 for row in rows)
    return train(
        network.train(), rows, training=training, weighting=CROSS_ENTROPY, budget=budget, pad=2, seed=0, device="cpu",
        bf16=False,
    )  # fmt: skip


def parameters(network):
    return torch.cat([parameter.detach().flatten().double() for parameter in network.parameters()])


def by_hand(network, rows, *, steps, betas, weight_decay, schedule, warmup):
    """Full-batch AdamW whose decay spares biases and norms, with transformers' own schedule."""
    decayed = get_parameter_names(network, [torch.nn.LayerNorm], [r"bias", r"norm"])
    groups = [
        {"params": [p for name, p in network.named_parameters() if (name in decayed) == decays], "weight_decay": decay}
        for decays, decay in ((True, weight_decay), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=betas)
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    ids = torch.tensor(np.stack(rows).astype(np.int64))
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        network(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()


@pytest.fixture
def network(network):
    """In double precision: Adam divides small gradients by their own size, and with them the rounding of float32."""
    return network.double()


@pytest.fixture
def rows(stories):
    return training_rows(stories.take(np.arange(12)), block=8, joined=True)[:6]


def test_schedule_warm_up_decay_and_betas_are_those_of_the_loop_that_one_would_write_by_hand(network, rows):
    other = copy.deepcopy(network)
    fit(network, rows, lr_scheduler_type="cosine", warmup_steps=0.5, weight_decay=0.3, adam_beta1=0.5, adam_beta2=0.9)
    by_hand(other, rows, steps=4, betas=(0.5, 0.9), weight_decay=0.3, schedule="cosine", warmup=2)
    assert (parameters(network) - parameters(other)).abs().max() < 1e-6


def test_the_defaults_are_adam_at_a_constant_rate(network, rows):
    other = copy.deepcopy(network)
    fit(network, rows)
    by_hand(other, rows, steps=4, betas=(0.9, 0.999), weight_decay=0.0, schedule="constant", warmup=0)
    assert (parameters(network) - parameters(other)).abs().max() < 1e-6


def test_another_optimizer_trains_otherwise(network, rows):
    other = copy.deepcopy(network)
    fit(network, rows)
    fit(other, rows, optim="sgd")
    assert (parameters(network) - parameters(other)).abs().max() > 1e-4


def test_gradient_checkpointing_changes_memory_and_not_the_weights(network, rows):
    other = copy.deepcopy(network)
    fit(network, rows)
    fit(other, rows, gradient_checkpointing=True)
    assert (parameters(network) - parameters(other)).abs().max() < 1e-6
    assert not any(getattr(module, "gradient_checkpointing", False) for module in other.modules())


@pytest.mark.parametrize("key", _OTHER_KEYS)
def test_an_argument_that_another_key_sets_is_refused_by_that_key(key, tmp_path):
    with pytest.raises(ConfigError) as error:
        config(tmp_path, **{key: 1})
    assert str(error.value).endswith(f"{key!r} is none of the arguments that are passed on. {_OTHER_KEYS[key]}.")
    assert "training.arguments" in str(error.value)


@pytest.mark.parametrize("key", ["save_steps", "logging_steps", "eval_strategy", "dataloader_num_workers"])
def test_so_is_what_the_laboratory_does_by_itself(key, tmp_path):
    with pytest.raises(ConfigError, match=f"'{key}' is none of the arguments"):
        config(tmp_path, **{key: 1})


def test_every_key_is_one_of_transformers():
    assert set(TrainerArguments.model_fields) <= set(TrainingArguments.__dataclass_fields__)


def test_a_misspelt_argument_is_refused_with_the_nearest_one(tmp_path):
    with pytest.raises(ConfigError, match=r"training\.arguments\.wieght_decay'\. Did you mean 'weight_decay'"):
        config(tmp_path, wieght_decay=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup_steps": 10}, "constant_with_warmup"),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": False}}, "gradient_checkpointing: true"),
        ({"run_name": "a"}, "report_to: wandb"),
        ({"report_to": "mlflow"}, "mlflow"),
        ({"adam_beta1": 1.0}, "adam_beta1"),
    ],
)
def test_a_value_without_effect_or_out_of_range_is_refused(arguments, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr_scheduler_type": "cosin"}, "'cosin' cannot be used"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "cannot be used"),
        ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"cycles": 2}}, "cannot be used"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "there is none"),
        ({"optim": "adamx"}, "'adamx', lr_scheduler_type 'constant' cannot be used"),
        ({"optim": "sgd", "adam_beta2": 0.9}, r"adam_beta2 has no effect with optim 'sgd'"),
        ({"optim_args": "weight_decay=0.5"}, r"optim_args has no effect with optim 'adamw_torch'"),
        ({"lr_scheduler_kwargs": {"num_cycles": 3}}, "lr_scheduler_kwargs has no effect with this schedule"),
    ],
)
def test_what_transformers_cannot_do_is_refused_before_training(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check_arguments(TrainerArguments(**arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-5}, "warmup_steps": 10},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 3}},
        {"optim": "adafactor"},
        {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 0.25}},
        {"adam_epsilon": 1e-6},
    ],
)
def test_what_transformers_can_do_is_accepted(arguments):
    check_arguments(TrainerArguments(**arguments))


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_with_its_install_line(tracker, monkeypatch):
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(MissingPackageError, match=rf"tailkeep\[{tracker}\]"):
        check_arguments(TrainerArguments(report_to=tracker))


def test_one_tracker_may_be_a_word():
    assert TrainerArguments(report_to="wandb").report_to == ("wandb",)
    assert TrainerArguments(report_to="none").report_to == ()


def test_arguments_are_in_the_fingerprint(tmp_path):
    sources = [sources_of(config(tmp_path, weight_decay=decay))["baseline"] for decay in (0.0, 0.1)]
    first, second = (source.fingerprint(0, 0) for source in sources)
    assert first != second
