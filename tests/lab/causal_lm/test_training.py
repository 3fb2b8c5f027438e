import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tailkeep.errors import TrainingError
from tailkeep.lab.causal_lm.config import Training
from tailkeep.lab.causal_lm.tokens import training_rows
from tailkeep.lab.causal_lm.training import _Collator, _steps, build_weighting, train
from tailkeep.losses.options import CrossEntropy, Focal, Truncated
from tailkeep.scoring.loading import quiet_transformers

CE = CrossEntropy()
TCE = Truncated(threshold=0.5)

pytestmark = pytest.mark.usefixtures("generators")


def fit(network, rows, *, loss=CE, budget=None, pad=2, seed=0, device="cpu", bf16=False, **choices):
    training = Training(**{"block": 8, "batch": 4, "epochs": 1, **choices})
    budget = sum(len(row) - 1 for row in rows) if budget is None else budget
    network.train()
    with quiet_transformers():
        return train(
            network, rows, training=training, weighting=build_weighting(loss, {}), budget=budget, pad=pad, seed=seed,
            device=device, bf16=bf16,
        )  # fmt: skip


def parameters(network):
    return torch.cat([parameter.detach().flatten().double() for parameter in network.parameters()])


def by_hand(network, rows, *, threshold, steps, learning_rate=1e-3, max_grad_norm=1.0):
    """Full-batch AdamW steps on the truncated loss as it is defined: row by row, probabilities in float64."""
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        total, plain, count, num_kept = 0.0, 0.0, 0, 0
        for row in rows:
            ids = torch.tensor(row.astype(np.int64))
            log_p = network(input_ids=ids[None]).logits[0, :-1].double().log_softmax(-1).gather(-1, ids[1:, None])[:, 0]
            keep = log_p.detach().exp() <= threshold
            total = total - log_p[keep].sum()
            plain, count, num_kept = plain - log_p.detach().sum().item(), count + len(log_p), num_kept + int(keep.sum())
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
        optimiser.step()
        losses.append((plain / count, num_kept / count))
    return losses


@pytest.mark.parametrize("loss", [CE, TCE, Truncated(threshold=0.1)])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_training_is_the_loop_that_one_would_write_by_hand(network, stories, loss, accumulation):
    rows = training_rows(stories.take(np.arange(12)), block=8, joined=False)
    other = copy.deepcopy(network)
    batch = math.ceil(len(rows) / accumulation)
    facts = fit(network, rows, loss=loss, batch=batch, gradient_accumulation=accumulation, epochs=3)
    losses = by_hand(other, rows, threshold=getattr(loss, "threshold", 1.0), steps=3)
    assert facts["train_steps"] == 3
    assert facts["train_nll"] == pytest.approx(np.mean([plain for plain, _ in losses]), rel=1e-5)
    assert facts["kept_fraction"] == pytest.approx(np.mean([num_kept for _, num_kept in losses]), abs=1e-7)
    assert (parameters(network) - parameters(other)).abs().max() < 1e-5


@pytest.mark.parametrize("loss", [CE, TCE, Focal()])
def test_accumulated_micro_batches_are_one_batch(network, stories, loss):
    rows = training_rows(stories.take(np.arange(8)), block=30, joined=False)  # of different lengths
    assert len({len(row) for row in rows}) > 1
    other = copy.deepcopy(network)
    one = fit(network, rows, loss=loss, batch=4, gradient_accumulation=1, epochs=2)
    four = fit(other, rows, loss=loss, batch=1, gradient_accumulation=4, epochs=2)
    assert one["train_steps"] == four["train_steps"]
    assert one["train_nll"] == pytest.approx(four["train_nll"], rel=1e-5)
    assert (parameters(network) - parameters(other)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("choices", "budget", "expected"),
    [
        ({}, 160, 5),  # 20 rows of 8 targets in batches of 4: 5 steps a pass
        ({"epochs": 3}, 160, 15),
        ({"epochs": 0.4}, 160, 2),
        ({"gradient_accumulation": 2}, 160, 3),
        ({}, 80, 2),  # round(2.5)
        ({}, 320, 10),
        ({"equal_tokens": False}, 80, 5),
        ({"epochs": 2, "equal_tokens": False}, 9999, 10),
        ({"epochs": 1e-9}, 160, 1),
    ],
)
def test_steps_follow_from_the_budget(choices, budget, expected):
    rows = [np.zeros(9, np.int32)] * 20
    assert _steps(rows, Training(**{"block": 8, "batch": 4, "epochs": 1, **choices}), budget) == expected


