"""Ray as the engine of an edit, on a real cluster on this machine whose actors and driver are killed."""

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import ray
import torch

from tailkeep.edit import run
from tailkeep.errors import ConfigError, InputError
from tailkeep.integrations.ray import RayActors
from tailkeep.runs import Storage
from tailkeep.scoring import Prior, uses_gpu
from tests.edit.conftest import THRESHOLD, left_by
from tests.lab.causal_lm.tiny import STORIES

REPOSITORY = Path(__file__).parents[2]
# What Ray itself leaves behind in the driver.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*subprocess.*:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file.*/ray/:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Actors find the tests there.
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)


@pytest.fixture(scope="module")
def undisturbed(corpus, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(config, corpus, out)
    return left_by(out)


class DyingOnce:
    """Two Ray actors, of which the one that is first to publish a second file of a shard is killed while it does."""

    def __init__(self, marker):
        self.marker, self.actors = marker, RayActors(2)
        self.open_queue = self.actors.open_queue

    def run(self, setup, shards, *, meanwhile):
        return self.actors.run(partial(dying, setup, self.marker), shards, meanwhile=meanwhile)


def dying(setup, marker):
    rename, renamed = Storage._rename, []

    def dies(storage, source, target):
        renamed.append(target)
        if len(renamed) == 2 and is_first(marker):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(storage, source, target)

    Storage._rename = dies
    return setup()


def is_first(marker):
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.mark.slow
def test_an_actor_killed_in_the_middle_of_a_shard_costs_no_document_and_no_byte(
    corpus, config, undisturbed, tmp_path, monkeypatch, caplog, capfd
):
    # A relative output means the same folder to an actor.
    monkeypatch.chdir(tmp_path)
    outcome = run(config, corpus, "out", executor=DyingOnce(tmp_path / "marker"))
    assert (tmp_path / "marker").exists()
    assert outcome.counts["documents"] == outcome.counts["written"] == len(STORIES)
    assert left_by(tmp_path / "out") == undisturbed
    messages = [record.getMessage() for record in caplog.records if record.name == "tailkeep.integrations.ray"]
    # On a busy machine it may also say that no actor is ready yet.
    (lost,) = [message for message in messages if not message.startswith("no actor is ready")]
    assert lost.startswith("an actor was lost, and another one has taken its place")
    assert not ray.is_initialized()
    assert capfd.readouterr().err == ""


def test_a_worker_that_is_equipped_otherwise_refuses_to_begin(corpus, config, tmp_path):
    with pytest.raises(
        InputError, match=r'not equipped as the run is: packages\.torch: ".*" there, "1\.0" here\. Give'
    ):
        run(config, corpus, tmp_path / "out", executor=Otherwise())
    assert not (tmp_path / "out" / "manifests").exists()


class Otherwise:
    """Works here, with another torch than the run."""

    @contextmanager
    def open_queue(self):
        yield queue.Queue()

    def run(self, setup, shards, *, meanwhile):
        workers = importlib.import_module("tailkeep.edit.run")

        with pytest.MonkeyPatch.context() as patched:
            original = workers.versions
            patched.setattr(workers, "versions", lambda *names: {**original(*names), "torch": "1.0"})
            yield from ((shard, setup()(shard)) for shard in shards)


def test_workers_and_an_executor_are_one_too_many(corpus, config, tmp_path):
    with pytest.raises(ConfigError, match="workers=3, but an executor brings its own workers"):
        run(config, corpus, tmp_path / "out", workers=3, executor=Otherwise())


def test_the_command_reserves_the_cores_of_each_worker(tailkeep, corpus, prior, tmp_path, monkeypatch):
    calls = []
    # No executor means that the edit does the work itself.
    monkeypatch.setattr("tailkeep.integrations.ray.RayActors", lambda *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", "")
    options = ["--set", "num_threads=2", "--set", "prior.device=cpu", "--executor", "ray", "--workers", 3]
    arguments = ["edit", "--input", corpus / "c.txt", "--prior", prior, "--out", tmp_path / "out", *options]
    assert tailkeep(*arguments)[0] == 0
    assert calls == [((3,), {"cpus": 2, "gpus": 0})]
    code, _, err = tailkeep(*arguments, "--dry-run", 3)
    assert code == 2
    assert "a dry run is one process here; leave it out" in err


def test_a_gpu_is_used_where_there_is_one_and_the_prior_may(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    used = {device: uses_gpu(Prior(path="p", device=device)) for device in ("auto", "cuda", "cpu")}
    assert used == {"auto": True, "cuda": True, "cpu": False}


# The command as a user starts it, in a session of its own, so that what it leaves behind can be found


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory):
    """Twelve shards that take long enough to be caught in the middle."""
    folder = tmp_path_factory.mktemp("long") / "in"
    folder.mkdir()
    for number in range(12):
        rows = [{"id": f"{number}-{n}", "text": " ".join(STORIES[n % 7 :])} for n in range(30)]
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def long_run(long_corpus, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("long-run") / "out"
    run(config, long_corpus, out)
    return left_by(out)


def start(corpus, prior, out):
    rule = ["--set", f"rule.threshold={THRESHOLD}", "--set", "sampler.exclude_original=true"]
    batch = ["--set", "prior.batch_tokens=256", "--executor", "ray", "--workers", "2"]
    arguments = ["--input", str(corpus), "--prior", str(prior), "--out", str(out), *rule, *batch]
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tailkeep", "edit", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell has its background jobs ignore it, and the tests may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result


def at_work(driver, out, shards=2):
    """Wait until so many shards are finished; the actors' processes."""
    wait_for(lambda: driver.poll() is not None or len(list((out / "manifests").glob("*"))) >= shards)
    assert driver.poll() is None, driver.communicate()
    return [pid for pid, title in processes_of(driver).items() if title.startswith("ray::_Actor")]


def processes_of(driver):
    """The title of every process in the session that `driver` began."""
    processes = {}
    for folder in Path("/proc").iterdir():
        try:
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if session == str(driver.pid) and state != "Z":
                processes[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return processes


@pytest.mark.slow
def test_actors_killed_from_outside_are_replaced_and_the_command_ends_well(long_corpus, prior, long_run, tmp_path):
    driver = start(long_corpus, prior, tmp_path / "out")
    for pid in at_work(driver, tmp_path / "out"):
        os.kill(pid, signal.SIGKILL)
    out, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    assert left_by(tmp_path / "out") == long_run
    assert out.splitlines()[-1] == f"output: {tmp_path / 'out'}"
    assert "documents: 360 read, 360 written" in out
    assert {line.partition(",")[0] for line in err.splitlines() if "shards" not in line} == {
        "WARNING tailkeep.integrations.ray: an actor was lost",
        # The tests' sampler excludes the originals.
        "warning: tokens were drawn at a temperature above 1",
    }
    assert "raylet" not in out
    wait_for(lambda: not processes_of(driver))


@pytest.mark.slow
def test_after_the_driver_is_killed_nothing_goes_on_and_the_next_run_does(long_corpus, prior, long_run, tmp_path):
    driver = start(long_corpus, prior, tmp_path / "out")
    at_work(driver, tmp_path / "out")
    driver.kill()
    wait_for(lambda: not processes_of(driver))
    driver.communicate()
    # A manifest that was being written has another ending.
    num_finished = len(list((tmp_path / "out" / "manifests").glob("*.json")))
    assert 2 <= num_finished < 12
    again = start(long_corpus, prior, tmp_path / "out")
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert f"{num_finished} of 12 shards were finished before" in err
    assert left_by(tmp_path / "out") == long_run


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_actors_and_says_how_to_go_on(stop, long_corpus, prior, tmp_path):
    driver = start(long_corpus, prior, tmp_path / "out")
    at_work(driver, tmp_path / "out")
    # Ctrl-C reaches the whole group of the terminal, a scheduler's SIGTERM the driver.
    os.killpg(driver.pid, stop) if stop == signal.SIGINT else driver.send_signal(stop)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "interrupted: run the same command again to go on from what is finished."
    assert "Traceback" not in err
    wait_for(lambda: not processes_of(driver))


@pytest.mark.slow
def test_an_input_that_cannot_be_read_is_one_line_whoever_reads_it(prior, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.jsonl").write_text('{"text": "Ann saw a cat."}\nno\n')
    driver = start(tmp_path / "in", prior, tmp_path / "out")
    out, err = driver.communicate(timeout=120)
    assert (driver.returncode, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: x.jsonl, line 2: not JSON")
