"""The answers that have been paid for, one JSON object a line, beside the question file that is made of them.

Rule: an answer is on the disk before the next question is asked; a line that a kill cut short was never there.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tailkeep.errors import BusyError, InputError, StorageError
from tailkeep.kr_test.endpoint import Reply


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