def test_a_larger_training_set_is_trained_for_as_many_tokens(network, stories):
    other = copy.deepcopy(network)
    small = training_rows(stories.take(np.arange(10)), block=8, joined=True)
    large = training_rows(stories, block=8, joined=True)
    budget = sum(len(row) - 1 for row in small)
    one, four = fit(network, small, budget=budget, epochs=4), fit(other, large, budget=budget, epochs=4)
    assert one["train_units"] == pytest.approx(four["train_units"], rel=0.1)


def test_the_units_are_the_targets_that_were_seen(network, stories):
    rows = training_rows(stories.take(np.arange(8)), block=30, joined=False)
    facts = fit(network, rows, batch=4, epochs=3)
    assert facts["train_units"] == 3 * sum(len(row) - 1 for row in rows)


def test_a_loss_that_truncates_nothing_keeps_everything(network, stories):
    rows = training_rows(stories.take(np.arange(8)), block=8, joined=False)
    assert fit(network, rows)["kept_fraction"] == 1
    assert fit(network, rows, loss=Truncated(threshold=1))["kept_fraction"] == 1


def test_a_batch_that_is_wholly_truncated_leaves_the_weights_alone(network, stories):
    before = parameters(network)
    rows = training_rows(stories.take(np.arange(8)), block=8, joined=False)
    facts = fit(network, rows, loss=Truncated(threshold=1e-9))
    assert facts["kept_fraction"] == 0
    assert torch.equal(parameters(network), before)


def test_several_gpus_train_as_one_does(network, stories, monkeypatch):
    # Two that are only counted: Trainer would wrap the model for both and hand it batches of twice the size.
    rows = training_rows(stories.take(np.arange(12)), block=8, joined=False)
    other = copy.deepcopy(network)
    one = fit(network, rows)
    fork_cpu = partial(torch.random.fork_rng, devices=[])
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: fork_cpu())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    two = fit(other, rows, device="cuda")
    assert two == one
    assert torch.equal(parameters(other), parameters(network))


def test_one_seed_gives_one_model_and_another_seed_another(network, stories):
    rows = training_rows(stories, block=8, joined=False)
    one, again, other = (copy.deepcopy(network) for _ in range(3))
    for trained, seed in ((one, 1), (again, 1), (other, 2**33 + 5)):
        fit(trained, rows, seed=seed)
    assert torch.equal(parameters(one), parameters(again))
    assert not torch.equal(parameters(one), parameters(other))


def test_another_order_of_the_same_rows_is_another_model_under_the_same_seed(network, stories):
    rows = training_rows(stories, block=8, joined=False)
    one, reordered = copy.deepcopy(network), copy.deepcopy(network)
    first, second = (fit(trained, rows, seed=1, data_order=n) for n, trained in enumerate((one, reordered)))
    assert first["train_units"] == second["train_units"]
    assert not torch.equal(parameters(one), parameters(reordered))


def test_padding_is_masked_and_is_no_target():
    batch = _Collator(7)([(np.array([1, 2, 3], np.int32), 1), (np.array([4, 5], np.int32), 1)])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 5, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[-100, 2, 3], [-100, 5, -100]]


