"""Questions that another model writes: passages of the corpus, what is asked about them, what of the answers counts.

Rule: an answer that is refused, malformed or gives itself away is counted and left out; nothing is put in its place.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tailkeep.data import Question, parse_question
from tailkeep.errors import InputError
from tailkeep.kr_test.checking import leaks
from tailkeep.kr_test.cloze import SHORTEST
from tailkeep.kr_test.reading import Document

SYSTEM = (
    "You write questions that test whether a reader remembers a text. Given a passage, answer with a JSON object "
    '{"questions": [{"context": ..., "sentence_true": ..., "sentence_false": ...}, ...]} of exactly two items. '
    "context is one short sentence that leads to a fact of the passage and does not contain the fact. sentence_true "
    "continues it with the fact as the passage has it. sentence_false is the same sentence with one or two words "
    "changed so that the fact is wrong according to the passage: as plausible, as long in words, without negation, and "
    "not differing in numbers or dates alone. Each can be understood without the passage."
)
"""After the published prompt's rules (arXiv 2509.08972), in words of our own."""
LONGEST = 4_000
"""Characters of a passage; a longer document is cut behind a word."""
CHARACTERS_PER_TOKEN = 4
_ANSWER_TOKENS = 220
_KEYS = ("context", "sentence_true", "sentence_false")


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to be asked about, and the document it is from."""

    location: int
    text: str

    def messages(self) -> list[dict[str, str]]:
        """What is sent."""
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": self.text}]

    def key(self, model: str) -> str:
        """What an answer is filed under: the model and every character that is sent."""
        return hashlib.sha256(json.dumps([model, self.messages()]).encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class Estimate:
    """What asking about some passages takes. Tokens are reckoned at four characters each, answers at 220."""

    passages: int
    characters: int
    prompt_tokens: int
    completion_tokens: int

    def cost(self, price_in: float, price_out: float) -> float:
        """In the unit of the prices, which are for a million tokens."""
        return (self.prompt_tokens * price_in + self.completion_tokens * price_out) / 1e6


def passages_of(documents: Iterable[Document], *, wanted: int, seed: int) -> list[Passage]:
    """At most `wanted` documents of fifteen words or more, drawn by `seed`, in the order of the corpus."""
    drawn: list[tuple[str, Passage]] = []
    for document in documents:
        if len(document.text.split()) < 3 * SHORTEST:
            continue
        text = document.text
        if len(text) > LONGEST:
            text = text[:LONGEST].rsplit(maxsplit=1)[0]
        rank = hashlib.blake2b(repr((seed, document.location)).encode("utf-8"), digest_size=12).hexdigest()
        drawn.append((rank, Passage(document.location, text)))
        if len(drawn) >= 2 * wanted + 1000:
            drawn = sorted(drawn, key=lambda item: item[0])[:wanted]
    chosen = [passage for _, passage in sorted(drawn, key=lambda item: item[0])[:wanted]]
    return sorted(chosen, key=lambda passage: passage.location)


def estimate(passages: Iterable[Passage]) -> Estimate:
    """What asking about `passages` takes."""
    sizes = [sum(len(message["content"]) for message in passage.messages()) for passage in passages]
    tokens = sum(-(-size // CHARACTERS_PER_TOKEN) for size in sizes)
    return Estimate(len(sizes), sum(sizes), tokens, _ANSWER_TOKENS * len(sizes))


def questions_in(passage: Passage, content: str) -> tuple[list[Question], Counter[str]]:
    """The questions in an answer about `passage`, and how much of it was left out, by reason."""
    if not content.strip():
        return [], Counter(refused=1)
    try:
        tree: Any = json.loads(content)
    except (ValueError, RecursionError):
        return [], Counter(malformed=1)
    items = tree.get("questions") if isinstance(tree, Mapping) else None
    if not isinstance(items, list) or not items:
        return [], Counter(malformed=1)
    found: list[Question] = []
    left: Counter[str] = Counter()
    for item in items:
        try:
            texts = {key: item[key] for key in _KEYS if key in item} if isinstance(item, Mapping) else item
            question = parse_question(texts, "answer")
        except InputError:
            left["malformed"] += 1
            continue
        question = Question(question.context, question.sentence_true, question.sentence_false, passage.location)
        if leaks(question):
            left["leaking"] += 1
        else:
            found.append(question)
    return found, left
