"""Provenance: how an edited corpus is recognised.

    tailkeep.json                beside documents/, or beside the files themselves
    tailkeep.edit                in the metadata of parquet files
    sha256                       in the manifests of a run, for copies under other names

Rule: editing an edited copy voids the bound of arXiv 2412.14689, since a position could be edited twice. So a corpus
that is recognised as edited is an error unless forced, and a forced edit adds up the changed shares. No file stands
among the documents that is none of them, so that other tools read the folder as it is.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tailkeep.config import Settings, validate
from tailkeep.data.corpus import Destination, Shard
from tailkeep.data.corpus.io import TruncatedFileError, open_input, open_parquet, open_store, readable, sha256_of
from tailkeep.errors import ConfigError, InputError
from tailkeep.sanitize import redact

KEY = "tailkeep.edit"
PROVENANCE_FILE = "tailkeep.json"
_DOCUMENTS = ("documents/", "parts/")


class Provenance(Settings):
    """The run that edited a file, and the share of the tokens of the pristine corpus that have changed.

    The share includes all edits in sequence. It is None until it is known.
    """

    run: str
    changed_share: float | None = None

    def text(self) -> str:
        """The provenance as JSON."""
        return json.dumps({KEY: self.model_dump(mode="json")}, sort_keys=True) + "\n"

    def metadata(self) -> dict[str, str]:
        """Pairs for the metadata of a parquet file, which is written before the share is known."""
        return {KEY: json.dumps({"run": self.run})}


def provenance_of(shards: Sequence[Shard]) -> dict[str, Provenance]:
    """The provenance of those of `shards` that are edited, by the name of the shard.

    Raises:
        InputError: a file cannot be read.
    """
    folders: dict[str, Provenance | None] = {}
    provenances = {}
    for shard in shards:
        folder = posixpath.dirname(shard.url)
        if folder not in folders:
            beside = (_read_beside(place) for place in _places(folder))
            folders[folder] = next((provenance for provenance in beside if provenance is not None), None)
        provenance = folders[folder] or (_read_metadata(shard) if shard.kind == "parquet" else None)
        if provenance is not None:
            provenances[shard.name] = provenance
    return provenances


def check_not_edited(
    shards: Sequence[Shard], *, previous_runs: Sequence[str], force: bool, among: Sequence[Shard] | None = None
) -> dict[str, Provenance]:
    """Check that no shard is edited already. With `force`, return their provenance instead, by name.

    Args:
        shards: the shards of the run.
        previous_runs: the runs of whose outputs no shard may be a copy, by its sha256.
        force: edit them even if they are edited already.
        among: the shards to check, such as those of a task; all by default.

    Raises:
        InputError: a shard is edited already, or a previous run has no manifests.
    """
    if force:
        known, unknown = provenance_of(shards), Provenance(run="unreadable")
        others = [shard for shard in shards if shard.name not in known]
        return known | {shard.name: _read_beside(run) or unknown for shard, run, _ in _copies(others, previous_runs)}
    shards_to_check = shards if among is None else among
    for name, provenance in provenance_of(shards_to_check).items():
        raise InputError(
            f"{name} is edited already, by the run {provenance.run[:12]}. Edit the pristine corpus, since editing an "
            "edited copy voids the bound on collapse; or give --force."
        )
    for shard, run, name in _copies(shards_to_check, previous_runs):
        raise InputError(
            f"{shard.name} is a copy of {name}, an output of the run {redact(run)}. Edit the pristine corpus, "
            "since editing an edited copy voids the bound on collapse; or give --force."
        )
    return {}


def _copies(shards: Sequence[Shard], previous_runs: Sequence[str]) -> Iterator[tuple[Shard, str, str]]:
    """Those of `shards` that are outputs of previous runs by their sha256, with the run and the name there."""
    known = {digest: (run, name) for run in previous_runs for name, digest in _outputs(run).items()}
    for shard in {shard.url: shard for shard in shards}.values() if known else ():
        with open_input(shard.url, shard.name) as file:
            digest = sha256_of(file)
        if digest in known:
            yield shard, *known[digest]


def _outputs(previous_run: str) -> dict[str, str]:
    """The sha256 of each edited file of the run in the folder or store `previous_run`, by name."""
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
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(
                f"{redact(str(path))} is no manifest of an edit. Give the --out of an earlier edit."
            ) from None
    return {name: digest for name, digest in outputs.items() if name.startswith(_DOCUMENTS)}


def _places(folder: str) -> Iterator[str]:
    """Where the provenance of the files in `folder` may stand: there, or beside a folder of documents above it."""
    yield folder
    while folder and folder != posixpath.dirname(folder):
        parent = posixpath.dirname(folder)
        if posixpath.basename(folder) == "documents":
            yield parent
        folder = parent


def _read_beside(folder: str) -> Provenance | None:
    if "://" not in folder:  # a '::' in a local path means something in a URL
        path = Path(folder, PROVENANCE_FILE)
        return _parse(path.read_bytes()) if path.is_file() else None
    store, name = open_store(f"{folder}/{PROVENANCE_FILE}")
    with readable(redact(f"{folder}/{PROVENANCE_FILE}")):
        return _parse(store.cat_file(name)) if store.isfile(name) else None


def _read_metadata(shard: Shard) -> Provenance | None:
    try:
        with open_parquet(shard.url, shard.name) as file:
            text = (file.schema_arrow.metadata or {}).get(KEY.encode())
    except TruncatedFileError:
        return None  # rejected when it is read
    return None if text is None else _parse(b'{"%s": %s}' % (KEY.encode(), text))


def _parse(text: bytes) -> Provenance:
    """The provenance in `text`. If it cannot be parsed, the file still counts as edited."""
    try:
        return validate(Provenance, json.loads(text)[KEY], source=PROVENANCE_FILE)
    except (ConfigError, ValueError, KeyError, TypeError, RecursionError):
        return Provenance(run="unreadable")


def share_before(provenances: Mapping[str, Provenance]) -> float | None:
    """The largest changed share in `provenances`, each of a whole run's; None if one is not known."""
    shares = [provenance.changed_share for provenance in provenances.values()]
    known = [share for share in shares if share is not None]
    return max(known, default=0.0) if len(known) == len(shares) else None


def write_provenance(provenance: Provenance, destination: Destination, *, keep_changed_share: bool = False) -> None:
    """Write `provenance` beside the folder of the edited documents.

    With `keep_changed_share`, a file of the same run stays, since it may hold the changed share already.
    """
    existing = (destination.read(PROVENANCE_FILE) or b"").decode("utf-8", "replace")
    if existing != provenance.text() and not (keep_changed_share and provenance.run in existing):
        destination.write_texts({PROVENANCE_FILE: provenance.text()})
