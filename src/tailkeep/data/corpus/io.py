"""Files, local or in a store behind fsspec such as S3: what each is by its ending, opened, decompressed, uploaded.

Rules: equal bytes in, equal bytes out: gzip records no time and no name. A truncated file and a store that refuses are
different errors: the first is in the input, the second may disappear on the next try. A store has no rename, so a file
is uploaded whole, by one request. A file is data that is read, or one of the known others; anything else is an error.
"""

import base64
import bz2
import gzip
import hashlib
import lzma
import posixpath
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, get_args

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.errors import InputError, MissingPackageError, TailkeepError
from tailkeep.runs.storage import TEMPORARY
from tailkeep.sanitize import redact

Compression = Literal["none", "gz", "zst", "bz2", "xz"]
Kind = Literal["jsonl", "json", "csv", "tsv", "txt", "parquet"]
"""The format of a file. `json` is an array of objects, or objects line by line."""

KINDS: tuple[Kind, ...] = get_args(Kind)
_KIND_ENDINGS: dict[str, Kind] = {"ndjson": "jsonl", **{kind: kind for kind in KINDS}}
_COMPRESSION_ENDINGS: dict[str, Compression] = {
    **{"gz": "gz", "gzip": "gz", "zst": "zst", "zstd": "zst", "bz2": "bz2", "xz": "xz"}
}
ENDINGS = f".{', .'.join(_KIND_ENDINGS)}; all but .parquet also with .{', .'.join(_COMPRESSION_ENDINGS)} after it"
"""The known endings, for messages."""

