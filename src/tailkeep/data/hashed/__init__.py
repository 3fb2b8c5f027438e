"""Texts as hashed words and n-grams, many at once, and how much more of some than of others one corpus has.

Rule: a hash is a function of the bytes alone, so counts of any texts can be compared and added up.
"""

from tailkeep.data.hashed.grams import Equal, Grams, distinct_in_documents, documents_with, equal_grams, grams_of
from tailkeep.data.hashed.hashing import SLOTS, Hashes, buckets_of, extended, hash_spans, mixed, slots_of
from tailkeep.data.hashed.importance import BUCKETS, log_ratios, occurrences
from tailkeep.data.hashed.words import Positions, Words, words_of

__all__ = [
    "BUCKETS",
    "SLOTS",
    "Equal",
    "Grams",
    "Hashes",
    "Positions",
    "Words",
    "buckets_of",
    "distinct_in_documents",
    "documents_with",
    "equal_grams",
    "extended",
    "grams_of",
    "hash_spans",
    "log_ratios",
    "mixed",
    "occurrences",
    "slots_of",
    "words_of",
]
