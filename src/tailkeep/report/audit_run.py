"""The run of an audit as the report sees it: its summary and its tables.

Rule: files are all that is known; an audit that has not ended has neither.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailkeep.errors import InputError
from tailkeep.runs import RunDirectory, RunRecord

if TYPE_CHECKING:
    pass


Row = Mapping[str, str]
SIDES = ("input", "reference")


@dataclass(frozen=True)
class AuditRun:
    """What is known of the audit at `path`. `tables` are rows of text by name; `summary` is empty before the end."""

    path: Path
    record: RunRecord
    summary: Mapping[str, Any]
    tables: Mapping[str, Sequence[Row]]
    examples: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def sides(self) -> list[str]:
        """`input`, and `reference` if there is a reference."""
        return [side for side in SIDES if side in self.summary]

    def rows(self, table: str, **wanted: str) -> list[Row]:
        """The rows of `table` with these values."""
        return [row for row in self.tables.get(table, ()) if all(row[key] == value for key, value in wanted.items())]

    def columns(self, table: str, *names: str, **wanted: str) -> list[list[float]]:
        """Columns `names` of those rows, as numbers.

        Raises:
            InputError: a cell is no number.
        """
        try:
            return [[float(row[name]) for row in self.rows(table, **wanted)] for name in names]
        except (KeyError, ValueError) as error:
            raise InputError(f"{self.path}/tables/{table}.csv: {error}. Run the audit again.") from None


def read_audit_run(path: Path | str) -> AuditRun:
    """Read the audit at `path`.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    run = RunDirectory.open(Path(path))
    summary = run.path / "summary.json"
    if not summary.is_file():
        return AuditRun(run.path, run.record, {}, {}, ())
    tables = {file.stem: list(_rows(file)) for file in sorted((run.path / "tables").glob("*.csv"))}
    examples = run.path / "tables" / "examples.jsonl"
    lines = _read(examples).splitlines() if examples.is_file() else []
    return AuditRun(run.path, run.record, _json(summary, _read(summary)), tables, [_json(examples, x) for x in lines])


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
        raise InputError(f"cannot read {path}: {error}. Give a directory with a whole run.") from None


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise InputError(f"cannot read {path}: {error}. Run the audit again.") from None
    if not isinstance(tree, dict):
        raise InputError(f"cannot read {path}: no object. Run the audit again.")
    return tree
