"""One generation's training, by transformers' `Trainer` on whatever device there is, with a new weighting of its loss.

Rule: the number of steps follows from the budget, not from the size of the training set, so arms train on equally
many tokens; no checkpoint is selected by a reported measure: the last step's weights are the model.
"""

import dataclasses
import math
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainingArguments, get_scheduler

from tailkeep.config import describe
from tailkeep.errors import ConfigError, TrainingError
from tailkeep.lab.causal_lm.callbacks import (
    CURVE_POINTS,
    CheckpointCallback,
    Checkpoints,
    CurveRecorder,
    check_trackers,
    identity_of,
    open_trackers,
    run_name_of,
)
from tailkeep.lab.causal_lm.config import AnyLoss, CodeLoss, Training, UserLoss, UserLosses, WindowPrompts
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.lab.causal_lm.tokens import TokenData, training_rows
from tailkeep.lab.causal_lm.trainer_arguments import TrainerArguments
from tailkeep.lab.phase import current_phase
from tailkeep.losses import Weighting, attach, detach
from tailkeep.metrics import ConfidenceGap, confidence_gap
from tailkeep.runs.generation_dir import write_training_curve
from tailkeep.scoring.loading import reason_of


def build_weighting(loss: AnyLoss, user: UserLosses, *, seed: int = 0) -> Weighting:
    """The weighting that `loss` describes; a threshold that is `auto` is settled before (see `settle`).

    Raises:
        ConfigError: a loss of the caller's own that was not handed over.
    """
    if isinstance(loss, CodeLoss):
        weigh = loss.bind("loss")
        return Weighting(loss.code, _OfNLL(weigh, f"loss: {loss.origin()}"))
    if not isinstance(loss, UserLoss):
        return loss.weighting(seed=seed)
    if loss.id not in user:
        raise ConfigError(
            f"loss.id: {loss.id!r} was not handed over. "
            f"Call tailkeep.lab.run(config, out, losses={{{loss.id!r}: ...}})."
        )
    weighting = user[loss.id](loss.options)
    return weighting if isinstance(weighting, Weighting) else Weighting(loss.id, _OfNLL(weighting))


@dataclass(frozen=True)
class _OfNLL:
    """A weighting that looks at the NLL alone; unlike a closure it can be copied with a model.

    With `code`, the name of the user's own in messages, what it returns is checked.
    """

    function: Callable[[Tensor], Tensor]
    code: str = ""

    def __call__(self, nll: Tensor, entropy: Tensor | None) -> Tensor:
        del entropy
        weights = self.function(nll)
        return check_weights(weights, nll, self.code) if self.code else weights


def check_weights(weights: object, nll: Tensor, code: str) -> Tensor:
    """`weights`, which `code` of the user's own has returned, if there is a finite one for each NLL (N,) that is.

    Raises:
        ConfigError: they are something else.
    """
    if not isinstance(weights, Tensor) or weights.shape != nll.shape:
        raise ConfigError(
            f"{code} returned {describe(weights)} for {nll.numel()} tokens. Return a tensor of so many weights."
        )
    if not (weights.isfinite() | ~nll.isfinite()).all():
        raise ConfigError(f"{code} returned weights that are not finite. Return a finite one for every NLL >= 0.")
    return weights


# The automatic threshold of a generation: from how sure its predecessor is of its own text and of real text.
#
# Rule: the real text is `data.calibration`, which no arm trains on and no reported metric is measured on.


def settle(
    loss: AnyLoss, previous: LanguageModel | None, calibration: TokenData, *, seed: int
) -> tuple[AnyLoss, Mapping[str, float]]:
    """`loss` with a number where its threshold is `auto`, and the facts about that.

    The first generation has no predecessor, and real data only: its threshold is 1, which truncates nothing.
    """
    if not is_automatic(loss):
        return loss, {}
    if previous is None:
        return loss.model_copy(update={"threshold": 1.0}), {"threshold": 1.0}
    gap = gap_of(previous, calibration, seed=seed)
    facts = {"threshold": gap.threshold, "confidence_gap": gap.gap}
    return loss.model_copy(update={"threshold": max(gap.threshold, 1e-6)}), facts


def is_automatic(loss: AnyLoss) -> bool:
    """Whether the threshold of `loss` is to be chosen."""
    return getattr(loss, "threshold", None) == "auto"


