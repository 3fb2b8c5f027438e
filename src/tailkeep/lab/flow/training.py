"""Training of one flow: as many steps for every arm, whatever the size of its training set and whatever is left out."""

import torch
from torch import Tensor

from tailkeep.lab.flow.field import Field, log_density, squared_errors
from tailkeep.lab.flow.settings import FlowStudy, FlowTraining, LikelyCut, LossCut
from tailkeep.lab.spaces.cuts import kept_examples
from tailkeep.lab.spaces.training import batches_of, falling, refuse_broken, steps_of


def train(study: FlowStudy, examples: Tensor, *, budget: int, seed: int) -> tuple[Field, dict[str, float]]:
    """A new field of `examples` (n, d), and facts about its training.

    Raises:
        ConfigError: the truncation leaves out nothing, or all.
        TrainingError: the loss is no longer finite.
    """
    cut, whole = study.truncate, len(examples)
    if isinstance(cut, LikelyCut):
        examples = examples[_less_likely(study, cut, examples, budget, seed)]
    in_batches = cut if isinstance(cut, LossCut) else None
    field = _new(study, examples, seed)
    facts = _train(field, examples, study.training, in_batches, budget=budget, seed=seed)
    return field, {**facts, "kept_fraction": facts["kept_fraction"] * len(examples) / whole}


def new_field(study: FlowStudy, dimension: int, *, seed: int) -> Field:
    """Fresh weights; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Field(dimension, width=study.network.width, layers=study.network.layers)


def _less_likely(study: FlowStudy, cut: LikelyCut, examples: Tensor, budget: int, seed: int) -> Tensor:
    """(n,) boolean: all but the examples that a plain flow finds likeliest."""
    generator = torch.Generator(examples.device).manual_seed(seed)
    losses = torch.zeros(len(examples), device=examples.device)
    if not cut.at_random:
        plain = _new(study, examples, seed)
        _train(plain, examples, study.training, None, budget=budget, seed=seed)
        losses = -log_density(plain, examples, steps=study.solver_steps)
    return kept_examples(losses, share=cut.share, at_random=cut.at_random, generator=generator)


def _train(
    field: Field, examples: Tensor, training: FlowTraining, cut: LossCut | None, *, budget: int, seed: int
) -> dict[str, float]:
    device, times = examples.device, training.times
    generator = torch.Generator(device).manual_seed(seed)
    batch = min(training.batch, len(examples))
    steps = steps_of(epochs=training.epochs, budget=budget, batch=batch)
    adam = torch.optim.Adam(field.parameters(), lr=training.learning_rate)
    rate = falling(adam, steps)
    loss, kept = torch.zeros((), device=device), torch.zeros((), device=device)
    parts = torch.arange(times, device=device)
    for found in batches_of(examples, size=batch, steps=steps, seed=seed):
        noise = torch.randn(times, *found.shape, generator=generator, device=device)
        # The same times for all examples of a batch: losses of different times do not compare.
        asked = (parts + torch.rand((), generator=generator, device=device)) / times
        losses = squared_errors(field, found, noise, asked[:, None].expand(times, batch))
        stay = torch.ones_like(losses, dtype=torch.bool)
        if cut:
            stay = kept_examples(losses, share=cut.share, at_random=cut.at_random, generator=generator)
        adam.zero_grad()
        (losses * stay).mean().backward()
        adam.step()
        rate.step()
        loss += losses.detach().mean() / steps
        kept += stay.sum()
    refuse_broken(float(loss), training.learning_rate)
    return {
        "train_units": float(steps * batch),
        "train_steps": float(steps),
        "train_loss": float(loss),
        "kept_fraction": float(kept) / (steps * batch),
    }


def _new(study: FlowStudy, examples: Tensor, seed: int) -> Field:
    return new_field(study, examples.shape[1], seed=seed).to(examples.device)
