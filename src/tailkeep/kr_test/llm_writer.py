"""Questions written by an LLM: passages of the corpus, prompts to a chat endpoint, and which answers count.

Rule: an answer that is refused, malformed or leaks its solution is counted and rejected; nothing replaces it.
"""

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from tailkeep.data import Question, parse_question
from tailkeep.errors import BusyError, ConfigError, InputError, StorageError
from tailkeep.kr_test.cloze import MIN_WORDS, rank_of
from tailkeep.kr_test.corpus import AnnotatedDocument
from tailkeep.kr_test.lint import is_identical, leaks, question_key
from tailkeep.sanitize import HIDDEN, redact, visible

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
    """At most `num_passages` documents of fifteen words or more, sampled by `seed`, in the order of the corpus."""
    candidates: list[tuple[str, Passage]] = []
    for document in documents:
        if len(document.text.split()) < 3 * MIN_WORDS:
            continue
        text = document.text
        if len(text) > MAX_CHARACTERS:
            text = text[:MAX_CHARACTERS].rsplit(maxsplit=1)[0]
        rank = rank_of(seed, document.location)
        candidates.append((rank, Passage(document.location, text)))
        if len(candidates) >= 2 * num_passages + 1000:
            candidates = sorted(candidates, key=lambda item: item[0])[:num_passages]
    passages = [passage for _, passage in sorted(candidates, key=lambda item: item[0])[:num_passages]]
    return sorted(passages, key=lambda passage: passage.location)


