"""Ray actors as an executor, on real clusters on this machine whose processes and nodes are killed."""

import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tailkeep.data.corpus import find_shards
from tailkeep.errors import ConfigError, InputError, MissingPackageError, WorkerError
from tailkeep.integrations.ray import RayActors
from tests.data.corpus import job
from tests.runs.faults import content

REPOSITORY = Path(__file__).parents[2]
SMALL = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
# Ray leaves the handles of the processes that it starts to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:(subprocess \\d+ is still running|unclosed file):ResourceWarning")


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Actors find the tests there.
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return job.small_corpus(tmp_path_factory.mktemp("corpus") / "in")


@pytest.fixture
def cluster(monkeypatch):
    """A running cluster with two cores, which this program has not joined."""
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **SMALL})
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    yield started
    ray.shutdown()
    started.shutdown()


def dying(setup, folder, times):
    """A work whose first `times` calls in all end with their process, with half of their work done."""
    work = setup()

    def dies(shard):
        for number in range(times):
            # Of actors that come here at once, one gets each number.
            with suppress(FileExistsError):
                (folder / str(number)).touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return work(shard)

    return dies


def where(shard):
    return os.getpid(), ray.get_runtime_context().get_node_id()


def at_work():
    return where


def failing():
    raise InputError("a/b.jsonl, line 3: not JSON. Correct it.")


def test_a_killed_actor_is_replaced_and_the_bytes_are_those_of_one_worker(corpus, tmp_path, caplog):
    job.run(corpus, tmp_path / "one")
    (tmp_path / "deaths").mkdir()
    handled = signal.getsignal(signal.SIGTERM)

    class Dying:
        def run(self, setup, shards):
            return RayActors(2).run(partial(dying, setup, tmp_path / "deaths", 1), shards)

    manifests = job.run(corpus, tmp_path / "out", executor=Dying())
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    assert manifests.keys() == {shard.key for shard in find_shards(corpus)}
    assert content(tmp_path / "out") == content(tmp_path / "one")
    (message,) = [record.getMessage() for record in caplog.records if record.name == "tailkeep.integrations.ray"]
    assert message.startswith("an actor was lost, and another one has taken its place (now process ")
    # What was started for the work is over with it.
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is handled


@pytest.mark.slow
def test_a_shard_that_kills_its_actors_is_named_after_a_few(corpus, tmp_path):
    for attempts in (1, 3):
        deaths = tmp_path / str(attempts)
        deaths.mkdir()
        executor = RayActors(1, attempts=attempts)
        with pytest.raises(WorkerError, match=f"actors died at a.jsonl, {attempts} times of {attempts}, out of memory"):
            list(executor.run(partial(dying, at_work, deaths, 99), find_shards(corpus)))
        assert len(list(deaths.iterdir())) == attempts


@pytest.mark.slow
def test_an_error_of_ours_arrives_as_it_is_and_any_other_with_its_place(corpus):
    with pytest.raises(InputError) as caught:
        list(RayActors(2).run(failing, find_shards(corpus)))
    assert type(caught.value) is InputError
    assert str(caught.value) == "a/b.jsonl, line 3: not JSON. Correct it."
    assert caught.value.__suppress_context__
    with pytest.raises(ZeroDivisionError, match="in divide"):
        list(RayActors(2).run(lambda: divide, find_shards(corpus)))


def divide(shard):
    return 1 / 0


@pytest.mark.slow
def test_a_cluster_that_runs_is_used_and_goes_on_running(corpus, cluster):
    nodes = [node for _, (_, node) in RayActors(2).run(at_work, find_shards(corpus))]
    assert not ray.is_initialized()
    ray.init(cluster.address, log_to_driver=False)
    assert set(nodes) == {ray.get_runtime_context().get_node_id()}
    # A program that has joined a cluster stays in it.
    assert len(list(RayActors(2).run(at_work, find_shards(corpus)))) == 4
    assert ray.is_initialized()


@pytest.mark.slow
def test_more_actors_than_the_cluster_has_room_for_hold_up_nothing(corpus, cluster):
    assert len(list(RayActors(4).run(at_work, find_shards(corpus)))) == 4


@pytest.mark.slow
def test_the_shard_of_a_lost_node_is_done_where_there_is_room(corpus, cluster, tmp_path):
    """Nobody replaces the node, and the actors of the other one hold its cores until they are out of work."""
    lost = cluster.add_node(num_cpus=2, object_store_memory=SMALL["object_store_memory"])
    (tmp_path / "begun").mkdir()
    done = []
    for shard, (_, node) in RayActors(4).run(partial(waiting, lost.node_id, tmp_path / "begun"), find_shards(corpus)):
        if lost is not None:
            cluster.remove_node(lost, allow_graceful=False)
            lost = None
        done.append((shard.key, node))
    assert sorted(key for key, _ in done) == [shard.key for shard in find_shards(corpus)]
    assert {node for _, node in done} == {cluster.head_node.node_id}


def waiting(node, folder):
    """A work that never ends on `node`, and elsewhere begins when it has begun there."""

    def work(shard):
        if where(shard)[1] == node:
            (folder / "begun").touch()
            signal.pause()
        while not (folder / "begun").exists():
            pass
        return where(shard)

    return work


@pytest.mark.slow
def test_actors_that_nobody_has_room_for_are_told(corpus, cluster, caplog, monkeypatch):
    monkeypatch.setattr("tailkeep.integrations.ray._PATIENCE_SECONDS", 1)
    caplog.set_level(logging.WARNING)
    waiting_for_a_node = RayActors(1, cpus=3).run(at_work, find_shards(corpus))
    added = []

    class Helper(logging.Handler):
        def emit(self, record):
            added.append(record.getMessage())
            cluster.add_node(num_cpus=3, object_store_memory=SMALL["object_store_memory"])

    logger = logging.getLogger("tailkeep.integrations.ray")
    logger.addHandler(helper := Helper())
    try:
        assert len(list(waiting_for_a_node)) == 4
    finally:
        logger.removeHandler(helper)
    assert added[0].startswith("no actor is ready after 1 s. Each requests 3 CPUs and 0 GPUs; the cluster has {")


def test_a_cluster_that_is_not_there_is_named_at_once(corpus, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=f"cannot connect to the Ray cluster {address}: .*refused. Correct RAY_ADDR"):
        list(RayActors(1).run(at_work, find_shards(corpus)))
    assert not ray.is_initialized()


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(ray, "init", None)
    assert list(RayActors(2).run(failing, [])) == []


@pytest.mark.parametrize("name", ["workers", "cpus", "attempts"])
def test_a_number_that_is_too_small_is_refused(name):
    with pytest.raises(ConfigError, match=rf"^{name} must be >= 1, got 0\.$"):
        RayActors(**{"workers": 1, name: 0})


def test_without_ray_its_install_line_is_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'tailkeep\[ray\]'"):
        RayActors(1)
