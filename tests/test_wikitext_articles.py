"""examples/wikitext_articles.py: the shortest articles with questions, and where their questions then lie."""

import json
import subprocess
import sys
from pathlib import Path

from tailkeep.lab.causal_lm.tokenizer import train_tokenizer
from tests.lab.causal_lm.tiny import STORIES

SCRIPT = Path(__file__).parents[1] / "examples" / "wikitext_articles.py"
ARTICLES = {" = Long = ": 9, " = Short = ": 2, " = Unasked = ": 1, " = Middle = ": 4}


def run(tmp_path, *options):
    lines, locations = [" \n"], {}
    for title, paragraphs in ARTICLES.items():
        locations[title.strip(" =")] = len(lines)
        lines += [f"{title}\n", " \n", *[" Ann saw a cat by a house . \n"] * paragraphs]
    (tmp_path / "text.txt").write_text("".join(lines), encoding="utf-8")
    questions = [
        {"context": name, "sentence_true": "a", "sentence_false": "b", "location": locations[name]}
        for name in ("Long", "Short", "Short", "Middle")
    ]
    (tmp_path / "questions.json").write_text(json.dumps(questions), encoding="utf-8")
    train_tokenizer(STORIES, vocab_size=300).save_pretrained(tmp_path / "tokenizer")
    files = [tmp_path / name for name in ("text.txt", "questions.json", "tokenizer", "out")]
    command = [sys.executable, SCRIPT, *files, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_shortest_articles_with_questions_are_taken_whole_in_their_order(tmp_path):
    assert run(tmp_path, "--tokens", "150").startswith("2 articles, ")
    text = (tmp_path / "out" / "text.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in text if line.startswith(" = ")] == [" = Short = ", " = Middle = "]
    assert len(text) == 2 + 2 + 2 + 4
    lines = (tmp_path / "out" / "articles.jsonl").read_text(encoding="utf-8").splitlines()
    assert "".join(json.loads(line)["text"] for line in lines).splitlines() == text


def test_questions_lie_where_their_article_now_begins(tmp_path):
    run(tmp_path, "--tokens", "100000")
    text = (tmp_path / "out" / "text.txt").read_text(encoding="utf-8").splitlines()
    questions = json.loads((tmp_path / "out" / "questions.json").read_text(encoding="utf-8"))
    assert len(questions) == 4
    assert [text[question["location"]] for question in questions] == [f" = {q['context']} = " for q in questions]
