"""Runs that are killed inside a phase, for real, and go on: the same bytes as a run that nobody disturbed."""

import io
import json
import os
import shutil
import signal
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from tailkeep import lab
from tailkeep.errors import InputError
from tailkeep.lab import phase
from tailkeep.lab.causal_lm import model as room
from tailkeep.lab.causal_lm.callbacks import Checkpoints
from tailkeep.lab.causal_lm.written_texts import PhaseTexts
from tests.lab.causal_lm.tiny import SHAPE, config_tree, write_stories
from tests.runs.faults import content
from tests.runs.small_run import TIMINGS

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a process that uses a GPU cannot be forked")

GPT2 = {
    "name": "scratch",
    "type": "gpt2",
    "config": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64, "resid_pdrop": 0.2, "embd_pdrop": 0.2},
}
LOSSES = {
    "cross_entropy": {"name": "cross_entropy"},
    "dynamic": {"name": "dynamic", "alpha": -1.0, "start": 0.02, "window": 5},
    "scheduled": {"name": "scheduled", "start": 0.001, "end": 0.02, "steps": 30},
    "target_kept": {"name": "target_kept", "fraction": 0.6, "window": 4},
    "random": {"name": "random", "kept_fraction": 0.5},
    "random_matched": {"name": "random_matched", "threshold": 0.004, "window": 4},
}
STEPS = 14
"""Optimizer steps of a generation: two passes of 7, each with two micro-batches a step but for the last."""


