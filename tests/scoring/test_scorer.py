import json
from collections import Counter

import numpy as np
import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.scoring import CausalLMScorer, Prior, split_model
from tailkeep.scoring import scorer as scorer_module
from tests.scoring.conftest import SIZE, chosen, naive, rows_of


@pytest.fixture
def scorer(folder):
    return lambda **choices: CausalLMScorer(Prior(path=folder, device="cpu", **choices))


def likely(documents, positions, log_probs):
    """Flags what has more than its share of a uniform distribution."""
    return log_probs > -np.log(SIZE)


def second(documents, positions, rows, originals):
    """The likeliest token that is not the original."""
    values, ids = rows.scatter(1, originals[:, None], -torch.inf).max(-1)
    return ids, values


def equal(one, other, tolerance=1e-5):
    assert np.allclose(one.log_probs, other.log_probs, atol=tolerance, equal_nan=True)
    assert (one.positions == other.positions).all()
    assert (one.ids == other.ids).all()
    assert np.allclose(one.new_log_probs, other.new_log_probs, atol=tolerance)


def test_what_is_drawn_comes_from_the_whole_distribution_at_the_flagged_position(scorer, network):
    rows = rows_of(9, 2, 30, 17, 64)
    scored = list(scorer(batch_tokens=64).score(rows, likely, second))
    assert sum(len(found.positions) for found in scored) > 5
    for row, found in zip(rows, scored, strict=True):
        table = naive(network, row)
        assert np.isnan(found.log_probs[0])
        assert np.abs(found.log_probs[1:] - chosen(table, row)).max() < 1e-5
        assert (found.positions == np.flatnonzero(likely(0, 0, found.log_probs))).all()
        for position, new, value in zip(found.positions, found.ids, found.new_log_probs, strict=True):
            others = table[position - 1].copy()
            others[row[position]] = -np.inf
            assert new == others.argmax()
            assert value == pytest.approx(others.max(), abs=1e-5)


def test_every_scored_token_is_judged_once_and_drawn_if_flagged(scorer, monkeypatch):
    judged, seen = Counter(), Counter()
    flagged = {(0, 3), (2, 1), (2, 29), (4, 5)}
    monkeypatch.setattr(split_model, "_ROWS", 1)
    monkeypatch.setitem(split_model._LOGITS, "cpu", 2 * SIZE)

    def judge(documents, positions, log_probs):
        places = list(zip(documents.tolist(), positions.tolist(), strict=True))
        judged.update(places)
        assert np.isfinite(log_probs).all()
        return np.array([place in flagged for place in places])

    def draw(documents, positions, rows, originals):
        assert rows.shape == (len(positions), SIZE)
        assert len(rows) <= 2
        assert torch.allclose(rows.exp().sum(-1), torch.ones(len(rows)))
        assert originals.tolist() == [given[d][p] for d, p in zip(documents, positions, strict=True)]
        seen.update(zip(documents.tolist(), positions.tolist(), strict=True))
        return originals, rows[:, 0]

    given = rows_of(9, 2, 30, 1, 17)
    scored = list(scorer().score(given, judge, draw))
    assert judged == Counter((number, position) for number, row in enumerate(given) for position in range(1, len(row)))
    assert seen == Counter(flagged)
    assert [found.positions.tolist() for found in scored] == [[3], [], [1, 29], [], [5]]


@pytest.mark.parametrize("window", [2, 7, 16])
def test_a_long_document_is_scored_in_windows_with_at_least_half_a_window_of_context(scorer, network, window):
    (row,) = rows_of(61)
    (found,) = scorer(window=window, batch_tokens=40).score([row], likely, second)
    context = window - window // 2
    start, first = 0, 1
    while first < len(row):
        stop = min(start + window, len(row))
        wanted = chosen(naive(network, row[start:stop]), row[start:stop])[first - start - 1 :]
        assert np.abs(found.log_probs[first:stop] - wanted).max() < 1e-5
        start, first = stop - context, stop
    for position, new in zip(found.positions, found.ids, strict=True):
        assert new != row[position]


def test_a_window_is_the_models_positions_unless_the_batch_or_the_user_says_less(scorer):
    assert scorer().window == 64
    assert scorer(batch_tokens=40).window == 40
    assert scorer(window=9).window == 9
    with pytest.raises(ConfigError, match="65, and the model has 64 positions"):
        scorer(window=65)
    with pytest.raises(ConfigError, match=r"50 is more than prior\.batch_tokens 40"):
        scorer(window=50, batch_tokens=40)


