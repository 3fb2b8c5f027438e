"""Weights of documents: which of a corpus to keep, and how much each counts.

    weights/<name of the input file>.parquet   document_id, weight >= 0, method, fingerprint

Rule: every document of a weighted file has a weight, or there is an error; nothing is kept by being forgotten.
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
    """Write the weights (D,) of the documents `ids` of the file `name` below `root`; the path.

    Raises:
        InputError: a weight is negative or no number, or two documents share an id.
    """
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        wrong = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        raise InputError(
            f"{name}: the document {ids[wrong]!r} has the weight {weights[wrong]}. Give numbers from 0 up."
        )
    if len(set(ids)) < len(ids):
        raise InputError(f"{name}: two documents have one id, and a weight could be of either. Give each its own.")
    path = root / FOLDER / f"{name}.parquet"
    columns = [list(ids), weights, [method] * len(ids), [fingerprint] * len(ids)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=_SCHEMA), sink, compression="zstd")
    Storage().write_bytes(path, sink.getvalue().to_pybytes())
    return path


def read_weights(path: Path) -> dict[str, float]:
    """The weight of each document by its id, of the file at `path`, in the file's order.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        # Not read_table, which would take folders of the path for columns.
        table = pq.ParquetFile(path).read(columns=["document_id", "weight"])
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot read the weights {path}: {reason}. Give the output of tailkeep select.") from None
    return dict(zip(table["document_id"].to_pylist(), table["weight"].to_pylist(), strict=True))


def weight_of(weights: dict[str, float], document: str, where: str) -> float:
    """The weight of a document.

    Raises:
        InputError: it has none.
    """
    if document not in weights:
        raise InputError(f"{where}: the document {document!r} has no weight. Select from this very corpus.")
    return weights[document]


def repeat_count(weights: Iterable[float], total: int, *, seed: int) -> Iterator[int]:
    """How often each document is taken so that `total` are, each about in proportion to its weight.

    Systematic resampling: each count is the expected one rounded up or down, so equal weights give every document once.

    Raises:
        InputError: every weight is 0.
    """
    shares = np.array(list(weights), np.float64)
    if not shares.sum() > 0:
        raise InputError("every document has the weight 0, so there is none to train on. Keep more of them.")
    sums = np.concatenate([[0.0], np.cumsum(shares)]) * (total / shares.sum())
    sums[-1] = total
    offset = np.random.default_rng(seed).random()
    counts = np.diff(np.ceil(sums - offset).astype(np.int64).clip(0))
    yield from counts.tolist()
