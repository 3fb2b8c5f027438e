"""PubMedQA's labelled records as text to train on and as questions, half of the records each.

    python examples/pubmedqa.py ORI_PQAL_JSON OUT

Sorted by their ids, the first record of each pair is trained on, as its abstract and long answer without question and
label (OUT/train.jsonl, field `text`), and the second one is asked (OUT/questions.jsonl, for `data.downstream.choices`
or `tailkeep downstream run --choices`): context and question, then yes, no or maybe. The published file has 1,000.
"""

import argparse
import json
from pathlib import Path
from typing import Any

CHOICES = ["yes", "no", "maybe"]


def training_record(key: str, record: dict[str, Any]) -> dict[str, str]:
    """The abstract of a record with its conclusion."""
    return {"id": key, "text": "\n".join([*record["CONTEXTS"], record["LONG_ANSWER"]])}


def question(key: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record as a line of multiple choice; without its context it is what calibration takes off."""
    bare = f"Question: {record['QUESTION']}\nAnswer:"
    query = f"Context: {' '.join(record['CONTEXTS'])}\n{bare}"
    gold = CHOICES.index(record["final_decision"])
    return {"id": key, "query": query, "choices": CHOICES, "gold": gold, "query_without_context": bare}


def write_lines(path: Path, items: list[dict[str, Any]]) -> None:
    """Write one JSON object per line."""
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")


def main() -> None:
    """Write both halves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()

    records = json.loads(options.records.read_text(encoding="utf-8"))
    keys = sorted(records)
    trained = [training_record(key, records[key]) for key in keys[::2]]
    asked = [question(key, records[key]) for key in keys[1::2]]
    options.out.mkdir(parents=True, exist_ok=True)
    write_lines(options.out / "train.jsonl", trained)
    write_lines(options.out / "questions.jsonl", asked)
    majority = max(sum(item["gold"] == gold for item in asked) for gold in range(len(CHOICES))) / len(asked)
    print(
        f"{len(trained)} records to train on, {len(asked)} questions (majority class {majority:.3f}) in {options.out}"
    )


if __name__ == "__main__":
    main()
