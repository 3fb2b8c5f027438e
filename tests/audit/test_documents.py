"""The hash sample."""

import numpy as np

from tailkeep.audit.documents import HashSample, smallest
from tailkeep.data.counters import ShardDocument


def documents_of(some):
    return [ShardDocument(n, n, str(n), text, text.encode(), file="a.jsonl") for n, text in enumerate(some)]


def test_a_sample_is_the_same_from_any_cut_and_hash_takes_every_document_alike():
    documents = documents_of([f"text {number}" for number in range(400)])
    whole = HashSample(50, 0)
    parts = [HashSample(50, 0), HashSample(50, 0)]
    for document in documents:
        whole.add(document)
        parts[document.row % 2].add(document)
    together = smallest([item for part in parts for item in part.documents()], 50)
    assert together == whole.documents()
    other = HashSample(50, 1)
    for document in documents:
        other.add(document)
    assert other.documents() != whole.documents()
    rows = [int(item.location.partition(":")[2]) for item in whole.documents()]
    assert 120 < np.mean(rows) < 280
