"""What is measured on a trained language model.

Rule: likelihood is cross-entropy whatever the loss; samples are fresh and of a fixed size; words are runs of letters
and digits, so that tokenizers can be compared.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.lab.causal_lm.dataset import PeopleCounter, Truth
from tailkeep.lab.causal_lm.downstream import DownstreamTests, measure_downstream
from tailkeep.lab.causal_lm.kr_eval import KREvaluator
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokenizer import Ids
from tailkeep.lab.causal_lm.tokens import TokenData, first_targets, training_rows
from tailkeep.lab.protocols import Measurement
from tailkeep.metrics import (
    LOGIT_EDGES,
    TEMPERATURES,
    CoverageBand,
    band_coverage,
    confidence_histogram,
    distinct_n,
    fit_temperature,
    kl_divergence,
    ngram_kl,
    perplexity,
    self_bleu,
    share_above,
    unigram_counts,
    vendi_score,
    worst_decile_mean,
)
from tailkeep.metrics.language import language_panel
from tailkeep.scoring import tempered_nll, token_log_probs

_WORD = re.compile(r"\w+")
Floats = NDArray[np.float32]


def words_of(texts: Sequence[str]) -> list[str]:
    """The words of `texts`, in order."""
    return [word for text in texts for word in _WORD.findall(text)]


def generated_texts(tokens: TokenData) -> list[tuple[str, str]]:
    """What the model generated in each document, and the last character of its prompt, "" if it has none."""
    texts = []
    for document, prompt_length in zip(tokens.documents, tokens.prompts, strict=True):
        whole = tokens.tokenizer.decode(document)
        # The end of the prompt can split a character, which then counts as generated.
        prompt = tokens.tokenizer.decode(document[:prompt_length]).rstrip("\ufffd")
        texts.append((whole[len(prompt) :] if whole.startswith(prompt) else whole, prompt[-1:]))
    return texts


def generated_words(tokens: TokenData) -> list[list[str]]:
    """The words that the model generated in each document; a word that begins in the prompt does not count."""
    words = []
    for tail, before in generated_texts(tokens):
        begun = _WORD.match(tail) if before.isalnum() else None
        words.append(_WORD.findall(tail[begun.end() :] if begun else tail))
    return words


def cut_pieces(text: str, words: int) -> list[str]:
    """`text` in pieces of `words` words, what lies between two words included; a shorter rest is left out."""
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    return [text[spans[at][0] : spans[at + words - 1][1]] for at in range(0, len(spans) - words + 1, words)]


def coverage_of(words: Sequence[str], real: Mapping[str, int]) -> list[CoverageBand]:
    """The coverage of the bands of the `real` counts by word; at most as many of `words` count as `real` has."""
    types = {word: index for index, word in enumerate(real)}
    sampled = Counter(words[: sum(real.values())])
    # One more bin for all words that the real text does not have: they are in the sample, but in no band.
    counts = np.zeros(len(types) + 1, np.int64)
    for word, count in sampled.items():
        counts[types.get(word, -1)] += count
    return band_coverage(np.array([*real.values(), 0], np.int64), counts)


def nll_by_document(log_probs: Floats, data: TokenData, *, joined: bool, answers: bool) -> dict[str, Any]:
    """The table `held_out`: per document its scored tokens and the sum of their NLL, in nats; `text` identifies them.

    `log_probs` (targets,) are those of `training_rows(data)` in order, with `answers` without the tokens of prompts.
    """
    owners = np.repeat(np.arange(len(data)), data.lengths)
    positions = np.arange(data.units) - np.repeat(np.cumsum(data.lengths) - data.lengths, data.lengths)
    if joined:
        scored = np.arange(data.units) >= (0 if data.tokenizer.begins_blocks else 1)
    else:
        firsts = np.maximum(data.prompts, 1) if answers else np.ones(len(data), np.int64)
        scored = positions >= np.repeat(firsts, data.lengths)
    owners = owners[scored]
    return {
        "text": hashlib.sha256(data.ids.tobytes()).hexdigest()[:16],
        "tokens": np.bincount(owners, minlength=len(data)).tolist(),
        "nll": np.bincount(owners, weights=-log_probs.astype(np.float64), minlength=len(data)).tolist(),
    }


GRAMS = (1, 2, 3, 4)
PERPLEXITY_EDGES = tuple(float(edge) for edge in np.geomspace(1, 10_000, 41))
"""Ten bins for each power of ten."""


def perplexity_by_first(model: LanguageModel, samples: Mapping[str, TokenData]) -> Measurement:
    """How likely the first model finds what a later one generates: `VIEW.first_model_perplexity`, over all tokens.

    The table `first_model` has the histogram of the samples' own perplexities in the common view, over
    `PERPLEXITY_EDGES`, whose ends take what lies beyond, as in Shumailov et al. 2024 (Nature 631, figure 1).
    """
    metrics: dict[str, float] = {}
    rows: dict[str, list[NDArray[np.float32]]] = {}
    for view, tokens in samples.items():
        rows[view] = model.continuation_log_probs(tokens)
        metrics[f"{view}.first_model_perplexity"] = perplexity(pooled(rows[view]))
    values = [perplexity(row) for row in rows["common"] if len(row)]
    counts = np.histogram(np.clip(values, PERPLEXITY_EDGES[0], PERPLEXITY_EDGES[-1]), bins=PERPLEXITY_EDGES)[0]
    return Measurement(metrics, {"first_model": {"edges": list(PERPLEXITY_EDGES), "counts": counts.tolist()}})


def pooled(log_probs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The log-probabilities of all documents, (tokens,)."""
    return np.concatenate([*log_probs, np.zeros(0, np.float32)])


