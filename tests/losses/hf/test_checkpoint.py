"""An attached loss resumes exactly where its state was saved, or it raises."""

import pickle

import pytest
import torch

from tailkeep.errors import ConfigError, InputError
from tailkeep.losses.hf.attach import attach, load_loss_state, read_stats, save_loss_state, weighting_of
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import batch

STATEFUL = {
    "scheduled": {"start": 1.0, "end": 0.001, "steps": 6},
    "target_kept": {"fraction": 0.5},
    "dynamic": {"alpha": 0.0},
    "random": {"kept_fraction": 0.5, "seed": 1},
    "random_matched": {"threshold": 0.01, "seed": 1},
}


def losses(model, steps):
    return [model(**batch(seed=step)).loss.item() for step in steps]


@pytest.mark.parametrize("name", [*STATEFUL, "truncated"])
def test_a_loaded_state_goes_on_as_the_saved_one_would(name, tmp_path):
    options = STATEFUL.get(name, {"threshold": 0.01})
    model, other = attach(tiny("llama"), name, **options), attach(tiny("llama"), name, **options)
    losses(model, range(3))
    save_loss_state(model, tmp_path / "checkpoint-3")
    expected = losses(model, range(3, 6))
    if name != "truncated":
        assert losses(attach(tiny("llama"), name, **options), range(3, 6)) != expected
    load_loss_state(other, tmp_path / "checkpoint-3")
    assert losses(other, range(3, 6)) == expected
    assert read_stats(other) == read_stats(model)


def test_each_process_has_a_state_of_its_own(tmp_path):
    models = [attach(tiny("llama"), "target_kept", fraction=0.5) for _ in range(3)]
    for rank, model in enumerate(models[:2]):
        losses(model, [rank])
        save_loss_state(model, tmp_path, rank=rank)
    load_loss_state(models[2], tmp_path, rank=1)
    assert weighting_of(models[2]).threshold == weighting_of(models[1]).threshold != weighting_of(models[0]).threshold


def test_a_checkpoint_without_the_state_is_refused(tmp_path):
    model = attach(tiny("llama"), "scheduled", **STATEFUL["scheduled"])
    save_loss_state(model, tmp_path)
    with pytest.raises(InputError, match=r"tailkeep_loss_1\.pt is missing: .*'scheduled' of process 1.*as many proc"):
        load_loss_state(model, tmp_path, rank=1)


def test_the_state_of_another_loss_is_refused(tmp_path):
    save_loss_state(attach(tiny("llama"), "dynamic", alpha=0.0), tmp_path)
    with pytest.raises(InputError, match="is the state of the loss 'dynamic', and the attached one is 'scheduled'"):
        load_loss_state(attach(tiny("llama"), "scheduled", **STATEFUL["scheduled"]), tmp_path)


@pytest.mark.parametrize(("name", "other"), [
    ("scheduled", {"start": 0.9, "end": 0.1, "steps": 10}), ("target_kept", {"fraction": 0.9}),
    ("dynamic", {"alpha": 1.0}), ("random", {"kept_fraction": 0.9, "seed": 1}),
    ("random_matched", {"threshold": 0.5, "seed": 1}),
])  # fmt: skip
def test_the_state_of_the_same_loss_with_other_options_is_refused(name, other, tmp_path):
    save_loss_state(attach(tiny("llama"), name, **STATEFUL[name]), tmp_path)
    with pytest.raises(ConfigError, match=f"the loss '{name}' was saved with the options"):
        load_loss_state(attach(tiny("llama"), name, **other), tmp_path)


@pytest.mark.parametrize("state", [
    {"loss": "scheduled"}, {"loss": "scheduled", "weighting": 3},
    {"loss": "scheduled", "weighting": {"seen": 1, "settings": [0.9, 0.01, 4.0]}},
])  # fmt: skip
def test_a_state_that_lacks_a_part_is_one_error(state, tmp_path):
    model = attach(tiny("llama"), "scheduled", start=0.9, end=0.01, steps=4)
    torch.save(state, save_loss_state(model, tmp_path))
    with pytest.raises(InputError, match=r"tailkeep_loss_0\.pt is no whole state of the loss 'scheduled'"):
        load_loss_state(model, tmp_path)


class _Code:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("content", [b"", b"half a fi", pickle.dumps({"loss": "dynamic"}), pickle.dumps(_Code())])
def test_a_broken_file_is_named_and_no_code_of_it_runs(content, tmp_path, capsys):
    model = attach(tiny("llama"), "dynamic", alpha=0.0)
    save_loss_state(model, tmp_path).write_bytes(content)
    with pytest.raises(InputError, match=r"tailkeep_loss_0\.pt (cannot be read|is the state)"):
        load_loss_state(model, tmp_path)
    assert "run" not in capsys.readouterr().out


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    model = attach(tiny("llama"), "dynamic", alpha=0.0)
    torch.save([1, 2], save_loss_state(model, tmp_path))
    with pytest.raises(InputError, match="state of the loss None"):
        load_loss_state(model, tmp_path)


def test_a_model_without_a_loss_has_no_state_to_save(tmp_path):
    with pytest.raises(ConfigError, match="no loss attached"):
        save_loss_state(tiny("llama"), tmp_path)
