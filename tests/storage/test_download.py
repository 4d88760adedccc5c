"""Downloads against a server that drops, lies, refuses, changes its mind and stalls."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k710.errors import DownloadError
from k710.progress import download_progress
from k710.storage import download as module
from k710.storage.download import cache_folder, cached, download
from k710.storage.http_reader import FileVersion, head, open_url
from tests.helpers.loopback import Fault, Loopback, closed_url

BODY = random.Random(710).randbytes(300_000)
OTHER = random.Random(711).randbytes(300_000)
FAST: dict[str, Any] = {"backoff_s": 0.001, "timeout_s": 5.0}


def fetch(url: str, **options: Any) -> bytes:
    with open_url(url, **{**FAST, **options}) as reader:
        return reader.read()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The stream


def test_reads_a_file_in_one_request(loopback: Loopback) -> None:
    url = loopback.serve("/a.csv", BODY, last_modified=formatdate(0, usegmt=True))
    with open_url(url, **FAST) as reader:
        assert reader.version == FileVersion(loopback.pages["/a.csv"].etag, formatdate(0, usegmt=True), len(BODY))
        assert reader.tell() == 0
        assert reader.read(10) == BODY[:10]
        assert reader.tell() == 10
        assert reader.read() == BODY[10:]
        assert reader.read() == b""
    [request] = loopback.requests
    assert request.range is None
    assert request.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("body", [b"", b"x"])
def test_reads_tiny_files(loopback: Loopback, body: bytes) -> None:
    assert fetch(loopback.serve("/tiny", body)) == body
    assert len(loopback.requests) == 1


def test_a_short_body_is_resumed_where_it_stopped(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=1000), Fault(cut_at=500)])
    assert fetch(url) == BODY
    assert loopback.ranges("/a") == [None, "bytes=1000-", "bytes=1500-"]
    assert [request.if_range for request in loopback.requests] == [None] + [loopback.pages["/a"].etag] * 2


def test_a_reset_connection_is_resumed(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=100_000, reset=True)])
    assert fetch(url) == BODY
    assert len(loopback.requests) == 2


def test_a_broken_chunked_answer_is_resumed(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, chunked=True, faults=[Fault(cut_at=70_000)])
    with open_url(url, **FAST) as reader:
        assert reader.version.size_bytes is None
        assert reader.read() == BODY
        assert reader.version.size_bytes == len(BODY)  # the Content-Range of the second answer says it
    assert loopback.ranges("/a") == [None, "bytes=70000-"]


def test_a_silent_server_is_left_and_asked_again(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(delay_s=3), Fault(stall_at=1000)])
    started_s = time.monotonic()
    assert fetch(url, timeout_s=0.2) == BODY
    assert time.monotonic() - started_s < 2
    assert loopback.ranges("/a") == [None, None, "bytes=1000-"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_retried(loopback: Loopback, status: int) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(status=status)] * 3)
    assert fetch(url) == BODY
    assert len(loopback.requests) == 4


@pytest.mark.parametrize(
    ("status", "text"), [(401, "Unauthorized"), (403, "Forbidden"), (404, "Not Found"), (410, "Gone")]
)
def test_refusals_fail_at_once(loopback: Loopback, status: int, text: str) -> None:
    url = loopback.serve("/a", BODY, always=Fault(status=status))
    with pytest.raises(DownloadError) as caught:
        open_url(url)
    assert str(caught.value) == f"{url}: {status} {text}"
    assert len(loopback.requests) == 1


@pytest.mark.parametrize("status", [204, 304, 416, 501])
def test_answers_that_hold_no_file_are_failures(loopback: Loopback, status: int) -> None:
    url = loopback.serve("/a", BODY, always=Fault(status=status))
    with pytest.raises(DownloadError, match=f"{url}: {status} "):
        open_url(url)
    assert len(loopback.requests) == 1


def test_a_refusal_in_the_middle_ends_the_stream(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=1000)], always=Fault(status=403))
    with open_url(url, **FAST) as reader:
        assert reader.read(1000) == BODY[:1000]
        with pytest.raises(DownloadError, match="403 Forbidden"):
            reader.read(1)
    assert len(loopback.requests) == 2


def test_the_tries_are_bounded_and_the_last_reason_is_named(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(status=500)] * 2, always=Fault(status=503))
    with pytest.raises(DownloadError) as caught:
        open_url(url, retries=3, **FAST)
    assert str(caught.value) == f"{url}: no answer after 3 tries: 503 Service Unavailable"
    assert len(loopback.requests) == 3


def test_the_tries_without_progress_are_bounded_in_the_middle_too(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=1000)], always=Fault(cut_at=0))
    with (
        open_url(url, retries=4, **FAST) as reader,
        pytest.raises(DownloadError, match="at byte 1000, no answer after 4"),
    ):
        reader.readall()
    assert len(loopback.requests) == 1 + 3  # the cut connection is itself the first try that brought nothing more


def test_progress_resets_the_count_of_tries(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=10), Fault(status=503)] * 10)
    assert fetch(url, retries=3) == BODY
    assert len(loopback.requests) == 21


def test_a_closed_port_is_named_as_such() -> None:
    url = closed_url()
    with pytest.raises(DownloadError) as caught:
        open_url(url, retries=2, **FAST)
    assert str(caught.value) == f"{url}: no answer after 2 tries: Connection refused"


def test_the_reason_is_not_taken_from_an_error_that_the_caller_deals_with() -> None:
    try:
        raise OSError(errno.EIO, "the disk is on fire")
    except OSError:
        with pytest.raises(DownloadError, match="Connection refused"):
            open_url(closed_url(), retries=1)


def test_the_waits_double(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(status=500)] * 3)
    fetch(url, backoff_s=0.05)
    at_s = [request.at_s for request in loopback.requests]
    for wait_s, least_s in zip((b - a for a, b in itertools.pairwise(at_s)), (0.05, 0.1, 0.2), strict=True):
        assert least_s <= wait_s < least_s + 0.2


@pytest.mark.parametrize(("asked", "least_s", "most_s"), [("1", 0.3, 1.0), ("soon", 0, 0.2), ("0", 0, 0.2)])
def test_retry_after_is_honoured_up_to_a_cap(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch, asked: str, least_s: float, most_s: float
) -> None:
    monkeypatch.setattr("k710.storage.http_reader.LONGEST_WAIT_S", 0.3)
    url = loopback.serve("/a", BODY, faults=[Fault(status=429, headers={"Retry-After": asked})])
    assert fetch(url) == BODY
    first, second = loopback.requests
    assert least_s <= second.at_s - first.at_s < most_s


def test_retry_after_below_the_cap_is_waited_for_in_full(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(status=503, headers={"Retry-After": "1"})])
    assert fetch(url) == BODY
    first, second = loopback.requests
    assert 1.0 <= second.at_s - first.at_s < 1.5


def test_a_server_that_ignores_ranges_is_read_past_what_is_known(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=290_000)], always=Fault(ignore_range=True))
    assert fetch(url) == BODY
    assert loopback.ranges("/a") == [None, "bytes=290000-"]


def test_starting_in_the_middle(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY)
    assert fetch(url, start=299_990) == BODY[299_990:]
    assert loopback.ranges("/a") == ["bytes=299990-"]
    loopback.serve("/a", BODY, always=Fault(ignore_range=True))
    assert fetch(url, start=299_990) == BODY[299_990:]


def test_starting_at_the_very_end_is_the_end(loopback: Loopback) -> None:
    assert fetch(loopback.serve("/a", BODY), start=len(BODY)) == b""


def test_starting_past_the_end_is_an_error(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY)
    with pytest.raises(DownloadError, match="changed"):
        open_url(url, start=len(BODY) + 1)
    assert len(loopback.requests) == 1


@pytest.mark.parametrize(
    "other", [OTHER, OTHER[:200_000], OTHER[:500]], ids=["same size", "shorter", "before our offset"]
)
@pytest.mark.parametrize("page", [{}, {"check_if_range": False}], ids=["If-Range", "no If-Range"])
def test_a_file_that_changes_under_a_stream_is_an_error(loopback: Loopback, other: bytes, page: dict[str, Any]) -> None:
    replace = Fault(cut_at=1000, afterwards=lambda: loopback.serve("/a", other, **page))
    url = loopback.serve("/a", BODY, faults=[replace])
    with open_url(url, **FAST) as reader, pytest.raises(DownloadError, match="the file changed"):
        reader.readall()
    assert loopback.ranges("/a") == [None, "bytes=1000-"]


@pytest.mark.parametrize("etag", [None, 'W/"710"'])
def test_last_modified_serves_where_the_etag_is_missing_or_weak(loopback: Loopback, etag: str | None) -> None:
    old, new = formatdate(0, usegmt=True), formatdate(86_400, usegmt=True)
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=1000)], etag=etag, last_modified=old)
    assert fetch(url) == BODY
    assert loopback.requests[-1].if_range == old
    replace = Fault(cut_at=1000, afterwards=lambda: loopback.serve("/a", OTHER, etag=etag, last_modified=new))
    loopback.serve("/a", BODY, faults=[replace], etag=etag, last_modified=old)
    with pytest.raises(DownloadError, match="the file changed"):
        fetch(url)


def test_a_strong_etag_outweighs_another_date(loopback: Loopback) -> None:
    """As with mirrors of one file behind one name."""
    old, new = formatdate(0, usegmt=True), formatdate(86_400, usegmt=True)
    replace = Fault(cut_at=1000, afterwards=lambda: loopback.serve("/a", BODY, last_modified=new))
    assert fetch(loopback.serve("/a", BODY, faults=[replace], last_modified=old)) == BODY
    assert loopback.ranges("/a") == [None, "bytes=1000-"]


def test_a_server_may_give_less_than_the_range(loopback: Loopback) -> None:
    less = Fault(headers={"Content-Range": "bytes 1000-1999/300000", "Content-Length": "1000"}, cut_at=1000)
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=1000), less])
    assert fetch(url) == BODY
    assert loopback.ranges("/a") == [None, "bytes=1000-", "bytes=2000-"]


def test_a_page_that_stands_in_for_the_file_is_not_taken_for_it(loopback: Loopback) -> None:
    page = Fault(cut_at=1000, afterwards=lambda: loopback.serve("/a", b"<html>back soon", etag=None, chunked=True))
    url = loopback.serve("/a", BODY, faults=[page])
    with pytest.raises(DownloadError, match="the file changed"):
        fetch(url)


def test_what_a_later_answer_leaves_out_is_still_known(loopback: Loopback, tmp_path: Path) -> None:
    bare = Fault(cut_at=500, headers={"ETag": None, "Content-Range": "bytes 1000-299999/*"})
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=1000), bare])
    totals = set()
    done = download(url, tmp_path / "a", progress=lambda done, total: totals.add(total), **FAST)
    assert done.sha256 == sha(BODY)
    assert done.etag == loopback.requests[-1].if_range == loopback.pages["/a"].etag
    assert loopback.ranges("/a") == [None, "bytes=1000-", "bytes=1500-"]
    assert totals == {len(BODY)}


def test_a_content_length_beside_chunks_means_nothing(loopback: Loopback) -> None:
    url = loopback.serve("/a", BODY, chunked=True, always=Fault(headers={"Content-Length": "1000"}))
    assert fetch(url) == BODY
    assert len(loopback.requests) == 1


@pytest.mark.parametrize("answer", ["bytes 2000-299999/300000", "bytes */300000", "nonsense", None])
def test_a_range_other_than_the_one_asked_for_is_an_error(loopback: Loopback, answer: str | None) -> None:
    wrong = Fault(headers={"Content-Range": answer})
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=1000), wrong])
    with pytest.raises(DownloadError, match="requested the bytes from 1000 on"):
        fetch(url)


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/a", "file:///etc/hostname", "file://127.0.0.1/a", "/etc/hostname", "http://", "http:/a", ""],
)
def test_only_http_addresses_are_read(url: str, tmp_path: Path) -> None:
    for read in (open_url, lambda url: download(url, tmp_path / "x"), lambda url: cached(url, cache=tmp_path)):
        with pytest.raises(DownloadError) as caught:
            read(url)
        assert str(caught.value) == f"{url}: not an http or https address"
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:99999/", "http://127.0.0.1:port/", "http://.x/", "http://a..b/", "http://a b/", "http://["],
)
def test_malformed_addresses_are_download_errors(url: str) -> None:
    for ask in (lambda: open_url(url, retries=1), lambda: head(url)):
        with pytest.raises(DownloadError):
            ask()


@pytest.mark.parametrize("user", ["name:s3cret", "s3cret", ":s3cret"])
def test_a_password_in_an_address_is_refused_and_not_shown(user: str) -> None:
    """Media files keep the addresses of archives."""
    with pytest.raises(DownloadError) as caught:
        open_url(f"http://{user}@127.0.0.1:1/a@b")
    said = "an address must not contain a password; put it into ~/.netrc"
    assert str(caught.value) == f"http://…@127.0.0.1:1/a@b: {said}"


def test_redirects_are_followed_to_http_only(loopback: Loopback) -> None:
    target = loopback.serve("/target", BODY, faults=[Fault(cut_at=1000)])
    url = loopback.serve("/a", b"", always=Fault(status=302, headers={"Location": target}))
    assert fetch(url) == BODY
    assert loopback.ranges("/target") == [None, "bytes=1000-"]
    for location in ("file:///etc/hostname", "ftp://127.0.0.1/a", "/a"):
        loopback.serve("/a", b"", always=Fault(status=302, headers={"Location": location}))
        with pytest.raises(DownloadError, match=f"{url}: "):
            open_url(url, **FAST)


def test_content_encoding_is_not_undone(loopback: Loopback) -> None:
    url = loopback.serve("/a.tar.gz", BODY, always=Fault(headers={"Content-Encoding": "gzip"}))
    assert fetch(url) == BODY


def test_an_archive_is_read_as_a_stream(loopback: Loopback) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for number in range(5):
            member = tarfile.TarInfo(f"{number}.mp4")
            member.size = 40_000
            archive.addfile(member, io.BytesIO(BODY[number * 40_000 :]))
    faults = [Fault(cut_at=30_000), Fault(cut_at=50_000, reset=True), Fault(status=503)]
    url = loopback.serve("/a.tar.gz", packed.getvalue(), faults=faults)
    with open_url(url, **FAST) as reader, tarfile.open(fileobj=io.BufferedReader(reader), mode="r|gz") as archive:
        read = b"".join(archive.extractfile(member).read() for member in archive)  # type: ignore[union-attr]
    assert read == BODY[:200_000]


def test_a_closed_reader_asks_for_nothing(loopback: Loopback) -> None:
    reader = open_url(loopback.serve("/a", BODY), **FAST)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)
    assert len(loopback.requests) == 1


@settings(max_examples=40, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_cuts_the_bytes_are_those_that_were_served(loopback: Loopback, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(BODY)), "size")
    cuts = st.builds(
        Fault,
        cut_at=st.integers(0, 1 + size // 2),
        reset=st.booleans(),
        ignore_range=st.booleans(),
        status=st.sampled_from([None, None, None, 503]),
    )
    faults = data.draw(st.lists(cuts, max_size=6), "faults")
    start = data.draw(st.integers(0, size), "start")
    step = data.draw(st.sampled_from([7_000, 65_536, -1]), "read size")
    url = loopback.serve("/a", BODY[:size], faults=faults, chunked=data.draw(st.booleans(), "chunked"))
    with open_url(url, start=start, retries=9, **FAST) as reader:
        assert b"".join(iter(lambda: reader.read(step), b"")) == BODY[start:size]


# Into a file


def test_download_gives_the_file_and_says_what_it_is(loopback: Loopback, tmp_path: Path) -> None:
    url = loopback.serve("/a.csv", BODY, faults=[Fault(cut_at=1000)], last_modified=formatdate(0, usegmt=True))
    done = download(url, tmp_path / "new" / "a.csv", **FAST)
    assert (done.url, done.path) == (url, tmp_path / "new" / "a.csv")
    assert done.path.read_bytes() == BODY
    assert (done.sha256, done.size_bytes) == (sha(BODY), len(BODY))
    assert (done.etag, done.last_modified) == (loopback.pages["/a.csv"].etag, formatdate(0, usegmt=True))
    assert names(done.path.parent) == ["a.csv"]


def test_download_keeps_the_part_and_takes_it_up(loopback: Loopback, tmp_path: Path) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=100_000)], always=Fault(status=503))
    with pytest.raises(DownloadError, match="stopped at byte 100000"):
        download(url, tmp_path / "a", **FAST)
    assert names(tmp_path) == ["a.part", "a.part.json"]
    assert (tmp_path / "a.part").read_bytes() == BODY[:100_000]
    loopback.serve("/a", BODY)
    done = download(url, tmp_path / "a", **FAST)
    assert loopback.ranges("/a")[-1] == "bytes=100000-"
    assert done.path.read_bytes() == BODY
    assert done.sha256 == sha(BODY)
    assert names(tmp_path) == ["a"]


def test_a_part_that_is_whole_needs_no_bytes(loopback: Loopback, tmp_path: Path) -> None:
    url = loopback.serve("/a", BODY)
    (tmp_path / "a.part").write_bytes(BODY)
    (tmp_path / "a.part.json").write_text(json.dumps({"url": url, "etag": loopback.pages["/a"].etag}))
    assert download(url, tmp_path / "a", **FAST).sha256 == sha(BODY)
    assert loopback.ranges("/a") == [f"bytes={len(BODY)}-"]  # answered by 416, bytes */300000
    assert (tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize("page", [{}, {"check_if_range": False}], ids=["If-Range", "no If-Range"])
@pytest.mark.parametrize("stale_bytes", [1000, 300_000, 300_001])
def test_a_stale_part_is_begun_anew(loopback: Loopback, tmp_path: Path, stale_bytes: int, page: dict[str, Any]) -> None:
    url = loopback.serve("/a", BODY, last_modified=formatdate(0, usegmt=True), **page)
    (tmp_path / "a.part").write_bytes((OTHER + OTHER)[:stale_bytes])
    (tmp_path / "a.part.json").write_text(json.dumps({"url": url, "etag": '"old"', "size_bytes": 310_000}))
    done = download(url, tmp_path / "a", **FAST)
    assert done.sha256 == sha(BODY) == sha(done.path.read_bytes())
    assert loopback.ranges("/a") == [f"bytes={stale_bytes}-", None]
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "note",
    [
        None,
        "",
        "[]",
        '{"url": "URL"}',
        '{"url": "URL", "size_bytes": 300000}',
        '{"url": "http://other/", "etag": "ETAG"}',
        '{"url": "URL", "etag": "ETAG", "strange": 1}',
    ],
)
def test_a_part_of_unknown_origin_is_not_trusted(loopback: Loopback, tmp_path: Path, note: str | None) -> None:
    url = loopback.serve("/a", BODY, etag='"710"')
    (tmp_path / "a.part").write_bytes(OTHER[:1000])
    if note is not None:
        (tmp_path / "a.part.json").write_text(note.replace("URL", url).replace("ETAG", r"\"710\""))
    assert download(url, tmp_path / "a", **FAST).path.read_bytes() == BODY
    assert loopback.ranges("/a") == [None]


def test_a_file_that_changes_under_a_download_is_begun_anew(loopback: Loopback, tmp_path: Path) -> None:
    replace = Fault(cut_at=1000, afterwards=lambda: loopback.serve("/a", OTHER))
    url = loopback.serve("/a", BODY, faults=[replace])
    done = download(url, tmp_path / "a", **FAST)
    assert done.path.read_bytes() == OTHER
    assert (done.sha256, done.etag) == (sha(OTHER), loopback.pages["/a"].etag)
    assert loopback.ranges("/a") == [None, "bytes=1000-", None]


def test_a_file_that_keeps_changing_is_an_error_and_no_file(loopback: Loopback, tmp_path: Path) -> None:
    def change() -> None:
        loopback.serve("/a", BODY, etag=f'"{len(loopback.requests)}"', always=Fault(cut_at=1000, afterwards=change))

    change()
    with pytest.raises(DownloadError, match="the file changed"):
        download(loopback.url("/a"), tmp_path / "a", **FAST)
    assert not (tmp_path / "a").exists()


def test_the_bytes_are_on_the_disk_before_the_file_has_its_name(
    loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, (tmp_path / "a").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    download(loopback.serve("/a", BODY), tmp_path / "a", **FAST)
    assert synced[-1] == (len(BODY), False)


def test_a_failed_download_leaves_the_old_file_alone(loopback: Loopback, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=1000)], always=Fault(status=404))
    with pytest.raises(DownloadError):
        download(url, tmp_path / "a", **FAST)
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_full_disk_is_an_os_error_that_names_the_file(loopback: Loopback, tmp_path: Path) -> None:
    url = loopback.serve("/a", BODY)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            download(url, tmp_path / "a", **FAST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "a"))
    assert names(tmp_path) == ["a.part", "a.part.json"]
    assert (tmp_path / "a.part").read_bytes() == BODY[:100_000]
    assert download(url, tmp_path / "a", **FAST).sha256 == sha(BODY)
    assert loopback.ranges("/a") == [None, "bytes=100000-"]


def start_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that has run `code`, a prelude of imports, up to its `print("ready", flush=True)`."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def test_a_killed_download_is_taken_up(loopback: Loopback, tmp_path: Path) -> None:
    url = loopback.serve("/a", BODY, faults=[Fault(stall_at=200_000)])
    code = "import sys; from k710.storage.download import download; print('ready', flush=True); download(*sys.argv[1:])"
    process = start_process(code, url, tmp_path / "a")
    part = tmp_path / "a.part"
    deadline_s = time.monotonic() + 5
    while not (part.exists() and part.stat().st_size > 100_000) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept_bytes = part.stat().st_size
    assert 100_000 < kept_bytes <= 200_000
    assert not (tmp_path / "a").exists()
    assert download(url, tmp_path / "a", **FAST).sha256 == sha(BODY)
    assert (tmp_path / "a").read_bytes() == BODY
    assert loopback.ranges("/a") == [None, f"bytes={kept_bytes}-"]
    assert names(tmp_path) == ["a"]  # the lock that the killed process left is gone too


# Into the cache


def test_cached_downloads_once(loopback: Loopback, tmp_path: Path) -> None:
    url = loopback.serve("/annotations/val.csv", BODY)
    first = cached(url, cache=tmp_path, **FAST)
    assert cached(url, cache=tmp_path, **FAST) == first
    assert len(loopback.requests) == 1
    assert first.path.parent == tmp_path
    assert first.path.name.endswith("-val.csv")
    assert first.path.read_bytes() == BODY
    assert names(tmp_path) == [first.path.name, f"{first.path.name}.json"]
    record = json.loads((tmp_path / f"{first.path.name}.json").read_text())
    assert record == {
        "url": url,
        "sha256": sha(BODY),
        "size_bytes": len(BODY),
        "etag": loopback.pages["/annotations/val.csv"].etag,
        "last_modified": None,
        "retrieved_at": first.retrieved_at,
    }


@pytest.mark.parametrize(
    "harm", ["file missing", "file short", "record missing", "record damaged", "record of another"]
)
def test_cached_downloads_again_when_record_and_file_disagree(loopback: Loopback, tmp_path: Path, harm: str) -> None:
    url = loopback.serve("/val.csv", BODY)
    path = cached(url, cache=tmp_path, **FAST).path
    record = path.with_name(path.name + ".json")
    if harm == "file missing":
        path.unlink()
    elif harm == "file short":
        path.write_bytes(BODY[:-1])
    elif harm == "record missing":
        record.unlink()
    elif harm == "record damaged":
        record.write_text('{"url": ')
    else:
        record.write_text(record.read_text().replace("val.csv", "train.csv"))
    assert cached(url, cache=tmp_path, **FAST).path.read_bytes() == BODY
    assert len(loopback.requests) == 2
    cached(url, cache=tmp_path, **FAST)
    assert len(loopback.requests) == 2


def test_a_failure_leaves_no_record_beside_a_file_that_it_does_not_describe(loopback: Loopback, tmp_path: Path) -> None:
    url = loopback.serve("/val.csv", BODY)
    path = cached(url, cache=tmp_path, **FAST).path
    path.unlink()
    loopback.serve("/val.csv", BODY, always=Fault(status=404))
    with pytest.raises(DownloadError, match="404"):
        cached(url, cache=tmp_path, **FAST)
    assert names(tmp_path) == []


def test_a_read_only_cache_is_read(loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = loopback.serve("/val.csv", BODY)
    first = cached(url, cache=tmp_path, **FAST)

    def refuse(path: Path) -> None:
        raise AssertionError("a lock is a write")

    monkeypatch.setattr(module, "_alone", refuse)
    assert cached(url, cache=tmp_path) == first


@pytest.mark.parametrize(
    "tail",
    [
        "/..",
        "/%2e%2e%2fx",
        "/a/..%2f..%2fx",
        "/a%00b",
        "/\u00e9\u4e2d.csv",
        "/",
        "",
        "/a b?c=/../../d",
        "/" + "n" * 300 + ".csv",
    ],
)
def test_no_address_chooses_a_path(tail: str, tmp_path: Path) -> None:
    name = module._file_name(f"https://example.com{tail}")
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    assert name.isascii()
    assert len(name) < 120
    assert name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert not name.startswith(".")


def test_addresses_with_one_basename_do_not_meet(loopback: Loopback, tmp_path: Path) -> None:
    urls = [
        loopback.serve("/400/val.csv", BODY),
        loopback.serve("/600/val.csv", OTHER),
        loopback.serve("/val.csv?a", b"x"),
    ]
    paths = [cached(url, cache=tmp_path, **FAST).path for url in urls]
    assert [path.read_bytes() for path in paths] == [BODY, OTHER, b"x"]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loopback: Loopback) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("K710_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == tmp_path / "home" / ".cache" / "k710"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "k710"
    monkeypatch.setenv("K710_CACHE", "~/own")
    assert cache_folder() == tmp_path / "home" / "own"
    assert cached(loopback.serve("/a", BODY), **FAST).path.parent == tmp_path / "home" / "own"


def test_a_user_without_a_home(monkeypatch):
    """As in many containers."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    for name in ("K710_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match="set K710_CACHE to a folder"):
        cache_folder()