@pytest.fixture(autouse=True)
def always_due(monkeypatch):
    """Write at every reading of the curve and after every batch of text."""
    monkeypatch.setattr(phase, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(phase, "MAX_SHARE", float("inf"))


def tree_of(folder, **changes):
    """A chain of two generations, with dropout, accumulation, a schedule and several passes."""
    training = {
        "block": 8, "batch": 3, "epochs": 2, "gradient_accumulation": 2, "learning_rate": 0.01,
        "arguments": {"lr_scheduler_type": "linear", "warmup_steps": 3, "weight_decay": 0.1},
    }  # fmt: skip
    generation = {"form": {"name": "documents", "new_tokens": 6}, "batch": 8}
    return config_tree(
        write_stories(folder), model=GPT2, training=training, generation=generation, keep_models="all", **changes
    )


def in_child(work):
    """Run `work` in a forked process; how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)  # reached only if nothing has killed it
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def killed_after(owner, method, count):
    """The process is killed as the `count`-th call of `owner.method` in it ends."""
    original, calls = getattr(owner, method), []

    def counted(*arguments, **options):
        result = original(*arguments, **options)
        calls.append(method)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, counted)
    try:
        yield
    finally:
        setattr(owner, method, original)


def run_killed(tree, folder, owner, method, count):
    def work():
        with killed_after(owner, method, count):
            lab.run(tree, folder)

    assert in_child(work) == -signal.SIGKILL


def outcome(folder):
    return content(folder, without=(*TIMINGS, "report.html"))


def check(tree, folder, owner, method, counts):
    """A run killed after each of `counts` calls is, run again, the one that nothing disturbs."""
    lab.run(tree, folder / "whole")
    expected = outcome(folder / "whole")
    for count in counts:
        killed = folder / f"killed-{count}"
        run_killed(tree, killed, owner, method, count)
        assert list(killed.rglob("unfinished"))
        seen = []
        lab.run(tree, killed, observe=seen.append)
        assert any(event.progress and event.progress.resumed for event in seen), count
        assert outcome(killed) == expected, count
        shutil.rmtree(killed)


def test_a_training_killed_in_the_middle_ends_in_the_same_bytes(tmp_path):
    tree = tree_of(tmp_path, loss=LOSSES["target_kept"])
    check(tree, tmp_path, Checkpoints, "write", [STEPS + 6])


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_so_does_one_killed_at_the_first_a_middle_or_the_last_step(loss, tmp_path):
    tree = tree_of(tmp_path, loss=LOSSES[loss])
    # The last step of a training writes no checkpoint: the model itself comes next.
    check(tree, tmp_path, Checkpoints, "write", [1, 7, STEPS - 1, STEPS, STEPS + 6, 2 * STEPS - 2])


@pytest.mark.slow
def test_a_training_in_bfloat16_goes_on_too(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "has_native_bfloat16", lambda device: True)
    tree = tree_of(tmp_path, dtype="bfloat16")
    check(tree, tmp_path, Checkpoints, "write", [7, STEPS + 6])


@pytest.mark.slow
def test_adapters_go_on_too(tmp_path):
    pytest.importorskip("peft")
    tree = tree_of(tmp_path, finetune={"low_rank": {"rank": 2}}, loss=LOSSES["dynamic"])
    tree["model"] = {"name": "scratch", "type": "llama", "config": {**SHAPE, "attention_dropout": 0.2}}
    check(tree, tmp_path, Checkpoints, "write", [STEPS + 6])


def test_text_killed_between_two_batches_ends_in_the_same_bytes(tmp_path):
    check(tree_of(tmp_path), tmp_path, PhaseTexts, "add", [2])


@pytest.mark.slow
def test_so_does_text_of_any_phase(tmp_path):
    decoder = {"name": "matched", "texts": 12, "steps": 2}
    generation = {"form": {"name": "documents", "new_tokens": 6}, "batch": 8, "decoder": decoder}
    tree = tree_of(tmp_path) | {"generation": generation, "evaluation": {"samples": 6, "new_tokens": 8, "batch": 4}}
    check(tree, tmp_path, PhaseTexts, "add", [1, 3, 9, 14, 20])


def flip_a_byte(content):
    """In the middle of the first array."""
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def unfinished_checkpoint(tree, folder):
    run_killed(tree, folder, Checkpoints, "write", 3)
    (path,) = folder.rglob("checkpoint-*")
    return path


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "curve_state.json"])
def test_a_checkpoint_whose_file_has_changed_is_refused(name, tmp_path):
    tree = tree_of(tmp_path, generations=1)
    file = unfinished_checkpoint(tree, tmp_path / "run") / name
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(bytes(changed))
    with pytest.raises(InputError, match=rf"{name} is not what was written.*Delete the folder"):
        lab.run(tree, tmp_path / "run")


def test_a_file_that_was_added_to_a_checkpoint_is_refused(tmp_path):
    tree = tree_of(tmp_path, generations=1)
    (unfinished_checkpoint(tree, tmp_path / "run") / "scaler.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"scaler\.pt is not what was written"):
        lab.run(tree, tmp_path / "run")


@pytest.mark.parametrize("content", [None, b"{", b"[]"])
def test_a_checkpoint_without_readable_hashes_is_refused_with_advice_that_works(content, tmp_path):
    tree = tree_of(tmp_path, generations=1)
    folder = unfinished_checkpoint(tree, tmp_path / "run")
    (folder / "sha256.json").unlink()
    if content is not None:
        (folder / "sha256.json").write_bytes(content)
    with pytest.raises(InputError, match=r"is not what was written.*Delete the folder"):
        lab.run(tree, tmp_path / "run")
    shutil.rmtree(folder)
    lab.run(tree, tmp_path / "run")


def repacked(content, *, compression=zipfile.ZIP_STORED, length=None):
    """The arrays of `content`; the header of its token ids says `length`."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w", compression) as new:
        for name in old.namelist():
            array = io.BytesIO(old.read(name))
            if name == "ids_0.npy" and length is not None:
                array = io.BytesIO()
                header = {"descr": "<i4", "fortran_order": False, "shape": (length,)}
                np.lib.format.write_array_header_1_0(array, header)
            new.writestr(name, array.getvalue())
    return result.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-30],
        flip_a_byte,
        lambda content: b"x" * 99,
        lambda content: repacked(content, compression=zipfile.ZIP_DEFLATED),
        lambda content: repacked(content, length=10**15),
        lambda content: repacked(content, length=10**25),
    ],
)
def test_damaged_text_of_an_unfinished_phase_is_refused_with_advice_that_works(damage, tmp_path):
    tree = tree_of(tmp_path)
    run_killed(tree, tmp_path / "run", PhaseTexts, "add", 2)
    file = min((tmp_path / "run").rglob("*.npz"))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=r"000000\.npz is not what was written.*Delete the folder"):
        lab.run(tree, tmp_path / "run")
    shutil.rmtree(file.parent)
    lab.run(tree, tmp_path / "run")


def test_a_checkpoint_holds_no_pickle_that_runs_code_and_only_the_newest_is_kept(tmp_path):
    folder = unfinished_checkpoint(tree_of(tmp_path, generations=1), tmp_path / "run")
    assert folder.name == "checkpoint-3"
    assert not (folder / "training_args.bin").exists()
    for file in [*folder.glob("*.pt"), *folder.glob("*.pth")]:
        with torch.serialization.safe_globals(numpy_globals()):
            torch.load(file, weights_only=True)
    assert set(json.loads((folder / "sha256.json").read_text())) == {path.name for path in folder.iterdir()} - {
        "sha256.json"
    }


def numpy_globals():
    """What transformers allows in a file of random states."""
    return [np._core.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))]


def test_nothing_is_left_of_what_a_phase_had_done(tmp_path):
    lab.run(tree_of(tmp_path), tmp_path / "run")
    assert not [path for path in Path(tmp_path).rglob("*") if "unfinished" in path.name]
