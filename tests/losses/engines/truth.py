"""Output layers to try, and their losses in float64 from all logits. Rule: nothing of the package is used."""

from dataclasses import dataclass, replace

import torch

IGNORED = -100


@dataclass(frozen=True)
class Problem:
    """Inputs of a fused loss; tensors of the head want gradients, each call on leaves of its own."""

    hidden: torch.Tensor
    weight: torch.Tensor
    targets: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @property
    def head(self):
        """Keywords of the output layer."""
        return {"bias": self.bias, "scale": self.scale, "softcap": self.softcap}

    @property
    def inputs(self):
        """The tensors that may have a gradient."""
        return [tensor for tensor in (self.hidden, self.weight, self.bias) if tensor is not None]

    def leaves(self, dtype=None, device=None):
        """The same problem on new leaves."""

        def leaf(tensor):
            copy = tensor.detach().to(device=device or tensor.device, dtype=dtype or tensor.dtype, copy=True)
            return copy.requires_grad_(tensor.requires_grad)

        bias = None if self.bias is None else leaf(self.bias)
        targets = self.targets.to(device or self.targets.device)
        return replace(self, hidden=leaf(self.hidden), weight=leaf(self.weight), bias=bias, targets=targets)


def problem(seed=0, *, shape=(40,), width=6, vocabulary=11, bias=False, ignored=0.2, spread=1.0, **head):
    """A random problem in float64, some of its targets ignored."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64).requires_grad_()

    targets = torch.randint(vocabulary, shape, generator=generator)
    targets[torch.rand(shape, generator=generator) < ignored] = IGNORED
    return Problem(
        (normal(*shape, width) * spread).detach().requires_grad_(),
        normal(vocabulary, width),
        targets,
        normal(vocabulary) if bias else None,
        **head,
    )


def logits_of(problem):
    """(..., V) in float64."""
    logits = problem.hidden.double() @ problem.weight.double().T
    if problem.bias is not None:
        logits = logits + problem.bias.double()
    logits = logits * problem.scale
    return logits if problem.softcap is None else problem.softcap * torch.tanh(logits / problem.softcap)


def token_nll(problem):
    """(...) in float64, 0 where ignored."""
    valid = problem.targets != IGNORED
    logits = logits_of(problem)
    target_logits = logits.gather(-1, problem.targets.where(valid, 0)[..., None]).squeeze(-1)
    return (logits.logsumexp(-1) - target_logits).where(valid, torch.zeros((), dtype=torch.float64))


def truncated(problem, threshold, *, reduction="mean", num_items=None):
    """Truncated cross-entropy in float64."""
    nll, valid = token_nll(problem), problem.targets != IGNORED
    kept_mask = valid & (torch.exp(-nll.detach()) <= threshold)
    losses = torch.where(kept_mask, nll, 0.0)
    count = {"mean": valid.sum(), "mean_kept": kept_mask.sum(), "sum": 1}
    return losses if reduction == "none" else losses.sum() / max(1, num_items or count[reduction])


def entropy(problem, largest=None):
    """(...) of the predictions, or of their `largest` most likely tokens, in float64; 0 where ignored."""
    p = logits_of(problem).softmax(-1)
    if largest is not None:
        p = p.sort(-1, descending=True).values[..., :largest]
        p = p / p.sum(-1, keepdim=True)
    return torch.where(problem.targets != IGNORED, -(p * p.clamp_min(1e-300).log()).sum(-1), 0.0).detach()


def middle(problem):
    """A threshold that keeps about half of the tokens and is far from each one's probability."""
    p = torch.exp(-token_nll(problem).detach())[problem.targets != IGNORED].sort().values
    inner = p[len(p) // 4 : -(len(p) // 4) or None]
    gap = (inner[1:] - inner[:-1]).argmax()
    return float(inner[gap] + inner[gap + 1]) / 2


def gradients(loss, problem, upstream=None):
    """Of every input that requires one."""
    inputs = [tensor for tensor in problem.inputs if tensor.requires_grad]
    return torch.autograd.grad(loss, inputs, upstream)


def distance(value, truth):
    """The largest error, in units of the largest true value."""
    scale = float(truth.detach().abs().max()) if truth.numel() else 1.0
    error = (value.detach().cpu().double() - truth.detach()).abs()
    return float(error.max()) / (scale or 1.0) if truth.numel() else 0.0


def finite(value):
    """Whether all of it is a number."""
    return bool(value.isfinite().all())


def with_terms(problem, factors, *, label_smoothing=0.0, class_weight=None, z_loss=0.0):
    """(...) token losses times `factors` (...), written out class by class in float64, 0 where ignored."""
    logits, valid = logits_of(problem), problem.targets != IGNORED
    targets, lse = problem.targets.where(valid, 0), logits.logsumexp(-1)
    weights = torch.ones(logits.shape[-1], dtype=torch.float64) if class_weight is None else class_weight.double().cpu()
    log_p = logits - lse[..., None]
    at_target = -log_p.gather(-1, targets[..., None]).squeeze(-1) * weights[targets]
    at_all = -(log_p * weights).sum(-1) / logits.shape[-1]
    losses = (1 - label_smoothing) * at_target + label_smoothing * at_all + z_loss * lse**2
    return torch.where(valid & (factors != 0), losses * factors, 0.0)
