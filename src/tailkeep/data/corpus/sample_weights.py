"""Sample weights of documents: how often each is trained on, and which are excluded (weight 0).

    weights/<name of the input file>.parquet   document_id, weight >= 0, method, fingerprint

Rule: every document of a weighted file has a weight, or an error is raised.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailkeep.errors import InputError
from tailkeep.runs import Storage

FOLDER = "weights"
_SCHEMA = pa.schema(
    [("document_id", pa.string()), ("weight", pa.float64()), ("method", pa.string()), ("fingerprint", pa.string())]
)


def write_weights(
    root: Path, name: str, ids: Sequence[str], weights: NDArray[np.float64], *, method: str, fingerprint: str
) -> Path:
    """Write the weights (D,) of the documents `ids` of the file `name` below `root`, and return the path.

    Raises:
        InputError: a weight is negative or no number, or two documents share an id.
    """
    _check(ids, weights, name)
    path = root / FOLDER / f"{name}.parquet"
    columns = [list(ids), weights, [method] * len(ids), [fingerprint] * len(ids)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=_SCHEMA), sink, compression="zstd")
    Storage().write_bytes(path, sink.getvalue().to_pybytes())
    return path


def _check(ids: Sequence[str], weights: NDArray[np.float64], name: str) -> None:
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        wrong = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        raise InputError(
            f"{name}: a weight must be finite and >= 0, got {weights[wrong]} for the document {ids[wrong]!r}."
        )
    if len(set(ids)) < len(ids):
        raise InputError(f"{name}: two documents have the same id. Give each document its own id.")


def read_weights(path: Path) -> dict[str, float]:
    """The weight of each document by id, in the order of the file at `path`.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        # Not read_table, which reads columns from the names of folders.
        table = pq.ParquetFile(path).read(columns=["document_id", "weight"])
        if missing := {"document_id", "weight"} - set(table.column_names):
            raise ValueError(f"no column {' and '.join(sorted(missing))}")
        ids, weights = table["document_id"].to_pylist(), table["weight"].to_numpy().astype(np.float64)
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot read the weights {path}: {reason}. Give the output of tailkeep select.") from None
    _check(ids, weights, str(path))
    return dict(zip(ids, weights.tolist(), strict=True))


def weight_of(weights: dict[str, float], document: str, where: str) -> float:
    """The weight of a document.

    Raises:
        InputError: it has none.
    """
    if document not in weights:
        raise InputError(f"{where}: the document {document!r} has no weight. Run tailkeep select on this corpus.")
    return weights[document]


def repeat_count(weights: Iterable[float], total: int, *, seed: int) -> Iterator[int]:
    """The number of copies of each document, in proportion to its weight and `total` in sum.

    Systematic resampling: each number is its expected value rounded up or down, so with equal weights and a total of D
    every document is taken once.

    Raises:
        InputError: every weight is 0.
    """
    shares = np.array(list(weights), np.float64)
    if not shares.sum() > 0:
        raise InputError("every document has weight 0, so none remains to train on. Give one a positive weight.")
    sums = np.concatenate([[0.0], np.cumsum(shares)]) * (total / shares.sum())
    sums[-1] = total
    offset = np.random.default_rng(seed).random()
    counts = np.diff(np.ceil(sums - offset).astype(np.int64).clip(0))
    yield from counts.tolist()
