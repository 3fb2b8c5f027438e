"""The monitor tells what the loss saw, and speaks up when truncation does nothing."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F

from tailkeep.losses.hf.attach import attach, read_stats, truncates
from tailkeep.losses.hf.state import PATIENCE, Monitor
from tailkeep.losses.nll import LossStats
from tailkeep.losses.options import named_weighting
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import batch, halving_threshold


def step(kept_fraction: float, targets: int = 10, cross_entropy: float = 2.0) -> LossStats:
    values = [kept_fraction, cross_entropy, 0.25, 0.5] if targets else [float("nan")] * 4
    return LossStats(*(torch.tensor(value) for value in values), torch.tensor(targets))


def test_stats_are_means_over_the_targets_of_all_calls_since_the_last_reading():
    model, batches = tiny("llama"), [batch(seed=1), batch(seed=2, rows=2)]
    threshold = halving_threshold(model, batches[0])
    nll, correct = [], []
    with torch.no_grad():
        for inputs in batches:
            logits, targets = model(inputs["input_ids"]).logits[:, :-1], inputs["labels"][:, 1:]
            nll.append(F.cross_entropy(logits[targets != -100].double(), targets[targets != -100], reduction="none"))
            correct.append((logits.argmax(-1) == targets)[targets != -100])
    attach(model, threshold=threshold)
    for inputs in batches:
        model(**inputs)
    stats, losses = read_stats(model), torch.cat(nll)
    assert stats["cross_entropy"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert stats["confidence"] == pytest.approx(float(torch.exp(-losses).mean()), rel=1e-5)
    assert stats["accuracy"] == pytest.approx(float(torch.cat(correct).double().mean()), rel=1e-5)
    assert stats["kept_fraction"] == pytest.approx(float((torch.exp(-losses) <= threshold).double().mean()), rel=1e-5)
    assert read_stats(model) == {}


def test_a_call_without_targets_counts_for_nothing_and_a_broken_model_shows():
    monitor = Monitor(truncates=True)
    monitor.add(step(0.5, targets=0))
    assert monitor.read() == {}
    monitor.add(step(0.5, targets=0))
    monitor.add(step(0.5))
    assert monitor.read()["cross_entropy"] == pytest.approx(2.0)
    monitor.add(step(1.0, cross_entropy=float("nan")))
    assert math.isnan(monitor.read()["cross_entropy"])


def test_a_truncation_that_does_nothing_is_said_once():
    monitor = Monitor(truncates=True)
    for _ in range(PATIENCE - 1):
        monitor.add(step(1.0))
    with pytest.warns(UserWarning, match="No token was truncated in 100 training calls"):
        monitor.add(step(1.0))
    for _ in range(2 * PATIENCE):
        monitor.add(step(1.0))


def test_calls_without_targets_neither_break_a_run_of_idle_ones_nor_lengthen_it():
    monitor = Monitor(truncates=True)
    for _ in range(PATIENCE - 1):
        monitor.add(step(1.0))
    monitor.add(step(1.0, targets=0))
    for _ in range(PATIENCE - 1):
        monitor.add(step(1.0))
    with pytest.warns(UserWarning, match="No token was truncated"):
        monitor.add(step(1.0))


@pytest.mark.parametrize(
    ("truncates", "shares"), [(False, [1.0] * 100), (True, [1.0] * 50 + [0.99] + [1.0] * 99), (True, [0.0] * 200)]
)
def test_other_runs_are_not_warned(truncates, shares):
    monitor = Monitor(truncates)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for share in shares:
            monitor.add(step(share))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("truncated", {}, True),
        ("truncated", {"threshold": 1.0}, False),
        ("target_kept", {"fraction": 0.5}, True),
        ("focal", {}, False),
        ("dft", {}, False),
        ("cross_entropy", {}, False),
        ("random", {"kept_fraction": 0.5, "seed": 0}, False),
    ],
)
def test_only_truncations_below_1_are_watched(name, options, expected):
    assert truncates(named_weighting(name, **options)) is expected
