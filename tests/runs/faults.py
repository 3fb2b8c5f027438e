"""A storage whose n-th primitive operation fails or kills the process. Rule: what has failed once stays failed.

    total = count_operations(lambda storage: run(folder, storage))
    for fault in every_fault(total):
        interrupt(lambda storage: run(folder, storage), fault)     # fails at the n-th operation, on purpose
        run(folder, FaultyStorage())                               # a plain rerun must repair everything

Operations are made, written, filled, fsynced, renamed and removed names, counted from 1. Nothing is flushed for
real: no test cuts the power, and the order of the flushes can be read from `log`.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tailkeep.errors import StorageError
from tailkeep.runs import Storage

Kind = Literal["full", "read-only", "killed", "exit"]
Action = Callable[[Storage], object]

_ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS}
EXIT_STATUS = 137


class Killed(BaseException):
    """The process is dead: no code but a test's catches this."""


@dataclass(frozen=True)
class Fault:
    """At the `n`-th operation the disk is full or read-only, or the process dies: in a `Killed`, or by a real exit.

    `half` lets the operation do half of its work first: half the bytes, half the files, half the removals.
    """

    n: int
    kind: Kind
    half: bool = False


class FaultyStorage(Storage):
    """A `Storage` that counts what it does and breaks at one operation, if told to."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self.log: list[tuple[str, Path]] = []

    @property
    def count(self) -> int:
        """How many operations were asked for."""
        return len(self.log)

    @property
    def struck(self) -> bool:
        """Whether the fault has happened."""
        return self.fault is not None and self.count >= self.fault.n

    def _make(self, path: Path) -> None:
        self._operate("make", path, lambda: super(FaultyStorage, self)._make(path))

    def _write(self, path: Path, content: bytes) -> None:
        self._operate(
            "write",
            path,
            lambda: super(FaultyStorage, self)._write(path, content),
            half=lambda: path.write_bytes(content[: len(content) // 2]),
        )

    def _fill(self, path: Path, fill: Callable[[Path], None]) -> None:
        def half() -> None:
            fill(path)
            files = sorted(inner for inner in path.rglob("*") if inner.is_file())
            for file in files[len(files) // 2 + 1 :]:
                file.unlink()
            for file in files[len(files) // 2 : len(files) // 2 + 1]:
                # A linked file is there whole or not at all; its other name must not suffer.
                file.unlink() if file.stat().st_nlink > 1 else os.truncate(file, file.stat().st_size // 2)

        self._operate("fill", path, lambda: super(FaultyStorage, self)._fill(path, fill), half=half)

    def _fsync(self, path: Path) -> None:
        assert os.path.lexists(path), f"nothing to flush at {path}"
        self._operate("fsync", path, lambda: None)

    def _rename(self, source: Path, target: Path) -> None:
        self._operate("rename", target, lambda: super(FaultyStorage, self)._rename(source, target))

    def _remove(self, path: Path) -> None:
        def half() -> None:
            names = sorted(path.iterdir()) if path.is_dir() else []
            for inner in names[: (len(names) + 1) // 2]:
                shutil.rmtree(inner) if inner.is_dir() else inner.unlink()

        self._operate("remove", path, lambda: super(FaultyStorage, self)._remove(path), half=half)

    def _operate(
        self, name: str, path: Path, whole: Callable[[], object], half: Callable[[], object] = lambda: None
    ) -> None:
        self.log.append((name, path))
        if not self.struck:
            whole()
            return
        assert self.fault is not None
        if self.fault.half and self.count == self.fault.n:
            half()
        match self.fault.kind:
            case "killed":
                raise Killed
            case "exit":
                os._exit(EXIT_STATUS)
            case _:
                number = _ERRORS[self.fault.kind]
                raise OSError(number, os.strerror(number))


def with_fault(n: int, kind: Kind, *, half: bool = False) -> FaultyStorage:
    """A storage that breaks at its `n`-th operation."""
    return FaultyStorage(Fault(n, kind, half))


def count_operations(action: Action) -> int:
    """How many operations an undisturbed `action` asks of its storage."""
    storage = FaultyStorage()
    action(storage)
    return storage.count


def every_fault(
    total: int, kinds: tuple[Kind, ...] = ("full", "read-only", "killed"), *, step: int = 1
) -> Iterator[Fault]:
    """Each kind of fault at each of `total` operations (or at each `step`-th), before it and in the middle of it."""
    for n in range(1, total + 1, step):
        for kind in kinds:
            for half in (False, True):
                yield Fault(n, kind, half)


def interrupt(action: Action, fault: Fault) -> None:
    """Run `action` into `fault` and check that it ends as it must: killed, or with the one error for a bad disk."""
    storage = FaultyStorage(fault)
    cause: BaseException | None = None
    try:
        action(storage)
    except Killed:
        if fault.kind != "killed":
            raise
    except StorageError as error:
        cause = error.__cause__
    else:
        raise AssertionError(f"nothing went wrong at {fault}; the action has only {storage.count} operations")
    if fault.kind != "killed":
        assert isinstance(cause, OSError)
        assert cause.errno == _ERRORS[fault.kind]


def content(folder: Path, *, without: tuple[str, ...] = (".lock",)) -> dict[str, bytes | None]:
    """Every name below `folder` with its bytes (None for a folder), for comparing what two runs left behind."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name not in without
    }