def gap_of(model: LanguageModel, calibration: TokenData, *, seed: int) -> ConfidenceGap:
    """The gap between real documents and the same documents as `model` writes them anew, by its arm's decoder.

    Only what was written counts, and of the real documents the tokens at the same places.
    """
    # What the model writes for the next generation draws from the generation's own seeds.
    generated = model.regenerate(calibration, seed=int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
    if isinstance(form := model.generation.form, WindowPrompts):
        rows = (training_rows(text, block=form.context, joined=True) for text in (calibration, generated))
        return confidence_gap(*(model.log_probs(some) for some in rows))
    max_length = max(map(len, generated.documents))
    real = dataclasses.replace(calibration, prompts=generated.prompts)
    return confidence_gap(*(model.continuation_log_probs(text, max_length=max_length) for text in (real, generated)))


IGNORE = -100
_ORDER_STRIDE = 1_000_003
"""Far from any difference of two seeds, so that no arm sees the order of another's next seed."""
Row = tuple[Ids, int]
"""Token ids, and where the targets begin, at least 1."""


def train(
    network: Any,
    rows: Sequence[Ids],
    *,
    training: Training,
    weighting: Weighting,
    budget: int,
    pad: int,
    seed: int,
    device: str,
    bf16: bool,
    firsts: Sequence[int] | None = None,
) -> dict[str, float]:
    """Train `network` in place; return its facts.

    Args:
        rows: token ids; every token but a row's first is a target.
        firsts: where the targets of each row begin, if not at its second token; see `first_targets`.
        budget: the tokens of one epoch, whatever the rows hold.

    Returns:
        `train_units` (targets seen), `train_flops` (6 for each of them and each weight, the usual estimate),
        `train_steps`, `train_nll` (mean cross-entropy over all steps, in nats/token) and `kept_fraction` (share of
        targets with a weight that is not zero).

    Raises:
        TrainingError: there is nothing to predict, or the weights are not finite at the end.
    """
    pairs = zip(rows, [1] * len(rows) if firsts is None else firsts, strict=True)
    trained = [(row, first) for row, first in pairs if first < len(row)]
    if not trained:
        raise TrainingError(
            "the text to train on holds nothing to predict: every document is empty, or one token or a prompt alone, "
            "so the model before writes nothing more. Take fewer generations, or another decoder."
        )
    # Rows that are all prompt are part of the budget, but not trained on.
    share = sum(len(row) - 1 for row, _ in trained) / sum(len(row) - 1 for row in rows)
    steps = _steps([row for row, _ in trained], training, budget * share)
    _check_finite(network, training)
    attributes = set(vars(network))
    attach(network, weighting)
    recomputes = training.arguments.gradient_checkpointing
    # transformers is renaming it.
    checkpointing = "activation" if hasattr(network, "activation_checkpointing_enable") else "gradient"
    if recomputes:
        options = {"use_reentrant": False, **training.arguments.gradient_checkpointing_kwargs}
        getattr(network, f"{checkpointing}_checkpointing_enable")(options)

    # Trainer needs a folder, though it saves nothing there.
    checkpoints = Checkpoints(current_phase(), identity_of(trained, steps=steps, seed=seed))
    trackers = open_trackers(training.arguments)
    with _restored_generators(), tempfile.TemporaryDirectory() as scratch, trackers as callbacks:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=training.batch,
            gradient_accumulation_steps=training.gradient_accumulation,
            learning_rate=training.learning_rate,
            max_grad_norm=training.max_grad_norm,
            **passed_arguments(training.arguments),
            bf16=bf16,
            seed=seed % 2**32,
            data_seed=(seed + _ORDER_STRIDE * training.data_order) % 2**32,
            use_cpu=device == "cpu",
            report_to="none",
            run_name=run_name_of(training.arguments),
            save_strategy="no",
            logging_steps=math.ceil(steps / CURVE_POINTS),
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        )
        # With several GPUs Trainer would wrap the model in DataParallel and multiply the batch by their number.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        trainer = Trainer(
            model=network,
            args=arguments,
            train_dataset=trained,
            data_collator=_Collator(pad),
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        recorder = CurveRecorder(steps, checkpoints.step)
        # After the callback that decides when to log, before the trackers of `report_to`, which see what is added.
        trainer.callback_handler.callbacks[1:1] = [recorder, CheckpointCallback(checkpoints, trainer, recorder)]
        # Early generations may truncate nothing; kept_fraction tells in the metrics.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No token was truncated", category=UserWarning)
            trainer.train(resume_from_checkpoint=checkpoints.restore(network, recorder))
        if recomputes:
            getattr(network, f"{checkpointing}_checkpointing_disable")()
    recorder.read(network)
    detach(network)
    # Accelerate leaves its own forward on the object, which a copy would call, and a mark that the model is prepared: a
    # copy would then be trained without mixed precision.
    for name in set(vars(network)) - attributes:
        del vars(network)[name]
    if place := current_phase():
        write_training_curve(place.generation_dir, place.part, recorder.curve, recorder.tokens_per_second)
    _check_finite(network, training)
    return {
        "train_units": recorder.targets,
        "train_flops": 6.0 * recorder.targets * sum(weights.numel() for weights in network.parameters()),
        "train_steps": float(steps),
        "train_nll": recorder.mean("cross_entropy"),
        "kept_fraction": recorder.mean("kept_fraction"),
    }


