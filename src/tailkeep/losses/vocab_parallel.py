"""Per-token NLL where each process holds a part of the output layer's rows, as in tensor parallelism.

Rule: hidden states and targets are the same on every rank of the group, and so is the result; logits never travel.
A forward pass has two reductions of a few numbers a token, a backward pass one of the hidden states' gradient.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.checks import (
    check_ignore_index,
    check_no_transform,
    check_not_batched,
    check_tensors,
    check_whole_number,
)
from tailkeep.losses.engines.buffers import rows_for
from tailkeep.losses.engines.logit_ops import accumulation_dtype
from tailkeep.losses.engines.reference import all_logits
from tailkeep.losses.lm_head import Head, autocast, check_factors
from tailkeep.losses.nll import whole

if TYPE_CHECKING:
    Group: TypeAlias = dist.ProcessGroup | None


def vocab_parallel_token_nll(
    hidden: Tensor,
    weight_shard: Tensor,
    targets: Tensor,
    *,
    vocab_start: int,
    group: "Group",
    bias_shard: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    ignore_index: int = -100,
) -> Tensor:
    """Negative log-likelihood of each target, in nats and at least float32, with right gradients for any upstream ones.

    Every rank of `group` calls it, and has the same upstream gradient. `hidden` gets its whole gradient on every rank,
    `weight_shard` and `bias_shard` that of their own rows.

    Args:
        hidden: (..., D), the same on every rank; gather it first under sequence parallelism.
        weight_shard: (V_rank, D), rows `vocab_start` to `vocab_start + V_rank` of the output layer, possibly none.
            Leave out rows that only pad the vocabulary.
        targets: (...), int64 in the whole vocabulary, shifted by the caller; `ignore_index` gives 0.
        group: the processes that hold the shards; None is all of them.
        bias_shard: (V_rank,).
        softcap: positive; logits become softcap * tanh(z / softcap).
        scale: factor of the logits before the cap.

    Returns:
        (...) losses, the same on every rank.

    Raises:
        ConfigError: shapes or types that do not fit, no process group, or a target whose row no rank or several hold.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise ConfigError("there is no process group. Call torch.distributed.init_process_group, or linear_token_nll.")
    check_no_transform()
    check_tensors(hidden=hidden, weight_shard=weight_shard, targets=targets)
    if bias_shard is not None:
        check_tensors(bias_shard=bias_shard)
    check_whole_number("vocab_start", vocab_start, 0, "Give the number of rows that earlier ranks hold.")
    check_ignore_index(ignore_index)
    hidden, weight, bias = autocast(hidden, weight_shard, bias_shard)
    targets = whole(targets)
    _check(hidden, weight, bias, targets)
    check_factors(scale, softcap)
    head = Head(weight, bias, scale, softcap)
    valid = targets != ignore_index
    places = targets[valid] - vocab_start
    nll: Tensor = _ShardedNLL.apply(hidden[valid], weight, bias, places, head, group)  # type: ignore[no-untyped-call]
    return torch.zeros(targets.shape, dtype=nll.dtype, device=nll.device).masked_scatter(valid, nll)


