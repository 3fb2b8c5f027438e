"""What is measured on a trained language model: always plain likelihood, always on fresh samples of a fixed size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tailkeep.data import Question
from tailkeep.lab.causal_lm.codec import Codec, Ids
from tailkeep.lab.causal_lm.corpus import Truth
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokens import Tokens, training_rows
from tailkeep.lab.protocols import Measurement
from tailkeep.metrics import (
    confidence_histogram,
    distinct_n,
    kl_divergence,
    kr_accuracy,
    kr_margin,
    perplexity,
    share_above,
    unigram_counts,
)
from tailkeep.scoring import token_log_probs

BINS = 20


@dataclass(frozen=True)
class TextMeasure:
    """Held-out likelihood, retained knowledge, and the shape of what the model writes."""

    real: Tokens
    held_out: Tokens
    questions: Sequence[Question]
    truth: Truth | None
    block: int
    joined: bool

    def __call__(self, model: LanguageModel, samples: Mapping[str, Tokens]) -> Measurement:
        """All metrics of one generation; those of samples carry their view's name."""
        held_out = self._log_probs(model, self.held_out)
        own = {view: self._written_log_probs(model, tokens) for view, tokens in samples.items()}
        metrics = {
            "held_out_nll": -float(held_out.mean()),
            "held_out_above_90": share_above(held_out, 0.9),
            "held_out_above_99": share_above(held_out, 0.99),
            **self._knowledge(model),
        }
        for view, tokens in samples.items():
            shape = {**self._shape(tokens), "own_perplexity": perplexity(own[view]), **self._truth(tokens)}
            shape["above_99"] = share_above(own[view], 0.99)
            metrics |= {f"{view}.{name}": value for name, value in shape.items()}
        confidence = {
            "edges": np.linspace(0, 1, BINS + 1).tolist(),
            "real": confidence_histogram(held_out, bins=BINS).tolist(),
            "common": confidence_histogram(own["common"], bins=BINS).tolist(),
        }
        return Measurement(metrics, {"confidence": confidence})

    def _log_probs(self, model: LanguageModel, data: Tokens) -> np.ndarray:
        rows = training_rows(data, block=self.block, joined=self.joined)
        return np.concatenate(token_log_probs(model.network, rows, pad=model.codec.pad))

    def _written_log_probs(self, model: LanguageModel, data: Tokens) -> np.ndarray:
        """Of what the model wrote, not of what it was given."""
        scored = token_log_probs(model.network, data.documents, pad=model.codec.pad)
        written = [row[max(0, given - 1) :] for row, given in zip(scored, data.prompts, strict=True)]
        return np.concatenate([*written, np.zeros(0, np.float32)])

    def _knowledge(self, model: LanguageModel) -> dict[str, float]:
        if not self.questions:
            return {}
        pairs = [question_rows(question, model.codec) for question in self.questions]
        rows = [row for _, true, false in pairs for row in (true, false)]
        scored = token_log_probs(model.network, rows, pad=model.codec.pad)
        margins = [
            kr_margin(scored[2 * i][context - 1 :], scored[2 * i + 1][context - 1 :])
            for i, (context, _, _) in enumerate(pairs)
        ]
        return {"kr_accuracy": kr_accuracy(margins), "kr_items": float(len(margins))}

    def _shape(self, tokens: Tokens) -> dict[str, float]:
        written = tokens.continuations
        size = tokens.codec.size
        sampled = unigram_counts(np.concatenate([*written, np.zeros(0, np.int32)]), size)
        real = unigram_counts(self.real.ids, size)
        return {
            "kl_sample_real": kl_divergence(sampled, real),
            "kl_real_sample": kl_divergence(real, sampled),
            "mean_length": float(np.mean([len(row) for row in written])),
            **{f"distinct_{n}": distinct_n(written, n) for n in (1, 2, 3, 4)},
        }

    def _truth(self, tokens: Tokens) -> dict[str, float]:
        if self.truth is None:
            return {}
        return self.truth([tokens.codec.decode(document) for document in tokens.documents])


def question_rows(question: Question, codec: Codec) -> tuple[int, Ids, Ids]:
    """The number of context tokens, and the rows context + true and context + false, without a stop token.

    The context ends where the tokens of the two rows and of the context alone first differ, so a token that
    spans the join belongs to the sentence. A stop token would be compared with a word of the longer sentence.
    """
    wholes = (f"{question.context} {end}" for end in (question.sentence_true, question.sentence_false))
    context, true, false = map(codec.encode_open, (question.context, *wholes))
    shared = min(len(context), len(true) - 1, len(false) - 1)
    same = (context[:shared] == true[:shared]) & (context[:shared] == false[:shared])
    length = int(shared if same.all() else same.argmin())
    return max(length, 1), true, false
