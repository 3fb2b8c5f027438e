"""TailSFT (Malladi et al., arXiv 2608.25756): sequences that training has fitted most carry no loss.

    margin = mean NLL of a sequence now - its mean NLL under the initial policy
    of B sequences the round(fraction * B) of least margin are dropped, at most B - 1

Rule: a sequence is dropped by ignoring its targets, so any loss, weighting and reduction is computed on the others. The
decision needs a whole sequence's NLL: a first pass without gradients, so a step takes (2 + 6k) / 6 of cross-entropy's
arithmetic, k the share of tokens that are left.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tailkeep.errors import ConfigError
from tailkeep.losses.checks import check_ignore_index, check_number, check_tensors, check_whole_number
from tailkeep.losses.nll import token_nll, whole
from tailkeep.losses.truncation import truncated
from tailkeep.losses.weighting import MicroBatchCount, Weighting


def sequence_nll(nll: Tensor, targets: Tensor, *, ignore_index: int = -100) -> Tensor:
    """(B,) mean NLL of each sequence in nats/token, float32 at least; NaN for one without a target.

    Args:
        nll: (B, T) per-token negative log-likelihood.
        targets: (B, T), int64, shifted by the caller; `ignore_index` marks those that do not count.

    Raises:
        ConfigError: shapes or types that do not fit.
    """
    check_tensors(nll=nll, targets=targets)
    check_ignore_index(ignore_index)
    if nll.ndim != 2 or nll.shape != targets.shape:
        raise ConfigError(f"nll {tuple(nll.shape)} does not fit targets {tuple(targets.shape)}. Pass (B, T) twice.")
    valid = whole(targets) != ignore_index
    values = nll if nll.dtype == torch.float64 else nll.float()
    return torch.where(valid, values, 0).sum(1) / valid.sum(1)


def kept_sequences(margins: Tensor, *, fraction: float) -> Tensor:
    """Which sequences train on: all but the round(fraction * B) of least margin, at most B - 1 of them.

    Args:
        margins: (B,) mean NLL minus that under the initial policy, in nats/token, of the sequences that are compared:
            those of one forward pass, in the paper over all ranks. NaN marks one without a target, which counts for
            nothing here and is kept.
        fraction: the share to drop, in [0, 1).

    Returns:
        (B,) boolean. Of equal margins the first are dropped.

    Raises:
        ConfigError: no such share, or margins that are no vector.
    """
    _check_fraction(fraction)
    check_tensors(margins=margins)
    if margins.ndim != 1:
        raise ConfigError(f"margins have the shape {tuple(margins.shape)}. Pass (B,), one per sequence.")
    order = margins.detach().nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf).argsort(stable=True)
    num_judged = (~margins.isnan()).sum()
    num_dropped = torch.minimum(torch.round(num_judged * fraction), num_judged - 1)
    return torch.ones_like(margins, dtype=torch.bool).index_copy_(
        0, order, torch.arange(len(margins), device=margins.device) >= num_dropped
    )


def drop_fitted_sequences(
    nll: Tensor, targets: Tensor, initial_nll: Tensor, *, fraction: float, ignore_index: int = -100
) -> Tensor:
    """The targets, with those of the sequences that TailSFT drops ignored.

    Args:
        nll: (B, T) per-token negative log-likelihood now, as of `linear_token_nll`.
        targets: (B, T), int64, shifted by the caller; `ignore_index` marks those that do not count.
        initial_nll: (B,) mean NLL of each sequence under the initial policy, see `initial_sequence_nll`.
        fraction: the share of sequences to drop, in [0, 1); 0 is plain fine-tuning.

    Returns:
        (B, T) targets for any loss; its reduction `mean` is over the targets of the kept sequences, as in the paper.

    Raises:
        ConfigError: shapes or types that do not fit, or no such share.
    """
    means = sequence_nll(nll.detach(), targets, ignore_index=ignore_index)
    check_tensors(initial_nll=initial_nll)
    if initial_nll.shape != means.shape:
        raise ConfigError(
            f"initial_nll has the shape {tuple(initial_nll.shape)} for {len(means)} sequences. Pass (B,), one per row; "
            "rows that pack several sequences cannot be judged."
        )
    kept_mask = kept_sequences(means - initial_nll.to(means), fraction=fraction)
    return torch.where(kept_mask[:, None], whole(targets), ignore_index)


def check_not_packed(targets: Tensor, inputs: Mapping[str, Any], *, ignore_index: int = -100) -> None:
    """Refuse a batch whose rows hold several sequences, as packing and padding-free collators make them.

    They are told by `position_ids` that do not rise between two targets of a row, or by `cu_seq_lens_q` with more ends
    than rows.

    Args:
        targets: (B, T), int64; `ignore_index` marks those that do not count.
        inputs: what the model takes beside them.

    Raises:
        ConfigError: a row with two sequences.
    """
    positions, ends = inputs.get("position_ids"), inputs.get("cu_seq_lens_q")
    packed = isinstance(ends, Tensor) and len(ends) > len(targets) + 1
    if isinstance(positions, Tensor) and targets.ndim == 2 and positions.shape[-1] == targets.shape[1] > 1:
        # Padding starts the positions again too, but has targets on one side of it only.
        valid = targets != ignore_index
        before, after = valid.cumsum(1)[:, :-1] > 0, valid.flip(1).cumsum(1).flip(1)[:, 1:] > 0
        restarts = positions.diff(dim=-1) <= 0
        # Those of multimodal models are (3, B, T): one of them stands still within a picture, not all three.
        restarts = restarts.all(dim=0) if restarts.ndim == 3 else restarts
        packed = packed or bool((restarts & before & after).any())
    if packed:
        raise ConfigError(
            "a row of the batch packs several sequences (its positions start again), and TailSFT judges whole ones. "
            "Turn off packing and padding_free."
        )


def tail_sft(fraction: float = 0.5, *, ramp_steps: int | None = None, threshold: float = 1.0) -> "SequenceWeighting":
    """TailSFT for `attach`: a model then takes `initial_nll` (B,) beside its labels, in training.

    The sequences that are compared are those of one call on one process.

    Args:
        fraction: the share of sequences to drop, in [0, 1).
        ramp_steps: micro-batches over which the share rises linearly from 0; None holds it from the start. The paper's
            ramp ends with the training.
        threshold: of truncated cross-entropy on the tokens of the kept sequences; 1 keeps them all.

    Raises:
        ConfigError: an option outside its range.
    """
    _check_fraction(fraction)
    if ramp_steps is not None:
        check_whole_number("ramp_steps", ramp_steps, 1, "None holds the share.")
    tokens = truncated(threshold)
    if ramp_steps is None:
        return SequenceWeighting("tail_sft", tokens.weigh, drop_share=partial(float, fraction))
    ramp = _Ramp(fraction, ramp_steps)
    return SequenceWeighting("tail_sft", tokens.weigh, observe=ramp.observe, state=ramp, drop_share=ramp.drop_share)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within; every module's mode as it was, after."""
    modes = [(module, module.training) for module in model.modules()]
    if not any(training for _, training in modes):
        # Setting the mode of every module costs more than a forward pass over a short text.
        yield
        return
    model.eval()
    try:
        yield
    finally:
        # A module's parts come after it, and `train` sets the mode of them too.
        for module, training in modes:
            if module.training is not training:
                module.train(training)