def test_the_order_of_documents_changes_no_score(scorer):
    rows = rows_of(12, 100, 3, 8, 150, 3, 1)
    forward = list(scorer(window=32, batch_tokens=64).score(rows, likely, second))
    backward = list(scorer(window=32, batch_tokens=64).score(rows[::-1], likely, second))[::-1]
    for one, other in zip(forward, backward, strict=True):
        equal(one, other)


def test_scores_repeat_to_the_last_bit(scorer):
    rows = rows_of(12, 100, 3, 8, 150)
    one, other = (list(scorer(window=32, batch_tokens=64).score(iter(rows), likely, second)) for _ in range(2))
    for first, again in zip(one, other, strict=True):
        equal(first, again, tolerance=0)


def test_documents_are_numbered_through_all_groups(scorer, monkeypatch):
    monkeypatch.setattr(scorer_module, "_BATCHES", 1)
    rows, seen = rows_of(*[9] * 20), set()

    def judge(documents, positions, log_probs):
        seen.update(documents.tolist())
        return (documents % 2 == 1) & (positions == 1)

    def draw(documents, positions, distributions, originals):
        assert (documents % 2 == 1).all()
        return torch.tensor(documents % SIZE), distributions[:, 0]

    scored = scorer(batch_tokens=32).score(iter(rows), judge, draw)
    first = next(scored)
    assert 0 < len(seen) < 20, "a group is scored when it is asked for"
    assert not torch.is_inference_mode_enabled()
    rest = list(scored)
    assert seen == set(range(20))
    assert [list(found.ids) for found in [first, *rest]] == [[n] if n % 2 else [] for n in range(20)]


def test_documents_with_nothing_to_score_are_returned(scorer):
    rows = [np.zeros(0, np.int32), *rows_of(1, 5)]
    scored = list(scorer().score(rows, likely, second))
    assert [len(found.log_probs) for found in scored] == [0, 1, 5]
    assert np.isnan(scored[1].log_probs).all()
    assert list(scorer().score([])) == []


def test_without_a_judge_nothing_is_flagged(scorer):
    (found,) = scorer().score(rows_of(20))
    assert len(found.positions) == len(found.ids) == len(found.new_log_probs) == 0
    assert np.isfinite(found.log_probs[1:]).all()


def test_two_hundred_thousand_tokens_are_one_document(scorer):
    (row,) = rows_of(200_000)
    (found,) = scorer(batch_tokens=4096).score(
        [row], lambda _, positions, __: positions % 1000 == 100, lambda d, p, rows, ids: (ids, rows[:, 0])
    )
    assert np.isfinite(found.log_probs[1:]).all()
    assert (found.ids == row[100::1000]).all()


def test_the_identity_is_what_can_change_a_score(scorer, folder, tmp_path):
    base = scorer().identity()
    assert set(base["files"]) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert base == json.loads(json.dumps(base))
    assert {"dtype": "float32", "device": "cpu", "window": 64, "batch_tokens": 16_384}.items() <= base.items()
    for choice in ({"window": 9}, {"batch_tokens": 99}, {"dtype": "bfloat16"}):
        assert scorer(**choice).identity() != base
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    for file in folder.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    (copied / "README.md").write_text("no part of it", encoding="utf-8")
    moved = CausalLMScorer(Prior(path=copied, device="cpu"))
    assert moved.identity() == base
    (copied / "tokenizer.json").write_text("{ }", encoding="utf-8")
    assert moved.identity() != base


def test_half_precision_is_close_and_its_scores_are_float32(scorer):
    rows = rows_of(30, 20)
    for one, other in zip(scorer().score(rows), scorer(dtype="bfloat16").score(rows), strict=True):
        assert other.log_probs.dtype == np.float32
        assert 0 < np.nanmax(np.abs(one.log_probs - other.log_probs)) < 0.3


def test_a_real_model_is_scored_as_it_scores_itself(stories):
    scorer = CausalLMScorer(Prior(path=stories, device="cpu"))
    rows = rows_of(40, 511, 3, size=512)
    for row, found in zip(rows, scorer.score(rows), strict=True):
        assert np.abs(found.log_probs[1:] - chosen(naive(scorer._model.network, row), row)).max() < 1e-5
