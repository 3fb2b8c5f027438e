"""The language-model laboratory on a real GPU: it ends, says where it ran, and goes on from what is there."""

import json
import math

import pytest
import torch

from tailkeep import lab
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.runs.faults import content
from tests.runs.small_run import TIMINGS

TRUNCATED = {"name": "truncated", "threshold": 0.9}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: torch.cuda.is_available() is False"),
]


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_a_recursion_on_a_gpu_ends_says_so_and_is_resumed(dtype, tmp_path):
    config = lab.load({"device": "cuda", **config_tree(write_stories(tmp_path), dtype=dtype, loss=TRUNCATED)})
    directory = lab.run(config, tmp_path / "run")
    (environment,) = directory.record.sources["environments"].values()
    assert environment["device"] == torch.cuda.get_device_name()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["generation"] for row in rows] == [0, 1]
    numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert len(numbers) > 10
    assert all(map(math.isfinite, numbers))

    before = content(tmp_path / "run", without=TIMINGS)
    events: list[lab.Event] = []
    lab.run(config, tmp_path / "run", observe=events.append)
    assert [(event.generation, event.phase, event.resumed) for event in events] == [(0, None, True), (1, None, True)]
    assert content(tmp_path / "run", without=TIMINGS) == before
