"""A local server that speaks S3, with every request on record and answers that can be made to fail.

Rule: the server is moto's; what stands here only looks at the requests on their way to it.
"""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import s3fs
from moto.server import ThreadedMotoServer

SECRET = "wJalrXUtnFEMI-not-a-real-one"
BUCKET = "corpora"
_FAILURE = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>%s</Message></Error>"


@dataclass
class Server:
    """A running server: its address, its requests as (method, path, query), and what it refuses."""

    url: str
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    refused: dict[tuple[str, str], tuple[str, bytes, bytes]] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The variables by which clients find it, and nothing else of this machine's."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    def store(self) -> s3fs.S3FileSystem:
        """A client that remembers nothing."""
        return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def objects(self, prefix: str) -> dict[str, bytes]:
        """The objects below `prefix` of the bucket by their names there."""
        store, root = self.store(), f"{BUCKET}/{prefix}/"
        return {path.removeprefix(root): store.cat_file(path) for path in store.find(root)}

    @contextmanager
    def refusing(self, method: str, part: str, status: str, code: bytes, message: bytes) -> Iterator[None]:
        """Inside, a request of `method` with `part` in its path is answered with this error."""
        self.refused[method, part] = (status, code, message)
        try:
            yield
        finally:
            del self.refused[method, part]


@contextmanager
def running() -> Iterator[Server]:
    """A server with an empty bucket, to which every client of this process and its children goes."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    server = Server(f"http://{host}:{port}")
    answer = moto._server.app

    def looked_at(environ, start_response):
        method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        copied = "copy " if "HTTP_X_AMZ_COPY_SOURCE" in environ else ""
        server.requests.append((copied + method, path.removeprefix(f"/{BUCKET}/"), query))
        for (refused, part), (status, code, message) in server.refused.items():
            if refused == method and part in path:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                body = b"" if method == "HEAD" else _FAILURE % (code, message)
                start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
        return answer(environ, start_response)

    moto._server.app = looked_at
    with pytest.MonkeyPatch.context() as patched:
        for name, value in server.environment().items():
            patched.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        # What an earlier server of this process was given is still there.
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/moto-api/reset", method="POST")).close()
        server.store().mkdir(BUCKET)
        yield server
        s3fs.S3FileSystem.clear_instance_cache()
    moto.stop()