# Names that writers of data leave beside it.
_MARKERS = ("*.crc", "*.md5", "*.sha1", "*.sha256", "*.sha512", "*.success", "sha256sums", "md5sums")
_SIDE_FILES = ("tailkeep.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_UNFINISHED = (TEMPORARY, ".part", ".tmp", ".temp", ".crdownload", ".incomplete", ".filepart")
_DOCUMENTATION = ("readme*", "license*", "licence*", "copying*", "notice*", "changelog*", "citation*", "makefile")
_OTHER_KINDS = (
    *("*.md", "*.rst", "*.log", "*.yaml", "*.yml", "*.toml", "*.ini", "*.cfg", "*.py", "*.sh", "*.ipynb"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.pdf", "*.html", "*.css", "*.js"),
)


def format_of(name: str, kind: Kind | None = None) -> tuple[Kind, Compression] | None:
    """The format and the compression of a file called `name`, None if its ending is unknown.

    `kind` stands for any ending but that of the compression.
    """
    stem, _, last = posixpath.basename(name).lower().rpartition(".")
    compression = _COMPRESSION_ENDINGS.get(last, "none") if stem else "none"
    known = kind or _KIND_ENDINGS.get(last if compression == "none" else stem.rpartition(".")[2])
    if known is None or (not stem and kind is None) or (known == "parquet" and compression != "none"):
        return None
    return known, compression


def ignored_as(path: str, patterns: tuple[str, ...], kind: Kind | None = None) -> str | None:
    """Why a folder's file `path`, relative to the folder, is no data: the name of a kind; None if it is data.

    `patterns` are the user's, for the path or the name of the file. `kind` is the format that all files have by the
    user's word, whatever their ending.
    """
    name = posixpath.basename(path)
    if any(fnmatch(path, pattern) or fnmatch(name, pattern) for pattern in patterns):
        return "matched by --ignore"
    parts = path.lower().split("/")
    if any(part.endswith(_UNFINISHED) for part in parts):
        return "unfinished"
    if any(part.startswith(".") for part in parts):
        return "hidden"
    # Of Hadoop's kin: `_SUCCESS`, `_delta_log/`. A file with an ending, such as `_first.jsonl`, is none.
    underscored = parts if "." not in name else parts[:-1]
    if any(part.startswith("_") for part in underscored):
        return "markers"
    if any(fnmatch(parts[-1], pattern) for pattern in _MARKERS) or parts[-1] in _SIDE_FILES:
        return "markers"
    documentation = _DOCUMENTATION + (() if kind else _OTHER_KINDS)
    if format_of(name) is None and any(fnmatch(parts[-1], pattern) for pattern in documentation):
        return "documentation"
    return None


_EXTRAS = {"s3": "s3", "s3a": "s3"}
# S3 takes a larger object only in parts, which become one object with the last request.
_LARGEST_PUT = 5 << 30
_SETTLED_SECONDS = 60
"""So old is a whole second in which nothing changes any more, by clocks that differ a little."""
# What stores call the time of the last change. On the local disk "created" is the ctime.
_TIMES = ("created", "mtime", "LastModified", "last_modified", "updated")


def open_store(url: str) -> tuple[Any, str]:
    """The fsspec file system of `url`, which may be the local disk, and the path in it.

    Raises:
        InputError: the protocol of the URL is unknown.
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
    """The exceptions of store clients on a failed read or write. Call it where errors are caught.

    The exceptions of botocore, such as missing credentials, are no OSErrors.
    """
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError,) if botocore is None else (OSError, botocore.BotoCoreError, botocore.ClientError)


def error_reason(error: Exception) -> str:
    """The message of `error`, one of `store_errors`, in one line without credentials."""
    message = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return redact(" ".join(message.split())).rstrip(".")


def changed_at(details: Mapping[str, Any]) -> float | None:
    """The time of the last change in the `details` of a store, in seconds since 1970; None if none says which content.

    A local file changes when it is renamed, copied or unpacked too, whatever modification time that preserved. Many
    stores tell times in whole seconds, in one of which an object can change twice: theirs count once they are old.
    """
    times = [details[key] for key in _TIMES if key in details]
    known = [float(moment) for moment in times if isinstance(moment, int | float)]
    latest = max([*known, *(moment.timestamp() for moment in times if isinstance(moment, datetime))], default=None)
    if latest is None or (latest.is_integer() and latest > time.time() - _SETTLED_SECONDS):
        return None
    return latest


def upload(store: Any, source: Path, target: str, sha256: str) -> None:
    """Put the local file `source`, with its `sha256`, at `target`, by one PUT, streamed from disk."""
    size = source.stat().st_size
    if "s3" not in _protocols(store) or size > _LARGEST_PUT:
        store.put_file(str(source), target)
        return
    # s3fs reads the file into memory or, from 100 MB on, sends it in parts, which stay in the store after a kill. With
    # the length and the hash, a request that is retried from the middle of the file cannot succeed.
    bucket, key, _ = store.split_path(target)
    checksum = base64.b64encode(bytes.fromhex(sha256)).decode("ascii")
    with source.open("rb") as body:
        store.call_s3("put_object", Bucket=bucket, Key=key, Body=body, ContentLength=size, ChecksumSHA256=checksum)
    store.invalidate_cache(target)


def _protocols(store: Any) -> tuple[str, ...]:
    return (store.protocol,) if isinstance(store.protocol, str) else tuple(store.protocol)


_BLOCK, _PIECE = 1 << 20, 1 << 14
_GZIP_LEVEL = 6  # the command's default; Python's own, 9, takes three times as long for 1 % less


class TruncatedFileError(ValueError):
    """A file that ends too early or is damaged."""


def as_truncation_error(error: Exception, what: str) -> TruncatedFileError:
    """The `TruncatedFileError` for an error of Arrow, which raises OSError without an errno for damaged bytes.

    Raises:
        OSError: the store failed to read.
    """
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return TruncatedFileError(f"{what} ({' '.join(str(error).split())})")


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn the errors of a store into an `InputError` that `name` cannot be read.

    Raises:
        InputError: `name` cannot be read.
    """
    try:
        yield
    except TailkeepError:  # some are OSErrors too
        raise
    except store_errors() as error:
        raise InputError(f"cannot read {name}: {error_reason(error)}. Check that it exists and may be read.") from None


@contextmanager
def open_input(url: str, name: str) -> Iterator[IO[bytes]]:
    """The raw bytes of the file at `url`; errors call it `name`.

    Raises:
        InputError: it cannot be read.
    """
    with readable(name), _opened(url) as file:
        yield file


def sha256_of(file: IO[bytes]) -> str:
    """The sha256 of what `file` has from here on. Not every file of a store has what `hashlib.file_digest` needs."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def is_empty(url: str, name: str) -> bool:
    """Whether the file at `url` has 0 bytes, which the listing of a store need not say; errors call it `name`.

    Raises:
        InputError: it cannot be read.
    """
    with open_input(url, name) as file:
        return not file.read(1)


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
        TruncatedFileError: it is not a complete parquet file.
    """
    with open_input(url, name) as file:
        try:
            opened = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise as_truncation_error(error, "not a whole parquet file") from None
        with opened:
            yield opened


def blocks(file: IO[bytes], compression: Compression) -> Iterator[bytes]:
    """The decompressed content of `file`, block by block.

    Raises:
        TruncatedFileError: the compressed data end too early or are damaged. The blocks before were yielded.
    """
    if compression in _STREAMS:
        yield from _streams(file, compression)
        return
    if compression == "zst":
        yield from _unzstd(file)
        return
    with ExitStack() as stack:
        read = file.read if compression == "none" else stack.enter_context(gzip.GzipFile(fileobj=file)).read1
        while True:
            try:
                block = read(_BLOCK)
            except (EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
                if compression == "none" or (isinstance(error, OSError) and error.errno is not None):
                    raise
                if isinstance(error, EOFError) and not file.tell():
                    return  # 0 bytes are no damaged stream, but an empty file
                raise TruncatedFileError(f"damaged gzip data ({error})") from None
            if not block:
                return
            yield block


_STREAMS: dict[str, tuple[str, Callable[[], Any]]] = {
    "bz2": ("bzip2", bz2.BZ2Decompressor),
    "xz": ("xz", partial(lzma.LZMADecompressor, lzma.FORMAT_XZ)),
}
"""By compression its name, and what decompresses one stream."""


def _streams(file: IO[bytes], compression: Compression) -> Iterator[bytes]:
    """One stream after another, NUL bytes between or behind them left out, as of gzip.

    The classes of the standard library end in silence where a later stream is damaged. In small pieces, since a call
    that meets damage gives nothing of what it has.
    """
    name, start = _STREAMS[compression]
    waiting, block = file.read(_PIECE), bytearray()
    while waiting:
        stream = start()
        try:
            while not stream.eof:
                block += stream.decompress(waiting, _PIECE)
                waiting = b""
                if len(block) >= _BLOCK:
                    yield bytes(block)
                    block.clear()
                if stream.needs_input and not stream.eof and not (waiting := file.read(_PIECE)):
                    raise EOFError("it ends before the end of a stream")
        except (EOFError, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            if block:
                yield bytes(block)
            raise TruncatedFileError(f"damaged {name} data ({error})") from None
        waiting = stream.unused_data
        while not (waiting := waiting.lstrip(b"\0")) and (waiting := file.read(_PIECE)):
            pass
    if block:
        yield bytes(block)


def _unzstd(file: IO[bytes]) -> Iterator[bytes]:
    """Read in small pieces, since a read that meets damage gives nothing of what it has."""
    with pa.CompressedInputStream(file, "zstd") as opened:
        block = bytearray()
        while True:
            try:
                piece = opened.read(_PIECE)
            except OSError as error:
                if block:
                    yield bytes(block)
                raise as_truncation_error(error, "damaged zstd data") from None
            block += piece
            if block and (not piece or len(block) >= _BLOCK):
                yield bytes(block)
                block.clear()
            if not piece:
                return


@contextmanager
def open_output(path: Path, compression: Compression) -> Iterator[Any]:
    """A new local file for bytes, which it compresses."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        if compression == "gz":
            zipped = gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0, compresslevel=_GZIP_LEVEL)
            yield stack.enter_context(zipped)
        elif compression == "zst":
            yield stack.enter_context(pa.CompressedOutputStream(file, "zstd"))
        elif compression == "bz2":
            yield stack.enter_context(bz2.BZ2File(file, "wb"))
        elif compression == "xz":
            yield stack.enter_context(lzma.LZMAFile(file, "wb"))
        else:
            yield file
