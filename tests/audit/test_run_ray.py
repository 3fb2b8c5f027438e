"""Ray as the executor of an audit, on a real cluster on this machine."""

from pathlib import Path

import pytest

from tailkeep.audit import run
from tailkeep.integrations.ray import RayActors
from tests.audit.conftest import left_by

# What Ray itself leaves behind in the driver.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*subprocess.*:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file.*/ray/:ResourceWarning"),
]


@pytest.mark.slow
def test_ray_counts_what_one_worker_counts_to_the_last_byte(corpus, reference, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    config = {"near_duplicates": {}}
    alone = run(config, corpus, tmp_path / "alone", reference=reference)
    # A relative output means the same folder to an actor.
    monkeypatch.chdir(tmp_path)
    shared = run(config, corpus, "shared", reference=reference, executor=RayActors(2))
    assert shared.summary == alone.summary
    assert left_by(tmp_path / "shared") == left_by(tmp_path / "alone")
