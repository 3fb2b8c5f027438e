from hypothesis import given
from hypothesis import strategies as st

from tailkeep.scoring.scorer import batch_windows, group_rows, split_windows


@given(length=st.integers(0, 300), size=st.integers(2, 40))
def test_each_token_but_the_first_is_scored_once_with_half_a_window_of_context(length, size):
    windows = list(split_windows(3, length, size))
    assert [place for w in windows for place in range(w.first, w.stop)] == list(range(1, length))
    for w in windows:
        assert w.row == 3
        assert 0 <= w.start < w.first < w.stop <= length
        assert w.width <= size
        assert w.start == 0 or 2 * (w.first - w.start) >= size


@given(length=st.integers(2, 300), half=st.integers(1, 20))
def test_no_more_than_twice_a_document_is_read(length, half):
    assert sum(w.width for w in split_windows(0, length, 2 * half)) < 2 * length


@given(lengths=st.lists(st.integers(1, 40)), limit=st.integers(2, 100))
def test_every_window_is_in_one_batch_within_the_limit(lengths, limit):
    windows = [w for row, length in enumerate(lengths) for w in split_windows(row, length, 12)]
    batches = batch_windows(windows, limit)
    assert sorted((w.row, w.start) for batch in batches for w in batch) == [(w.row, w.start) for w in windows]
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(w.width for w in batch) <= limit


def test_a_batch_is_filled_before_the_next_begins():
    windows = [w for row in range(7) for w in split_windows(row, 5, 8)]
    assert [len(batch) for batch in batch_windows(windows, 15)] == [3, 3, 1]


@given(lengths=st.lists(st.integers(0, 40)), tokens=st.integers(1, 100))
def test_groups_are_the_documents_in_order_and_closed_as_soon_as_they_are_full(lengths, tokens):
    rows = [[0] * length for length in lengths]
    groups = list(group_rows(iter(rows), tokens))
    assert [row for group in groups for row in group] == rows
    for group in groups[:-1]:
        assert sum(map(len, group)) >= tokens > sum(map(len, group[:-1]))
