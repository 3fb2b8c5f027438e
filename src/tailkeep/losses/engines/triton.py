"""The logit operations of the chunked losses as two Triton kernels, for CUDA devices.

Rule: products and gradients are in the inputs' type, everything between is at least float32 and stays in registers: a
logit is read once to find a row's loss, and once more if the row counts.
"""

from typing import Any

import torch
from torch import Tensor

from tailkeep.losses.engines.logit_ops import LogitStats, Partials, accumulation_dtype
from tailkeep.losses.engines.reference import scaled
from tailkeep.losses.engines.triton_kernels import TYPES, backward_rows, forward_rows
from tailkeep.losses.lm_head import Head
from tailkeep.losses.terms import LossTerms
from tailkeep.losses.weighting import Entropy

_BLOCK = 4096
_PIECE = 256
# Columns to which rows are padded: whole words of memory for matrix products and loads, whatever the vocabulary.
_ALIGNED = 64


class TritonOps:
    """See `LogitOps`. `block` is the number of logits that a program holds at a time, a power of 2."""

    # Programs that write rows and such that read them run at once.
    in_place = False

    def __init__(self, block: int = _BLOCK) -> None:
        self.block = block

    def buffer(self, rows: int, hidden: Tensor, head: Head) -> Tensor:
        """See `LogitOps`."""
        vocabulary = len(head.weight)
        return hidden.new_empty((rows, -(-vocabulary // _ALIGNED) * _ALIGNED))[:, :vocabulary]

    def forward(self, rows: Tensor, targets: Tensor, head: Head, entropy: Entropy, terms: LossTerms) -> LogitStats:
        """See `LogitOps`; leaves `rows` as they are."""
        targets = targets.contiguous()
        target_logits, max_logits, sums, spread, mean_logits = torch.empty(
            (5, len(rows)), dtype=accumulation_dtype(rows.dtype), device=rows.device
        )
        beaten = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
        with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
            forward_rows[(len(rows),)](
                rows, _dense(head.bias), _dense(terms.class_weight), targets, target_logits, max_logits, beaten, sums,
                spread, mean_logits, rows.stride(0), rows.shape[1],
                ENTROPY=entropy == "full", MEAN=terms.label_smoothing > 0, **self._constants(rows, head)
            )  # fmt: skip
        nll = sums.log() + (max_logits - target_logits)
        if entropy is not None and entropy != "full":
            spread = _largest(rows, head, entropy)
        entropies = None if entropy is None else spread
        means = mean_logits if terms.label_smoothing else None
        return LogitStats(rows, targets, target_logits, max_logits, sums, nll, beaten == 0, entropies, means, terms)

    def backward(
        self, stats: LogitStats, rows_kept: Tensor, partials: Partials, head: Head, out: Tensor
    ) -> tuple[Tensor, None]:
        """See `LogitOps`; the factors are in."""
        constants = self._constants(out, head)
        nll, lse, mean_logit = (None if part is None else part[rows_kept].contiguous() for part in partials.parts())
        if len(rows_kept):
            with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
                backward_rows[(len(rows_kept), -(-out.shape[1] // constants["BLOCK"]))](
                    out, stats.rows, _dense(head.bias), _dense(stats.terms.class_weight), rows_kept, stats.targets,
                    stats.max_logits, stats.sums, nll, lse, mean_logit,
                    out.stride(0), out.shape[1], **constants
                )  # fmt: skip
        return rows_kept, None

    def _constants(self, rows: Tensor, head: Head) -> dict[str, Any]:
        block = min(self.block, 1 << (rows.shape[1] - 1).bit_length())
        return {
            "SCALE": head.scale,
            "SOFTCAP": head.softcap,
            "WIDE": TYPES[accumulation_dtype(rows.dtype)],
            "BLOCK": block,
            "num_warps": 8 if block >= _BLOCK else 4,
            # A target's logit is to be the same number alone and in its row.
            "enable_fp_fusion": False,
        }


def _dense(vector: Tensor | None) -> Tensor | None:
    return None if vector is None else vector.contiguous()


def _largest(rows: Tensor, head: Head, entropy: int) -> Tensor:
    """The entropy of each row's `entropy` most likely tokens; PyTorch already sorts on the device."""
    parts = []
    for piece in torch.split(rows, _PIECE):
        logits = (
            piece.to(accumulation_dtype(piece.dtype))
            if head.bias is None
            else piece + head.bias.to(accumulation_dtype(piece.dtype))
        )
        largest = scaled(logits, head).topk(min(entropy, logits.shape[1])).values
        parts.append(torch.special.entr(largest.softmax(1)).sum(1))
    return torch.cat(parts)
