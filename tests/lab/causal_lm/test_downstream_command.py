"""`tailkeep downstream`, as a user calls it."""

import json

import pytest
import yaml


@pytest.fixture
def model(network, tokenizer, tmp_path):
    network.save_pretrained(tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def files(tmp_path):
    choices, pairs = tmp_path / "own.jsonl", tmp_path / "blimp"
    items = [{"query": "Ann saw a", "choices": ["cat", "boat", "hat"], "gold": number % 3} for number in range(6)]
    choices.write_text("".join(json.dumps(item) + "\n" for item in items))
    pairs.mkdir()
    (pairs / "order.jsonl").write_text(json.dumps({"sentence_good": "Ann saw.", "sentence_bad": "saw Ann."}) + "\n")
    return "--choices", f"own={choices}", "--blimp", str(pairs)


def test_a_model_is_asked_and_its_figures_are_written(tailkeep, model, files, tmp_path):
    out = tmp_path / "figures.json"
    code, text, _ = tailkeep("downstream", "run", "--model", model, *files, "--skip", "own=2", "--out", out)
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == ["blimp", "own"]
    assert "of 4, chance 0.333" in text
    result = json.loads(out.read_text())
    assert (result["downstream.own.items"], result["downstream.blimp.chance"]) == (4, 0.5)
    assert result["settings"]["skip"] == {"own": 2}


def test_a_model_that_is_not_there_is_named_by_the_option(tailkeep, files):
    code, _, error = tailkeep("downstream", "run", "--model", "/nowhere", *files)
    assert (code != 0, error.startswith("error: --model: there is no folder /nowhere.")) == (True, True)


def test_the_same_items_become_tasks_of_the_harness(tailkeep, files, tmp_path):
    code, text, _ = tailkeep("downstream", "export", *files, "--limit", 4, "--out", tmp_path / "tasks")
    assert (code, text) == (0, f"{tmp_path}/tasks/blimp.yaml\n{tmp_path}/tasks/own.yaml\n")
    task = yaml.safe_load((tmp_path / "tasks" / "own.yaml").read_text())
    assert task["dataset_kwargs"]["data_files"]["test"] == str(tmp_path / "tasks" / "own.jsonl")
    choices = [json.loads(line) for line in (tmp_path / "tasks" / "own.jsonl").read_text().splitlines()]
    assert len(choices) == 4
    assert choices[0]["choices"] == [" cat", " boat", " hat"]
    # A sentence without a query begins where it begins.
    (pair,) = [json.loads(line) for line in (tmp_path / "tasks" / "blimp.jsonl").read_text().splitlines()]
    assert pair == {"context": "", "choices": ["Ann saw.", "saw Ann."], "gold": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no test. Give --choices NAME=FILE, or --blimp PATH"),
        (["--choices", "own=a", "--pairs", 3], "it does nothing without --blimp"),
        (["--blimp", "a", "--limit", 3], "it does nothing without --choices"),
        (["--choices", "own"], "'own'; give NAME=FILE"),
        (["--choices", "own=absent.jsonl"], "absent.jsonl matches no file"),
        (["--choices", "a-b=own.jsonl"], "not a valid name. Use 1 to 30 characters of a-z, 0-9 and _"),
        (["--choices", "own=a", "--choices", "own=b"], "'own' is given twice"),
        (["--choices", "own=a", "--skip", "other=1"], "skip has no effect on 'other'"),
        (["--choices", "own=a", "--skip", "own=many"], "valid integer"),
    ],
)
def test_what_tests_nothing_is_refused(tailkeep, tmp_path, arguments, message):
    code, _, error = tailkeep("downstream", "export", "--out", tmp_path / "tasks", *arguments)
    assert code != 0
    assert message in error
    assert not (tmp_path / "tasks").exists()


def test_a_folder_for_the_figures_is_refused_before_anything_is_asked(tailkeep, files, tmp_path):
    code, text, error = tailkeep("downstream", "run", "--model", "/nowhere", *files, "--out", tmp_path)
    assert (code != 0, text) == (True, "")
    assert "is a folder. Give a file" in error
