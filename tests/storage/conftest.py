"""A real S3 server that keeps its objects on disk: s3rver, from npm."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import processes
from support.ports import held_port
from support.waiting import wait_until

KEY = SECRET = "S3RVER"  # the only credentials that s3rver accepts


@dataclass
class Server:
    """An S3 server with one bucket; `process` is None while it is down."""

    folder: Path
    port: int
    place: str = "some/runs"
    process: processes.Process | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """A prefix in the bucket, a new one for each test."""
        return f"s3://bucket/{self.place}?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def at(self, place: str) -> str:
        """The URI of another BUCKET/PREFIX on the same server."""
        return f"s3://{place}?{self.uri.partition('?')[2]}"

    def start(self) -> None:
        """Start the server and wait until it listens."""
        words = [_find_s3rver(), "-d", str(self.folder), "-a", "127.0.0.1", "-p", str(self.port), "--no-vhost-buckets"]
        process = self.process = processes.start([*words, "--configure-bucket", "bucket"])
        wait_until(lambda: "listening" in process.output, "the S3 server", process=process)

    def stop(self) -> None:
        """Kill the server."""
        if self.process is not None:
            self.process.kill()
            self.process = None


def _find_s3rver() -> str:
    found = shutil.which("s3rver")
    if found is None:
        pytest.skip("no s3rver, the S3 server of these tests: npm install --global s3rver@3.7.1")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server per module: starting one costs a second."""
    pytest.importorskip("pyarrow")
    with held_port() as port:
        made = Server(tmp_path_factory.mktemp("s3") / "server", port)
        made.start()
        yield made
        made.stop()


@pytest.fixture
def s3(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A running server with an empty prefix, and its credentials in the environment."""
    for name, value in {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION", ""))
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION")
    if server.process is None:
        server.start()
    server.place = f"{secrets.token_hex(4)}/runs"
    return server
