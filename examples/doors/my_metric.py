"""A metric of one's own: the share of samples that another sample repeats word for word.

    metrics: [{name: "my_metric:repeated", words: 5}]

The function gets the model and its samples by view, and returns numbers by name; `common` is the same decoder for all.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any


def repeated(model: Any, samples: Mapping[str, Any], words: int = 5) -> dict[str, float]:
    data = samples["common"]
    beginnings = [" ".join(data.tokenizer.decode(ids).split()[:words]) for ids in data.documents]
    counts = Counter(beginnings)
    return {f"repeated_{words}": sum(counts[text] > 1 for text in beginnings) / len(beginnings)}
