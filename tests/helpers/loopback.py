"""A web server on 127.0.0.1 that misbehaves as it is told, and keeps a log of what it was asked.

    url = loopback.serve("/val.csv", b"...", faults=[Fault(cut_at=1000), Fault(status=503)])

The first request gets 1,000 bytes of a promised whole, the second a 503, all later ones what they ask for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

import pytest


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong. Positions count the bytes of that answer's body, which may be a range of the file."""

    status: int | None = None  # this status without a body, instead of the file
    headers: Mapping[str, str | None] = field(default_factory=dict)  # added, or in place of the usual; None: not sent
    delay_s: float = 0.0  # before the answer begins
    cut_at: int | None = None  # close the connection there, though Content-Length promised more
    reset: bool = False  # cut it with a TCP reset instead of an orderly end
    stall_at: int | None = None  # say nothing from there on, until `until` is set or the server ends
    until: threading.Event | None = None
    ignore_range: bool = False
    afterwards: Callable[[], object] | None = None  # called once this answer is out, for example to serve other bytes


@dataclass
class Page:
    """A file that is served. `always` is what happens to every request that no fault is left for."""

    body: bytes
    etag: str | None
    last_modified: str | None = None
    faults: list[Fault] = field(default_factory=list)
    always: Fault = field(default_factory=Fault)
    check_if_range: bool = True  # False: If-Range is ignored, and a range of the new file answers for the old one
    chunked: bool = False  # no Content-Length


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    at_s: float  # time.monotonic()
    method: str = "GET"

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")

    @property
    def if_range(self) -> str | None:
        return self.headers.get("If-Range")


class Loopback:
    """The server; `requests` is its log, in order of arrival."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[Request] = []
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.loopback = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def serve(self, path: str, body: bytes, *, faults: Sequence[Fault] = (), etag: str | None = "", **page: Any) -> str:
        """Serve `body` at `path` from now on, and give its address. The ETag follows from the body unless given."""
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"' if etag == "" else etag
        self.pages[path] = Page(body, etag, faults=list(faults), **page)
        return self.url(path)

    def log(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def ranges(self, path: str) -> list[str | None]:
        """The Range header of each request for `path`."""
        return [request.range for request in self.log(path)]

    def admit(self, request: Request) -> tuple[Page | None, Fault]:
        """Log a request; the page that it is for and what is to go wrong with it."""
        with self._lock:
            self.requests.append(request)
            page = self.pages.get(request.path)
            if page is None:
                return None, Fault(status=404)
            return page, page.faults.pop(0) if page.faults else page.always


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing the server waits for its answers and leaves no socket open
    loopback: Loopback

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what the tests are about; anything else is printed by the base class."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5.0  # a client that neither reads nor hangs up must not block the end of a test
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        loopback = self.server.loopback
        page, fault = loopback.admit(Request(self.path, dict(self.headers), monotonic(), "HEAD"))
        status = fault.status or (404 if page is None else 200)
        size = len(page.body) if page is not None and status == 200 else 0
        etag = page.etag if page is not None else None
        self._head(status, {"Content-Length": str(size), "ETag": etag, **fault.headers})

    def do_GET(self) -> None:
        loopback = self.server.loopback
        page, fault = loopback.admit(Request(self.path, dict(self.headers), monotonic()))
        loopback.ending.wait(fault.delay_s)
        if page is None or fault.status is not None:
            self._head(fault.status or 404, {"Content-Length": "0", **fault.headers})
        else:
            self._answer(page, fault)
        if fault.afterwards:
            fault.afterwards()

    def _answer(self, page: Page, fault: Fault) -> None:
        headers = {"ETag": page.etag, "Last-Modified": page.last_modified}
        first = None if fault.ignore_range else self._first(page)
        size = len(page.body)
        if first is not None and first >= size:
            self._head(416, {"Content-Length": "0", "Content-Range": f"bytes */{size}", **fault.headers})
            return
        body = page.body[first or 0 :]
        if first is not None:
            headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
        headers |= {"Transfer-Encoding": "chunked"} if page.chunked else {"Content-Length": str(len(body))}
        self._head(200 if first is None else 206, headers | dict(fault.headers))
        stops = sorted({stop for stop in (fault.stall_at, fault.cut_at) if stop is not None and stop < len(body)})
        sent = 0
        for stop in (*stops, len(body)):
            self._send(body[sent:stop], page.chunked)
            sent = stop
            if sent == fault.stall_at:
                self._wait(fault.until)
            if sent == fault.cut_at:
                self._cut(fault.reset)
                return
        if page.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _first(self, page: Page) -> int | None:
        """The first byte of the range that is asked for; None for the whole file."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        changed = page.check_if_range and condition is not None and condition not in (page.etag, page.last_modified)
        return None if found is None or changed else int(found[1])

    def _head(self, status: int, headers: Mapping[str, str | None]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, data: bytes, chunked: bool) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)

    def _wait(self, until: threading.Event | None) -> None:
        ending = self.server.loopback.ending
        while not ending.wait(0.005) and not (until and until.is_set()):
            pass

    def _cut(self, reset: bool) -> None:
        if reset:  # lingering for no time at all turns the close into a reset, if no shutdown comes before it
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())


def closed_url() -> str:
    """An address on 127.0.0.1 where nobody listens."""
    with contextlib.closing(socket.socket()) as once:
        once.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{once.getsockname()[1]}/"


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A fresh server, past any proxy of this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Loopback() as server:
        yield server