def _check(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> None:
    if (
        weight.ndim != 2
        or hidden.shape[:-1] != targets.shape
        or hidden.shape[-1] != weight.shape[1]
        or (bias is not None and bias.shape != weight.shape[:1])
    ):
        shapes = ", ".join(
            str(tuple(tensor.shape)) for tensor in (hidden, weight, targets, *([] if bias is None else [bias]))
        )
        raise ConfigError(
            f"hidden, weight_shard, targets (and bias_shard) have the shapes {shapes} and do not fit. "
            "Give hidden (..., D), weight_shard (V_rank, D), targets (...) and bias_shard (V_rank,)."
        )
    tensors = [hidden, weight, *([] if bias is None else [bias])]
    if not hidden.is_floating_point() or len({tensor.dtype for tensor in tensors}) > 1:
        types = ", ".join(str(tensor.dtype) for tensor in tensors)
        raise ConfigError(f"hidden, weight_shard and bias_shard are {types}. Give one floating-point type to all.")


class _ShardedNLL(torch.autograd.Function):
    """(N,) NLL of valid targets; the backward pass recomputes the logits of rows with an upstream gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, places: Tensor, head: Head, group: "Group"
    ) -> Tensor:
        owned = (places >= 0) & (places < len(weight))
        places = torch.where(owned, places, 0)
        max_logits, sums, target_logits = _local(hidden, head, owned, places)
        top = max_logits.clone()
        # Targets are the same everywhere, so no rank waits for one that has none.
        if len(hidden):
            dist.all_reduce(top, dist.ReduceOp.MAX, group=group)
        parts = torch.stack([sums * torch.exp(max_logits - top), target_logits, owned.to(sums.dtype)])
        if len(hidden):
            dist.all_reduce(parts, group=group)
        total, target_logits, owners = parts
        if not bool((owners == 1).all()):
            raise ConfigError(
                f"{int((owners != 1).sum())} of {len(hidden)} targets are in no shard or in several. Give each rank "
                "the vocab_start of its first row, and mark targets that do not count with ignore_index."
            )
        ctx.save_for_backward(hidden, weight, bias, places, owned, total.log() + top)
        ctx.factors, ctx.group = (head.scale, head.softcap), group
        nll: Tensor = total.log() + (top - target_logits)
        return nll

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        check_not_batched(upstream)
        if torch.is_grad_enabled():
            raise ConfigError(
                "vocab_parallel_token_nll has no second-order gradients (create_graph=True). Use linear_token_nll with "
                "the whole weight, or compute the loss on the logits."
            )
        hidden, weight, bias, places, owned, lse = ctx.saved_tensors
        head = Head(weight, bias, *ctx.factors)
        needs_grad = ctx.needs_input_grad
        sums = upstream.dtype
        to_hidden = torch.zeros_like(hidden, dtype=sums) if needs_grad[0] else None
        to_weight = torch.zeros_like(weight, dtype=sums) if needs_grad[1] else None
        to_bias = torch.zeros_like(bias, dtype=sums) if bias is not None and needs_grad[2] else None
        for rows in _chunks(upstream.nonzero().squeeze(1), hidden, head):
            slopes = _slopes(hidden[rows], head, owned[rows], places[rows], lse[rows]).mul_(upstream[rows, None])
            if to_bias is not None:
                to_bias += slopes.sum(0)
            narrow = slopes.to(hidden.dtype)
            if to_hidden is not None:
                to_hidden[rows] = (narrow @ weight).to(sums)
            if to_weight is not None:
                to_weight += narrow.T @ hidden[rows]
        if to_hidden is not None and len(hidden):
            dist.all_reduce(to_hidden, group=ctx.group)
        gradients = zip((to_hidden, to_weight, to_bias), (hidden, weight, bias), strict=True)
        return (*(None if grad is None else grad.to(of.dtype) for grad, of in gradients), None, None, None)


def _local(hidden: Tensor, head: Head, owned: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of this rank's logits z, (N,) each: the highest, the sum of exp(z - highest), the target's or 0 if not here."""
    max_logits = hidden.new_full((len(hidden),), -torch.inf, dtype=accumulation_dtype(hidden.dtype))
    sums, target_logits = torch.zeros_like(max_logits), torch.zeros_like(max_logits)
    for rows in _chunks(torch.arange(len(hidden), device=hidden.device), hidden, head):
        logits = all_logits(hidden[rows], head)
        target_logits[rows] = torch.where(owned[rows], logits.gather(1, places[rows, None]).squeeze(1), 0)
        max_logits[rows] = logits.amax(1)
        sums[rows] = logits.sub_(max_logits[rows, None]).exp_().sum(1)
    return max_logits, sums, target_logits


def _slopes(hidden: Tensor, head: Head, owned: Tensor, places: Tensor, lse: Tensor) -> Tensor:
    """d NLL / d (hidden @ weight.T + bias), (n, V_rank)."""
    logits = all_logits(hidden, head)
    slopes = torch.exp(logits - lse[:, None])
    slopes.scatter_add_(1, places[:, None], -owned[:, None].to(slopes.dtype))
    if head.softcap is not None:
        slopes.mul_(1 - (logits / head.softcap).square())
    return slopes.mul_(head.scale)


def _chunks(rows: Tensor, hidden: Tensor, head: Head) -> tuple[Tensor, ...]:
    """Row numbers by the chunk; none for a rank without a part of the vocabulary."""
    if len(rows) == 0 or len(head.weight) == 0:
        return ()
    # Each chunk has a few copies of its logits at a time, in the wide type.
    return torch.split(rows, rows_for(hidden, head, accumulation_dtype(hidden.dtype)) // 4)
