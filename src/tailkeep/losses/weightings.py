"""Weightings of per-token NLL, each with its paper: focal, MiLe, EAFT, DFT, STM and random controls.

Rule: each states its direction. Against collapse high-confidence tokens carry less loss, so that the tail keeps its
share of the gradient; losses against forgetting spare low-confidence tokens and serve here as controls, as random
truncation does, which keeps as many tokens as a threshold would.
"""

import math
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.losses.checks import check_number, check_tensors, check_whole_number
from tailkeep.losses.nll import Reduction, reduce_nll, token_nll, whole
from tailkeep.losses.truncation import check_threshold, truncation_mask
from tailkeep.losses.weighting import Weighting, check_state


def focal_weights(nll: Tensor, *, exponent: float = 2.0, detach: bool = False) -> Tensor:
    """(1 - p)^exponent for each token.

    Args:
        nll: (...) per-token negative log-likelihood in nats, float32.
        exponent: at least 0; 0 is plain cross-entropy.
        detach: whether the factor is a constant to the gradient. It is not in the published losses.

    Raises:
        ConfigError: an exponent that is negative or not finite.
    """
    check_tensors(nll=nll)
    _check(exponent, detach)
    # 1 - exp(-nll) without cancellation; the floor keeps the power's gradient finite at p = 1.
    doubt = (-torch.expm1(-nll)).clamp_min(torch.finfo(nll.dtype).tiny)
    weights = doubt**exponent
    return weights.detach() if detach else weights


def focal(exponent: float = 2.0, detach: bool = False) -> Weighting:
    """(1 - p)^exponent. Direction: spares high-confidence tokens, gradually.

    ForTIFAI compares with it at exponent 2, its gradient passing through the factor.

    Raises:
        ConfigError: an exponent that is negative or not finite.
    """
    _check(exponent, detach)
    return Weighting("focal", partial(_weigh, exponent=exponent, detach=detach))


def focal_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    exponent: float = 2.0,
    detach: bool = False,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    num_items: float | Tensor | None = None,
) -> Tensor:
    """Focal loss of the targets; shapes, reductions and errors as in `truncated_cross_entropy`."""
    nll = token_nll(logits, targets, ignore_index=ignore_index)
    weights = focal_weights(nll, exponent=exponent, detach=detach)
    return reduce_nll(nll, weights, valid=whole(targets) != ignore_index, reduction=reduction, num_items=num_items)


def _weigh(nll: Tensor, _entropy: Tensor | None, *, exponent: float, detach: bool) -> Tensor:
    return focal_weights(nll, exponent=exponent, detach=detach)


def _check(exponent: float, detach: bool) -> None:
    check_number("exponent", exponent, "[0, inf)", "2 is the published choice, 0 plain cross-entropy.")
    if not isinstance(detach, bool):
        raise ConfigError(f"detach {detach!r} is a {type(detach).__name__}. Give True or False.")


def mile(exponent: float = 1.0) -> Weighting:
    """MiLe (Su et al., arXiv 2310.19531): (1 + H)^exponent, H the entropy of the prediction in nats, detached.

    Direction: spares confident predictions; the smallest weight is 1. Unlike focal loss it does not take a target among
    many good ones for a hard one. The paper also divides by the mean weight of the batch; this does not, since it
    would make a token's loss depend on how a batch is split. Adam does not see a constant factor, other optimisers do.

    Args:
        exponent: at least 0; 0 is plain cross-entropy, 1 the published choice.

    Raises:
        ConfigError: an exponent that is negative or not finite.
    """
    check_number("exponent", exponent, "[0, inf)", "1 is the published choice, 0 plain cross-entropy.")
    return Weighting("mile", partial(_mile, exponent=exponent), entropy="full")


def _mile(_nll: Tensor, entropy: Tensor | None, *, exponent: float) -> Tensor:
    return (1 + _require_entropy(entropy)) ** exponent


def eaft(k: int = 20) -> Weighting:
    """EAFT (Diao et al., arXiv 2601.02151): H_k / ln k, H_k the entropy of the k most likely tokens, detached.

    Direction: spares confident predictions, right or wrong, so even a surprising target moves a confident model little;
    meant against forgetting. The paper has k = 20, and its code 3 for ln 20 = 2.996.

    Raises:
        ConfigError: fewer than 2 tokens, whose entropy is 0.
    """
    check_whole_number("k", k, 2, "One token has no entropy, 20 is the published choice.")
    return Weighting("eaft", partial(_eaft, k=k), entropy=int(k))


def _eaft(_nll: Tensor, entropy: Tensor | None, *, k: int) -> Tensor:
    return _require_entropy(entropy) / math.log(k)


def dft() -> Weighting:
    """DFT (Wu et al., arXiv 2508.05629): p, detached, so that the gradient is that of -p.

    Direction: spares low-confidence tokens, the opposite of truncation.
    """
    return Weighting("dft", _dft)


def _dft(nll: Tensor, _entropy: Tensor | None) -> Tensor:
    return torch.exp(-nll.detach())


