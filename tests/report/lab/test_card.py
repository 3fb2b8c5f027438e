"""The section of a model card: what it states of a run, and that no text of the run escapes its line."""

import pytest

from tailkeep.errors import InputError
from tailkeep.report import model_card
from tailkeep.runs.pack import write_pack
from tests.report.built_runs import hostile_run, language_run
from tests.runs.faults import FaultyStorage


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return language_run(tmp_path_factory.mktemp("card") / "run", generations=3)


def rows_of(card):
    return [line for line in card.splitlines() if line.startswith("| ")]


def test_each_arm_has_a_row_with_its_intervals_at_the_last_common_generation(language):
    card = model_card(language)
    header, *rows = rows_of(card)
    assert header.startswith("| arm | regime | loss | KR-test accuracy, generation 1 |")
    assert "Held-out NLL in nats/token, generation 1" in header
    assert len(rows) == 4
    assert all(" to " in row for row in rows)
    assert "3 seeds, with 95 % CIs" in card
    assert "What this does not show" in card


def test_a_pack_gives_the_card_of_its_run(language, tmp_path):
    write_pack(language, tmp_path / "pack", storage=FaultyStorage())
    assert rows_of(model_card(tmp_path / "pack")) == rows_of(model_card(language))


def test_one_seed_has_no_interval_and_hostile_texts_stay_text_on_their_line(tmp_path):
    card = model_card(hostile_run(tmp_path / "r"))
    assert "One seed, so there is no interval" in card
    assert not any(piece in card for piece in ("<script", "\x1b", "\u202e"))
    assert all(row.count("|") == rows_of(card)[0].count("|") for row in rows_of(card))


def test_a_folder_without_a_run_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"run\.json"):
        model_card(tmp_path)
