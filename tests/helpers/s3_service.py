"""An S3 service on 127.0.0.1: moto's server in a process of its own, behind a TCP proxy that can go down and be back.

moto keeps its buckets in memory, so what is killed and started again on the same port is the proxy: to a client that
is a service which went away in the middle of an answer and came back with its buckets, as S3 does.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

_SERVE = """
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until the tests are gone
"""
_REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def moto_server(**environment: str) -> Iterator[int]:
    """The port of a server of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | environment,
    )
    with process:
        assert process.stdout
        assert process.stdin
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


class Proxy:
    """Passes bytes on to a port; `requests` are those that went through, as (method, path)."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]
        self.requests: list[tuple[str, str]] = []
        self._open: set[socket.socket] = set()
        self.die_after: int | None = None  # so many requests have come, and the last goes nowhere
        self.up()

    def up(self) -> None:
        if self._listener.fileno() == -1:
            self._listener = self._listen(self.port)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        """As a service that is killed: nobody listens, and whoever is connected is cut off."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _listen(port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to_port))
                self._open |= {near, far}
                threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_asking: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if is_asking and (found := _REQUEST.match(piece)):
                    self.requests.append((found[1].decode(), found[2].decode()))
                    if self.die_after is not None and len(self.requests) >= self.die_after:
                        self.die_after = None
                        self.down()
                        break
                sink.sendall(piece)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open -= {source, sink}
        source.close()


class S3:
    """What a test gets: a bucket of its own, seen past k710 by boto3, and the proxy in between."""

    def __init__(self, proxy: Proxy, moto_port: int, bucket: str) -> None:
        import boto3

        self.proxy, self.bucket, self.url = proxy, bucket, f"s3://{bucket}"
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{moto_port}", **keys)
        self.client.create_bucket(Bucket=bucket)

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def unfinished(self) -> list[str]:
        """Uploads in parts that were begun and neither completed nor given up."""
        return [each["Key"] for each in self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())]

    def key(self, url: object) -> str:
        return str(url).removeprefix(f"{self.url}/")


def environment(port: int, cache: Path) -> dict[str, str]:
    """Endpoint and credentials as every AWS tool takes them, and nothing of this machine's own."""
    return KEYS | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "K710_CACHE": str(cache),
        "K710_REMOTE_PATIENCE_S": "20",
    }


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    with moto_server() as port:
        yield port


@pytest.fixture(scope="session")
def _bucket_numbers() -> Iterator[int]:
    return iter(range(10**6))


@pytest.fixture
def s3(
    moto_port: int,
    _bucket_numbers: Iterator[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[S3]:
    """A bucket of its own, and an environment in which `s3://` leads to it."""
    proxy = Proxy(moto_port)
    for name, value in environment(proxy.port, tmp_path_factory.mktemp("cache")).items():
        monkeypatch.setenv(name, value)
    forget_connections()
    yield S3(proxy, moto_port, f"bucket-{next(_bucket_numbers)}")
    forget_connections()
    proxy.down()


def forget_connections() -> None:
    """fsspec keeps a file system for the life of a process, with the endpoint and the credentials it found."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
