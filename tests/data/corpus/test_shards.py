"""Names of shards: the same for every way to ask for the same files, and never of the workers' making."""

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailkeep.data.corpus import Layout, Task, find_shards, read_shard, shards_of_task
from tailkeep.data.corpus.parquet import join_row_groups
from tailkeep.errors import ConfigError, InputError
from tests.data.corpus.job import carry, unchanged


@pytest.fixture
def corpus(tmp_path):
    for name in ("b.jsonl", "a.txt", "deep/a.jsonl.gz", "deep/er/c.PARQUET", ".hidden/x.txt", "x.txt.partial/y.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"abc")
    (tmp_path / "tailkeep.json").write_text("{}")
    return tmp_path


ALL = ["a.txt", "b.jsonl", "deep/a.jsonl.gz", "deep/er/c.PARQUET"]


def names(inputs):
    return [shard.name for shard in find_shards(inputs)]


def test_a_folder_gives_its_files_with_known_endings_sorted(corpus):
    assert names(corpus) == ALL
    assert names(f"{corpus}/") == ALL
    assert names(f"file://{corpus}") == ALL
    assert {(shard.kind, shard.compression, shard.size) for shard in find_shards(corpus)} == {
        ("txt", "none", 3),
        ("jsonl", "none", 3),
        ("jsonl", "gz", 3),
        ("parquet", "none", 3),
    }


def test_a_glob_counts_from_the_folder_before_its_first_wildcard(corpus):
    assert names(f"{corpus}/*.*l") == ["b.jsonl"]
    assert names(f"{corpus}/deep/**/*.*z") == ["a.jsonl.gz"]
    assert names(f"{corpus}/de*/*.gz") == ["deep/a.jsonl.gz"]


def test_several_inputs_count_from_what_they_share_and_no_file_comes_twice(corpus):
    assert names([corpus / "deep", corpus / "b.jsonl", corpus / "deep" / "a.jsonl.gz"]) == [ALL[1], *ALL[2:]]
    assert names(corpus / "deep" / "a.jsonl.gz") == ["a.jsonl.gz"]


def test_a_relative_path_gives_the_same_names(corpus, monkeypatch):
    monkeypatch.chdir(corpus)
    assert names(".") == ALL
    assert names("deep/*.gz") == ["a.jsonl.gz"]


def test_a_name_with_a_wildcard_in_it_is_found(corpus):
    (corpus / "a[1].txt").write_bytes(b"abc")
    assert names(corpus / "a[1].txt") == ["a[1].txt"]


def test_a_store_gives_names_and_documents_like_a_folder(corpus):
    store = fsspec.filesystem("memory")
    store.pipe({"/bucket/in/a.txt": b"one\ntwo", "/bucket/in/deep/b.jsonl": b'{"text": "x"}'})
    try:
        shards = find_shards("memory://bucket/in")
        assert [shard.name for shard in shards] == ["a.txt", "deep/b.jsonl"]
        assert names("memory://bucket/in/**/*.jsonl") == ["deep/b.jsonl"]
        assert [record.id for shard in shards for record in read_shard(shard, Layout())] == [
            "a.txt:0",
            "a.txt:1",
            "deep/b.jsonl:0",
        ]
    finally:
        store.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("*.csv", "matches no file"),
        ("nothing", "matches no file"),
        ("x.txt.partial/y.txt", None),
        ("x.txt.partia?/y.txt", "matches no file that is data; ignored are 1 unfinished"),
        ("tailkeep.j*", "matches no file that is data; ignored are 1 markers"),
    ],
)
def test_what_cannot_be_read_is_refused(corpus, name, message):
    if message is None:
        assert names(corpus / name) == ["y.txt"]
        return
    with pytest.raises(InputError, match=message):
        find_shards(corpus / name)


def test_a_store_that_is_unknown_is_refused_and_no_password_is_shown(corpus):
    with pytest.raises(InputError, match="cannot open nowhere://") as caught:
        find_shards("nowhere://me:hunter22@bucket/x.jsonl")
    assert "hunter22" not in str(caught.value)
    with pytest.raises(InputError, match="no input"):
        find_shards([])


@given(count=st.integers(0, 30), tasks=st.integers(1, 9))
def test_tasks_share_all_shards_and_no_shard_twice(count, tasks):
    shards = list(range(count))
    shares = [shards_of_task(shards, Task(index, tasks)) for index in range(tasks)]
    assert sorted(shard for share in shares for shard in share) == shards
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("index", "tasks"), [(2, 2), (-1, 2), (0, 0)])
def test_a_task_that_does_not_exist_is_refused(index, tasks):
    with pytest.raises(ConfigError, match="does not exist"):
        shards_of_task([], Task(index, tasks))


def test_row_groups_give_the_same_documents_and_join_to_the_same_file(tmp_path):
    table = pa.table({"text": [f"text {n}" for n in range(11)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    (whole,) = find_shards(tmp_path / "x.parquet")
    parts = find_shards(tmp_path / "x.parquet", row_groups=4)
    assert [part.key for part in parts] == ["x.parquet/000000-000004", "x.parquet/000004-000006"]
    assert [find.id for part in parts for find in read_shard(part, Layout())] == [
        record.id for record in read_shard(whole, Layout())
    ]
    for shard in (whole, *parts):
        carry(shard, tmp_path / "out", change=unchanged)
    join_row_groups([tmp_path / "out" / part.documents for part in parts], tmp_path / "joined.parquet")
    joined = tmp_path / "joined.parquet"
    assert joined.read_bytes() == (tmp_path / "out" / whole.documents).read_bytes()
    assert pq.read_table(joined).equals(table)
