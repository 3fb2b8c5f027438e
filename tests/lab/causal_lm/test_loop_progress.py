from collections import defaultdict

import pytest

from tailkeep import lab
from tests.lab.causal_lm.tiny import config_tree, write_stories


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=str)
def loops(request, tmp_path_factory):
    """What a run of one arm under two seeds reports of each loop, by phase and unit."""
    folder = tmp_path_factory.mktemp("run")
    events = []
    tree = config_tree(write_stories(folder), seeds=[0, 1], training={"block": 8, "batch": 4, "epochs": 2})
    lab.run(tree, folder / "run", observe=events.append, workers=request.param)
    seen = defaultdict(list)
    for event in events:
        if event.progress is not None and event.seed == 1 and event.generation == 1:
            seen[event.phase, event.progress.unit].append(event.progress)
    return seen


@pytest.mark.parametrize(
    ("phase", "unit"),
    [("train", "steps"), ("generate", "texts"), ("sample", "texts"), ("measure", "tokens scored")],
)
def test_each_phase_reports_its_loops_from_the_beginning_to_the_end(loops, phase, unit):
    first, *_, last = loops[phase, unit]
    assert (first.done, first.amount) == (0, 0)
    assert last.done == last.total > 0
    assert last.amount > 0


def test_training_reports_the_loss_and_the_targets(loops):
    last = loops["train", "steps"][-1]
    assert 0 < last.loss < 10
    assert last.amount > last.total
