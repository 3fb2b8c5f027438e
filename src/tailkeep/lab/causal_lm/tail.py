"""How much of the real text's tail a model's samples keep: words by how often they occur in the real text.

Rule: words are runs of letters and digits, as a reader sees them, so tokenizers can be compared.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from tailkeep.lab.causal_lm.tokens import Tokens
from tailkeep.metrics import CoverageBand, band_coverage

_WORD = re.compile(r"\w+")


def words_of(texts: Sequence[str]) -> list[str]:
    """The words of `texts`, in order."""
    return [word for text in texts for word in _WORD.findall(text)]


def written_words(tokens: Tokens) -> list[str]:
    """The words of what the model wrote, without the documents' prompts; a word begun by the prompt is left out."""
    texts = []
    for document, given in zip(tokens.documents, tokens.prompts, strict=True):
        whole, prompt = tokens.codec.decode(document), tokens.codec.decode(document[:given])
        tail = whole[len(prompt) :] if whole.startswith(prompt) else whole
        begun = _WORD.match(tail) if prompt[-1:].isalnum() else None
        texts.append(tail[begun.end() :] if begun else tail)
    return words_of(texts)


def coverage_of(words: Sequence[str], real: Mapping[str, int]) -> list[CoverageBand]:
    """The bands of the `real` counts by word; of more words than those, the first as many count."""
    types = {word: place for place, word in enumerate(real)}
    found = Counter(words[: sum(real.values())])
    # One more cell for all words that the real text does not have: they are a part of the sample, and of no band.
    counts = np.zeros(len(types) + 1, np.int64)
    for word, count in found.items():
        counts[types.get(word, -1)] += count
    return band_coverage(np.array([*real.values(), 0], np.int64), counts)
