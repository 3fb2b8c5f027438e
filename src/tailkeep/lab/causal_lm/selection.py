"""Selection among the documents that a model has written, for the regime `select`.

Rule: every selector turns texts into weights, and one draw turns weights into documents, in the candidates' order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import World
from tailkeep.data.hashing import count_features, log_ratios
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.lab.causal_lm.tokens import SelectionFacts, TokenData, machine_probability, training_rows, verdicts
from tailkeep.lab.selectors import DSIR, Detector, Selector, Surplexity, Uniform, Verifier
from tailkeep.metrics import effective_size, sample_by_weight, top_log_weights

Values = NDArray[np.float64]
_STREAM = 2
"""Of the draws of a selection, beside those with which the model wrote under the same seed."""


_SUREST = 1 - 1e-12
"""The highest probability of machine text that leaves a weight."""


class Scoring(Protocol):
    """A language model, or a pool of them."""

    def log_probs(self, rows: Sequence[Ids]) -> Sequence[NDArray[np.float32]]:
        """ln p of every token of each row but the first."""
        ...


@dataclass(frozen=True)
class TextSelecting:
    """Weighs documents by the model that wrote them, by the `real` text, or by the `world` where there is one.

    A document is scored in rows of `block` predictions, as it is trained on.
    """

    real: TokenData
    world: World | None
    block: int

    def __call__(self, model: Scoring, candidates: TokenData, *, by: Selector, size: int, seed: int) -> TokenData:
        """`size` of the `candidates`, with the facts of their selection."""
        rng = np.random.default_rng([seed, _STREAM])
        texts = _texts(candidates)
        log_weights, found = self._weigh(model, candidates, texts, by, size, rng)
        chosen = sample_by_weight(log_weights, size, rng, max_repeats=by.max_repeats)
        facts = {
            "candidates": float(len(candidates)),
            "selected_share": len(np.unique(chosen)) / len(candidates),
            "effective_sample_size": effective_size(log_weights),
            **found,
            **self._truth(texts, [texts[place] for place in chosen]),
        }
        return replace(candidates.take(chosen), selection=SelectionFacts(facts))

    def _weigh(
        self,
        model: Scoring,
        candidates: TokenData,
        texts: Sequence[str],
        by: Selector,
        size: int,
        rng: np.random.Generator,
    ) -> tuple[Values, Mapping[str, float]]:
        """ln of each candidate's weight, and what the selector found."""
        alike = np.zeros(len(candidates))
        match by:
            case Uniform():
                return alike, {}
            case Surplexity():
                return top_log_weights(surprise(model, candidates, block=self.block), size), {}
            case DSIR():
                ours, theirs = count_features(texts), count_features(self._real_texts)
                return np.asarray(ours @ log_ratios(ours.sum(axis=0), theirs.sum(axis=0))), {}
            case Verifier():
                assert self.world is not None, "refused before anything is trained"
                weights = verdicts(texts, by, self.world, rng)
                with np.errstate(divide="ignore"):
                    logs = np.log(weights) if weights.any() else alike
                return logs, {"accepted_share": float((weights > 0).mean())}
            case Detector():
                of_real, of_written = machine_probability(self._real_texts, texts)
                right = ((of_real < 0.5).mean() + (of_written > 0.5).mean()) / 2
                return by.exponent * np.log1p(-np.minimum(of_written, _SUREST)), {"detector_accuracy": float(right)}

    def _truth(self, candidates: Sequence[str], selected: Sequence[str]) -> dict[str, float]:
        if self.world is None:
            return {}
        shares = [self.world.truth_metrics(texts)["true_share"] for texts in (candidates, selected)]
        return dict(zip(("candidate_true_share", "selected_true_share"), shares, strict=True))

    @cached_property
    def _real_texts(self) -> list[str]:
        return _texts(self.real)


def surprise(model: Scoring, data: TokenData, *, block: int) -> Values:
    """Mean -ln p of what `model` has written of each document; one without a token of its own has the middle value."""
    rows = [training_rows(data.take(np.array([place])), block=block, joined=False) for place in range(len(data))]
    scored = iter(model.log_probs([row for own in rows for row in own]))
    found = np.full(len(data), np.nan)
    for place, (own, given) in enumerate(zip(rows, data.prompts, strict=True)):
        tokens = np.concatenate([*(next(scored) for _ in own), np.zeros(0, np.float32)])[max(0, int(given) - 1) :]
        if len(tokens):
            found[place] = -float(tokens.astype(np.float64).mean())
    known = np.isfinite(found)
    return np.where(known, found, float(np.median(found[known])) if known.any() else 0.0)


def _texts(data: TokenData) -> list[str]:
    return [data.codec.decode(document) for document in data.documents]
