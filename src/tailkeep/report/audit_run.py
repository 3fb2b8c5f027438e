"""The run directory of an audit, read: its summary, its tables and its examples.

Rule: it reads files only; an unfinished audit has neither summary nor tables.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailkeep.errors import InputError
from tailkeep.runs import RunDirectory, RunRecord

Row = Mapping[str, str]
SIDES = ("input", "reference")


@dataclass(frozen=True)
class AuditRun:
    """The audit run at `path`. `tables` are rows of strings by name; `summary` is empty until the audit is finished."""

    path: Path
    record: RunRecord
    summary: Mapping[str, Any]
    tables: Mapping[str, Sequence[Row]]
    examples: Sequence[Mapping[str, Any]]
    telling: Sequence[Mapping[str, Any]] = ()
    source_documents: Sequence[Mapping[str, Any]] = ()

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    @property
    def sides(self) -> list[str]:
        """`input`, and `reference` if there is a reference."""
        return [side for side in SIDES if side in self.summary]

    def rows(self, table: str, **values: str) -> list[Row]:
        """The rows of `table` that hold `values`, by column."""
        return [row for row in self.tables.get(table, ()) if all(row[key] == value for key, value in values.items())]

    def columns(self, table: str, *names: str, **values: str) -> list[list[float]]:
        """The columns `names` of these rows, as numbers.

        Raises:
            InputError: a cell is no number.
        """
        try:
            return [[float(row[name]) for row in self.rows(table, **values)] for name in names]
        except (KeyError, ValueError) as error:
            raise InputError(f"{self.path}/tables/{table}.csv: {error}. Run the audit again.") from None


def read_audit_run(path: Path | str) -> AuditRun:
    """Read the audit at `path`.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    directory = RunDirectory.open(Path(path))
    summary = directory.path / "summary.json"
    if not summary.is_file():
        return AuditRun(directory.path, directory.record, {}, {}, ())
    tables = {file.stem: list(_rows(file)) for file in sorted((directory.path / "tables").glob("*.csv"))}
    names = ("examples", "telling", "source_documents")
    documents = [_lines(directory.path / "tables" / f"{name}.jsonl") for name in names]
    return AuditRun(directory.path, directory.record, _json(summary, _read(summary)), tables, *documents)


def _lines(path: Path) -> list[dict[str, Any]]:
    # Only a line feed ends a record: str.splitlines would cut at U+2028 and others, which JSON leaves as they are.
    return [_json(path, line) for line in _read(path).split("\n") if line] if path.is_file() else []


def _rows(path: Path) -> Iterator[Row]:
    reader = csv.DictReader(_read(path).split("\n"))
    for row in reader:
        if None in row.values():
            raise InputError(f"{path} is cut off. Run the audit again.")
        yield row


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}. Give the directory of a complete run.") from None


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}. Run the audit again.") from None
    if not isinstance(tree, dict):
        raise InputError(f"cannot read {path}: not a JSON object. Run the audit again.")
    return tree
