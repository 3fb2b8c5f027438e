"""Two Triton kernels between the matrix products of a chunk: losses of rows, and gradients of the rows that count.

Rule: a column beyond the vocabulary never counts. It is -inf after scale and cap, since before them it could become
anything. Rows lie `stride` apart, and what their padding holds may be read, but is not used.

Importing this needs triton. With TRITON_INTERPRET=1 set before, the kernels run on a CPU.
"""

# Triton's own annotations and constants in capitals:
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, N803

import torch
import triton
import triton.language as tl

TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


@triton.jit
def logit_at(
    products, bias, columns, stride, vocabulary, SCALE: tl.constexpr, SOFTCAP: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """The logits of one row at `columns`; -inf beyond the vocabulary."""
    inside = columns < vocabulary
    z = tl.load(products + columns, mask=columns < stride, other=0.0).to(WIDE)
    if bias is not None:
        z += tl.load(bias + columns, mask=inside, other=0.0).to(WIDE)
    if SCALE != 1:
        z *= SCALE
    if SOFTCAP is not None:
        # softcap * tanh(z / softcap); an exponential that overflows gives 1, as it should.
        z = SOFTCAP * (1 - 2 / (1 + tl.exp(2 * z / SOFTCAP)))
    return tl.where(inside, z, float("-inf"))


@triton.jit
def forward_rows(
    products, bias, class_weight, targets, target_logits, highest, beaten, sums, spread, mean_logits,
    stride, vocabulary, ENTROPY: tl.constexpr, MEAN: tl.constexpr,
    SCALE: tl.constexpr, SOFTCAP: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a row: its largest logit, sum of exponentials and entropy, all rescaled as the largest grows.

    With MEAN also the mean logit, each times its class weight.
    `beaten` says whether argmax gives another column than the target: a larger logit, or as large a one before it.
    """
    row = tl.program_id(0)
    products += row.to(tl.int64) * stride
    top = tl.full([], float("-inf"), WIDE)
    total = tl.full([], 0.0, WIDE)
    moment = tl.full([], 0.0, WIDE)
    logit_sum = tl.full([], 0.0, WIDE)
    target = tl.load(targets + row)
    target_logit = logit_at(products, bias, target, stride, vocabulary, SCALE, SOFTCAP, WIDE)
    lost = tl.full([], 0, tl.int32)
    for start in range(0, vocabulary, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        z = logit_at(products, bias, columns, stride, vocabulary, SCALE, SOFTCAP, WIDE)
        ahead = (z > target_logit) | ((z == target_logit) & (columns < target))
        lost = tl.maximum(lost, tl.max(ahead.to(tl.int32), 0))
        if MEAN:
            weighted = tl.where(columns < vocabulary, z, 0.0)
            if class_weight is not None:
                weighted *= tl.load(class_weight + columns, mask=columns < vocabulary, other=0.0)
            logit_sum += tl.sum(weighted, 0)
        higher = tl.maximum(top, tl.max(z, 0))
        # Only a row of nothing but -inf has no highest logit; -inf - -inf would be NaN.
        base = tl.where(higher == float("-inf"), 0.0, higher)
        step = tl.where(top == float("-inf"), 0.0, top - base)
        shrink = tl.where(top == float("-inf"), 0.0, tl.exp(step))
        exponents = tl.exp(z - base)
        if ENTROPY:
            # The sum of e * (z - highest), which is 0 where e is.
            distance = tl.where(exponents > 0, z - base, 0.0)
            moment = shrink * (moment + step * total) + tl.sum(exponents * distance, 0)
        total = shrink * total + tl.sum(exponents, 0)
        top = higher
    tl.store(target_logits + row, target_logit)
    tl.store(highest + row, top)
    tl.store(beaten + row, lost)
    tl.store(sums + row, total)
    if ENTROPY:
        tl.store(spread + row, tl.log(total) - moment / total)
    if MEAN:
        tl.store(mean_logits + row, logit_sum / vocabulary)


@triton.jit
def backward_rows(
    out, products, bias, class_weight, rows_kept, targets, highest, sums, to_nll, to_lse, to_mean, stride, vocabulary,
    SCALE: tl.constexpr, SOFTCAP: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a block of a kept row: the gradient of `Partials` at z, times d z / d product."""
    place = tl.program_id(0)
    row = tl.load(rows_kept + place)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    z = logit_at(products + row * stride, bias, columns, stride, vocabulary, SCALE, SOFTCAP, WIDE)
    p = tl.exp(z - tl.load(highest + row)) / tl.load(sums + row)
    slope = tl.where(columns == tl.load(targets + row), p - 1, p) * tl.load(to_nll + place)
    if to_lse is not None:
        slope += tl.load(to_lse + place) * p
    if to_mean is not None:
        share = tl.load(to_mean + place) / vocabulary
        if class_weight is not None:
            share *= tl.load(class_weight + columns, mask=columns < vocabulary, other=0.0)
        slope += share
    if SOFTCAP is not None:
        capped = z / SOFTCAP
        slope *= 1 - capped * capped
    slope *= SCALE
    tl.store(out + place.to(tl.int64) * stride + columns, slope, mask=columns < stride)
