"""Losses written out token by token in float64: the oracle of this folder. Rule: nothing of the package is used."""

import math

import torch


def probabilities(logits, targets):
    """p of each target in float64, (N,), differentiable in `logits` (N, V); targets must be classes."""
    return logits.double().softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


def weighted(logits, targets, weigh, *, ignore_index=-100):
    """(losses, weights) of the valid targets, each (valid,), float64; `weigh` maps one p to its factor."""
    valid = targets != ignore_index
    p = probabilities(logits[valid], targets[valid])
    factors = torch.stack([torch.as_tensor(weigh(value), dtype=torch.float64) for value in p]) if len(p) else p
    return -p.log(), factors


def truncated_sum(logits, targets, threshold, *, ignore_index=-100):
    """(sum of -ln p over targets with p <= threshold, number of valid targets, number of kept ones)."""
    valid = targets != ignore_index
    if not valid.any():
        return logits.double().sum() * 0, 0, 0
    p = probabilities(logits[valid], targets[valid])
    kept_mask = p.detach() <= threshold
    return -(p[kept_mask].log()).sum(), int(valid.sum()), int(kept_mask.sum())


def logits_of(p, *, size=2):
    """Logits (N, size) whose class 0 has the probabilities `p`: ln p, and ln of an equal share of the rest."""
    rows = []
    for value in p:
        rest = math.log((1 - value) / (size - 1)) if value < 1 else -math.inf
        rows.append([math.log(value), *[rest] * (size - 1)])
    return torch.tensor(rows, dtype=torch.float64)
