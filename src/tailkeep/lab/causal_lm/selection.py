"""Selection among the documents that a model has generated, for the regime `select`.

Rule: every selector turns texts into weights, and one sampling step turns weights into documents, in the candidates'
order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tailkeep.config import describe
from tailkeep.data import World
from tailkeep.data.hashing import count_features, log_ratios
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.lab.causal_lm.tokens import (
    SelectionFacts,
    TokenData,
    machine_probability,
    training_rows,
    verifier_weights,
)
from tailkeep.lab.selectors import DSIR, CodeSelector, Detector, Selector, Surplexity, Uniform, Verifier
from tailkeep.metrics import effective_size, sample_by_weight, top_log_weights

Values = NDArray[np.float64]
_STREAM = 2
"""The random stream of a selection, apart from the one the model sampled with under the same seed."""


_MAX_PROBABILITY = 1 - 1e-12
"""The highest probability of machine text that leaves a weight."""


class TokenScorer(Protocol):
    """A language model, or a pool of them."""

    def log_probs(self, rows: Sequence[Ids]) -> Sequence[NDArray[np.float32]]:
        """ln p of every token of each row but the first."""
        ...


@dataclass(frozen=True)
class TextSelector:
    """Weights documents by the model that generated them, by the `real` text, or by the `world` where there is one.

    A document is scored in rows of `block` predictions, as it is trained on.
    """

    real: TokenData
    world: World | None
    block: int

    def __call__(self, model: TokenScorer, candidates: TokenData, *, by: Selector, size: int, seed: int) -> TokenData:
        """`size` of the `candidates`, with the facts of their selection."""
        rng = np.random.default_rng([seed, _STREAM])
        texts = candidates.decode()
        log_weights, selector_facts = self._weights(model, candidates, texts, by, size, rng)
        selected = sample_by_weight(log_weights, size, rng, max_repeats=by.max_repeats)
        facts = {
            "candidates": float(len(candidates)),
            "selected_share": len(np.unique(selected)) / len(candidates),
            "effective_sample_size": effective_size(log_weights),
            **selector_facts,
            **self._truth(texts, [texts[index] for index in selected]),
        }
        return replace(candidates.take(selected), selection=SelectionFacts(facts))

    def _weights(
        self,
        model: TokenScorer,
        candidates: TokenData,
        texts: Sequence[str],
        by: Selector,
        size: int,
        rng: np.random.Generator,
    ) -> tuple[Values, Mapping[str, float]]:
        """ln of each candidate's weight, and the selector's facts."""
        uniform = np.zeros(len(candidates))
        match by:
            case Uniform():
                return uniform, {}
            case Surplexity():
                return top_log_weights(mean_surprisal(model, candidates, block=self.block), size), {}
            case DSIR():
                counts, real_counts = count_features(texts), count_features(self._real_texts)
                return np.asarray(counts @ log_ratios(counts.sum(axis=0), real_counts.sum(axis=0))), {}
            case Verifier():
                assert self.world is not None, "checked before anything is trained"
                weights = verifier_weights(texts, by, self.world, rng)
                with np.errstate(divide="ignore"):
                    logs = np.log(weights) if weights.any() else uniform
                return logs, {"accepted_share": float((weights > 0).mean())}
            case CodeSelector():
                weights = by.bind("regime.by")(texts, self._real_texts)
                return _log_weights(weights, len(texts), by.origin()), {}
            case Detector():
                of_real, of_generated = machine_probability(self._real_texts, texts)
                accuracy = ((of_real < 0.5).mean() + (of_generated > 0.5).mean()) / 2
                return by.exponent * np.log1p(-np.minimum(of_generated, _MAX_PROBABILITY)), {
                    "detector_accuracy": float(accuracy)
                }

    def _truth(self, candidates: Sequence[str], selected: Sequence[str]) -> dict[str, float]:
        if self.world is None:
            return {}
        shares = [self.world.truth_metrics(texts)["true_share"] for texts in (candidates, selected)]
        return dict(zip(("candidate_true_share", "selected_true_share"), shares, strict=True))

    @cached_property
    def _real_texts(self) -> list[str]:
        return self.real.decode()


def _log_weights(weights: object, size: int, code: str) -> Values:
    try:
        values = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"regime.by: {code} returned {describe(weights)}. Return {size} numbers.") from None
    if values.shape != (size,) or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ConfigError(
            f"regime.by: {code} returned {values.shape} weights from {values.min(initial=np.inf):.3g} to "
            f"{values.max(initial=-np.inf):.3g}. Return {size} finite ones, none below 0 and one above."
        )
    with np.errstate(divide="ignore"):
        return np.log(values)


def mean_surprisal(model: TokenScorer, data: TokenData, *, block: int) -> Values:
    """Mean -ln p of each document behind its prompt; a document without such tokens gets the median."""
    rows = [training_rows(data.take(np.array([index])), block=block, joined=False) for index in range(len(data))]
    scored = iter(model.log_probs([row for document in rows for row in document]))
    surprisal = np.full(len(data), np.nan)
    for index, (document, prompt) in enumerate(zip(rows, data.prompts, strict=True)):
        log_probs = np.concatenate([*(next(scored) for _ in document), np.zeros(0, np.float32)])
        generated = log_probs[max(0, int(prompt) - 1) :]
        if len(generated):
            surprisal[index] = -float(generated.astype(np.float64).mean())
    known = np.isfinite(surprisal)
    return np.where(known, surprisal, float(np.median(surprisal[known])) if known.any() else 0.0)
