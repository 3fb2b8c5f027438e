"""Input from and output to a real local server that speaks S3: the bytes of a folder, one request an object."""

import json
import os
import signal
import subprocess
import sys

import pytest
import yaml

from tailkeep.data.corpus import find_shards, open_destination
from tailkeep.edit import run
from tailkeep.errors import FingerprintError, InputError, MissingPackageError, StorageError
from tests.edit.conftest import left_by
from tests.edit.s3_server import BUCKET, SECRET, running
from tests.edit.test_restarts import DRIVE, children

# The client's own: it closes its connections in a thread of its own, or not before the process ends.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning"),
]

MARKS = "tailkeep.json"


@pytest.fixture(scope="module")
def server(corpus):
    with running() as server:
        server.store().put(f"{corpus}/", f"{BUCKET}/in/", recursive=True)
        yield server


@pytest.fixture(scope="module")
def undisturbed(corpus, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(config, corpus, out)
    return left_by(out)


def without_times(files):
    """`files` with manifests that do not say when the input changed, which a copy in a store does at another time."""
    return {
        name: {key: value for key, value in json.loads(data).items() if key not in {"input_changed", "sha256"}}
        if name.startswith("manifests/")
        else data
        for name, data in files.items()
    }


def puts_of(requests, folder):
    return [path.removeprefix(f"{folder}/") for method, path, _ in requests if method == "PUT"]


def test_a_bucket_gives_and_gets_what_a_folder_does_by_one_put_each_and_the_manifest_last(config, server, undisturbed):
    server.requests.clear()
    assert run(config, f"s3://{BUCKET}/in", f"s3://{BUCKET}/one").complete
    requests = list(server.requests)
    assert without_times(server.objects("one")) == without_times(undisturbed)
    # No parts, no copies, nothing that is taken away again.
    assert {method for method, _, _ in requests} <= {"GET", "HEAD", "PUT"}
    assert not any(query for method, _, query in requests if method == "PUT")
    puts = puts_of(requests, "one")
    once = [name for name in puts if not name.endswith(MARKS)]
    assert sorted(once) == sorted(name for name in undisturbed if not name.endswith(MARKS))
    for shard in find_shards(f"s3://{BUCKET}/in"):
        manifest = json.loads(undisturbed[f"manifests/{shard.key}.json"])
        outputs = [puts.index(name) for name in manifest["outputs"]]
        assert max(outputs) < puts.index(f"manifests/{shard.key}.json")
    assert puts[-1] == "summary.json"


def test_a_finished_run_in_a_bucket_is_left_alone_and_another_refused(config, server, undisturbed):
    run(config, f"s3://{BUCKET}/in", f"s3://{BUCKET}/again")
    server.requests.clear()
    # Its input lies elsewhere, and its bytes are the same.
    assert run(config, f"s3://{BUCKET}/in", f"s3://{BUCKET}/again").complete
    assert [name for name in puts_of(server.requests, "again") if name != "summary.json"] == []
    with pytest.raises(FingerprintError, match=r"config\.seed"):
        run({**config, "seed": 3}, f"s3://{BUCKET}/in", f"s3://{BUCKET}/again")
    with pytest.raises(InputError, match="edited already"):
        run(config, f"s3://{BUCKET}/again/documents/*.jsonl", f"s3://{BUCKET}/twice")
    server.store().copy(f"{BUCKET}/again/documents/a.jsonl", f"{BUCKET}/moved/x.jsonl")
    with pytest.raises(InputError, match=r"x\.jsonl is a copy of documents/a\.jsonl"):
        run({**config, "previous_runs": [f"s3://{BUCKET}/again"]}, f"s3://{BUCKET}/moved", f"s3://{BUCKET}/twice")
    assert server.objects("twice") == {}


@pytest.mark.slow
def test_a_driver_that_is_killed_in_the_middle_leaves_whole_objects_and_goes_on(config, server, undisturbed, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "drive.py").write_text(DRIVE)
    arguments = [sys.executable, tmp_path / "drive.py", tmp_path / "config.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen(
        [*arguments, f"s3://{BUCKET}/in", f"s3://{BUCKET}/killed"], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert driver.stdout.readline() == "0\n"
    while int(driver.stdout.readline()) < 1:
        pass
    workers = children(driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=60)
    assert workers
    stored = server.objects("killed")
    assert "summary.json" not in stored
    # What a manifest tells of is there, whole; the rest is what an undisturbed run puts there.
    assert any(name.startswith("manifests/") for name in stored)
    stored = {name: data for name, data in without_times(stored).items() if not name.endswith(MARKS)}
    assert {name: without_times(undisturbed)[name] for name in stored} == stored
    done = []
    assert run(
        config, f"s3://{BUCKET}/in", f"s3://{BUCKET}/killed", observe=lambda progress: done.append(progress.resumed)
    ).complete
    assert done[0] >= 1
    assert without_times(server.objects("killed")) == without_times(undisturbed)
    assert server.store().call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads", []) == []


DENIED = ("403 Forbidden", b"AccessDenied", b"Access Denied")
BROKEN = ("500 Internal Server Error", b"InternalError", b"We encountered an internal error")


@pytest.mark.parametrize(
    ("method", "part", "answer", "kind", "message"),
    [
        ("PUT", "/documents/", DENIED, StorageError, r"cannot write corpora/refused/documents/\S+: Access Denied"),
        ("PUT", "/manifests/", BROKEN, StorageError, r"cannot write corpora/refused/manifests/\S+: We encountered an"),
        ("GET", "/in/c.txt", DENIED, InputError, r"cannot read c\.txt: Access Denied\. Check"),
        ("GET", "/in/d.parquet", BROKEN, InputError, r"cannot read d\.parquet: .*internal error"),
        ("HEAD", "/refused/manifests", DENIED, StorageError, r"cannot read corpora/refused/manifests/\S+: "),
    ],
)
def test_a_server_that_refuses_is_one_clear_error_and_the_run_goes_on_later(
    config, server, undisturbed, method, part, answer, kind, message
):
    url = f"s3://{BUCKET}/refused"
    with server.refusing(method, part, *answer), pytest.raises(kind, match=message) as caught:
        run(config, f"s3://{BUCKET}/in", url)
    assert "\n" not in str(caught.value)
    assert "summary.json" not in server.objects("refused")
    assert run(config, f"s3://{BUCKET}/in", url).complete
    assert without_times(server.objects("refused")) == without_times(undisturbed)
    server.store().rm(f"{BUCKET}/refused", recursive=True)


def test_an_object_that_changed_is_refused_and_its_copy_is_not(config, server):
    store = server.store()
    store.pipe_file(f"{BUCKET}/live/x.txt", b"Ann saw a red cat.\n")
    url, out = f"s3://{BUCKET}/live", f"s3://{BUCKET}/live-out"
    run(config, url, out)
    store.pipe_file(f"{BUCKET}/live/x.txt", b"Ann saw a big dog.\n")
    with pytest.raises(FingerprintError, match=r"x\.txt is no longer what was read"):
        run(config, url, out)
    store.pipe_file(f"{BUCKET}/live/x.txt", b"Ann saw a red cat.\n")
    assert run(config, url, out).complete
    store.copy(f"{BUCKET}/live/x.txt", f"{BUCKET}/copied/x.txt")
    assert run(config, f"s3://{BUCKET}/copied", out).complete


@pytest.mark.slow
def test_a_large_object_is_one_put_and_never_held_whole(server, tmp_path):
    code = (
        "import resource, sys\n"
        "from tailkeep.data.corpus import open_destination\n"
        "def fill(folder):\n"
        "    with (folder / 'big').open('wb') as file:\n"
        "        for number in range(110):\n"
        "            file.write(bytes([number]) * (1 << 20))\n"
        "destination = open_destination(sys.argv[1])\n"
        "destination.write_texts({'small': 'x'})\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "(put,) = destination.publish(fill).values()\n"
        "assert destination.sha256('big') == put.sha256\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    server.requests.clear()
    finished = subprocess.run(
        [sys.executable, "-c", code, f"s3://{BUCKET}/large"], check=True, capture_output=True, text=True
    )
    assert [request for request in server.requests if request[0] not in ("GET", "HEAD")] == [
        ("PUT", "large/small", ""),
        ("PUT", "large/big", ""),
    ]
    # Far less than its 110 MB, though the reader holds a block or two of the store's.
    assert int(finished.stdout) < 105


# Credentials


@pytest.mark.slow
def test_no_credential_is_written_or_told(config, server, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-session-token-of-tests")
    command = [sys.executable, "-m", "tailkeep", "edit", "--prior", config["prior"]["path"]]
    command += ["--input", f"s3://{BUCKET}/in/c.txt", "--out"]
    outs = [f"s3://{BUCKET}/told", f"s3://AKIAABCDEFGHIJKLMNOP:{SECRET}@{BUCKET}/told"]
    done, refused = [subprocess.run([*command, out], capture_output=True, text=True, check=False) for out in outs]
    assert done.returncode == 0, done.stderr
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: ")
    texts = [one.stdout + one.stderr for one in (done, refused)]
    files = [data.decode("latin-1") for data in server.objects("told").values()]
    assert files
    for secret in (SECRET, "a-session-token-of-tests", "AKIAABCDEFGHIJKLMNOP"):
        assert not any(secret in text for text in (*texts, *files))


def test_missing_credentials_are_one_clear_error(server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=r"cannot read s3://corpora/in/a\.jsonl: Unable to locate credentials\. Check"):
        find_shards(f"s3://{BUCKET}/in/a.jsonl")
    with pytest.raises(StorageError, match=r"cannot write corpora/x/name: Unable to locate credentials\. Nothing"):
        open_destination(f"s3://{BUCKET}/x").write_texts({"name": "text"})
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_server_that_is_not_there_is_one_clear_error(server, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=r"cannot read s3://corpora/in/\*\.jsonl: Could not connect to the endpoint"):
        find_shards(f"s3://{BUCKET}/in/*.jsonl")
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("url", "line"), [("s3://b/x", r"pip install 'tailkeep\[s3\]'"), ("gs://b/x", r"fsspec\[gs\]")]
)
def test_a_store_without_its_package_is_named_with_the_install_line(monkeypatch, url, line):
    for name in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("s3", "gs"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, name, raising=False)
    with pytest.raises(MissingPackageError, match=line):
        open_destination(url)
    with pytest.raises(MissingPackageError, match=line):
        find_shards(url)
