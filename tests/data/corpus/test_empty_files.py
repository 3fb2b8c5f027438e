"""Empty files, such as Spark and Ray write, are no error for any reader: they pass through and are counted."""

import bz2
import gzip
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep.audit import run as audit
from tailkeep.data.corpus import EMPTY, Layout, find_shards, read_objects, read_shard
from tailkeep.edit import run as edit
from tailkeep.errors import InputError
from tailkeep.forecast import run as forecast
from tailkeep.kr_test.corpus import read_corpus
from tests.edit.conftest import prior

__all__ = ["prior"]

CONTENTS = {
    **{f"zero{ending}": b"" for ending in (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet")},
    **{f"zero.jsonl{ending}": b"" for ending in (".gz", ".bz2", ".xz", ".zst")},
    "packed.jsonl.gz": gzip.compress(b""),
    "packed.jsonl.bz2": bz2.compress(b""),
    "packed.jsonl.xz": lzma.compress(b""),
    "packed.jsonl.zst": pa.compress(b"", codec="zstd", asbytes=True),
    "array.json": b"[]\n",
    "names.csv": b"id,text\n",
    "blank.txt": b"\n \n",
}


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), folder / "r.parquet")
    (folder / "some.jsonl").write_text('{"id": "1", "text": "Ann saw a cat."}\n')
    return folder


@pytest.mark.parametrize("row_groups", [None, 1])
def test_an_edit_passes_empty_files_through_and_counts_them(prior, corpus, tmp_path, row_groups):
    config = {"prior": {"path": str(prior)}, "row_groups": row_groups}
    outcome = edit(config, corpus, tmp_path / "out")
    assert outcome.complete
    assert outcome.counts["documents"] == 1
    assert outcome.counts[EMPTY] == len(CONTENTS) + 1
    assert f"files without a document: {len(CONTENTS) + 1}" in outcome.lines()
    copies = {path.name for path in (tmp_path / "out" / "documents").iterdir()}
    assert copies == {path.name for path in corpus.iterdir()}
    for name in ("zero.parquet", "zero.jsonl", "array.json", "names.csv", "blank.txt"):
        assert (tmp_path / "out" / "documents" / name).read_bytes() == CONTENTS[name]
    for shard in find_shards(tmp_path / "out" / "documents"):
        assert len(list(read_shard(shard, Layout()))) == (shard.name == "some.jsonl")
    assert edit(config, corpus, tmp_path / "out").counts == outcome.counts


def test_other_readers_take_empty_files_too(corpus, tmp_path):
    assert audit({}, corpus, tmp_path / "audit").counts[EMPTY] == len(CONTENTS) + 1
    assert forecast({"generations": 1}, corpus, tmp_path / "forecast").counts["documents"] == 1
    assert len(list(read_corpus([str(corpus)], Layout()))) == 1
    for shard in find_shards(corpus):
        if shard.kind != "txt":
            assert len(list(read_objects(shard, Layout()))) == (shard.name == "some.jsonl")


def test_a_parquet_file_of_one_byte_is_damaged_and_not_empty(prior, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"P")
    with pytest.raises(InputError, match=r"x\.parquet: not a whole parquet file"):
        edit({"prior": {"path": str(prior)}}, tmp_path / "x.parquet", tmp_path / "out")