def test_two_processes_cache_one_address_once(loopback: Loopback, tmp_path: Path) -> None:
    go_on = threading.Event()
    url = loopback.serve("/val.csv", BODY, always=Fault(stall_at=150_000, until=go_on))
    code = (
        "import sys; from k710.storage.download import cached; import requests; print('ready', flush=True); "
        "print(cached(sys.argv[1], cache=sys.argv[2]).sha256)"
    )
    processes = [start_process(code, url, tmp_path) for _ in range(2)]
    time.sleep(0.5)  # both are at it now: one stalled, the other waiting for it
    assert [process.poll() for process in processes] == [None, None]
    go_on.set()
    outputs = [process.communicate(timeout=10) for process in processes]
    assert outputs == [(sha(BODY) + "\n", "")] * 2
    assert len(loopback.requests) == 1
    [path, record] = sorted(tmp_path.iterdir())
    assert path.read_bytes() == BODY
    assert json.loads(record.read_text())["sha256"] == sha(BODY)


def test_many_threads_download_to_one_path(loopback: Loopback, tmp_path: Path) -> None:
    """Each takes the lock in turn and deletes it: nobody may go on with a lock that is deleted already."""
    url = loopback.serve("/a", BODY, always=Fault(cut_at=200_000))
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(download(url, tmp_path / "a", **FAST).sha256)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sha(BODY)] * 12
    assert loopback.ranges("/a") == [None, "bytes=200000-"] * 12  # never two at once
    assert names(tmp_path) == ["a"]


