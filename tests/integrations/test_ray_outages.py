"""Actors whose node cannot be reached for a while, on a stand-in for Ray that answers at once."""

from types import SimpleNamespace

import pytest

from tailkeep.errors import WorkerError
from tailkeep.integrations import ray as ours


class StandIn:
    """A cluster of one actor that meets `outages` unreached calls before each answer."""

    def __init__(self, outages):
        self.outages, self.missed, self.calls = outages, 0, 0

    def call(self, *arguments):
        self.calls += 1
        return self.calls

    def wait(self, calls, timeout=None):
        return calls[:1], calls[1:]

    def kill(self, actor):
        pass

    def answer(self, done, item):
        if item is not None and self.missed < self.outages:
            self.missed += 1
            raise ours._UnreachedError
        self.missed = 0
        return "process", None


class Actor:
    """One that is hashable, as Ray's are."""

    def __init__(self, cluster):
        self.load = self.work = SimpleNamespace(remote=cluster.call)


def handed_out(outages, items, monkeypatch):
    monkeypatch.setattr(ours.time, "sleep", lambda seconds: None)
    cluster = StandIn(outages)
    actors = ours.RayActors.__new__(ours.RayActors)
    actors._ray, actors._attempts, actors._answer = cluster, 3, cluster.answer
    return [item.key for item, _ in actors._hand_out([Actor(cluster)], "setup", iter(items), None)]


def items_of(number):
    return [SimpleNamespace(key=f"shard{index}") for index in range(number)]


def test_outages_that_end_do_not_add_up(monkeypatch):
    assert handed_out(ours._NODE_CALLS - 1, items_of(6), monkeypatch) == [f"shard{index}" for index in range(6)]


def test_an_outage_that_lasts_is_given_up(monkeypatch):
    with pytest.raises(WorkerError, match="actors died at shard0, 3 times of 3"):
        handed_out(ours._NODE_CALLS, items_of(2), monkeypatch)
