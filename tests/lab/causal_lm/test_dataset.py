"""Real text is read as `tailkeep edit` reads it: no format is taken for another, and none for raw text."""

import gzip
import json

import pytest

from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.data_config import TextCorpus
from tailkeep.lab.causal_lm.dataset import read_dataset

TEXTS = [f"story {number}" for number in range(10)]
OBJECTS = [{"text": text} for text in TEXTS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", json.dumps(OBJECTS).encode()),
        ("x.json.gz", gzip.compress("".join(json.dumps(item) + "\n" for item in OBJECTS).encode(), mtime=0)),
        ("x.ndjson", "".join(json.dumps(item) + "\n" for item in OBJECTS).encode()),
        ("x.csv", ("text\n" + "\n".join(TEXTS) + "\n").encode()),
        ("x.txt", "\n\n".join(TEXTS).encode()),
    ],
)
def test_a_corpus_is_its_documents_in_every_format(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    dataset = read_dataset(TextCorpus(name="text", path=tmp_path / name, held_out=0.2))
    assert [record.text for record in (*dataset.real, *dataset.held_out)] == TEXTS


def test_a_format_that_is_not_known_is_refused(tmp_path):
    (tmp_path / "x.tokens").write_text("\n\n".join(TEXTS))
    with pytest.raises(InputError, match=r"x\.tokens has an unknown ending\. Known are \.ndjson"):
        read_dataset(TextCorpus(name="text", path=tmp_path / "x.tokens"))
