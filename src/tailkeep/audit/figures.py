"""The figures of one corpus, as plain numbers by name.

Rule: a figure that grows or shrinks with the size of the corpus is no yardstick for another corpus; the comparison's
tests are, since they look at equally much text.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.asking import MICRO, SURE, SURPRISE_BINS, SURPRISE_STEP
from tailkeep.audit.corpus import Corpus
from tailkeep.audit.counting import LENGTH_BINS, LONGEST, PER_OCTAVE, REPETITION_BINS
from tailkeep.audit.sketches import DISTINCT_ERROR, count_distinct
from tailkeep.audit.spectrum import quantiles_of
from tailkeep.metrics import entropy, gini, top_share

Tree = dict[str, Any]

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NAMES = ("p5", "p25", "median", "p75", "p95")
_TOP = 100
LENGTH_EDGES = 2 ** (np.arange(LENGTH_BINS + 1) / PER_OCTAVE) - 1
REPETITION_EDGES = np.linspace(0, 1, REPETITION_BINS + 1)
SURPRISE_EDGES: NDArray[np.float64] = np.arange(SURPRISE_BINS + 1, dtype=np.float64) * SURPRISE_STEP


def figures_of(corpus: Corpus, rejected: int) -> Tree:
    """All figures of `corpus`, of which `rejected` documents could not be read."""
    documents = corpus.number("documents")
    found: Tree = {
        "documents": documents,
        "rejected": rejected,
        "bytes": corpus.number("bytes"),
        "words": corpus.number("words"),
        "words_per_document": _quantiles(corpus.counts["lengths"], LENGTH_EDGES),
        "exact_copies": corpus.duplicates.copies,
        "exact_copies_share": _ratio(corpus.duplicates.copies, documents),
        "repeated_4grams_share": 1 - _ratio(corpus.number("different_runs"), corpus.number("runs")),
        "repetition_per_document": _quantiles(corpus.counts["repetition"], REPETITION_EDGES),
        "spectrum": corpus.spectrum.figures(),
        "buckets": {str(length): _concentration(corpus.counts[f"buckets/{length}"]) for length in (1, 2)},
        "distinct": _distinct(corpus),
        "distinct_error": DISTINCT_ERROR,
        "frequent_error": {str(length): sketch.error for length, sketch in corpus.frequent.items()},
    }
    if corpus.near is not None:
        found["near_copies"] = corpus.near
        found["near_copies_share"] = _ratio(corpus.near, documents)
    if "compressed/before" in corpus.counts:
        # A corpus below one block has no ratio.
        found["compression"] = _ratio(corpus.number("compressed/before"), corpus.number("compressed/after"))
    if "asked/tokens" in corpus.counts:
        found["prior"] = asked_figures(corpus)
    plain: Tree = without_nan(found)
    return plain


def asked_figures(corpus: Corpus) -> Tree:
    """What the prior says of all documents, whole."""
    tokens = corpus.number("asked/tokens")
    surprise = _ratio(corpus.number("asked/micronats"), MICRO * tokens)
    low, _, middle, _, high = quantiles_of(corpus.counts["asked/surprise"], SURPRISE_EDGES, _SHARES)
    return {
        "tokens": tokens,
        "surprise": surprise,
        "perplexity": math.exp(surprise) if tokens else math.nan,
        "document_perplexity": {
            name: math.exp(value) for name, value in zip(("p5", "median", "p95"), (low, middle, high), strict=True)
        },
        "over": {str(sure): _ratio(corpus.number(f"asked/over_{sure}"), tokens) for sure in SURE},
        "toedit_would_flag": _ratio(corpus.number("asked/over_0.99"), tokens),
        "tce_would_truncate": {str(sure): _ratio(corpus.number(f"asked/over_{sure}"), tokens) for sure in SURE},
    }


def without_nan(tree: Any) -> Any:
    """`tree` with None for numbers that are none, as JSON wants it."""
    if isinstance(tree, Mapping):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _distinct(corpus: Corpus) -> Tree:
    """The share of different n-grams among all, by n."""
    words, types = corpus.number("words"), corpus.spectrum.figures().get("types", math.nan)
    found = {"1": _ratio(types, words)}
    lengths = corpus.number("bigrams"), corpus.number("trigrams"), corpus.number("runs")
    for length, total in zip(range(2, LONGEST + 1), lengths, strict=True):
        found[str(length)] = min(_ratio(count_distinct(corpus.counts[f"most/distinct/{length}"]), total), 1.0)
    return found


def _concentration(counts: NDArray[np.int64]) -> Tree:
    values = counts.astype(np.float64)
    return {
        "entropy": float(entropy(values)),
        "gini": float(gini(values)),
        f"top_{_TOP}_share": float(top_share(values, _TOP)),
        "empty": int((counts == 0).sum()),
    }


def _quantiles(histogram: NDArray[np.int64], edges: NDArray[np.float64]) -> Tree:
    return dict(zip(_NAMES, quantiles_of(histogram.tolist(), edges, _SHARES), strict=True))


def _ratio(count: float, total: float) -> float:
    return count / total if total else math.nan
