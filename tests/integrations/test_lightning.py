"""Lightning on an attached model, with the module of docs/integrations.md, against a loop of our own."""

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from tests.integrations import page
from tests.integrations.tiny import collate, distance, facts, unfused

pytestmark = [
    # Lightning reminds of more workers, which a test does not want.
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    # torch deprecates what Lightning uses of its trees.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]


@pytest.fixture
def defined():
    return page.run("Lightning")


def fit(module, loader, accumulate=1, **settings):
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=4,
        **settings,
    )
    trainer.fit(module, loader)
    return trainer


def by_hand(model, batches, accumulate=1, exact=False):
    """The same steps with the loss on logits: means of micro-batches averaged, or one mean over the window."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for start in range(0, len(batches), accumulate):
        window = batches[start : start + accumulate]
        items = sum((batch["labels"][:, 1:] != -100).sum() for batch in window) if exact else None
        for batch in window:
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            loss = unfused(model(**inputs), batch["labels"], items)
            (loss if exact else loss / accumulate).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_it_trains_as_a_loop_with_the_loss_on_logits(defined, model, twin, rows):
    loader = DataLoader(rows, batch_size=4, collate_fn=collate)
    fit(defined["Language"](model), loader)
    by_hand(twin, list(loader))
    assert distance(model, twin) < 1e-5


def test_what_the_loss_does_is_logged(defined, model, twin, rows):
    loader = DataLoader(rows, batch_size=16, collate_fn=collate)
    module = defined["Language"](model)
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    metrics = fit(module, loader).logged_metrics
    expected = facts(twin, collate(rows))
    assert {name: float(metrics[name]) for name in expected} == pytest.approx(expected, abs=1e-5)


def test_accumulation_averages_the_means_of_micro_batches(defined, model, twin, rows):
    loader = DataLoader(rows, batch_size=2, collate_fn=collate)
    fit(defined["Language"](model), loader, accumulate=4)
    by_hand(twin, list(loader), accumulate=4)
    assert distance(model, twin) < 1e-5


def test_with_the_targets_handed_over_accumulation_changes_nothing(defined, model, twin, rows):
    # 60 rows in micro-batches of 2: the last window has 2 of 4.
    halves = DataLoader(rows[:60], batch_size=2, collate_fn=collate)
    stamped = list(defined["with_num_items"](halves, 4))
    fit(defined["Language"](model), DataLoader(stamped, batch_size=None), accumulate=4)
    by_hand(twin, list(halves), accumulate=4, exact=True)
    assert distance(model, twin) < 1e-5