def test_a_folder_without_locks_is_named(loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DownloadError, match=f"{tmp_path}/a.part.lock: this file system has no locks"):
        download(loopback.serve("/a", BODY), tmp_path / "a", **FAST)
    assert loopback.requests == []


# What is seen of it


def test_progress_is_told_of_every_byte_once(loopback: Loopback, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    url = loopback.serve("/a", BODY, faults=[Fault(cut_at=1000)], always=Fault(status=404))
    with pytest.raises(DownloadError):
        download(url, tmp_path / "a", **FAST)
    loopback.serve("/a", BODY, faults=[Fault(cut_at=5000)])
    download(url, tmp_path / "a", progress=lambda done, total: seen.append((done, total)), **FAST)
    done = [step[0] for step in seen]
    assert done == sorted(set(done))
    assert 1000 < done[0] <= 6000  # what the first attempt left counts as done
    assert 6000 in done
    assert done[-1] == len(BODY)
    assert {step[1] for step in seen} == {len(BODY)}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with download_progress("k400 [train] list") as progress:
        progress(12_500_000, 25_000_000)
        time.sleep(0.2)
    written = terminal.getvalue()
    assert "k400 [train] list" in written
    assert "12.5/25.0 MB" in written


def test_progress_elsewhere_is_an_occasional_line(capsys: pytest.CaptureFixture[str]) -> None:
    with download_progress("train list", every_s=0.05) as progress:
        progress(1_000_000, None)
        time.sleep(0.06)
        progress(2_000_000, 3_000_000)
        progress(2_500_000, 3_000_000)
        progress(3_000_000, 3_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "train list: 2.0 of 3.0 MB\ntrain list: 3.0 of 3.0 MB\n"


@pytest.mark.parametrize("quiet", [True, False])
def test_no_progress_is_no_output(capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    with download_progress("train list", quiet=quiet, every_s=0) as progress:
        if quiet:
            progress(1, 2)
    assert capsys.readouterr() == ("", "")


def test_importing_costs_neither_requests_nor_rich() -> None:
    code = "import sys, k710.storage.download, k710.progress; print({'requests', 'urllib3', 'rich'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
