import json
from collections import Counter

import numpy as np
import pytest
import torch

from tailkeep.errors import ConfigError
from tailkeep.scoring import CausalLMScorer, Prior, split_model
from tailkeep.scoring import scorer as scorer_module
from tests.scoring.conftest import SIZE, pick, reference_log_probs, rows_of


@pytest.fixture
def scorer(folder):
    return lambda **choices: CausalLMScorer(Prior(path=folder, device="cpu", **choices))


def flag_likely(documents, positions, log_probs):
    """Flag tokens above their probability under a uniform distribution."""
    return log_probs > -np.log(SIZE)


def sample_second(documents, positions, rows, originals):
    """Sample the most probable token other than the original."""
    values, ids = rows.scatter(1, originals[:, None], -torch.inf).max(-1)
    return ids, values


def equal(one, other, tolerance=1e-5):
    assert np.allclose(one.log_probs, other.log_probs, atol=tolerance, equal_nan=True)
    assert (one.positions == other.positions).all()
    assert (one.ids == other.ids).all()
    assert np.allclose(one.new_log_probs, other.new_log_probs, atol=tolerance)


def test_a_sample_comes_from_the_whole_distribution_at_the_flagged_position(scorer, network):
    rows = rows_of(9, 2, 30, 17, 64)
    scored = list(scorer(batch_tokens=64).score(rows, flag_likely, sample_second))
    assert sum(len(document.positions) for document in scored) > 5
    for row, document in zip(rows, scored, strict=True):
        table = reference_log_probs(network, row)
        assert np.isnan(document.log_probs[0])
        assert np.abs(document.log_probs[1:] - pick(table, row)).max() < 1e-5
        assert (document.positions == np.flatnonzero(flag_likely(0, 0, document.log_probs))).all()
        for position, new, value in zip(document.positions, document.ids, document.new_log_probs, strict=True):
            others = table[position - 1].copy()
            others[row[position]] = -np.inf
            assert new == others.argmax()
            assert value == pytest.approx(others.max(), abs=1e-5)


def test_every_scored_token_is_passed_once_and_sampled_if_flagged(scorer, monkeypatch):
    flagged_calls, sampled_calls = Counter(), Counter()
    flagged = {(0, 3), (2, 1), (2, 29), (4, 5)}
    monkeypatch.setattr(split_model, "_MIN_ROWS", 1)
    monkeypatch.setitem(split_model._LOGITS, "cpu", 2 * SIZE)

    def flag(documents, positions, log_probs):
        places = list(zip(documents.tolist(), positions.tolist(), strict=True))
        flagged_calls.update(places)
        assert np.isfinite(log_probs).all()
        return np.array([place in flagged for place in places])

    def sample(documents, positions, log_probs, originals):
        assert log_probs.shape == (len(positions), SIZE)
        assert len(log_probs) <= 2
        assert torch.allclose(log_probs.exp().sum(-1), torch.ones(len(log_probs)))
        assert originals.tolist() == [rows[d][p] for d, p in zip(documents, positions, strict=True)]
        sampled_calls.update(zip(documents.tolist(), positions.tolist(), strict=True))
        return originals, log_probs[:, 0]

    rows = rows_of(9, 2, 30, 1, 17)
    scored = list(scorer().score(rows, flag, sample))
    assert flagged_calls == Counter(
        (number, position) for number, row in enumerate(rows) for position in range(1, len(row))
    )
    assert sampled_calls == Counter(flagged)
    assert [document.positions.tolist() for document in scored] == [[3], [], [1, 29], [], [5]]


@pytest.mark.parametrize("window", [2, 7, 16])
def test_a_long_document_is_scored_in_windows_with_at_least_half_a_window_of_context(scorer, network, window):
    (row,) = rows_of(61)
    (document,) = scorer(window=window, batch_tokens=40).score([row], flag_likely, sample_second)
    context = window - window // 2
    start, first = 0, 1
    while first < len(row):
        stop = min(start + window, len(row))
        expected = pick(reference_log_probs(network, row[start:stop]), row[start:stop])[first - start - 1 :]
        assert np.abs(document.log_probs[first:stop] - expected).max() < 1e-5
        start, first = stop - context, stop
    for position, new in zip(document.positions, document.ids, strict=True):
        assert new != row[position]


def test_a_window_is_the_models_positions_unless_the_batch_or_the_user_says_less(scorer):
    assert scorer().window == 64
    assert scorer(batch_tokens=40).window == 40
    assert scorer(window=9).window == 9
    with pytest.raises(ConfigError, match="65, but the model has 64 positions"):
        scorer(window=65)
    with pytest.raises(ConfigError, match=r"50 is above prior\.batch_tokens 40"):
        scorer(window=50, batch_tokens=40)


