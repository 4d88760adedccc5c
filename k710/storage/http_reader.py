"""A public file over HTTP(S) as a stream that reconnects after errors.

The bytes are those on the server: no Content-Encoding is requested, and none is decoded.
"""

from __future__ import annotations

import io
import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import urljoin, urlsplit

from k710.errors import DownloadError
from k710.version import __version__

if TYPE_CHECKING:
    from typing import Unpack

    import requests
    from _typeshed import WriteableBuffer

LONGEST_WAIT_S = 60.0  # between two tries, even if a server's Retry-After is longer
PIECE_BYTES = 1 << 18
LEAST_BYTES_PER_S = 1_000  # a slower server, for twice `timeout_s`, counts as silent
MAX_REDIRECTS = 10
_WORTH_RETRYING = {408, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(?:(\d{1,18})|\*)")

Progress = Callable[[int, "int | None"], None]  # (done_bytes, total_bytes or None if the server does not say)


class Options(TypedDict, total=False):
    """The options of `open_url`, `download` and `cached`; `ResumingReader` has the defaults."""

    retries: int  # allowed tries in a row without a byte
    timeout_s: float  # the longest silence of a server
    backoff_s: float  # before the second try, then twice that, and so on
    progress: Progress | None
    max_bytes: int | None  # the largest size of the whole file
    max_seconds: float | None  # for the whole file, all tries together


class RefusedError(DownloadError):
    """The server refused the file, and another try would not help. `status` is the HTTP status."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(url, status, reason)
        self.url, self.status, self.reason = url, status, reason

    def __str__(self) -> str:
        return f"{self.url}: {self.status} {self.reason}".strip()


class TooLargeError(DownloadError):
    """The file has more bytes, or takes more time, than is allowed."""


class ChangedError(DownloadError):
    """The file changed on the server, so its bytes do not continue those that came before."""


class _TryAgainError(Exception):
    """A temporary failure; `wait_s` is the wait that the server asked for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class FileVersion:
    """The headers that identify a version of a file on a server."""

    etag: str | None = None
    last_modified: str | None = None
    size_bytes: int | None = None

    @property
    def if_range(self) -> str | None:
        """The value of an If-Range header. RFC 9110 13.1.5: never a weak ETag, because it does not
        guarantee equal bytes."""
        return self.last_modified if self.etag is None or self.etag.startswith("W/") else self.etag

    def continues(self, found: FileVersion, partial: bool) -> bool:
        """Whether an answer of version `found` continues this one. A 206 may omit the headers that If-Range checked."""
        if None not in (self.size_bytes, found.size_bytes) and self.size_bytes != found.size_bytes:
            return False
        if self.etag is not None and self.etag == found.etag == self.if_range:
            return True
        pairs = ((self.etag, found.etag), (self.last_modified, found.last_modified))
        return all(mine is None or mine == theirs or (partial and theirs is None) for mine, theirs in pairs)


class ResumingReader(io.RawIOBase):
    """The bytes of a URL in order, over as many connections as needed; made by `open_url`.

    Reading raises DownloadError if the file changed on the server, if the server refuses it, or if no more bytes come.
    `version` identifies the file on the server, and `tell()` is the position of the next byte.
    """

    _response: requests.Response | None = None

    def __init__(
        self,
        url: str,
        start: int,
        known: FileVersion | None,
        *,
        retries: int = 5,
        timeout_s: float = 30.0,
        backoff_s: float = 1.0,
        progress: Progress | None = None,
        max_bytes: int | None = None,
        max_seconds: float | None = None,
    ) -> None:
        self.url, self.version = url, known or FileVersion()
        self._retries, self._timeout_s, self._backoff_s, self._progress = retries, timeout_s, backoff_s, progress
        self._offset = start
        self._skip_bytes = 0  # of the present answer, because they were returned before
        self._ended = False
        self._chunked = False
        self._max_bytes, self._max_s, self._began_s = max_bytes, max_seconds, time.monotonic()
        self._waited_s, self._waited_bytes = 0.0, 0  # since the throughput was last checked
        self._slow_in_a_row = 0
        self._persistently(lambda: 0)

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    @property
    def says_its_end(self) -> bool:
        """Whether the server marks the end of the file, by a size or by chunks. Otherwise a broken connection looks
        like the end."""
        return self._chunked or self.version.size_bytes is not None

    def close(self) -> None:
        self._hang_up()
        super().close()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self.closed:
            raise ValueError(f"{self.url}: read after the reader was closed")
        view = memoryview(buffer).cast("B")
        return self._persistently(lambda: self._receive(view))

    def _persistently(self, step: Callable[[], int]) -> int:
        """Do `step` over an open connection, with retries. Each call counts its own tries, because each makes
        progress."""
        tries = 0
        while True:
            try:
                self._check_limits()
                if self._response is None and not self._ended:
                    self._connect()
                return step()
            except _TryAgainError as problem:
                self._hang_up()
                tries += 1
                if tries >= self._retries:
                    where = f"stopped at byte {self._offset}, " if self._offset else ""
                    raise DownloadError(f"{self.url}: {where}no answer after {tries} tries: {problem}") from problem
                wait_s = max(problem.wait_s, self._backoff_s * 2.0 ** min(tries - 1, 30))
                time.sleep(min(LONGEST_WAIT_S, wait_s))
            except DownloadError:
                self._hang_up()
                raise

    def _connect(self) -> None:
        """Request the bytes from the offset on. Raises _TryAgainError for a temporary failure, else DownloadError."""
        import requests
        import urllib3

        headers = {}
        if self._offset:
            headers["Range"] = f"bytes={self._offset}-"
            if self.version.if_range:
                headers["If-Range"] = self.version.if_range
        self._waited_s, self._waited_bytes = 0.0, 0
        try:
            response = _answer("GET", self.url, headers, self._timeout_s)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise _TryAgainError(_reason(error)) from error
        except (requests.RequestException, ValueError) as error:
            raise DownloadError(f"{self.url}: {error}") from error
        self._response = response
        status = f"{response.status_code} {response.reason or ''}".strip()
        if response.status_code in _WORTH_RETRYING:
            asked_s = response.headers.get(
                "Retry-After", ""
            )  # a date, which is rare, is ignored; then the backoff decides
            raise _TryAgainError(status, float(asked_s) if asked_s.isdecimal() else 0.0)
        if response.status_code not in (200, 206) and not (response.status_code == 416 and self._offset):
            raise RefusedError(self.url, response.status_code, response.reason or "")
        self._accept(response)

    def _accept(self, response: requests.Response) -> None:
        """Check that an answer continues where the last one ended. A 200 starts at byte 0, a 416 has no bytes."""
        code, headers = response.status_code, response.headers
        first, total = (0, _length(response)) if code == 200 else _content_range(response)
        found = FileVersion(headers.get("ETag"), headers.get("Last-Modified"), total)
        self._ended = code == 416 and total == self._offset
        if (code == 416 and not self._ended) or not self.version.continues(found, partial=code != 200):
            raise ChangedError(f"{self.url}: the file changed: {self.version} up to byte {self._offset}, now {found}")
        if not self._ended and (first is None or first > self._offset):
            answer = headers.get("Content-Range")
            raise DownloadError(f"{self.url}: requested the bytes from {self._offset} on, but got {answer!r}")
        self._skip_bytes = self._offset - (first or 0)
        self._chunked = "Transfer-Encoding" in headers
        old = self.version
        self.version = FileVersion(
            found.etag or old.etag, found.last_modified or old.last_modified, old.size_bytes if total is None else total
        )

    def _receive(self, view: memoryview) -> int:
        """Read the next bytes into `view`. Returns their number, 0 at the end of the file. Raises _TryAgainError."""
        while view.nbytes and not self._ended:
            self._check_throughput()
            data = self._read_some(min(self._skip_bytes, PIECE_BYTES) or view.nbytes)
            if not data:
                if self._skip_bytes or self.version.size_bytes not in (None, self._offset):
                    raise _TryAgainError("the connection was closed before the end")
                self._ended = True
                self._hang_up()
            elif self._skip_bytes:
                self._skip_bytes -= len(data)
            else:
                view[: len(data)] = data
                self._offset += len(data)
                if self._progress:
                    self._progress(self._offset, self.version.size_bytes)
                return len(data)
        return 0

    def _read_some(self, at_most_bytes: int) -> bytes:
        import urllib3

        assert self._response is not None
        raw = self._response.raw
        # read1 (urllib3 2.2+) returns the bytes that have arrived. read waits for all, and loses them if the connection
        # breaks.
        read = getattr(raw, "read1", raw.read)
        begin_s = time.monotonic()
        try:
            data: bytes = read(at_most_bytes, decode_content=False)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise _TryAgainError(_reason(error)) from error
        # Only the time of waiting for the server counts, not the time that the caller needs.
        self._waited_s += time.monotonic() - begin_s
        self._waited_bytes += len(data)
        return data

    def _check_limits(self) -> None:
        """Raise TooLargeError if the file has more bytes, or has taken more time, than is allowed."""
        size_bytes = max(self._offset, self.version.size_bytes or 0)
        if self._max_bytes is not None and size_bytes > self._max_bytes:
            limit = f"{self._max_bytes >> 20:,} MiB" if self._max_bytes >> 20 else f"{self._max_bytes:,} bytes"
            raise TooLargeError(f"{self.url}: has more than {limit}, too much for such a file")
        if self._max_s is not None and time.monotonic() - self._began_s > self._max_s:
            raise TooLargeError(f"{self.url}: is incomplete after {self._max_s:,.0f} s, at byte {self._offset:,}")

    def _check_throughput(self) -> None:
        """Raise _TryAgainError if the server is too slow to finish, DownloadError if several connections were too
        slow."""
        if self._waited_s < 2 * self._timeout_s:
            return
        is_slow = self._waited_bytes < LEAST_BYTES_PER_S * self._waited_s
        rate = f"{self._waited_bytes:,} bytes in {self._waited_s:,.0f} s"
        self._waited_s, self._waited_bytes = 0.0, 0
        self._slow_in_a_row = self._slow_in_a_row + 1 if is_slow else 0
        if self._slow_in_a_row >= self._retries:
            tries = f"after {self._retries} tries"
            raise DownloadError(f"{self.url}: stopped at byte {self._offset}, too slow {tries}: {rate}")
        if is_slow:
            raise _TryAgainError(f"too slow: {rate}")

    def _hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def open_url(
    url: str, *, start: int = 0, known: FileVersion | None = None, **options: Unpack[Options]
) -> ResumingReader:
    """The bytes of `url` from byte `start` on, as a raw stream that reconnects by itself.

    `known` is the version that `start` belongs to. After dropped connections, timeouts, and the answers 408, 429 and
    5xx, it tries again, with the waits of `options` or of the server's Retry-After. It gives up after `retries` tries
    in
    a row without a byte. Raises DownloadError; at once for an address that is not http(s) and for other answers, such
    as 404.
    """
    check_address(url)
    return ResumingReader(url, start, known, **options)


def head(url: str, *, timeout_s: float = 30.0) -> FileVersion:
    """The version of a file on the server, by a HEAD request, tried twice. Raises DownloadError."""
    import requests

    check_address(url)
    problem = ""
    for _ in range(2):
        try:
            response = _answer("HEAD", url, {}, timeout_s)
        except (_TryAgainError, requests.RequestException, ValueError) as error:
            problem = _reason(error)
            continue
        if response.status_code == 200:
            return FileVersion(response.headers.get("ETag"), response.headers.get("Last-Modified"), _length(response))
        problem = f"{response.status_code} {response.reason or ''}".strip()
    raise DownloadError(f"{url}: {problem}")


def _answer(method: str, url: str, headers: dict[str, str], timeout_s: float) -> requests.Response:
    """The answer to one request after its redirects, with an unread body.

    Raises the errors of requests, _TryAgainError if the answer does not begin in time, DownloadError for bad redirects.
    """
    import requests

    headers = {"Accept-Encoding": "identity", "User-Agent": f"k710/{__version__}", **headers}
    at = url

    class Session(requests.Session):
        """A session without redirects: requests would read the body of a redirect to its end, which may never come."""

        def get_redirect_target(self, resp: requests.Response) -> None:
            return None

    def ask(at: str) -> requests.Response:
        with Session() as session:
            return session.request(method, at, headers=headers, stream=True, timeout=timeout_s)

    for _ in range(MAX_REDIRECTS + 1):
        response = _within(3 * timeout_s, partial(ask, at))
        if not response.is_redirect:
            return response
        response.close()
        at = urljoin(at, response.headers["Location"])
        try:
            check_address(at)
        except DownloadError as error:
            raise DownloadError(f"{url}: redirects to an address that is not allowed: {error}") from None
    raise DownloadError(f"{url}: more than {MAX_REDIRECTS} redirects")


def _within(limit_s: float, ask: Callable[[], requests.Response]) -> requests.Response:
    """The result of `ask` within a time limit. Raises _TryAgainError after it, or the error of `ask`.

    The timeout of a socket restarts with each byte, so headers that come byte by byte could take forever.
    """
    came: queue.SimpleQueue[tuple[requests.Response | None, BaseException | None]] = queue.SimpleQueue()
    given_up = threading.Event()

    def work() -> None:
        try:
            response = ask()
        except BaseException as error:
            came.put((None, error))
            return
        came.put((response, None))
        if given_up.is_set():
            response.close()

    threading.Thread(target=work, daemon=True).start()
    try:
        response, error = came.get(timeout=limit_s)
    except queue.Empty:
        given_up.set()
        raise _TryAgainError(f"no whole answer in {limit_s:,.0f} s") from None
    if error is not None:
        raise error
    assert response is not None
    return response


def check_address(url: str) -> None:
    """Raise DownloadError unless `url` is an http or https address without a password, which would be stored and
    shown."""
    if not is_web_address(url):
        raise DownloadError(f"{without_password(url)}: not an http or https address")
    if "@" in urlsplit(url).netloc:
        raise DownloadError(f"{without_password(url)}: an address must not contain a password; put it into ~/.netrc")


def is_web_address(url: str) -> bool:
    """Whether `url` is http or https, and has a host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def without_password(text: str) -> str:
    """The text without the user names and passwords of its addresses, to be shown."""
    return re.sub(r"://[^/\s]*@", "://…@", text)


def _length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"\d{1,18}", text) and "Transfer-Encoding" not in response.headers else None


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """The first byte of an answer and the size of the file; each None if the server does not say."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    first, total = found.groups() if found else (None, None)
    return None if first is None else int(first), None if total is None else int(total)


def _reason(error: BaseException) -> str:
    """The innermost of the errors that requests wraps around each other, such as "Connection refused"."""
    # Not __context__, which may be an error that the caller is handling.
    while inner := error.__cause__ or next((each for each in error.args if isinstance(each, BaseException)), None):
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