def initial_sequence_nll(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> Tensor:
    """(n,) mean NLL in nats/token of every sequence of `batches`, in float32 on the CPU: that of the initial policy.

    Args:
        model: a causal language model of transformers before training; holds the logits of one batch at a time.
        batches: mappings with `input_ids` and `labels` (B, T), and what else the model takes.

    Raises:
        ConfigError: a batch without labels, or none at all such as the keys of one.
    """
    means = []
    with evaluation_mode(model):
        for batch in batches:
            if not isinstance(batch, Mapping):
                raise ConfigError(f"a batch is a {type(batch).__name__}, not a mapping. Pass a list of batches.")
            inputs = dict(batch)
            labels = inputs.pop("labels", None)
            inputs.pop("initial_nll", None)
            if labels is None:
                raise ConfigError(f"a batch has the keys {', '.join(inputs)} and no labels. Pass labels (B, T).")
            check_tensors(labels=labels)
            check_not_packed(labels, inputs)
            with torch.no_grad():
                logits, targets = model(**inputs).logits[:, :-1], labels[:, 1:]
                means.append(sequence_nll(token_nll(logits, targets), targets).cpu())
    return torch.cat(means) if means else torch.empty(0)


@dataclass(frozen=True)
class SequenceWeighting(Weighting):
    """TailSFT's choice of sequences, and a weighting of their tokens. Direction: spares what training has fitted.

    `drop_share` gives the share of sequences to drop in the next micro-batch, in [0, 1). Only `attach` takes one, since
    it needs whole sequences.
    """

    needs_sequences: ClassVar[bool] = True
    drop_share: Callable[[], float] = field(kw_only=True)

    def of_tokens(self) -> Weighting:
        """The weighting of the kept sequences' tokens."""
        return Weighting(self.name, self.weigh, self.entropy, self.observe, self.state)

    def kept_targets(self, nll: Tensor, targets: Tensor, initial_nll: Tensor, *, ignore_index: int) -> Tensor:
        """See `drop_fitted_sequences`."""
        return drop_fitted_sequences(nll, targets, initial_nll, fraction=self.drop_share(), ignore_index=ignore_index)


class _Ramp(MicroBatchCount):
    def __init__(self, end: float, steps: int) -> None:
        super().__init__("tail_sft", end, steps)
        self.end = end
        self.steps = steps

    def drop_share(self) -> float:
        return self.end * min(self.seen / max(self.steps - 1, 1), 1.0)


def _check_fraction(fraction: float) -> None:
    check_number("fraction", fraction, "[0, 1)", "0 drops no sequence, 0.5 half of them.")
