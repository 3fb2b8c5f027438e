"""Questions written by an LLM: passages of the corpus, the prompt, which answers count, and where they are kept.

Rule: an answer that is refused, malformed or leaks its solution is counted and rejected; nothing replaces it.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tailkeep.data import Question, parse_question
from tailkeep.errors import BusyError, InputError, StorageError
from tailkeep.kr_test.cloze import MIN_WORDS, rank_of
from tailkeep.kr_test.corpus import AnnotatedDocument
from tailkeep.kr_test.endpoint import Reply
from tailkeep.kr_test.lint import is_identical, leaks, question_key

SYSTEM = (
    "You write questions that test whether a reader remembers a text. Given a passage, answer with a JSON object "
    '{"questions": [{"context": ..., "sentence_true": ..., "sentence_false": ...}, ...]} of exactly two items. '
    "context is one short sentence that leads to a fact of the passage and does not contain the fact. sentence_true "
    "continues it with the fact as the passage has it. sentence_false is the same sentence with one or two words "
    "changed so that the fact is wrong according to the passage: as plausible, as long in words, without negation, and "
    "not differing in numbers or dates alone. Each can be understood without the passage."
)
"""After the published prompt's rules (arXiv 2509.08972), in words of our own."""
MAX_CHARACTERS = 4_000
"""Characters of a passage; a longer document is cut behind a word."""
CHARACTERS_PER_TOKEN = 4
_ANSWER_TOKENS = 220
_KEYS = ("context", "sentence_true", "sentence_false")


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to write questions about, and its document."""

    location: int
    text: str

    def messages(self) -> list[dict[str, str]]:
        """What is sent."""
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": self.text}]

    def key(self, model: str) -> str:
        """What an answer is filed under: the model and every character that is sent."""
        return hashlib.sha256(json.dumps([model, self.messages()]).encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class CostEstimate:
    """The cost of some passages, estimated at four characters per prompt token and 220 tokens per answer."""

    passages: int
    characters: int
    prompt_tokens: int
    completion_tokens: int

    def cost(self, price_in: float, price_out: float) -> float:
        """In the unit of the prices, which are for a million tokens."""
        return (self.prompt_tokens * price_in + self.completion_tokens * price_out) / 1e6


def passages_of(documents: Iterable[AnnotatedDocument], *, num_passages: int, seed: int) -> list[Passage]:
    """At most `num_passages` documents of fifteen words or more, sampled by `seed`, in the order of the corpus.

    Equal texts are one passage: there is one answer about them.
    """
    candidates: dict[str, tuple[str, Passage]] = {}
    for document in documents:
        if len(document.text.split()) < 3 * MIN_WORDS:
            continue
        text = document.text
        if len(text) > MAX_CHARACTERS:
            text = text[:MAX_CHARACTERS].rsplit(maxsplit=1)[0]
        rank = rank_of(seed, document.location)
        if text not in candidates or rank < candidates[text][0]:
            candidates[text] = rank, Passage(document.location, text)
        if len(candidates) >= 2 * num_passages + 1000:
            candidates = _first(candidates, num_passages)
    passages = [passage for _, passage in _first(candidates, num_passages).values()]
    return sorted(passages, key=lambda passage: passage.location)


def _first(candidates: Mapping[str, tuple[str, Passage]], count: int) -> dict[str, tuple[str, Passage]]:
    return dict(sorted(candidates.items(), key=lambda item: item[1][0])[:count])


def estimate(passages: Iterable[Passage]) -> CostEstimate:
    """The cost of `passages`."""
    sizes = [sum(len(message["content"]) for message in passage.messages()) for passage in passages]
    tokens = sum(-(-size // CHARACTERS_PER_TOKEN) for size in sizes)
    return CostEstimate(len(sizes), sum(sizes), tokens, _ANSWER_TOKENS * len(sizes))


def questions_in(
    passage: Passage, content: str, seen: Collection[tuple[str, ...]] = ()
) -> tuple[list[Question], Counter[str]]:
    """The questions in an answer about `passage`, and how many items were rejected, by reason.

    `seen` are the keys of the questions that other answers hold, see `question_key`.
    """
    if not content.strip():
        return [], Counter(refused=1)
    try:
        tree: Any = json.loads(content)
    except (ValueError, RecursionError):
        return [], Counter(malformed=1)
    items = tree.get("questions") if isinstance(tree, Mapping) else None
    if not isinstance(items, list) or not items:
        return [], Counter(malformed=1)
    questions, rejected = list[Question](), Counter[str]()
    for item in items:
        try:
            texts = {key: item[key] for key in _KEYS if key in item} if isinstance(item, Mapping) else item
            question = parse_question(texts, "answer")
        except InputError:
            rejected["malformed"] += 1
            continue
        question = Question(question.context, question.sentence_true, question.sentence_false, passage.location)
        if is_identical(question):
            rejected["identical"] += 1
        elif question_key(question) in seen or question_key(question) in map(question_key, questions):
            rejected["repeated"] += 1
        elif leaks(question):
            rejected["leaking"] += 1
        else:
            questions.append(question)
    return questions, rejected


# The answers that have been paid for, one JSON object per line, beside the question file that is made of them.
#
# Rule: an answer is on the disk before the next question is asked; a line that a kill cut short was never there.


class Answers:
    """Answers by key, see `Passage.key`. Made by `open_answers`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Reply] = {}
        self._read()

    def get(self, key: str) -> Reply | None:
        """The answer filed under `key`, if there is one."""
        return self._known.get(key)

    def add(self, key: str, reply: Reply) -> None:
        """File `reply` under `key`, on the disk when this returns.

        Raises:
            StorageError: the file system refused.
        """
        item = {
            "key": key,
            "content": reply.content,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(item) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror}. Free the disk and run again.") from None
        self._known[key] = reply

    def _read(self) -> None:
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                os.truncate(self._path, len(whole))
        except OSError as error:
            raise InputError(f"cannot use {self._path}: {error.strerror}. Move it, or give another --out.") from None
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                item = json.loads(line)
                reply = Reply(str(item["content"]), int(item["prompt_tokens"]), int(item["completion_tokens"]))
                self._known[str(item["key"])] = reply
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"{self._path}, line {number}: no answer of an earlier build. Move the file away, or give another "
                    "--out."
                ) from None


@contextmanager
def open_answers(out: Path) -> Iterator[Answers]:
    """The answers beside the question file `out`, held against other processes.

    Raises:
        BusyError: another process builds the same file.
        InputError: the file of answers holds something else, or cannot be read.
    """
    path = out.with_name(f"{out.name}.answers.jsonl")
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(f"another process builds {out}. Wait for it to end, or give another --out.") from None
    except OSError as error:
        raise InputError(f"cannot write beside {out}: {error.strerror}. Give another --out.") from None
    try:
        yield Answers(path)
    except UnicodeDecodeError:
        raise InputError(f"{path} is no file of answers. Move it away, or give another --out.") from None
    finally:
        lock.release()
