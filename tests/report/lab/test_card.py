"""The section of a model card: what it states of a run, and that no text of the run escapes its line."""

import io

import pytest
from rich.console import Console

from tailkeep.errors import InputError
from tailkeep.report import model_card, print_summary, write
from tailkeep.runs.pack import write_pack
from tests.report.built_runs import finish, hostile_run, language_run, new_run
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


def card_of(path, arms, **config):
    """The card of a run whose arms lose the same, with configurations of their own."""
    with new_run(path, arms=arms, generations=2, learner="causal_lm", **config) as run:
        run_config = (run.path / "config.yaml").read_text(encoding="utf-8")
        for arm in arms:
            for seed in (0, 1, 2):
                for generation in (0, 1):
                    metrics = {"kr_accuracy": 0.9 - 0.2 * generation + 0.01 * seed, "train_units": 1.0 + len(arm)}
                    finish(run.generation_dir(arm, seed, generation), metrics, learner="causal_lm")
    for arm, tree in arms.items():
        run_config = run_config.replace(f"  {arm}: {{}}\n", f"  {arm}: {tree}\n")
    (path / ".config.yaml").unlink()
    (path / "config.yaml").write_text(run_config, encoding="utf-8")
    return model_card(path)


@pytest.mark.parametrize("key", ["external_edit", "external_text"])
def test_real_data_are_not_claimed_of_a_run_with_text_of_an_external_model(tmp_path, key):
    assert "Generation 0 was trained on real data." in card_of(tmp_path / "real", {"baseline": {}})
    card = card_of(tmp_path / "other", {"baseline": {}, "edited": {"data": {key: {"share": 0.5}}}})
    assert "real data" not in card


def test_what_a_verdict_must_not_be_read_without_is_on_the_card_and_on_the_terminal_too(tmp_path):
    card = card_of(tmp_path / "r", {"baseline": {}, "b": {}})
    caveat = "The arms did not train equally, which may explain a part of the differences."
    assert caveat in card
    assert caveat in write(tmp_path / "r").read_text(encoding="utf-8")
    console = Console(file=io.StringIO(), width=200)
    print_summary(tmp_path / "r", console)
    assert caveat in console.file.getvalue()


def test_a_verdict_a_unit_and_a_version_are_text_too(tmp_path):
    markup = "<b>x</b>|y"
    shown = "&lt;b>x&lt;/b>&#124;y"
    definition = {"title": markup, "unit": markup, "better": "higher", "headline": True}
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=2) as run:
        for generation in (0, 1):
            cell = run.generation_dir("a", 0, generation)
            cell.path.mkdir(parents=True)
            cell.write_metrics({"mine": 1.0}, {}, learner="custom", definitions={"mine": definition})
            cell.finish()
    record = (tmp_path / "r/run.json").read_text(encoding="utf-8")
    (tmp_path / "r/run.json").write_text(record.replace("3.12.1", markup), encoding="utf-8")
    card = model_card(tmp_path / "r")
    assert f"goes from 1.00 to 1.00 in {shown}." in card
    assert f"{shown} in {shown}, generation 1 |" in card
    assert f"python {shown}" in card
    assert "<b>" not in card


def test_one_missing_chain_is_one(tmp_path):
    path = language_run(tmp_path / "r", generations=2)
    assert "1 chain is missing or not complete" in model_card(path)


def test_a_folder_without_a_run_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"run\.json"):
        model_card(tmp_path)
