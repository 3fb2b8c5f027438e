"""Bytes of input files, decompressed, and compressed bytes of output files.

Rule: equal bytes in, equal bytes out: gzip carries no time and no name. What is torn is told apart from what the
store refuses: the first is the input's fault, the second may be gone on the next try.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.data.corpus.stores import open_store, reason, refusals
from tailkeep.errors import InputError

Compression = Literal["none", "gz", "zst"]

_BLOCK = 1 << 20
_GZIP_LEVEL = 6  # the command's default; Python's own, 9, takes three times as long for 1 % less


class TornError(ValueError):
    """A file that ends too early or is damaged; the message says how."""


def torn(error: Exception, what: str) -> TornError:
    """What to raise for an error of Arrow's: it uses OSError for bad bytes too, then without a number.

    Raises:
        OSError: the store refused to read.
    """
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return TornError(f"{what} ({error})")


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Explain what a file system refuses.

    Raises:
        InputError: `name` cannot be read.
    """
    try:
        yield
    except refusals() as error:
        raise InputError(f"cannot read {name}: {reason(error)}. Check that it exists and may be read.") from None


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
            raise torn(error, "not a whole parquet file") from None
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
                raise TornError(f"damaged gzip data ({error})") from None
            if not block:
                return
            yield block


def _unzstd(file: IO[bytes]) -> Iterator[bytes]:
    with pa.CompressedInputStream(file, "zstd") as opened:
        while True:
            try:
                block = opened.read(_BLOCK)
            except OSError as error:
                raise torn(error, "damaged zstd data") from None
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
