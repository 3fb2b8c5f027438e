"""Damage of any kind to files of every format, from one seed that is printed."""

import bz2
import gzip
import io
import json
import lzma
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep.errors import TailkeepError

ROWS = [{"id": str(number), "text": f'A pear, {number} "apples"\nand é.'} for number in range(40)]


def parquet(**options):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=10, **options)
    return sink.getvalue()


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
TABLE = ("id,text\n" + "".join(f'{row["id"]},"{row["text"].replace(chr(34), chr(34) * 2)}"\n' for row in ROWS)).encode()
FORMATS = {
    "x.jsonl": LINES,
    "x.json": json.dumps(ROWS, indent=1).encode(),
    "x.csv": TABLE,
    "x.txt": LINES,
    "x.parquet": parquet(),
    "y.parquet": parquet(compression="zstd"),
    "x.jsonl.gz": gzip.compress(LINES),
    "x.json.bz2": bz2.compress(LINES),
    "x.csv.xz": lzma.compress(TABLE),
    "x.jsonl.zst": pa.Codec("zstd").compress(LINES, asbytes=True),
}
INTERESTING = [
    b"\x00",
    b"\xff",
    b'"',
    b"[",
    b"{",
    b"]",
    b",",
    b"\n",
    b"\\",
    b"\xef\xbb\xbf",
    b"[" * 3000,
    b"1e999",
    b'"text":',
]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """`content` with one to three kinds of damage."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(6):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << draw.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = draw.choice(INTERESTING)
            case 3:
                del data[at : at + draw.randrange(1, 200)]
            case 4:
                data[at : at + 40] = bytes(draw.randrange(256) for _ in range(40))
            case _:
                data += data[: draw.randrange(len(data) + 1)]
    return bytes(data)


def error_of(verb):
    """What `verb` says where it ends with an error that a user can cause; any other error is one of this test."""
    try:
        verb()
    except TailkeepError as error:
        return str(error)
    return ""


def seeded():
    """A generator whose seed is printed, so that a failure can be repeated: TAILKEEP_FUZZ_SEED=... pytest."""
    seed = int(os.environ.get("TAILKEEP_FUZZ_SEED", random.randrange(1 << 32)))
    print(f"TAILKEEP_FUZZ_SEED={seed}")
    return random.Random(seed)
