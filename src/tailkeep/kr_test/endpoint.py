"""An OpenAI-compatible chat endpoint: one question, one JSON answer.

Rule: the key comes from an environment variable, goes into one header, and is cut out of everything that comes back.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import urlsplit

from tailkeep.errors import ConfigError, InputError
from tailkeep.sanitize import HIDDEN, redact, visible

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
        try:
            parts = urlsplit(self.url)
            is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
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
