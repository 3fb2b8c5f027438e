"""Counters of one shard: chunks of documents, and sums over any split into shards."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data import counters
from tailkeep.data.counters import (
    CHUNK_BYTES,
    REPETITION_BINS,
    ShardCounter,
    ShardDocument,
    batch_documents,
    merge_counts,
    split_document,
)
from tailkeep.data.hashing import BUCKETS, split_words

texts = st.lists(st.text(alphabet="ab c.\né\u3042\u2014\u00a0", max_size=30), min_size=1, max_size=6)


def documents_of(some):
    return [ShardDocument(number, number, str(number), text, text.encode()) for number, text in enumerate(some)]


def counted(some, folder):
    counting = ShardCounter(1 << 20, folder)
    for batch in batch_documents(documents_of(some)):
        counting.add(batch)
    return counting


@settings(max_examples=30, deadline=None)
@given(texts, st.integers(0, 6))
def test_any_split_into_shards_adds_up_to_the_whole(tmp_path_factory, some, cut):
    folder = tmp_path_factory.mktemp("counts")
    whole = counted(some, folder).counts()
    parts = merge_counts([counted(part, folder).counts() for part in (some[:cut], some[cut:])])
    assert {name: counts.tolist() for name, counts in parts.items()} == {
        name: counts.tolist() for name, counts in whole.items()
    }
    assert int(whole["words"][0]) == int(whole["buckets/1"].sum())
    assert int(whole["lengths"].sum()) == len(some)
    assert len(whole["buckets/2"]) == BUCKETS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=24), min_size=1, max_size=5))
def test_runs_of_four_words_are_different_within_their_document(tmp_path_factory, documents):
    counts = counted([" ".join(words) for words in documents], tmp_path_factory.mktemp("counts")).counts()
    runs = [list(zip(words, words[1:], words[2:], words[3:], strict=False)) for words in documents]
    assert int(counts["runs"][0]) == sum(map(len, runs))
    assert int(counts["different_runs"][0]) == sum(len(set(some)) for some in runs)


def test_a_long_document_is_one_document_however_it_is_split(tmp_path):
    text = "word " * 300_000
    assert len(list(split_document(text.encode()))) > 1
    counts = counted([text, "a b"], tmp_path).counts()
    assert int(counts["words"][0]) == 300_002
    assert int(counts["lengths"].sum()) == 2


def test_a_document_of_several_chunks_holds_each_word_once(tmp_path):
    once = " ".join(f"w{number}" for number in range(400_000))
    assert len(list(split_document(once.encode()))) == 3
    texts = ["w1 new", f"{once} w1 w399999", "w1 other", once]
    counted(texts, tmp_path).types.write(tmp_path / "types.parquet")
    hashes, _, documents = pq.read_table(tmp_path / "types.parquet").to_pydict().values()
    frequencies = dict(zip(hashes, documents, strict=True))
    of = {name: frequencies[int(split_words([name.encode()]).hashes[0])] for name in ("w1", "w399999", "w7", "new")}
    assert of == {"w1": 4, "w399999": 2, "w7": 2, "new": 1}


def test_a_run_of_words_is_repeated_however_far_behind_in_its_document(tmp_path, monkeypatch):
    monkeypatch.setattr(counters, "CHUNK_BYTES", 200)
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(list("abcde"), size)) for size in (90, 3, 700, 20, 400, 100, 100, 900)]
    counts = counted(documents, tmp_path).counts()
    runs = [
        [
            tuple(words[n : n + 4])
            for words in map(bytes.split, split_document(text.encode()))
            for n in range(len(words) - 3)
        ]
        for text in documents
    ]
    assert int(counts["runs"][0]) == sum(map(len, runs))
    assert int(counts["different_runs"][0]) == sum(len(set(some)) for some in runs)
    shares = [1 - len(set(some)) / len(some) for some in runs if some]
    assert counts["repetition"].tolist() == np.histogram(shares, REPETITION_BINS, (0, 1))[0].tolist()


def test_half_of_a_document_that_is_written_twice_is_repeated(tmp_path):
    once = " ".join(f"w{number}" for number in range(200_000))
    assert len(once) > CHUNK_BYTES
    counts = counted([f"{once} {once}"], tmp_path).counts()
    assert int(counts["different_runs"][0]) / int(counts["runs"][0]) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(("runs", "different", "share"), [(10, 9, 10), (5, 4, 20), (20, 19, 5), (7, 7, 0), (4, 0, 95)])
def test_a_document_lies_in_the_bin_that_its_repetition_begins(tmp_path, runs, different, share):
    counting = ShardCounter(1 << 20, tmp_path)
    counting._add_features(np.array([[runs + 3, runs, different]]))
    assert np.flatnonzero(counting._histograms["repetition"]).tolist() == [share * REPETITION_BINS // 100]


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40), st.integers(1, 8))
def test_chunks_are_the_document_and_whole_characters(text, factor):
    raw = (text * 4000 * factor).encode()
    chunks = list(split_document(raw))
    assert b"".join(chunks) == raw
    for chunk in chunks:
        chunk.decode()