def estimate(passages: Iterable[Passage]) -> CostEstimate:
    """The cost of `passages`."""
    sizes = [sum(len(message["content"]) for message in passage.messages()) for passage in passages]
    tokens = sum(-(-size // CHARACTERS_PER_TOKEN) for size in sizes)
    return CostEstimate(len(sizes), sum(sizes), tokens, _ANSWER_TOKENS * len(sizes))


def questions_in(passage: Passage, content: str) -> tuple[list[Question], Counter[str]]:
    """The questions in an answer about `passage`, and how many items were rejected, by reason."""
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
        elif question_key(question) in map(question_key, questions):
            rejected["repeated"] += 1
        elif leaks(question):
            rejected["leaking"] += 1
        else:
            questions.append(question)
    return questions, rejected


# An OpenAI-compatible chat endpoint: one question, one JSON answer.
#
# Rule: the key comes from an environment variable, goes into one header, and is cut out of everything that comes back.


_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_MAX_WAIT_SECONDS = 60.0
_SHOWN = 200


class EndpointError(InputError):
    """An endpoint that cannot be used, or did not answer after all retries."""


@dataclass(frozen=True)
class Reply:
    """What came back: the text, and the tokens that the endpoint counted, 0 where it does not tell."""

    content: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


MAX_ANSWER_BYTES = 1 << 23
"""An answer of a chat endpoint is some thousand bytes."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """None, so that the redirect is an error."""


@dataclass(frozen=True)
class Endpoint:
    """A chat endpoint below `url`, such as `http://localhost:8000/v1`, and one of its models.

    Attributes:
        key: of the endpoint, None if it needs none.
        retries: how often a busy or failing endpoint is asked again, after 1, 2, 4, ... seconds or what it says.
        timeout: seconds without an answer after which it counts as failing.
        total_timeout: seconds in which the whole answer must be there, however steadily it comes.
        sleep: waits; a test puts its own here.
        clock: tells seconds; a test puts its own here.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    retries: int = 5
    timeout: float = 120.0
    total_timeout: float = 600.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"--endpoint: {redact(self.url)!r} is no web address. Give one such as https://host/v1.")
        if parts.username or parts.password or parts.query:
            raise ConfigError("--endpoint: the address holds a credential or a query. Put the key into a variable.")

    @property
    def host(self) -> str:
        """The host, with its port if one is given."""
        return urlsplit(self.url).netloc

    def ask(self, messages: Sequence[Mapping[str, str]]) -> Reply:
        """The endpoint's answer to `messages`, in JSON mode.

        Raises:
            EndpointError: it refuses the key or the request, cannot be reached, or fails after all retries.
        """
        body = {"model": self.model, "messages": list(messages), "response_format": {"type": "json_object"}}
        fault = ""
        for attempt in range(self.retries + 1):
            try:
                return self._post(json.dumps(body).encode("utf-8"))
            except urllib.error.HTTPError as error:
                fault = f"HTTP {error.code}: {self._error_text(error)}"
                if error.code not in _RETRIED:
                    raise EndpointError(self._refusal(error.code, fault)) from None
                wait = _retry_after_seconds(error.headers.get("Retry-After"))
            except (OSError, HTTPException, ValueError) as error:
                fault, wait = self._clean(str(error) or type(error).__name__), None
            if attempt < self.retries:
                self.sleep(min(_MAX_WAIT_SECONDS, 2.0**attempt if wait is None else wait))
        raise EndpointError(
            f"{self.host} failed {self.retries + 1} times, at last with {fault}. "
            "What was answered is kept: run the same command again later."
        )

    def _post(self, body: bytes) -> Reply:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(  # noqa: S310  (the scheme is checked)
            f"{self.url.rstrip('/')}/chat/completions", body, headers, method="POST"
        )
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=self.timeout) as answer:
            content = self._read(answer)
            if answer.length:
                raise ValueError(f"an answer that ends {answer.length:,} bytes too early")
        try:
            return self._reply(json.loads(content))
        except RecursionError:
            raise ValueError("an answer that is nested too deeply") from None

    def _read(self, answer: Any) -> bytes:
        """The whole answer, be it an error: of bounded size, and within a bounded time however slowly it comes.

        Raises:
            ValueError: it is too large.
            TimeoutError: it takes too long.
        """
        content, end = bytearray(), self.clock() + self.total_timeout
        while block := answer.read1(1 << 16):
            content += block
            if len(content) > MAX_ANSWER_BYTES:
                raise ValueError(f"an answer of more than {MAX_ANSWER_BYTES:,} bytes")
            if self.clock() > end:
                raise TimeoutError(f"no whole answer within {self.total_timeout:g} s")
        return bytes(content)

    def _reply(self, tree: Any) -> Reply:
        """Of an answer without text, a refusal, the text is empty: it has been paid for too."""
        answer = tree if isinstance(tree, Mapping) else {}
        choices = answer.get("choices")
        first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
        message = first.get("message")
        content = message.get("content") if isinstance(message, Mapping) else None
        usage = answer.get("usage")
        counts = usage if isinstance(usage, Mapping) else {}
        text = self._hidden(content) if isinstance(content, str) else ""
        return Reply(text, _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")))

    def _refusal(self, code: int, fault: str) -> str:
        if code in {401, 403}:
            return f"{self.host} refuses the key ({fault}). Put a valid one into the variable that --api-key-env names."
        if code in {301, 302, 303, 307, 308}:
            return f"{self.host} sends on to another address ({fault}). Give the final address as --endpoint."
        return f"{self.host} refuses the request ({fault}). Check --endpoint and --model."

    def _error_text(self, error: urllib.error.HTTPError) -> str:
        try:
            return self._clean(self._read(error)[:4096].decode("utf-8", "replace"))
        except (OSError, HTTPException, ValueError):
            return "no text"
        finally:
            error.close()

    def _clean(self, text: str) -> str:
        line = visible(redact(self._hidden(" ".join(text.split()))), newline=" ")
        return line if len(line) <= _SHOWN else line[:_SHOWN] + "..."

    def _hidden(self, text: str) -> str:
        return text.replace(self.key, HIDDEN) if self.key else text


def key_in(variable: str) -> str | None:
    """The key in the environment variable called `variable`; None if the name is empty, for an endpoint without keys.

    Raises:
        ConfigError: there is no such variable, or what it holds cannot be sent.
    """
    if not variable:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {variable} holds no key. Set it, name another with --api-key-env, "
            "or give --api-key-env '' for an endpoint without keys."
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the environment variable {variable} holds characters that no key has. Set it again.")
    return key


def _retry_after_seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


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
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
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