def passed_arguments(arguments: TrainerArguments) -> dict[str, Any]:
    """`arguments` as those of `TrainingArguments`.

    Trackers are callbacks, and the model itself checkpoints its activations: the argument's name differs by version.
    """
    return arguments.model_dump(
        exclude={"report_to", "run_name", "gradient_checkpointing", "gradient_checkpointing_kwargs"}
    )


def check_arguments(arguments: TrainerArguments) -> None:
    """Refuse what transformers or the packages here cannot do, before anything is trained.

    Raises:
        ConfigError: an unknown or unusable optimizer, schedule or option, or an option that has no effect.
        MissingPackageError: a tracker is not installed.
    """
    check_trackers(arguments)
    options = passed_arguments(arguments)
    where = f"training.arguments: optim {arguments.optim!r}, lr_scheduler_type {arguments.lr_scheduler_type!r}"
    try:
        _, optimizer = _optimizer_options(options)
        weights = [torch.nn.Parameter(torch.zeros(1))]
        get_scheduler(
            arguments.lr_scheduler_type,
            torch.optim.SGD(weights, lr=1.0),
            num_warmup_steps=1,
            num_training_steps=10,
            scheduler_specific_kwargs=dict(arguments.lr_scheduler_kwargs),
        )
        _, default = _optimizer_options({key: options[key] for key in ("optim", "optim_args")})
        _, bare = _optimizer_options({**options, "optim_args": None})
    except (ValueError, TypeError, ImportError, KeyError, AttributeError, RuntimeError) as error:
        raise ConfigError(f"{where} cannot be used ({reason_of(error)}). Correct them.") from None
    if arguments.lr_scheduler_type in _NEED_EVALUATION:
        raise ConfigError(f"{where}: this schedule follows an evaluation during training, and there is none.")
    for key in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        if getattr(arguments, key) != TrainerArguments.model_fields[key].default and optimizer == default:
            raise ConfigError(f"training.arguments.{key} has no effect with optim {arguments.optim!r}. Leave it out.")
    if arguments.optim_args and optimizer == bare:
        raise ConfigError(f"training.arguments.optim_args has no effect with optim {arguments.optim!r}. Leave it out.")
    if arguments.lr_scheduler_kwargs and arguments.lr_scheduler_type in _WITHOUT_OPTIONS:
        raise ConfigError(f"{where}: lr_scheduler_kwargs has no effect with this schedule. Leave it out.")


_WITHOUT_OPTIONS = ("constant", "constant_with_warmup")
_NEED_EVALUATION = ("reduce_lr_on_plateau", "greedy")


def _optimizer_options(options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    # A schedule that follows an evaluation is refused by a message of its own.
    usable = {key: value for key, value in options.items() if not key.startswith("lr_scheduler")}
    optimizer: tuple[Any, dict[str, Any]] = Trainer.get_optimizer_cls_and_kwargs(
        TrainingArguments(output_dir="unused", use_cpu=True, report_to="none", **usable)
    )
    return optimizer


@contextmanager
def _restored_generators() -> Iterator[None]:
    """Trainer seeds every global generator: keep that inside."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _steps(rows: Sequence[Ids], training: Training, budget: float) -> int:
    """Optimiser steps: `epochs` passes over the budget, or over the rows without `equal_tokens`."""
    per_pass = math.ceil(len(rows) / (training.batch * training.gradient_accumulation))
    targets = sum(len(row) - 1 for row in rows)
    passes = training.epochs * (budget / targets if training.equal_tokens else 1.0)
    return max(1, round(passes * per_pass))


def _check_finite(network: Any, training: Training) -> None:
    if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
        raise TrainingError(
            f"the weights are no longer finite after training at learning_rate {training.learning_rate}. "
            "Lower training.learning_rate or training.max_grad_norm."
        )


@dataclass(frozen=True)
class _Collator:
    """Rows padded to the longest: padding is masked and is no target."""

    pad: int

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        width = max(len(row) for row, _ in rows)
        ids = np.full((len(rows), width), self.pad, dtype=np.int64)
        labels = np.full((len(rows), width), IGNORE, dtype=np.int64)
        for i, (row, first) in enumerate(rows):
            ids[i, : len(row)] = row
            # A row's first token is no target. Trainer knows that of some architectures only, and counts it for the
            # rest.
            labels[i, first : len(row)] = row[first:]
        mask = np.arange(width) < np.array([[len(row)] for row, _ in rows])
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
            "labels": torch.from_numpy(labels),
        }
