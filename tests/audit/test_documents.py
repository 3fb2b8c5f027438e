"""The hash sample, and the signatures of near duplicates."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasketch import MinHash

from tailkeep.audit.config import NearDuplicateConfig
from tailkeep.audit.documents import HashSample, NearDuplicates, smallest
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


def test_a_long_document_has_one_signature_from_slices_of_bounded_size(tmp_path, monkeypatch):
    sizes = []
    update = MinHash.update_batch

    def recorded(self, shingles):
        sizes.append(len(shingles))
        update(self, shingles)

    monkeypatch.setattr(MinHash, "update_batch", recorded)
    (document,) = documents_of([" ".join(f"w{number}" for number in range(10_000))])
    tables = []
    for slice_size in (1 << 20, 4096):
        monkeypatch.setattr("tailkeep.audit.documents._SHINGLES", slice_size)
        folder = tmp_path / str(slice_size)
        folder.mkdir()
        near = NearDuplicates(NearDuplicateConfig(), 0, 1 << 20, folder)
        near.add(document)
        near.table.write(folder / "bands.parquet")
        tables.append((folder / "bands.parquet").read_bytes())
    assert max(sizes[1:]) == 4096
    assert sum(sizes[1:]) == sizes[0] > 2 * 4096
    assert tables[0] == tables[1]


@pytest.mark.parametrize("seed", [2**32 - 1, 2**40])
def test_every_seed_of_an_audit_makes_signatures(tmp_path, seed):
    near = NearDuplicates(NearDuplicateConfig(), seed, 1 << 20, tmp_path)
    near.add(documents_of(["one two three four five six"])[0])
    near.table.write(tmp_path / "bands.parquet")
    assert pq.read_metadata(tmp_path / "bands.parquet").num_rows == NearDuplicateConfig().bands
