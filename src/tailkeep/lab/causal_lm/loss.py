"""From a loss's settings to its weighting, a new one for each generation, since some have a state."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import WindowPrompts
from tailkeep.lab.causal_lm.loss_config import AnyLoss, CodeLoss, UserLoss, UserLosses
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokens import TokenData, training_rows
from tailkeep.losses import Weighting
from tailkeep.metrics import ConfidenceGap, confidence_gap


def build_weighting(loss: AnyLoss, user: UserLosses, *, seed: int = 0) -> Weighting:
    """The weighting that `loss` describes; a threshold that is `auto` is settled before (see `settle`).

    Raises:
        ConfigError: a loss of the caller's own that was not handed over.
    """
    if isinstance(loss, CodeLoss):
        return Weighting(loss.code, _OfNLL(loss.bind("loss")))
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
    """A weighting that looks at the NLL alone; unlike a closure it can be copied with a model."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, nll: Tensor, entropy: Tensor | None) -> Tensor:
        del entropy
        return self.function(nll)


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
