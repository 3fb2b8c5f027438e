"""Small corpora in every format."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailkeep.audit.documents import SampledDocument
from tests.edit.conftest import left_by, one_thread, prior

__all__ = ["left_by", "one_thread", "prior"]

# The fewest permutations, and a level that they can reach: for claims that are not about significance.
QUICK = {"permutations": 99, "level": 0.33}
QUICK_OPTIONS = [word for key, value in QUICK.items() for word in ("--set", f"testing.{key}={value}")]
COMMON = ["the", "a", "of", "and", "to", "in", "he", "she", "saw", "was", "had", "big", "red", "old"]


def prose(documents, *, words, seed, types=800):
    """Documents of invented words, a few of them frequent; the fewer `types`, the narrower."""
    rng = np.random.default_rng(seed)
    names = np.array([*COMMON, *(f"w{number}x" for number in range(types))])
    weights = 1 / (np.arange(len(names)) + 3.0)
    lengths = rng.integers(words, 2 * words, documents)
    return [" ".join(rng.choice(names, length, p=weights / weights.sum())) + "." for length in lengths]


def write_jsonl(path, texts, prefix="d"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_jsonl(texts, prefix))
    return path


def as_jsonl(texts, prefix="d"):
    lines = (json.dumps({"id": f"{prefix}{number}", "text": text}) + "\n" for number, text in enumerate(texts))
    return "".join(lines).encode()


def write_corpus(folder: Path, texts) -> Path:
    """`texts` in four files of four formats, of which one lies deeper and one has row groups."""
    (folder / "deep").mkdir(parents=True)
    quarter = len(texts) // 4
    parts = [texts[number * quarter : (number + 1) * quarter] for number in range(4)]
    (folder / "a.jsonl").write_bytes(as_jsonl(parts[0], "a"))
    (folder / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(as_jsonl(parts[1], "b")))
    (folder / "c.txt").write_text("\n".join(parts[2]) + "\n", encoding="utf-8")
    pq.write_table(pa.table({"text": parts[3]}), folder / "d.parquet", row_group_size=max(quarter // 3, 1))
    return folder


def sample_of(texts):
    return [
        SampledDocument(number, f"x:{number}", str(number), len(text.encode()), text)
        for number, text in enumerate(texts)
    ]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Machine text: few types, with copies."""
    texts = prose(116, words=30, seed=1, types=40)
    return write_corpus(tmp_path_factory.mktemp("audited") / "in", [*texts, *texts[:4]])


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("trusted") / "in", prose(120, words=30, seed=2))
