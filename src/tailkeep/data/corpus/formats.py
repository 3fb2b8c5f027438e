"""Which files of a folder are read, and as what: by their endings, in capitals or not.

Rule: nothing is skipped in silence. A file is data that is read, or one of the known others, which are counted by kind;
anything else is an error.
"""

import posixpath
from fnmatch import fnmatch
from typing import Literal, get_args

from tailkeep.runs.storage import TEMPORARY

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
_MARKERS = ("_*", "*.crc", "*.md5", "*.sha1", "*.sha256", "*.sha512", "*.success", "sha256sums", "md5sums")
_SIDE_FILES = ("tailkeep.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_UNFINISHED = (TEMPORARY, ".part", ".tmp", ".temp", ".crdownload", ".incomplete", ".filepart")
_DOCUMENTATION = (
    *("readme*", "license*", "licence*", "copying*", "notice*", "changelog*", "citation*", "makefile"),
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


def ignored_as(path: str, patterns: tuple[str, ...]) -> str | None:
    """Why a folder's file `path`, relative to the folder, is no data: the name of a kind; None if it is data.

    `patterns` are the user's, for the path or the name of the file.
    """
    name = posixpath.basename(path)
    if any(fnmatch(path, pattern) or fnmatch(name, pattern) for pattern in patterns):
        return "matched by --ignore"
    parts = path.lower().split("/")
    if any(part.endswith(_UNFINISHED) for part in parts):
        return "unfinished"
    if any(part.startswith(".") for part in parts):
        return "hidden"
    if any(fnmatch(part, pattern) for part in parts for pattern in _MARKERS) or parts[-1] in _SIDE_FILES:
        return "markers"
    if format_of(name) is None and any(fnmatch(parts[-1], pattern) for pattern in _DOCUMENTATION):
        return "documentation"
    return None
