"""What stopped the work on a shard, for the report.

    failures/<key>.json   shard, fingerprint of the run, error

Rule: it stands there until the shard is finished, and never in the way of the error itself.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tailkeep.data.corpus import Destination, Shard
from tailkeep.errors import StorageError, TailkeepError
from tailkeep.redaction import redact

FOLDER = "failures"


@contextmanager
def told(shard: Shard, destination: Destination, *, run: str) -> Iterator[None]:
    """Inside, `shard` is worked on for the run with the fingerprint `run`; an error is left at `destination`.

    Raises:
        TailkeepError: whatever was raised inside.
    """
    name = f"{FOLDER}/{shard.key}.json"
    try:
        yield
    except TailkeepError as error:
        tree = {"shard": shard.key, "fingerprint": run, "error": redact(str(error))}
        # A disk that is full holds no word about it either.
        with suppress(StorageError):
            destination.write_text(name, json.dumps(tree, ensure_ascii=False, indent=2) + "\n")
        raise
    destination.remove(name)
