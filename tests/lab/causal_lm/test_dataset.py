"""Real text is read as `tailkeep edit` reads it: no format is taken for another, and none for raw text."""

import gzip
import json

import numpy as np
import pytest

from tailkeep.data.corpus import write_weights
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


def test_calibration_is_never_among_the_documents_that_weights_repeat(tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(f"story {number}" for number in range(40)) + "\n")
    weights = np.where(np.isin(np.arange(40), (30, 33, 35)), 6.0, 1.0)
    path = write_weights(tmp_path, "x.txt", [f"{row}" for row in range(40)], weights, method="m", fingerprint="f")
    settings = {"path": tmp_path / "x.txt", "separator": "line", "held_out": 0.1, "weights": path}
    for seed in range(5):
        corpus = read_dataset(TextCorpus(name="text", **settings, weights_seed=seed, calibration=0.2))
        real, calibration = ({record.text for record in part} for part in (corpus.real, corpus.calibration))
        assert not real & calibration
        assert len(corpus.real) + len(corpus.calibration) == 36
