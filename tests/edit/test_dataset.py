"""The edited folder is a dataset: other tools read it as it stands, without a pattern of names."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep.edit import run

ROWS = [{"id": str(number), "text": f"Ann saw a cat and {number} dogs."} for number in range(6)]


@pytest.fixture(scope="module", params=["jsonl", "jsonl.gz", "parquet"])
def documents(request, config, tmp_path_factory):
    """The folder of the documents of an edit of two files, one of them deeper, and their format."""
    folder = tmp_path_factory.mktemp(request.param.replace(".", "-"))
    (folder / "in" / "deep").mkdir(parents=True)
    for name, rows in (("a", ROWS[:3]), ("deep/b", ROWS[3:])):
        path = folder / "in" / f"{name}.{request.param}"
        if request.param == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
            continue
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(lines) if request.param.endswith("gz") else lines)
    run(config, folder / "in", folder / "out")
    return folder / "out" / "documents", request.param


def test_datasets_loads_the_folder(documents, tmp_path):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(documents[0]), cache_dir=str(tmp_path), split="train")
    assert sorted(loaded["id"]) == [row["id"] for row in ROWS]


def test_polars_scans_the_folder(documents):
    polars = pytest.importorskip("polars")
    folder, kind = documents
    table = polars.read_parquet(folder) if kind == "parquet" else polars.scan_ndjson(folder).collect()
    assert sorted(map(str, table["id"].to_list())) == [row["id"] for row in ROWS]


def test_datatrove_reads_the_folder(documents):
    readers = pytest.importorskip("datatrove.pipeline.readers")
    pytest.importorskip("orjson")
    folder, kind = documents
    reader = (readers.ParquetReader if kind == "parquet" else readers.JsonlReader)(str(folder))
    assert sorted(document.id for document in reader.run()) == [row["id"] for row in ROWS]
