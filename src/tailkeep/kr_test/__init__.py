"""Knowledge-retention tests of a user's own corpus: built, checked, run and handed on to other harnesses.

Running needs torch, so `tailkeep.kr_test.evaluate` is not loaded with the room.
"""
