"""Hashes of words: of their bytes, and of nothing else."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tailkeep.data.hashing import first_words, hash_spans, sort_hashes, split_words

# Lengths around eight bytes, where the next number begins, and around 64, from where on a word is hashed by itself.
LENGTHS = st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 72, 300])
WORDS = st.lists(LENGTHS.flatmap(lambda n: st.binary(min_size=n, max_size=n)), min_size=1, max_size=12)


def hashes(words, between=b""):
    """Of `words`, joined by `between`."""
    data = between.join(words)
    ends = np.cumsum([len(word) + len(between) for word in words]) - len(between)
    return hash_spans(data, ends - [len(word) for word in words], ends).tolist()


@settings(max_examples=200, deadline=None)
@given(WORDS, st.binary(max_size=9), st.randoms())
def test_equal_words_share_a_hash_wherever_they_stand_and_different_ones_do_not(words, between, random):
    hash_of = dict(zip(words, hashes(words), strict=True))
    assert len(set(hash_of.values())) == len(set(words))
    shuffled = random.sample(words, len(words))
    assert hashes(shuffled, between) == [hash_of[word] for word in shuffled]


def test_one_changed_byte_changes_half_of_the_bits():
    for length in (1, 8, 9, 64, 65):
        words = [bytes(length)] + [bytes([0] * place + [1] + [0] * (length - place - 1)) for place in range(length)]
        first, *others = hashes(words)
        flipped = [(first ^ other).bit_count() for other in others]
        assert min(flipped) > 16
        assert max(flipped) < 48


@given(st.lists(st.integers(0, 3).flatmap(lambda high: st.integers(0, 5).map(lambda low: (high << 62) + low))))
def test_hashes_that_differ_in_their_last_bits_alone_are_sorted_stably(values):
    values = np.array(values, np.uint64)
    order, firsts = sort_hashes(values)
    assert order.tolist() == np.argsort(values, kind="stable").tolist()
    assert values[order[firsts]].tolist() == sorted(set(values.tolist()))


def test_a_thousand_hashes_are_sorted_by_all_of_their_bits():
    values = np.random.default_rng(0).integers(0, 1 << 64, 1000, np.uint64)
    assert values[sort_hashes(values)[0]].tolist() == sorted(values.tolist())


def test_invisible_characters_are_no_part_of_a_word():
    plain, marked = "die Donau fließt weiter", "die Do\u00adnau \u200e\u00ad fließt\u2060 weiter\u200f"
    assert split_words([marked.encode()]).hashes.tolist() == split_words([plain.encode()]).hashes.tolist()
    assert first_words(marked, 2) == "die Donau"
    # A joiner is spelling.
    assert len(split_words(["ab\u200dcd".encode()]).hashes) == 1
    assert split_words(["ab\u200dcd".encode()]).hashes[0] != split_words([b"abcd"]).hashes[0]