def held_out_metrics(log_probs: NDArray[np.floating]) -> dict[str, float]:
    """The NLL of held-out text in nats/token, and the shares of its tokens with p > 0.9 and p > 0.99."""
    return {
        "held_out_nll": -float(log_probs.mean()),
        "held_out_above_90": share_above(log_probs, 0.9),
        "held_out_above_99": share_above(log_probs, 0.99),
    }


def confidence_table(held_out: NDArray[np.floating], samples: NDArray[np.floating]) -> dict[str, list[float]]:
    """How many tokens of held-out text and of samples, by log-probability (n,), lie in each bin of the logit of p."""
    return {
        "logit_edges": list(LOGIT_EDGES),
        "real": confidence_histogram(held_out).tolist(),
        "common": confidence_histogram(samples).tolist(),
    }


@dataclass(frozen=True)
class TextMeasure:
    """Held-out likelihood, KR-test, downstream tests, and statistics of the model's samples.

    `answers`: the likelihood is that of the tokens after the prompts of held-out records, each document by itself.
    `people` counts the documents that name each person of the world, where there is one. `language`: the panel of
    English is measured.
    """

    real: TokenData
    held_out: TokenData
    kr_evaluator: KREvaluator
    truth: Truth | None
    block: int
    joined: bool
    tests: DownstreamTests = field(default_factory=dict)
    positions: int | None = None
    answers: bool = False
    people: PeopleCounter | None = None
    language: bool = False

    def __call__(self, model: LanguageModel, samples: Mapping[str, TokenData]) -> Measurement:
        """All metrics of one generation; those of samples carry their view's name."""
        with model.precision.autocast("score"):
            return self._measure(model, samples)

    def _measure(self, model: LanguageModel, samples: Mapping[str, TokenData]) -> Measurement:
        rows = self._log_probs(model, self.held_out)
        held_out = np.concatenate(rows)
        log_probs = {view: pooled(model.continuation_log_probs(tokens)) for view, tokens in samples.items()}
        words = {view: generated_words(tokens) for view, tokens in samples.items()}
        knowledge = self.kr_evaluator.measure(model.log_probs, model.tokenizer.encode_without_eos)
        tests = measure_downstream(model.network, model.tokenizer, self.tests, positions=self.positions)
        metrics = {
            **held_out_metrics(held_out),
            "held_out_nll_worst_tokens": worst_decile_mean(-held_out),
            "held_out_nll_worst_rows": worst_decile_mean([-row.mean(dtype=np.float64) for row in rows if len(row)]),
            **self._tempered(model),
            **knowledge.metrics,
            **tests.metrics,
        }
        for view, tokens in samples.items():
            shape = {**self._shape(tokens, words[view]), "own_perplexity": perplexity(log_probs[view])}
            shape |= self._truth(tokens)
            shape["above_99"] = share_above(log_probs[view], 0.99)
            metrics |= {f"{view}.{name}": value for name, value in shape.items()}
        tables = {
            "confidence": confidence_table(held_out, log_probs["common"]),
            "tail": self._tail(samples["common"], words["common"]),
            "held_out": nll_by_document(held_out, self.held_out, joined=self.joined, answers=self.answers),
        }
        return Measurement(metrics, {**tables, **knowledge.tables, **tests.tables})

    def _log_probs(self, model: LanguageModel, data: TokenData) -> list[np.ndarray]:
        rows = training_rows(data, block=self.block, joined=self.joined)
        scored = token_log_probs(model.network, rows, pad=model.tokenizer.pad)
        if not self.answers:
            return list(scored)
        firsts = first_targets(data, block=self.block)
        return [row[first - 1 :] for row, first in zip(scored, firsts, strict=True)]

    def _tempered(self, model: LanguageModel) -> dict[str, float]:
        """The NLL of each half of the held-out rows at the temperature that is best for the other half.

        Empty for records, whose rows include their prompts.
        """
        if self.answers:
            return {}
        rows = training_rows(self.held_out, block=self.block, joined=self.joined)
        ends = np.cumsum([len(row) - 1 for row in rows])
        middle = int(np.searchsorted(ends, ends[-1] / 2)) + 1
        halves = rows[:middle], rows[middle:]
        if not all(halves):
            return {}
        best = [
            fit_temperature(tempered_nll(model.network, half, TEMPERATURES, pad=model.tokenizer.pad).sum(axis=0))
            for half in halves
        ]
        swapped = (
            tempered_nll(model.network, half, [temperature], pad=model.tokenizer.pad).sum()
            for half, temperature in zip(halves, reversed(best), strict=True)
        )
        return {"held_out_nll_tempered": float(sum(swapped)) / int(ends[-1]), "temperature": sum(best) / 2}

    def _shape(self, tokens: TokenData, words: Sequence[Sequence[str]]) -> dict[str, float]:
        generated = tokens.continuations
        size = tokens.tokenizer.size
        sampled = unigram_counts(np.concatenate([*generated, np.zeros(0, np.int32)]), size)
        real_rows = self._cut(self.real, tokens)
        real = unigram_counts(np.concatenate([*real_rows, np.zeros(0, np.int32)]), size)
        return {
            "kl_sample_real": kl_divergence(sampled, real),
            "kl_real_sample": kl_divergence(real, sampled),
            "mean_length": float(np.mean([len(row) for row in generated])),
            **{f"distinct_{n}": distinct_n(generated, n) for n in GRAMS},
            **self._divergences(generated, real_rows, self._cut(self.held_out, tokens)),
            **self._coverage(words),
            "self_bleu": self_bleu(words),
            "vendi": vendi_score(words),
            **(self._language(tokens) if self.language else {}),
        }

    def _language(self, tokens: TokenData) -> dict[str, float]:
        """The panel of English of the samples, and of as many pieces of held-out text of their mean length."""
        texts = [tail for tail, _ in generated_texts(tokens)]
        words = max(1, round(sum(len(text.split()) for text in texts) / max(1, len(texts))))
        held_out = "\n\n".join(self.held_out.decode())
        panel, expected = language_panel(texts), language_panel(cut_pieces(held_out, words)[: len(texts)])
        return {f"language_{name}": value for name, value in panel.items()} | {
            f"language_{name}_expected": value for name, value in expected.items()
        }

    def _divergences(self, generated: Sequence[Ids], real: Sequence[Ids], other: Sequence[Ids]) -> dict[str, float]:
        """KL of n-grams in both directions, and that of held-out text instead of samples, all at one sample size."""
        metrics: dict[str, float] = {}
        for n in GRAMS:
            size = min(sum(max(0, len(row) - n + 1) for row in text) for text in (generated, real, other))
            metrics[f"kl_{n}_sample_real"] = ngram_kl(generated, real, n, max_ngrams=size)
            metrics[f"kl_{n}_real_sample"] = ngram_kl(real, generated, n, max_ngrams=size)
            metrics[f"kl_{n}_sample_real_expected"] = ngram_kl(other, real, n, max_ngrams=size)
            metrics[f"kl_{n}_real_sample_expected"] = ngram_kl(real, other, n, max_ngrams=size)
        return metrics

    def _coverage(self, words: Sequence[Sequence[str]]) -> dict[str, float]:
        bands = self._bands(words)
        covered = {f"coverage_{band.name}": band.covered for band in bands}
        return covered | {f"coverage_{band.name}_expected": band.expected for band in bands}

    def _bands(self, words: Sequence[Sequence[str]]) -> list[CoverageBand]:
        """The coverage of those bands in which the real text has words."""
        return [band for band in coverage_of([*chain.from_iterable(words)], self._real_words) if band.types]

    def _cut(self, data: TokenData, samples: TokenData) -> Sequence[Ids]:
        """The tokens of `data` in the place of what `samples` hold beyond their prompts; joined text is whole."""
        if self.joined:
            return [data.ids]
        longest = max(map(len, samples.continuations), default=0)
        firsts = data.prompts if self.answers else np.full(len(data), samples.prompts.max(initial=0))
        return [document[first : first + longest] for document, first in zip(data.documents, firsts, strict=True)]

    @cached_property
    def _real_words(self) -> Mapping[str, int]:
        return Counter(words_of(self.real.decode()))

    def _truth(self, tokens: TokenData) -> dict[str, float]:
        if self.truth is None:
            return {}
        texts = tokens.decode()
        if self.people is None:
            return self.truth(texts)
        counts = self._people_beyond(tokens, tokens.prompts)
        named = {"people_named": float(np.count_nonzero(counts)), "people_total": float(len(counts))}
        return {**self.truth(texts), **named}

    def _tail(self, tokens: TokenData, words: Sequence[Sequence[str]]) -> dict[str, Any]:
        """People by the documents that name them; without a world, words by the frequency band of the real text."""
        if self.people is not None:
            counts = self._people_beyond(tokens, tokens.prompts).tolist()
            cut = np.full(len(self.real), tokens.prompts.max(initial=0))
            return {"kind": "people", "real": self._people_beyond(self.real, cut).tolist(), "counts": counts}
        bands = self._bands(words)[::-1]
        return {
            "kind": "words",
            "names": [band.name for band in bands],
            "real": [band.types for band in bands],
            "counts": [round(band.covered * band.types) for band in bands],
            "expected": [band.expected * band.types for band in bands],
        }

    def _people_beyond(self, data: TokenData, firsts: NDArray[np.int64]) -> NDArray[np.int64]:
        """By person, the documents of `data` that name them, but not within their first `firsts` tokens already."""
        assert self.people is not None
        whole = [data.tokenizer.decode(document) for document in data.documents]
        prompts = [
            data.tokenizer.decode(document[:first]) for document, first in zip(data.documents, firsts, strict=True)
        ]
        return np.asarray(self.people(whole) - self.people(prompts))
