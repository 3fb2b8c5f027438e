"""The shortest WikiText articles that have KR questions, up to a number of tokens, with their questions.

    python examples/wikitext_articles.py TEXT QUESTIONS TOKENIZER OUT --tokens 30000

TEXT is WikiText's training text or its beginning, QUESTIONS the questions published with ForTIFAI (their `location` is
the line of an article's title in TEXT), TOKENIZER a model folder. Writes OUT/text.txt, whole articles in their order in
TEXT, OUT/articles.jsonl, a document per article, and OUT/questions.json, with locations that are lines of OUT/text.txt.
Rule: articles are taken by their number of tokens, so whoever has the same files gets the same selection.
"""

import argparse
import json
import re
from pathlib import Path

from transformers import AutoTokenizer

TITLE = re.compile(r" = [^=]+ = ")


def articles_of(lines: list[str]) -> dict[int, list[str]]:
    """The lines of each article, by the line of its title."""
    starts = [number for number, line in enumerate(lines) if TITLE.fullmatch(line.rstrip("\n"))]
    ends = [*starts[1:], len(lines)]
    return {start: lines[start:end] for start, end in zip(starts, ends, strict=True)}


def main() -> None:
    """Write the selection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, default=30_000, help="at most so many tokens of whole articles")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    lines = options.text.read_text(encoding="utf-8").splitlines(keepends=True)
    questions = json.loads(options.questions.read_text(encoding="utf-8"))
    asked = {question["location"] for question in questions}
    articles = {start: article for start, article in articles_of(lines).items() if start in asked}
    sizes = {
        start: len(tokenizer("".join(article), add_special_tokens=False)["input_ids"])
        for start, article in articles.items()
    }
    selected: list[int] = []
    total = 0
    for start in sorted(sizes, key=lambda start: (sizes[start], start)):
        if total + sizes[start] > options.tokens:
            break
        selected.append(start)
        total += sizes[start]
    selected.sort()
    new_lines: list[str] = []
    location: dict[int, int] = {}
    for start in selected:
        location[start] = len(new_lines)
        new_lines += articles[start]
    moved = [{**q, "location": location[q["location"]]} for q in questions if q["location"] in location]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "text.txt").write_text("".join(new_lines), encoding="utf-8")
    documents = [{"id": str(start), "text": "".join(articles[start])} for start in selected]
    (options.out / "articles.jsonl").write_text(
        "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents), encoding="utf-8"
    )
    (options.out / "questions.json").write_text(json.dumps(moved, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"{len(selected)} articles, {total:,} tokens, {len(moved)} questions in {options.out}")


if __name__ == "__main__":
    main()
