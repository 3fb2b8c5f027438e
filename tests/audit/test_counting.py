"""Words, counts and sketches against plain Python, and what any way of cutting a corpus leaves."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.audit.corpus_stats import Spectrum, histogram_quantiles
from tailkeep.data.count_tables import CountTable, merge_rows, merge_tables
from tailkeep.data.counters import ShardCounter, ShardDocument, batch_documents, merge_counts, split_chunks
from tailkeep.data.hashing import (
    BUCKETS,
    count_distinct_per_document,
    count_documents_with,
    group_equal_grams,
    mix_bits,
    ngrams_of,
    split_words,
)
from tailkeep.data.sketches import DISTINCT_ERROR, DistinctCounter, FrequentItems, count_distinct
from tailkeep.metrics import entropy, gini, top_share

texts = st.lists(st.text(alphabet="ab c.\né\u3042\u2014\u00a0", max_size=30), min_size=1, max_size=6)


def documents_of(some):
    return [ShardDocument(number, number, str(number), text, text.encode()) for number, text in enumerate(some)]


def counted(some, folder):
    counting = ShardCounter(1 << 20, folder)
    for batch in batch_documents(documents_of(some)):
        counting.add(batch)
    return counting


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ann saw a cat.", ["ann", "saw", "a", "cat", "."]),
        ("it's  U.S.\tmade", ["it", "'", "s", "u", ".", "s", ".", "made"]),
        ("na\u00efve \u00c9t\u00e9", ["na\u00efve", "\u00c9t\u00e9"]),
        ("\u4f60\u597d, x", ["\u4f60", "\u597d", ",", "x"]),
        ("a\u00a0b\u2014c \u201cd\u201d", ["a", "b", "\u2014", "c", "\u201c", "d", "\u201d"]),
        ("", []),
    ],
)
def test_a_word_is_a_run_of_letters_a_run_of_marks_or_a_sign(text, words):
    found = split_words([text.encode()])
    assert [raw.decode() for raw in found.texts(np.arange(len(found.hashes)))] == words


def test_equal_words_have_equal_hashes_wherever_they_stand_and_different_ones_do_not():
    types = [f"w{number}" for number in range(5000)]
    found = split_words([" ".join(types).encode(), " ".join(reversed(types)).encode()])
    assert len(set(found.hashes.tolist())) == 5000
    assert found.hashes[:5000].tolist() == found.hashes[5000:].tolist()[::-1]


@settings(max_examples=60, deadline=None)
@given(texts)
def test_grams_are_those_that_plain_python_counts(some):
    words = split_words([text.encode() for text in some])
    spelled = words.texts(np.arange(len(words.hashes)))
    for length, grams in enumerate(ngrams_of(words, 3), 1):
        wanted = Counter(
            (document, *spelled[first : first + length])
            for first, document in enumerate(words.documents.tolist())
            if words.documents[first : first + length].tolist() == [document] * length
        )
        equal = group_equal_grams(grams)
        totals = Counter({})
        for (_, *gram), count in wanted.items():
            totals[tuple(gram)] += count
        assert sorted(equal.counts.tolist()) == sorted(totals.values())
        assert count_documents_with(grams, equal).sum() == len(wanted)
        per_document = Counter(document for document, *_ in wanted)
        assert count_distinct_per_document(grams, len(some)).tolist() == [per_document[n] for n in range(len(some))]


@settings(max_examples=30, deadline=None)
@given(texts, st.integers(0, 6))
def test_any_cut_into_shards_adds_up_to_the_whole(tmp_path_factory, some, cut):
    folder = tmp_path_factory.mktemp("counts")
    whole = counted(some, folder).counts()
    parts = merge_counts([counted(part, folder).counts() for part in (some[:cut], some[cut:])])
    assert {name: counts.tolist() for name, counts in parts.items()} == {
        name: counts.tolist() for name, counts in whole.items()
    }
    assert int(whole["words"][0]) == int(whole["buckets/1"].sum())
    assert int(whole["lengths"].sum()) == len(some)
    assert len(whole["buckets/2"]) == BUCKETS


def test_a_long_document_is_one_document_however_it_is_cut(tmp_path):
    text = "word " * 300_000
    assert len(list(split_chunks(text.encode()))) > 1
    counts = counted([text, "a b"], tmp_path).counts()
    assert int(counts["words"][0]) == 300_002
    assert int(counts["lengths"].sum()) == 2


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40), st.integers(1, 8))
def test_pieces_are_the_document_and_whole_characters(text, factor):
    raw = (text * 4000 * factor).encode()
    chunks = list(split_chunks(raw))
    assert b"".join(chunks) == raw
    for chunk in chunks:
        chunk.decode()


def test_distinct_hashes_are_counted_within_the_stated_error():
    rng = np.random.default_rng(0)
    for size in (10, 1000, 300_000):
        errors = []
        for _ in range(5):
            sketch, hashes = DistinctCounter(), rng.integers(0, 1 << 64, size, np.uint64)
            for part in np.array_split(np.concatenate([hashes, hashes[::2]]), 3):
                sketch.add(part)
            errors.append(count_distinct(sketch.registers()) / size - 1)
        assert abs(np.mean(errors)) < 3 * DISTINCT_ERROR / 5**0.5


def test_two_sketches_together_are_one_over_both():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 1 << 64, (2, 5000), np.uint64)
    parts = [DistinctCounter(), DistinctCounter()]
    parts[0].add(first)
    parts[1].add(second)
    whole = DistinctCounter()
    whole.add(np.concatenate([first, second]))
    assert np.maximum(*(part.registers() for part in parts)).tolist() == whole.registers().tolist()


def test_frequent_items_are_never_too_high_and_too_low_by_the_error_at_most():
    rng = np.random.default_rng(2)
    drawn = np.minimum(rng.zipf(1.3, 40_000), 5000)
    halves = []
    for half in np.array_split(drawn, 2):
        sketch = FrequentItems(200)
        for part in np.array_split(half, 7):
            types, counts = np.unique(part, return_counts=True)
            sketch.add(types.astype(np.uint64), counts, lambda items, types=types: [b"%d" % t for t in types[items]])
        halves.append(sketch)
    halves[0].merge(halves[1])
    exact = Counter(drawn.tolist())
    assert 0 < halves[0].error <= 2 * len(drawn) / 201
    for hash_, text, count in halves[0].items():
        assert text == str(hash_)
        assert exact[hash_] - halves[0].error <= count <= exact[hash_]
    kept = {hash_ for hash_, _, _ in halves[0].items()}
    assert all(item in kept for item, count in exact.items() if count > halves[0].error)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=80), min_size=1, max_size=5), st.integers(1, 20),
       st.sampled_from([1, 5000]))  # fmt: skip
def test_items_that_cannot_stay_are_passed_over_without_a_trace(batches, size, times):
    sketch, kept, error = FrequentItems(size), Counter(), 0
    for batch in batches:
        types, counts = np.unique(batch, return_counts=True)
        hashes, counts = mix_bits(types.astype(np.uint64)), counts * times
        sketch.add(hashes, counts, lambda items, types=types: [b"%d" % t for t in types[items]])
        # Misra and Gries with all items before it.
        kept.update(dict(zip(hashes.tolist(), counts.tolist(), strict=True)))
        cut = sorted(kept.values())[-size - 1] if len(kept) > size else 0
        error += cut
        kept = Counter({item: count - cut for item, count in kept.items() if count > cut})
    assert dict(zip(sketch.hashes.tolist(), sketch.counts.tolist(), strict=True)) == kept
    assert sketch.error == error
    assert all(mix_bits(np.array([int(text)], np.uint64))[0] == hash_ for hash_, text, _ in sketch.items())


def test_tables_that_spill_hold_what_those_in_memory_hold(tmp_path):
    rng = np.random.default_rng(3)
    parts = [np.unique(rng.integers(0, 200_000, 100_000, np.uint64)) for _ in range(6)]
    hashes = [part * np.uint64(0x9E3779B97F4A7C15) for part in parts]
    files = []
    for memory in (1, 1 << 30):
        folder = tmp_path / str(memory)
        folder.mkdir()
        table = CountTable(memory, folder)
        for part in hashes:
            table.add(part, np.ones(len(part), np.int64), np.full(len(part), 2))
        table.write(folder / "table.parquet")
        files.append((folder / "table.parquet").read_bytes())
        assert bool(list(folder.glob("run-*"))) == (memory == 1)
    assert files[0] == files[1]
    rows = list(merge_tables([tmp_path / "1" / "table.parquet"], memory=1 << 20))
    exact = Counter(np.concatenate(hashes).tolist())
    together = merge_rows(rows)
    assert dict(zip(together.hashes.tolist(), together.counts.tolist(), strict=True)) == exact
    assert (together.others == 2 * together.counts).all()


def test_a_spectrum_says_what_the_counts_say():
    counts = np.array([9, 5, 5, 3, 1, 1, 1, 1])
    spectrum = Spectrum()
    for part in np.array_split(counts, 3):
        spectrum.add(part)
    figures = spectrum.figures()
    assert figures["types"] == 8
    assert figures["entropy"] == pytest.approx(float(entropy(counts)))
    assert figures["gini"] == pytest.approx(float(gini(counts)))
    assert figures["unseen_mass"] == pytest.approx(4 / 26)
    assert figures["tail_mass"] == pytest.approx(7 / 26)
    assert float(top_share(counts, 3)) == pytest.approx(19 / 26)
    assert list(islice(spectrum.curve(), 3))[1] == pytest.approx((4 / 8, 4 / 26))
    assert spectrum.ranks()[0] == (1, 9)


def test_quantiles_lie_straight_between_the_edges_of_a_bin():
    edges = np.array([0.0, 1.0, 3.0])
    assert histogram_quantiles([2, 2], edges, [0.25, 0.5, 0.75]) == [0.5, 1.0, 2.0]
    assert np.isnan(histogram_quantiles([0, 0], edges, [0.5])).all()
