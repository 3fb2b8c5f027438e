"""A metric of one's own: the share of samples that another sample repeats word for word.

    metrics: [{name: "my_metric:repeated", words: 5}]

The function gets the model and its samples by view, and returns numbers by name; `common` is the same decoder for all.
A definition beside a number gives it a title, a unit and a better direction in the report, as our metrics have.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tailkeep.lab import Measurement, Metric


def repeated(model: Any, samples: Mapping[str, Any], words: int = 5) -> Measurement:
    data = samples["common"]
    beginnings = [" ".join(data.tokenizer.decode(ids).split()[:words]) for ids in data.documents]
    counts = Counter(beginnings)
    name, share = f"repeated_{words}", sum(counts[text] > 1 for text in beginnings) / len(beginnings)
    note = f"Share of the samples that begin with the same {words} words as another one."
    definition = Metric("Repeated openings", note, better="lower", headline=True, range="share")
    return Measurement({name: share}, definitions={name: definition})
