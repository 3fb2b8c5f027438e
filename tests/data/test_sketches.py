"""HyperLogLog and Misra-Gries against exact counts."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data.hashing import (
    mix_bits,
)
from tailkeep.data.sketches import DISTINCT_ERROR, DistinctCounter, FrequentItems, count_distinct


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
    items = np.minimum(rng.zipf(1.3, 40_000), 5000)
    halves = []
    for half in np.array_split(items, 2):
        sketch = FrequentItems(200)
        for part in np.array_split(half, 7):
            types, counts = np.unique(part, return_counts=True)
            sketch.add(types.astype(np.uint64), counts, lambda items, types=types: [b"%d" % t for t in types[items]])
        halves.append(sketch)
    halves[0].merge(halves[1])
    exact = Counter(items.tolist())
    assert 0 < halves[0].error <= 2 * len(items) / 201
    for hash_, text, count in halves[0].items():
        assert text == str(hash_)
        assert exact[hash_] - halves[0].error <= count <= exact[hash_]
    counters = {hash_ for hash_, _, _ in halves[0].items()}
    assert all(item in counters for item, count in exact.items() if count > halves[0].error)


def test_an_item_that_returns_to_the_sketch_still_has_its_text():
    sketch, read = FrequentItems(2), []

    def add(**counts):
        names = [name.encode() for name in counts]
        hashes = np.array([int.from_bytes(name, "little") for name in names], np.uint64)

        def texts_of(items):
            read.extend(names[item] for item in items)
            return [names[item] for item in items]

        sketch.add(hashes, np.array([*counts.values()]), texts_of)

    add(a=1, b=5)
    add(c=9, d=2)
    assert sketch.read() == ["b", "c"]
    add(a=20)
    assert sketch.read() == ["a", "c"]
    assert read == [b"a", b"b", b"c"]
    for number in range(40):
        add(**{f"x{number}": 100})
    assert len(sketch.read()) == len(sketch.hashes)
    assert len(sketch.texts) <= 4 * sketch.size


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=80), min_size=1, max_size=5), st.integers(1, 20),
       st.sampled_from([1, 5000]))  # fmt: skip
def test_items_that_cannot_stay_are_skipped_without_a_trace(batches, size, times):
    sketch, counters, error = FrequentItems(size), Counter(), 0
    for batch in batches:
        types, counts = np.unique(batch, return_counts=True)
        hashes, counts = mix_bits(types.astype(np.uint64)), counts * times
        sketch.add(hashes, counts, lambda items, types=types: [b"%d" % t for t in types[items]])
        # Misra and Gries with all items before it.
        counters.update(dict(zip(hashes.tolist(), counts.tolist(), strict=True)))
        cut = sorted(counters.values())[-size - 1] if len(counters) > size else 0
        error += cut
        counters = Counter({item: count - cut for item, count in counters.items() if count > cut})
    assert dict(zip(sketch.hashes.tolist(), sketch.counts.tolist(), strict=True)) == counters
    assert sketch.error == error
    assert all(mix_bits(np.array([int(text)], np.uint64))[0] == hash_ for hash_, text, _ in sketch.items())