def stm(threshold: float = 0.4) -> Weighting:
    """Selective token masking (Wu et al., arXiv 2501.14315): [p >= threshold], the indicator detached.

    Direction: spares low-confidence tokens, the opposite of truncation. The paper masks perplexities above 2.5, a
    token's being 1 / p, hence 0.4; it takes them from the model before fine-tuning, this from the model as it trains.

    Raises:
        ConfigError: `threshold` is not in (0, 1].
    """
    check_number("threshold", threshold, "(0, 1]", "0.4 is the published perplexity of 2.5.")
    return Weighting("stm", partial(_stm, threshold=threshold))


def _stm(nll: Tensor, _entropy: Tensor | None, *, threshold: float) -> Tensor:
    # A loss that is not a number is kept, so that a broken model shows.
    return (~(nll.detach() > -math.log(threshold))).to(nll.dtype)


def random_truncation(kept_fraction: float, seed: int) -> Weighting:
    """[u < kept_fraction], u uniform on [0, 1), one draw for every token.

    Direction: none. The control of a truncation that keeps the same share. Draws come from a generator of its own in
    the order of the valid tokens, so neither chunks nor ignored targets change them; ranks need a seed each.

    Raises:
        ConfigError: `kept_fraction` is not in (0, 1].
    """
    check_fraction("kept_fraction", kept_fraction)
    coin = _Coin(kept_fraction, _generator(seed))
    return Weighting("random", coin.weigh, state=coin)


class _Coin:
    def __init__(self, kept_fraction: float, generator: torch.Generator) -> None:
        self.kept_fraction = kept_fraction
        self.generator = generator

    def weigh(self, nll: Tensor, _entropy: Tensor | None) -> Tensor:
        return (torch.rand(nll.shape, generator=self.generator, dtype=torch.float32) < self.kept_fraction).to(nll)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state(), "settings": [float(self.kept_fraction)]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, "random", "generator", settings=[float(self.kept_fraction)])
        self.generator.set_state(state["generator"].cpu())


def check_fraction(name: str, fraction: float) -> None:
    """Refuse what is no share of tokens to keep.

    Raises:
        ConfigError: `fraction` is not in (0, 1].
    """
    check_number(name, fraction, "(0, 1]", "1 is plain cross-entropy.")


def check_window(window: int) -> None:
    """Refuse what is no number of micro-batches.

    Raises:
        ConfigError: no whole number of at least 1.
    """
    check_whole_number("window", window, 1, "16 micro-batches are the default.")


def _generator(seed: int) -> torch.Generator:
    check_whole_number("seed", seed, 0, "Give each rank one of its own.")
    check_number("seed", seed, f"[0, {2**64})", "A generator takes 64 bits.")
    return torch.Generator().manual_seed(int(seed))


def _require_entropy(entropy: Tensor | None) -> Tensor:
    assert entropy is not None, "an engine gives the entropy that a weighting asks for"
    # Rounding may give a confident prediction an entropy below 0.
    return entropy.clamp_min(0)


def random_matched(threshold: float, seed: int, window: int = 16) -> Weighting:
    """[u < share], u uniform on [0, 1) for every token, share = kept by [p <= threshold] in recent micro-batches.

    Direction: none. The share is that of this model on what it trains on, before the step is taken. It is not the share
    of another run: a model trained with truncation stays less confident than this control, so it keeps more.
    `random_truncation` with that run's kept fraction matches the mean instead.

    Args:
        threshold: a probability in (0, 1], the one of the truncation that this controls.
        seed: of the draws; ranks need one each.
        window: how many micro-batches count as recent, at least 1. Before the first all tokens are kept.

    Raises:
        ConfigError: an option outside its range.
    """
    check_threshold(threshold)
    check_window(window)
    coin = _MatchedCoin(threshold, _generator(seed), window)
    return Weighting("random_matched", coin.weigh, observe=coin.observe, state=coin)


class _MatchedCoin:
    def __init__(self, threshold: float, generator: torch.Generator, window: int) -> None:
        self.threshold = threshold
        self.generator = generator
        self.recent: deque[tuple[int, int]] = deque(maxlen=int(window))

    @property
    def share(self) -> float:
        num_kept, num_seen = (sum(column) for column in zip(*self.recent, strict=True)) if self.recent else (1, 1)
        return num_kept / num_seen

    def weigh(self, nll: Tensor, _entropy: Tensor | None) -> Tensor:
        return (torch.rand(nll.shape, generator=self.generator, dtype=torch.float32) < self.share).to(nll)

    def observe(self, nll: Tensor) -> None:
        if len(nll):
            self.recent.append((int(truncation_mask(nll, threshold=self.threshold).sum()), len(nll)))

    def state_dict(self) -> dict[str, Any]:
        state = {"generator": self.generator.get_state(), "recent": list(self.recent)}
        return state | {"settings": self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, "random_matched", "generator", "recent", settings=self._settings())
        self.generator.set_state(state["generator"].cpu())
        self.recent = deque(map(tuple, state["recent"]), maxlen=self.recent.maxlen)

    def _settings(self) -> list[float]:
        return [float(self.threshold), float(self.recent.maxlen or 0)]
