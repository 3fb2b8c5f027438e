"""A pack: what is worth keeping of a run of the laboratory, small enough to commit.

    run.json  config.yaml  metrics.jsonl  timings.jsonl
    cells/<arm>/<seed>/<generation>/{metrics.json, timings.json, samples/<view>/text.jsonl, words.tsv.zst, DONE}

Rule: a pack is laid out as the run is, without models and whole texts, so whatever reads a run reads a pack.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tailkeep.config import redact_yaml
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs.directory import RunDirectory, collected
from tailkeep.runs.generation_dir import GenerationDir, is_curve_table, read_speeds
from tailkeep.runs.record import read_json
from tailkeep.runs.storage import Storage
from tailkeep.sanitize import excerpt, without_folders

MAX_KB = 500
NUM_SAMPLES = 20
SAMPLE_CHARACTERS = 500
CURVE_ROWS = 200
WORDS = "words.tsv.zst"
_WORD = re.compile(r"\w+")
_DIGITS = 6
# Columns of one number per question, document or step; the rest of a table stays as it is.
_ROUNDED = {"knowledge": ("margins",), "held_out": ("nll",)}


@dataclass(frozen=True)
class Pack:
    """A pack that was written: its folder, its size in bytes, its cells, and the tables that some cell lacks."""

    path: Path
    size: int
    num_cells: int
    missing: tuple[str, ...]


def write_pack(
    source: Path,
    out: Path,
    *,
    arms: Collection[str] = (),
    samples: int = NUM_SAMPLES,
    words: bool = True,
    max_kb: int = MAX_KB,
    storage: Storage | None = None,
) -> Pack:
    """Write the finished generations of the run (or pack) at `source` into the folder `out`, or replace the pack there.

    Per generation it keeps all metrics and tables (per question its number in the file, its article, its margin; per
    held-out document its tokens and its NLL), the loss curve and its speeds thinned to 200 rows, `samples` texts of
    each decoder, 500 characters each, and with `words` how often each word stands in what was generated for it.
    Absolute paths in the config are shortened to their last two parts. Numbers per question, per document and per step
    keep 6 digits.

    Raises:
        ConfigError: one of `arms` is not in the run.
        InputError: no run of the laboratory is there, none of its generations is finished, `out` holds something else,
            or the pack would have more than `max_kb` kB (1 kB = 1000 bytes).
        StorageError: the file system refused a write.
    """
    run = RunDirectory.open(source)
    if run.record.kind != "lab":
        raise InputError(f"{source} holds a run of kind {run.record.kind!r}. Give a run of `tailkeep lab`.")
    cells = _cells(run, arms)
    trees = [cell.metrics() for cell in cells]
    files = {
        "run.json": run.record.as_pack({cell.arm for cell in cells} if arms else None).text().encode(),
        "config.yaml": without_folders(redact_yaml(run.config_text(), source=str(run.path / "config.yaml"))).encode(),
        **{name: text.encode() for name, text in collected(cells).items()},
    }
    for cell, tree in zip(cells, trees, strict=True):
        folder = cell.path.relative_to(run.path).as_posix()
        files |= {f"{folder}/{name}": content for name, content in _cell_files(cell, tree, samples, words=words)}
    _check_size(files, max_kb)
    _check_replaceable(out)
    storage = storage or Storage()
    storage.remove_folder(out)
    storage.write_folder(out, lambda folder: _fill(folder, files))
    return Pack(out, sum(map(len, files.values())), len(cells), _missing(trees))


def read_words(cell: GenerationDir) -> Counter[str] | None:
    """How often each word stands in what was generated for `cell`, of a run or a pack; None where nothing was.

    Words are runs of letters and digits. Prompts do not count.

    Raises:
        InputError: the file in a pack is damaged.
    """
    path = cell.path / WORDS
    if path.exists():
        try:
            with pa.input_stream(str(path), compression="zstd") as stream:
                lines = stream.read().decode().splitlines()
            return Counter({word: int(count) for word, count in (line.split("\t") for line in lines)})
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: damaged ({error}). Pack the run again.") from None
    texts = cell.generated / str(cell.generation) / "text.jsonl"
    if not texts.is_file():
        return None
    return Counter(word for line in _json_lines(texts) for word in _WORD.findall(str(line.get("text", ""))))


def _cells(run: RunDirectory, arms: Collection[str]) -> list[GenerationDir]:
    cells = run.generation_dirs()
    if not cells:
        raise InputError(f"{run.path} holds no finished generation. Pack it when one is.")
    known = sorted({cell.arm for cell in cells})
    for arm in arms:
        if arm not in known:
            raise ConfigError(
                f"--arms: {arm!r} has no finished generation in {run.path}, which has {', '.join(known)}."
            )
    return [cell for cell in cells if not arms or cell.arm in arms]


def _cell_files(
    cell: GenerationDir, tree: Mapping[str, Any], samples: int, *, words: bool
) -> Iterator[tuple[str, bytes]]:
    tables = {name: _small(name, table) for name, table in tree.get("tables", {}).items()}
    yield "metrics.json", _json({**tree, "tables": tables})
    yield "timings.json", _json(cell.timings())
    read_speeds(cell)
    for path in sorted(cell.path.glob("training/*/timings.json")):
        timings = {name: _thinned(column) for name, column in read_json(path).items()}
        yield path.relative_to(cell.path).as_posix(), _json(timings)
    yield "DONE", b""
    for path in sorted(cell.samples.glob("*/text.jsonl")) if samples else ():
        yield f"samples/{path.parent.name}/text.jsonl", b"".join(_excerpts(path, samples))
    counts = read_words(cell) if words else None
    if counts:
        lines = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        yield WORDS, _zstd("".join(f"{word}\t{count}\n" for word, count in lines).encode())


def _small(name: str, table: Any) -> Any:
    """`table` with fewer digits where it has a number per question or document, and a loss curve with fewer rows."""
    if not isinstance(table, Mapping):
        return table
    if is_curve_table(name):
        return {key: _thinned(column) for key, column in table.items()}
    columns = _ROUNDED.get(name, ())
    return {key: _rounded(column) if key in columns else column for key, column in table.items()}


def _thinned(column: Any) -> Any:
    """At most 200 rows, evenly spread, with the first and the last."""
    if not isinstance(column, list):
        return column
    if len(column) > CURVE_ROWS:
        column = [column[index * (len(column) - 1) // (CURVE_ROWS - 1)] for index in range(CURVE_ROWS)]
    return _rounded(column)


def _rounded(column: Any) -> Any:
    if not isinstance(column, list):
        return column
    return [float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value for value in column]


def _excerpts(path: Path, most: int) -> Iterator[bytes]:
    for number, line in enumerate(_json_lines(path)):
        if number == most:
            return
        yield _json({key: excerpt(str(line.get(key, "")), SAMPLE_CHARACTERS) for key in ("prompt", "text")})


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                tree = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(f"{path}: a line is not JSON. Run the generation again.") from None
            yield tree if isinstance(tree, dict) else {}


def _json(tree: Mapping[str, Any]) -> bytes:
    return (json.dumps(tree, ensure_ascii=False) + "\n").encode()


def _zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def _check_size(files: Mapping[str, bytes], max_kb: int) -> None:
    size = sum(map(len, files.values()))
    if size <= 1000 * max_kb:
        return
    parts = {"words": WORDS, "samples": "text.jsonl", "metrics and tables": "metrics.json"}
    shares = ", ".join(
        f"{what} {sum(len(content) for name, content in files.items() if name.endswith(end)) / 1000:.0f} kB"
        for what, end in parts.items()
    )
    raise InputError(
        f"the pack would have {size / 1000:.0f} kB, more than {max_kb} kB ({shares}). Give --no-words, fewer "
        "--samples, some of the --arms, or a larger --max-kb."
    )


def _check_replaceable(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "run.json").is_file() or not RunDirectory.open(out).record.packed:
        raise InputError(f"{out} is there already and is no pack. Give another --out.")


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _missing(trees: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What replications compare item by item and some cell of a language model lacks."""
    tables = [tree.get("tables", {}) for tree in trees if tree.get("learner") == "causal_lm"]
    has_all = {
        "articles of the questions": all("locations" in table.get("knowledge", {"locations": ()}) for table in tables),
        "likelihood per held-out document": all("held_out" in table for table in tables),
        "loss curve": all(any(map(is_curve_table, table)) for table in tables),
    }
    return tuple(what for what, recorded in has_all.items() if not recorded)
