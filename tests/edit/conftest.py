"""A tiny random prior with a tokenizer trained on forty sentences, and a corpus of every format.

Rule: nothing is downloaded. The tests' threshold flags much, and what is flagged changes, so that small texts show it.
"""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tailkeep.lab.causal_lm.config import Scratch
from tailkeep.lab.causal_lm.model import new_network
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, train_tokenizer
from tests.lab.causal_lm.tiny import SHAPE, STORIES

THRESHOLD = 0.002


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def prior(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    codec = DocumentTokenizer(train_tokenizer(STORIES, vocab_size=300), append_eos=True)
    network = new_network(Scratch(name="scratch", type="llama", config=SHAPE), codec, seed=0)
    with torch.no_grad():
        network.lm_head.weight.mul_(30)
    network.save_pretrained(folder)
    codec.save(folder)
    return folder


@pytest.fixture(scope="session")
def config(prior):
    return {
        "prior": {"path": str(prior), "batch_tokens": 256},
        "rule": {"threshold": THRESHOLD},
        "sampler": {"exclude_original": True},
    }


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "in")


def write_corpus(folder: Path) -> Path:
    """Four files, of which one lies deeper and one has row groups."""
    (folder / "deep").mkdir(parents=True)
    rows = [{"id": f"{n}", "n": [n, 1.0], "text": text + " \u00e9"} for n, text in enumerate(STORIES)]
    (folder / "a.jsonl").write_bytes(lines(rows[:10], "a"))
    (folder / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(lines(rows[10:20], "b")))
    (folder / "c.txt").write_text("\n".join(STORIES[20:30]) + "\n\n", encoding="utf-8")
    table = pa.table({"text": [row["text"] for row in rows[30:]], "n": range(len(rows[30:]))})
    pq.write_table(table.replace_schema_metadata({"mine": "kept"}), folder / "d.parquet", row_group_size=4)
    return folder


def lines(rows, prefix):
    return "".join(json.dumps({**row, "id": prefix + row["id"]}) + "\n" for row in rows).encode()


def left_by(out):
    """Every file of a run with its bytes, without the locks."""
    files = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(".lock")}
