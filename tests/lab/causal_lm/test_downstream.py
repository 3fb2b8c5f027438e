import json
import math

import numpy as np
import pytest
import torch

from tailkeep import lab
from tailkeep.data import MultipleChoice, write_tasks
from tailkeep.errors import ConfigError, FingerprintError
from tailkeep.lab.causal_lm.data_config import Downstream
from tailkeep.lab.causal_lm.downstream import choice_rows, choice_scores, evaluate_model, measure_downstream, read_tests
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer
from tailkeep.metrics import choice_log_odds, macro_f1
from tests.harness import evaluate, sums_of
from tests.lab.causal_lm.tiny import config_tree, write_stories


def downstream_metrics(network, tokenizer, tests, *, positions=64):
    return measure_downstream(network, tokenizer, tests, positions=positions).metrics


def uniform(network):
    with torch.no_grad():
        network.lm_head.weight.zero_()
    return network


ITEMS = [
    MultipleChoice("Ann saw a red", ("cat.", "little old boat."), 0),
    MultipleChoice("Ben had a", ("green tree", "hat"), 1),
    MultipleChoice("", ("Cleo saw a hat.", "saw Cleo hat a."), 0),
]


def test_a_score_is_the_sum_of_explicit_log_probabilities(network, tokenizer):
    scores, cut = choice_scores(network, tokenizer, ITEMS, positions=64)
    assert cut == 0
    for item, row in zip(ITEMS, scores, strict=True):
        for choice, score in zip(item.choices, row, strict=True):
            query = tokenizer.encode_without_eos(item.query)
            ids = torch.from_numpy(tokenizer.encode_without_eos(f"{item.query} {choice}".strip()).astype(np.int64))[
                None
            ]
            with torch.no_grad():
                log_p = network(input_ids=ids).logits[0].double().log_softmax(-1)
            expected = sum(float(log_p[place - 1, ids[0, place]]) for place in range(len(query), ids.shape[1]))
            assert score == pytest.approx(expected, rel=1e-4)


def test_a_model_that_cannot_tell_takes_the_choice_of_the_fewest_tokens(network, tokenizer):
    result = downstream_metrics(uniform(network), tokenizer, {"own": ITEMS[:2]}, positions=64)
    assert result["downstream.own"] == 1.0
    alike = [MultipleChoice("Ann saw a", ("cat", "hat"), 1)] * 3
    tied = downstream_metrics(network, tokenizer, {"own": alike}, positions=64)
    if len({len(row) for row in choice_rows(alike[0], tokenizer)[1]}) == 1:
        assert tied["downstream.own"] == 0.5


def test_accuracy_comes_with_its_interval_chance_and_number(network, tokenizer):
    result = downstream_metrics(network, tokenizer, {"own": ITEMS}, positions=64)
    assert result["downstream.own.items"] == 3
    assert result["downstream.own.chance"] == 0.5
    assert result["downstream.own.low"] <= result["downstream.own"] <= result["downstream.own.high"]
    assert result["downstream.own.cut"] == 0
    three = downstream_metrics(
        network, tokenizer, {"own": [MultipleChoice("q", ("a", "b", "c", "d"), 0), ITEMS[0]]}, positions=64
    )
    assert three["downstream.own.chance"] == (1 / 4 + 1 / 2) / 2


def test_scores_that_are_no_numbers_answer_nothing(network, tokenizer, monkeypatch):
    """As of a model that overflows: 0 % correct would be a measurement."""
    rows = [np.array([math.nan, -1.0])] * len(ITEMS)
    monkeypatch.setattr("tailkeep.lab.causal_lm.downstream.choice_scores", lambda *_, **__: (rows, 0))
    result = downstream_metrics(network, tokenizer, {"own": ITEMS}, positions=64)
    keys = ("downstream.own", "downstream.own.low", "downstream.own.high", "downstream.own.per_byte")
    assert np.isnan([result[key] for key in keys]).all()
    assert not any("macro_f1" in key for key in result)


def pubmedqa(number, gold):
    query = f"Context: Ann saw {number} cats.\nQuestion: Did she?"
    return MultipleChoice(query, ("yes", "no", "maybe"), gold, "Question: Did she?")


def test_calibration_takes_off_what_a_choice_scores_without_the_context(network, tokenizer):
    items = [pubmedqa(number, gold) for number, gold in enumerate((0, 1, 2, 0))]
    measured = measure_downstream(network, tokenizer, {"own": items}, positions=64)
    with_context = choice_scores(network, tokenizer, items, positions=64)[0]
    bare = [MultipleChoice("Question: Did she?", item.choices, item.gold) for item in items]
    without = choice_scores(network, tokenizer, bare, positions=64)[0]
    expected = [choice_log_odds(a - b, i.gold) for a, b, i in zip(with_context, without, items, strict=True)]
    table = measured.tables["downstream"]["own"]
    assert table["calibrated_log_odds"] == pytest.approx(expected)
    assert measured.metrics["downstream.own.calibrated_log_odds"] == pytest.approx(np.mean(expected))
    guesses = [int((a - b).argmax()) for a, b in zip(with_context, without, strict=True)]
    assert measured.metrics["downstream.own.calibrated_macro_f1"] == macro_f1(guesses, [0, 1, 2, 0])