def test_the_order_of_documents_changes_no_score(scorer):
    rows = rows_of(12, 100, 3, 8, 150, 3, 1)
    forward = list(scorer(window=32, batch_tokens=64).score(rows, flag_likely, sample_second))
    backward = list(scorer(window=32, batch_tokens=64).score(rows[::-1], flag_likely, sample_second))[::-1]
    for one, other in zip(forward, backward, strict=True):
        equal(one, other)


def test_scores_repeat_to_the_last_bit(scorer):
    rows = rows_of(12, 100, 3, 8, 150)
    one, other = (
        list(scorer(window=32, batch_tokens=64).score(iter(rows), flag_likely, sample_second)) for _ in range(2)
    )
    for first, again in zip(one, other, strict=True):
        equal(first, again, tolerance=0)


def test_documents_are_numbered_through_all_groups(scorer, monkeypatch):
    monkeypatch.setattr(scorer_module, "_BATCHES", 1)
    rows, sampled_calls = rows_of(*[9] * 20), set()

    def flag(documents, positions, log_probs):
        sampled_calls.update(documents.tolist())
        return (documents % 2 == 1) & (positions == 1)

    def sample(documents, positions, distributions, originals):
        assert (documents % 2 == 1).all()
        return torch.tensor(documents % SIZE), distributions[:, 0]

    scored = scorer(batch_tokens=32).score(iter(rows), flag, sample)
    first = next(scored)
    assert 0 < len(sampled_calls) < 20, "a group is scored when it is asked for"
    assert not torch.is_inference_mode_enabled()
    rest = list(scored)
    assert sampled_calls == set(range(20))
    assert [list(document.ids) for document in [first, *rest]] == [[n] if n % 2 else [] for n in range(20)]


def test_documents_with_nothing_to_score_are_returned(scorer):
    rows = [np.zeros(0, np.int32), *rows_of(1, 5)]
    scored = list(scorer().score(rows, flag_likely, sample_second))
    assert [len(document.log_probs) for document in scored] == [0, 1, 5]
    assert np.isnan(scored[1].log_probs).all()
    assert list(scorer().score([])) == []


def test_without_a_flagger_nothing_is_flagged(scorer):
    (document,) = scorer().score(rows_of(20))
    assert len(document.positions) == len(document.ids) == len(document.new_log_probs) == 0
    assert np.isfinite(document.log_probs[1:]).all()


def test_two_hundred_thousand_tokens_are_one_document(scorer):
    (row,) = rows_of(200_000)
    (document,) = scorer(batch_tokens=4096).score(
        [row], lambda _, positions, __: positions % 1000 == 100, lambda d, p, rows, ids: (ids, rows[:, 0])
    )
    assert np.isfinite(document.log_probs[1:]).all()
    assert (document.ids == row[100::1000]).all()


def test_the_identity_is_what_can_change_a_score(scorer, folder, tmp_path):
    base = scorer().identity()
    assert set(base["files"]) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert base == json.loads(json.dumps(base))
    assert {"dtype": "float32", "device": "cpu", "window": 64, "batch_tokens": 16_384}.items() <= base.items()
    for choice in ({"window": 9}, {"batch_tokens": 99}, {"dtype": "bfloat16"}):
        assert scorer(**choice).identity() != base
    copy_folder = tmp_path / "copy"
    copy_folder.mkdir()
    for file in folder.iterdir():
        (copy_folder / file.name).write_bytes(file.read_bytes())
    (copy_folder / "README.md").write_text("not hashed", encoding="utf-8")
    moved = CausalLMScorer(Prior(path=copy_folder, device="cpu"))
    assert moved.identity() == base
    (copy_folder / "tokenizer.json").write_text("{ }", encoding="utf-8")
    assert moved.identity() != base


def test_half_precision_is_close_and_its_scores_are_float32(scorer):
    rows = rows_of(30, 20)
    for one, other in zip(scorer().score(rows), scorer(dtype="bfloat16").score(rows), strict=True):
        assert other.log_probs.dtype == np.float32
        assert 0 < np.nanmax(np.abs(one.log_probs - other.log_probs)) < 0.3


def test_a_real_model_is_scored_as_it_scores_itself(stories):
    scorer = CausalLMScorer(Prior(path=stories, device="cpu"))
    rows = rows_of(40, 511, 3, size=512)
    for row, document in zip(rows, scorer.score(rows), strict=True):
        assert np.abs(document.log_probs[1:] - pick(reference_log_probs(scorer._model.network, row), row)).max() < 1e-5
