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


def logits_of(given):
    """(..., V) in float64."""
    logits = given.hidden.double() @ given.weight.double().T
    if given.bias is not None:
        logits = logits + given.bias.double()
    logits = logits * given.scale
    return logits if given.softcap is None else given.softcap * torch.tanh(logits / given.softcap)


def token_nll(given):
    """(...) in float64, 0 where ignored."""
    valid = given.targets != IGNORED
    logits = logits_of(given)
    chosen = logits.gather(-1, given.targets.where(valid, 0)[..., None]).squeeze(-1)
    return (logits.logsumexp(-1) - chosen).where(valid, torch.zeros((), dtype=torch.float64))


def truncated(given, threshold, *, reduction="mean", num_items=None):
    """Truncated cross-entropy in float64."""
    nll, valid = token_nll(given), given.targets != IGNORED
    kept = valid & (torch.exp(-nll.detach()) <= threshold)
    losses = torch.where(kept, nll, 0.0)
    count = {"mean": valid.sum(), "mean_kept": kept.sum(), "sum": 1}
    return losses if reduction == "none" else losses.sum() / max(1, num_items or count[reduction])


def entropy(given, largest=None):
    """(...) of the predictions, or of their `largest` most likely tokens, in float64; 0 where ignored."""
    p = logits_of(given).softmax(-1)
    if largest is not None:
        p = p.sort(-1, descending=True).values[..., :largest]
        p = p / p.sum(-1, keepdim=True)
    return torch.where(given.targets != IGNORED, -(p * p.clamp_min(1e-300).log()).sum(-1), 0.0).detach()


def middle(given):
    """A threshold that keeps about half of the tokens and is far from each one's probability."""
    p = torch.exp(-token_nll(given).detach())[given.targets != IGNORED].sort().values
    inner = p[len(p) // 4 : -(len(p) // 4) or None]
    gap = (inner[1:] - inner[:-1]).argmax()
    return float(inner[gap] + inner[gap + 1]) / 2


def gradients(loss, given, upstream=None):
    """Those of every input that wants one."""
    wanted = [tensor for tensor in given.inputs if tensor.requires_grad]
    return torch.autograd.grad(loss, wanted, upstream)


def distance(ours, truth):
    """The largest error, in units of the largest true value."""
    scale = float(truth.detach().abs().max()) if truth.numel() else 1.0
    error = (ours.detach().cpu().double() - truth.detach()).abs()
    return float(error.max()) / (scale or 1.0) if truth.numel() else 0.0


def finite(value):
    """Whether all of it is a number."""
    return bool(value.isfinite().all())
