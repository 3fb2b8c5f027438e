"""examples/pubmedqa.py: half of the records are trained on, the other half is asked."""

import json
import subprocess
import sys
from pathlib import Path

from tailkeep.data import read_choices

SCRIPT = Path(__file__).parents[1] / "examples" / "pubmedqa.py"


def run(tmp_path):
    records = {
        str(number): {
            "QUESTION": f"Is {number} odd?",
            "CONTEXTS": [f"We saw {number}.", "We counted."],
            "LONG_ANSWER": f"The number {number} was counted.",
            "final_decision": ("yes", "no", "maybe")[number % 3],
        }
        # Written out of order: the ids decide.
        for number in (4, 1, 3, 2)
    }
    (tmp_path / "records.json").write_text(json.dumps(records), encoding="utf-8")
    command = [sys.executable, SCRIPT, tmp_path / "records.json", tmp_path / "out"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_no_record_is_both_trained_on_and_asked(tmp_path):
    assert run(tmp_path).startswith("2 records to train on, 2 questions (majority class 0.500) in")
    trained = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    asked = [json.loads(line) for line in (tmp_path / "out" / "questions.jsonl").read_text().splitlines()]
    assert [record["id"] for record in trained] == ["1", "3"]
    assert [question["id"] for question in asked] == ["2", "4"]
    assert trained[0]["text"] == "We saw 1.\nWe counted.\nThe number 1 was counted."
    assert "Question" not in trained[0]["text"]


def test_questions_are_multiple_choice_with_and_without_their_context(tmp_path):
    run(tmp_path)
    first = read_choices(tmp_path / "out" / "questions.jsonl")[0]
    assert first.query == "Context: We saw 2. We counted.\nQuestion: Is 2 odd?\nAnswer:"
    assert first.query_without_context == "Question: Is 2 odd?\nAnswer:"
    assert first.choices[first.gold] == "maybe"
