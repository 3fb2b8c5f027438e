"""Formats x damage x verbs: whatever the bytes are, an error that says what is wrong, or rejects; nothing is lost.

Editing and selecting are in tests/edit/test_fuzz.py, the laboratory in tests/lab/test_fuzz.py.
"""

from functools import partial

import pytest

from tailkeep import audit
from tailkeep.data.corpus import Layout, find_shards, read_objects, read_shard
from tailkeep.kr_test.corpus import read_corpus
from tests.data.corpus.damage import FORMATS, damaged, error_of, seeded
from tests.data.corpus.job import carry

CASES = 40


def check(folder, name, content, draw):
    """Every verb reads the file, or says in one line why it does not."""
    path = folder / name
    path.write_bytes(content)
    (shard,) = find_shards(path)
    layout = Layout(id_field=None, max_document_bytes=draw.choice([50, 1 << 20]))
    read = []
    for verb in (
        lambda: read.append(len(list(read_shard(shard, layout)))),
        lambda: read.append(carry(shard, folder, layout=layout, on_error="skip")),
        lambda: list(read_objects(shard, layout)),
        lambda: list(read_corpus([str(path)], layout, reject=lambda _: None)),
    ):
        assert "\n" not in error_of(verb)
    if len(read) == 2:
        counts = read[1]
        assert read[0] == counts["documents"] == counts["written"] + counts["rejected"]


@pytest.mark.parametrize("name", FORMATS)
def test_damage_of_any_kind_is_an_error_or_rejects(tmp_path, name):
    draw = seeded()
    for case in range(CASES):
        (folder := tmp_path / str(case)).mkdir()
        check(folder, name, damaged(FORMATS[name], draw), draw)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_an_audit_of_damage_ends_or_says_why(tmp_path, name):
    draw = seeded()
    for case in range(6):
        (folder := tmp_path / str(case)).mkdir()
        (folder / name).write_bytes(damaged(FORMATS[name], draw))
        assert "\n" not in error_of(partial(audit.run, {"on_error": "skip"}, folder / name, folder / "out"))
