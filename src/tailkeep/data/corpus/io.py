"""Bytes of input files, decompressed, and compressed bytes of output files.

Rule: equal bytes in, equal bytes out: gzip carries no time and no name. What is torn is distinguished from what the
store refuses: the first is the input's fault, the second may be gone on the next try.
"""

import base64
import gzip
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.errors import InputError, MissingPackageError
from tailkeep.sanitize import redact

# Stores behind fsspec, such as S3: how one is opened, what its client raises, how a file is sent to it.
#
# Rule: a store has no rename, so a file is sent whole, by one request; its name is there when all of it is.


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


def store_errors() -> tuple[type[Exception], ...]:
    """What the clients of stores raise when one cannot be read or written. Call it where errors are caught.

    botocore's errors, such as that of missing credentials, are no OSErrors.
    """
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError,) if botocore is None else (OSError, botocore.BotoCoreError, botocore.ClientError)


def error_reason(error: Exception) -> str:
    """What `error`, one of `store_errors`, says, in one line without credentials."""
    message = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return redact(" ".join(message.split())).rstrip(".")


def changed_at(details: Mapping[str, Any]) -> float | None:
    """When a file, as a store describes it, last became what it is, in seconds since 1970; None if it is not told.

    Of a local file that is no earlier than its last renaming, copying or unpacking, whatever time these carried over.
    """
    times = [details[key] for key in _TIMES if key in details]
    known = [float(time) for time in times if isinstance(time, int | float)]
    return max([*known, *(time.timestamp() for time in times if isinstance(time, datetime))], default=None)


def upload(store: Any, source: Path, target: str, sha256: str) -> None:
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


Compression = Literal["none", "gz", "zst"]

_BLOCK = 1 << 20
_GZIP_LEVEL = 6  # the command's default; Python's own, 9, takes three times as long for 1 % less


class TruncatedFileError(ValueError):
    """A file that ends too early or is damaged; the message says how."""


def as_truncation_error(error: Exception, what: str) -> TruncatedFileError:
    """What to raise for an error of Arrow's: it uses OSError for bad bytes too, then without a number.

    Raises:
        OSError: the store refused to read.
    """
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return TruncatedFileError(f"{what} ({error})")


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Explain what a file system refuses.

    Raises:
        InputError: `name` cannot be read.
    """
    try:
        yield
    except store_errors() as error:
        raise InputError(f"cannot read {name}: {error_reason(error)}. Check that it exists and may be read.") from None


@contextmanager
def open_input(url: str, name: str) -> Iterator[IO[bytes]]:
    """The file at `url` as it lies there; `name` is what errors call it.

    Raises:
        InputError: it cannot be read.
    """
    with readable(name), _opened(url) as file:
        yield file


def _opened(url: str) -> Any:
    if "://" not in url:  # a '::' in a local path means something in a URL
        return Path(url).open("rb")
    store, path = open_store(url)
    return store.open(path, "rb")


@contextmanager
def open_parquet(url: str, name: str) -> Iterator[pq.ParquetFile]:
    """The parquet file at `url`, its footer read.

    Raises:
        InputError: it cannot be read.
        TornError: it is no whole parquet file.
    """
    with open_input(url, name) as file:
        try:
            opened = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise as_truncation_error(error, "not a whole parquet file") from None
        with opened:
            yield opened


def blocks(file: IO[bytes], compression: Compression) -> Iterator[bytes]:
    """The content of `file` without its compression, block by block.

    Raises:
        TornError: the compressed data end too early or are damaged. Blocks before that were given out.
    """
    match compression:
        case "gz":
            yield from _gunzipped(file)
        case "zst":
            yield from _unzstd(file)
        case "none":
            while block := file.read(_BLOCK):
                yield block


def _gunzipped(file: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file, mode="rb") as opened:
        while True:
            try:
                block = opened.read1(_BLOCK)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise TruncatedFileError(f"damaged gzip data ({error})") from None
            if not block:
                return
            yield block


def _unzstd(file: IO[bytes]) -> Iterator[bytes]:
    with pa.CompressedInputStream(file, "zstd") as opened:
        while True:
            try:
                block = opened.read(_BLOCK)
            except OSError as error:
                raise as_truncation_error(error, "damaged zstd data") from None
            if not block:
                return
            yield block


@contextmanager
def open_output(path: Path, compression: Compression) -> Iterator[Any]:
    """A new local file to write bytes to, compressed on the way."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        if compression == "gz":
            zipped = gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0, compresslevel=_GZIP_LEVEL)
            yield stack.enter_context(zipped)
        elif compression == "zst":
            yield stack.enter_context(pa.CompressedOutputStream(file, "zstd"))
        else:
            yield file