def test_a_pad_id_that_is_also_a_word_is_still_a_target():
    batch = _Collator(5)([(np.array([1, 5, 5], np.int32), 1), (np.array([5, 5], np.int32), 1)])
    assert batch["labels"].tolist() == [[-100, 5, 5], [-100, 5, -100]]


def test_which_id_pads_changes_nothing(network, stories):
    rows = training_rows(stories.take(np.arange(8)), block=30, joined=False)
    other = copy.deepcopy(network)
    one, two = fit(network, rows, pad=2, epochs=2), fit(other, rows, pad=17, epochs=2)
    assert one == pytest.approx(two)
    assert (parameters(network) - parameters(other)).abs().max() < 1e-6


@pytest.mark.parametrize("loss", [CE, TCE])
def test_weights_that_are_not_finite_are_no_model(network, stories, loss):
    with torch.no_grad():
        network.lm_head.weight[3, 3] = torch.nan
    rows = training_rows(stories.take(np.arange(8)), block=8, joined=False)
    with pytest.raises(TrainingError, match=r"no longer finite after training at learning_rate 0.001. Lower"):
        fit(network, rows, loss=loss)


def test_the_model_that_leaves_mixed_precision_is_the_model_itself(network, stories):
    rows = training_rows(stories.take(np.arange(8)), block=8, joined=False)
    fit(network, rows, bf16=True)
    network.eval()
    ids = torch.tensor(rows[0][None].astype(np.int64))
    with torch.no_grad():
        logits, plain = network(input_ids=ids).logits, type(network).forward(network, input_ids=ids).logits
    assert logits.dtype == plain.dtype == torch.float32
    assert torch.equal(logits, plain)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_model_that_has_been_trained_trains_as_one_that_was_loaded(network, stories, bf16):
    """A chain that goes on in memory and one that was read from the disk are the same."""
    rows = training_rows(stories.take(np.arange(8)), block=8, joined=False)
    loaded = copy.deepcopy(network)
    fit(network, rows, bf16=bf16)
    loaded.load_state_dict(network.state_dict())
    attributes = set(vars(loaded))
    copied = copy.deepcopy(network)
    assert fit(copied, rows, bf16=bf16) == fit(loaded, rows, bf16=bf16)
    assert torch.equal(parameters(copied), parameters(loaded))
    assert set(vars(copied)) == attributes


def test_a_model_trains_in_bfloat16_again_and_again(network, stories):
    rows = training_rows(stories.take(np.arange(8)), block=8, joined=False)
    fit(network, rows, bf16=True)
    wide = copy.deepcopy(network)
    assert fit(network, rows, bf16=True)["train_nll"] != fit(wide, rows, bf16=False)["train_nll"]


def test_evaluation_is_plain_cross_entropy_whatever_the_loss(network, stories):
    from tailkeep.scoring import token_log_probs

    rows = training_rows(stories.take(np.arange(8)), block=8, joined=False)
    fit(network, rows, loss=TCE)
    network.eval()
    nll = -np.concatenate(token_log_probs(network, rows)).mean()
    with torch.no_grad():
        expected = [
            F.cross_entropy(network(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none")
            for ids in (torch.tensor(row[None].astype(np.int64)) for row in rows)
        ]
    assert nll == pytest.approx(torch.cat(expected).mean().item(), rel=1e-5)


def test_a_rows_first_token_is_no_target_so_every_architecture_counts_the_same():
    """Trainer counts labels from the second on for some architectures and all of them for the rest, such as GPT-2."""
    labels = _Collator(pad=0)([(np.arange(5, 10, dtype=np.int32), 1), (np.arange(5, 8, dtype=np.int32), 1)])["labels"]
    assert (labels != -100).sum() == (labels[:, 1:] != -100).sum() == 6


@pytest.mark.parametrize("rows", [[], [np.array([1], np.int32)] * 3])
def test_text_that_holds_nothing_to_predict_is_one_clear_error(network, rows):
    with pytest.raises(TrainingError, match="the text to train on holds nothing to predict"):
        fit(network, rows, budget=10)
