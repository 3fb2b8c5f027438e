"""Marks that tell an edited corpus from a pristine one.

    documents/**/tailkeep.json   beside the documents, in each folder
    tailkeep.edit                in the metadata of parquet files
    sha256                       in the manifests of a run, for copies under other names

Rule: an edit of an edited copy voids the bound of arXiv 2412.14689 (a position could be edited twice), so a corpus that
can be recognised as edited is refused unless forced; a forced edit carries the changed share on.
"""

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tailkeep.config import Settings, validate
from tailkeep.data.corpus import Shard
from tailkeep.data.corpus.io import TruncatedFileError, open_input, open_parquet, open_store, readable
from tailkeep.errors import ConfigError, InputError
from tailkeep.sanitize import redact

KEY = "tailkeep.edit"
PROVENANCE_FILE = "tailkeep.json"
_DOCUMENTS = ("documents/", "parts/")


class Provenance(Settings):
    """That something was edited: by which run, and which share of the tokens of the pristine corpus has changed.

    The share takes in all edits in a row; it is None as long as it is not known.
    """

    run: str
    changed_share: float | None = None

    def text(self) -> str:
        """The mark as JSON."""
        return json.dumps({KEY: self.model_dump(mode="json")}, sort_keys=True) + "\n"

    def metadata(self) -> dict[str, str]:
        """The mark for the metadata of a parquet file, written before the share is known."""
        return {KEY: json.dumps({"run": self.run})}


def provenance_of(shards: Sequence[Shard]) -> dict[str, Provenance]:
    """The marks on those of `shards` that have one, by the shard's name.

    Raises:
        InputError: a file cannot be read.
    """
    folders: dict[str, Provenance | None] = {}
    marks = {}
    for shard in shards:
        folder = posixpath.dirname(shard.url)
        if folder not in folders:
            folders[folder] = _beside(folder)
        mark = folders[folder] or (_inside(shard) if shard.kind == "parquet" else None)
        if mark is not None:
            marks[shard.name] = mark
    return marks


def check_not_edited(
    shards: Sequence[Shard], *, previous_runs: Sequence[str], force: bool, among: Sequence[Shard] | None = None
) -> dict[str, Provenance]:
    """The marks on `shards` if the edit is forced; else none, since there are none.

    Args:
        shards: all of a run.
        previous_runs: see `check_no_copies`.
        force: edit them whatever they carry.
        among: those that are looked at, of a task; all if not given.

    Raises:
        InputError: one of them is edited already.
    """
    if force:
        return provenance_of(shards)
    mine = shards if among is None else among
    check_not_marked(provenance_of(mine))
    check_no_copies(mine, previous_runs)
    return {}


def check_not_marked(marks: Mapping[str, Provenance]) -> None:
    """Refuse what is edited already.

    Raises:
        InputError: something is.
    """
    for name, mark in marks.items():
        raise InputError(
            f"{name} is edited already, by the run {mark.run[:12]}. Edit the pristine corpus, since editing an edited "
            "copy voids the bound on collapse; or give --force."
        )


def check_no_copies(shards: Sequence[Shard], previous_runs: Sequence[str]) -> None:
    """Refuse files with the sha256 of an output of one of the runs in `previous_runs`.

    Raises:
        InputError: there is one, or a previous run is no run.
    """
    known = {digest: (run, name) for run in previous_runs for name, digest in _outputs(run).items()}
    for shard in {shard.url: shard for shard in shards}.values() if known else ():
        with open_input(shard.url, shard.name) as file:
            digest = _digest(file)
        if digest in known:
            run, name = known[digest]
            raise InputError(
                f"{shard.name} is a copy of {name}, an output of the run {redact(run)}. Edit the pristine corpus, "
                "since editing an edited copy voids the bound on collapse; or give --force."
            )


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _outputs(previous_run: str) -> dict[str, str]:
    """The sha256 of each edited file that the run in the folder or store `previous_run` has written, by name."""
    store, root = open_store(previous_run)
    with readable(f"the previous run {redact(previous_run)}"):
        paths = [path for path in store.find(f"{root}/manifests") if path.endswith(".json")]
    if not paths:
        raise InputError(f"{redact(previous_run)} holds no manifests of a previous run. Give the --out of an edit.")
    outputs: dict[str, str] = {}
    for path in paths:
        with readable(redact(str(path))):
            text = store.cat_file(path)
        try:
            tree = json.loads(text)
            outputs |= {name: output["sha256"] for name, output in tree["outputs"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{redact(str(path))} is no manifest of an edit. Give the --out of an earlier edit."
            ) from None
    return {name: digest for name, digest in outputs.items() if name.startswith(_DOCUMENTS)}


def _beside(folder: str) -> Provenance | None:
    if "://" not in folder:  # a '::' in a local path means something in a URL
        path = Path(folder, PROVENANCE_FILE)
        return _parsed(path.read_bytes()) if path.is_file() else None
    store, name = open_store(f"{folder}/{PROVENANCE_FILE}")
    with readable(redact(f"{folder}/{PROVENANCE_FILE}")):
        return _parsed(store.cat_file(name)) if store.isfile(name) else None


def _inside(shard: Shard) -> Provenance | None:
    try:
        with open_parquet(shard.url, shard.name) as file:
            text = (file.schema_arrow.metadata or {}).get(KEY.encode())
    except TruncatedFileError:
        return None  # whoever reads it rejects it
    return None if text is None else _parsed(b'{"%s": %s}' % (KEY.encode(), text))


def _parsed(text: bytes) -> Provenance:
    """The mark in `text`; one that cannot be read is a mark all the same."""
    try:
        return validate(Provenance, json.loads(text)[KEY], source=PROVENANCE_FILE)
    except (ConfigError, ValueError, KeyError, TypeError):
        return Provenance(run="unreadable")


def share_before(marks: Mapping[str, Provenance]) -> float | None:
    """The changed share of what `marks` are on, the largest of them; None if one is not known."""
    shares = [mark.changed_share for mark in marks.values()]
    known = [share for share in shares if share is not None]
    return max(known, default=0.0) if len(known) == len(shares) else None