def test_without_common_choices_or_bare_queries_neither_f1_nor_calibration_is_given(network, tokenizer):
    metrics = downstream_metrics(network, tokenizer, {"own": [pubmedqa(1, 0), ITEMS[0]]}, positions=64)
    assert "downstream.own.log_odds" in metrics
    assert not [name for name in metrics if "calibrated" in name or "macro_f1" in name]


def test_all_choices_are_judged_from_one_place(tokenizer):
    context, rows = choice_rows(ITEMS[0], tokenizer)
    assert all(row[:context].tolist() == rows[0][:context].tolist() for row in rows)
    assert [tokenizer.decode(row[context:]) for row in rows] == [" cat.", " little old boat."]


def test_without_a_start_token_the_first_word_of_a_sentence_counts(tokenizer):
    class Bare:
        """The tokenizer without its start token."""

        bos_token_id = None
        eos_token_id = tokenizer.stop
        all_special_ids = ()

        def __call__(self, text, **options):
            return {"input_ids": tokenizer.hf_tokenizer(text, **options)["input_ids"][1:]}

    context, rows = choice_rows(
        MultipleChoice("", ("Ann saw.", "Ben saw."), 0), DocumentTokenizer(Bare(), append_eos=True)
    )
    assert context == 1
    assert rows[0][0] == rows[1][0] == tokenizer.stop
    assert rows[0][1] != rows[1][1]


def test_a_query_that_is_too_long_loses_its_beginning_and_is_counted(network, tokenizer):
    long = MultipleChoice("Ann saw a red cat. " * 30, ("boat", "hat"), 0)
    scores, cut = choice_scores(network, tokenizer, [long, ITEMS[0]], positions=20)
    assert cut == 1
    assert all(math.isfinite(score) for row in scores for score in row)
    assert downstream_metrics(network, tokenizer, {"own": [long, ITEMS[0]]}, positions=20)["downstream.own.cut"] == 0.5


# The harness and what it loads warn of themselves.
@pytest.mark.filterwarnings("ignore")
def test_the_harness_agrees_with_our_scores(network, tokenizer, tmp_path, monkeypatch):
    model = tmp_path / "model"
    network.save_pretrained(model)
    tokenizer.save(model)
    tests = {"own": [*ITEMS[:2], MultipleChoice("12", ("34", "[1, 2]"), 1)], "blimp": ITEMS[2:]}
    # A text begins with the start token here, and there only if asked to.
    tasks = write_tasks(tests, tmp_path / "tasks")
    result = evaluate(model, tasks, monkeypatch, tmp_path / "cache", add_bos_token=True)
    metrics = evaluate_model(model, tests)
    for name, items in tests.items():
        scores, _ = choice_scores(network, tokenizer, items, positions=64)
        for row, sums in zip(scores, sums_of(result, name), strict=True):
            assert row.tolist() == pytest.approx(sums, abs=1e-3)
        assert result["results"][name]["acc,none"] == pytest.approx(metrics[f"downstream.{name}"])


@pytest.mark.parametrize(
    ("settings", "reason"), [({}, "names no test"), ({"choices": {"blimp": "x"}}, "'blimp' is the name")]
)
def test_settings_that_test_nothing_are_refused(tmp_path, settings, reason):
    path = write_stories(tmp_path)
    data = {"name": "text", "path": str(path), "separator": "line", "downstream": settings}
    with pytest.raises(ConfigError, match=reason):
        lab.load({**config_tree(path), "data": data})


def test_a_run_measures_them_and_their_files_are_part_of_what_it_is(tmp_path):
    tests = tmp_path / "own.jsonl"
    tests.write_text(json.dumps({"query": "Ann saw a", "choices": ["cat", "boat"], "gold": 0}) + "\n")
    data = {"name": "text", "path": str(write_stories(tmp_path)), "separator": "line"}
    config = {**config_tree(""), "data": {**data, "downstream": {"choices": {"own": str(tests)}}}, "device": "cpu"}
    run = lab.run(config, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["downstream.own.items"] == 1 and row["downstream.own.chance"] == 0.5 for row in rows)
    tests.write_text(json.dumps({"query": "Ann saw a", "choices": ["hat", "boat"], "gold": 0}) + "\n")
    with pytest.raises(FingerprintError, match=r"downstream\.choices\.own"):
        lab.run(config, run.path)


@pytest.mark.slow
def test_a_real_model_is_better_than_chance_where_it_can_be(real_data):
    settings = Downstream(blimp=real_data / "benchmarks" / "blimp.zip", pairs=60)
    result = evaluate_model(real_data / "priors" / "stories260k", read_tests(settings))
    assert result["downstream.blimp.items"] == 67 * 60
    assert result["downstream.blimp.low"] > 0.5
