"""Stores behind fsspec, such as S3: how one is opened, what its client raises, how a file is sent to it.

Rule: a store has no rename, so a file is sent whole, by one request; its name is there when all of it is.
"""

import base64
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from tailkeep.errors import InputError, MissingPackageError
from tailkeep.redaction import redact

_EXTRAS = {"s3": "s3", "s3a": "s3"}
# More than so much S3 takes in parts only; they become one object, whole, with the last request.
_LARGEST_PUT = 5 << 30
# What stores call the time of the last change; on the local disk "created" is that of the file's entry.
_TIMES = ("created", "mtime", "LastModified", "last_modified", "updated")


def open_store(url: str) -> tuple[Any, str]:
    """The store of `url`, which may be the local disk, and the path in it.

    Raises:
        InputError: the store is not known.
        MissingPackageError: the package for it is not installed.
    """
    try:
        store, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        protocol = url.partition("://")[0]
        extra = _EXTRAS.get(protocol)
        hint = f"pip install 'tailkeep[{extra}]'" if extra else f"pip install 'fsspec[{protocol}]'"
        raise MissingPackageError(f"cannot open {redact(url)}: {error}. Install it with: {hint}") from None
    except ValueError as error:
        raise InputError(
            f"cannot open {redact(url)}: {redact(str(error))}. Give a local path or the URL of an installed store."
        ) from None
    return store, path


def is_local(store: Any) -> bool:
    """Whether `store` is the local disk."""
    return "file" in _protocols(store)


def refusals() -> tuple[type[Exception], ...]:
    """What the clients of stores raise when one cannot be read or written. Call it where errors are caught.

    botocore's errors, such as that of missing credentials, are no OSErrors.
    """
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError,) if botocore is None else (OSError, botocore.BotoCoreError, botocore.ClientError)


def reason(error: Exception) -> str:
    """What `error`, one of `refusals`, says, in one line without credentials."""
    told = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return redact(" ".join(told.split())).rstrip(".")


def changed_at(details: Mapping[str, Any]) -> float | None:
    """When a file, as a store describes it, last became what it is, in seconds since 1970; None if it is not told.

    Of a local file that is no earlier than its last renaming, copying or unpacking, whatever time these carried over.
    """
    told = [details[key] for key in _TIMES if key in details]
    known = [float(time) for time in told if isinstance(time, int | float)]
    return max([*known, *(time.timestamp() for time in told if isinstance(time, datetime))], default=None)


def send(store: Any, source: Path, target: str, sha256: str) -> None:
    """Put the local file `source`, with its `sha256`, at `target`, by one PUT; it is not held in memory."""
    size = source.stat().st_size
    if "s3" not in _protocols(store) or size > _LARGEST_PUT:
        store.put_file(str(source), target)
        return
    # s3fs itself holds the file or, from 100 MB on, sends it in parts, which a kill would leave behind for ever. The
    # length and the hash are told so that a request that is tried again from the middle of the file cannot succeed.
    bucket, key, _ = store.split_path(target)
    checksum = base64.b64encode(bytes.fromhex(sha256)).decode("ascii")
    with source.open("rb") as body:
        store.call_s3("put_object", Bucket=bucket, Key=key, Body=body, ContentLength=size, ChecksumSHA256=checksum)
    store.invalidate_cache(target)


def _protocols(store: Any) -> tuple[str, ...]:
    return (store.protocol,) if isinstance(store.protocol, str) else tuple(store.protocol)
