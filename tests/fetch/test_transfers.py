"""What a server or a proxy spoils, once or for good, and answers that never end: nothing of it is kept as a fact."""

from __future__ import annotations

import dataclasses
import io
import json
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet
import pytest

from k710.errors import DownloadError
from k710.fetch.origins.archive_sets import _rebased
from k710.fetch.origins.archive_stream import ArchiveStream, DamagedArchiveError
from k710.storage.download import cached, download
from k710.storage.http_reader import MAX_REDIRECTS, head, open_url
from k710.store.store import METADATA_KEY, read_unit, unit_digest
from tests.fetch.test_fetch_cvdf import (  # noqa: F401 - fixtures
    IDS,
    NAMES,
    ONLY,
    REPLACEMENT,
    alone,
    archive,
    fetch,
    name_of,
    named,
    public,
    rows_of,
)
from tests.helpers.loopback import Fault
from tests.helpers.tiny_media import build, fetched, settled

PAGE = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"
TRAIN_LIST = "/600/train/k600_train_path.txt"


# Damage of one transfer.


@pytest.mark.slow
def test_a_page_in_place_of_an_archive_is_asked_for_again(alone, fetch, public, tmp_path):  # noqa: F811
    (path,) = public.publish("k600", "train", PAGE)
    for _ in range(2):
        result = fetch(alone, *ONLY, code=1)
        assert f"not read: {public.server.url(path)}: what the server sent is no archive" in result.stderr
        assert "k710: 1 archive could not be read; the same command reads it again" in result.stderr
        assert settled(tmp_path / "store") == {}
    public.publish("k600", "train", named(*NAMES))
    assert "This run: 4 clips fetched" in fetch(alone, *ONLY).stdout


def test_an_archive_that_broke_off_once_is_read_again(alone, fetch, public, tmp_path):  # noqa: F811
    """The second answer has the same ETag and all the bytes: a proxy had ended the first one."""
    body = archive(named(*NAMES))
    (path,) = public.publish("k600", "train", body)
    etag = public.server.pages[path].etag
    public.server.serve(path, body[: len(body) * 2 // 3], etag=etag)
    result = fetch(alone, *ONLY, code=1)
    assert "k710: 1 archive broke off; the same command reads it again" in result.stderr
    came = fetched(tmp_path / "store")
    assert came
    assert set(came) < set(NAMES)
    public.server.serve(path, body)
    fetch(alone, *ONLY)
    after = fetched(tmp_path / "store")
    assert set(after) == set(NAMES)
    assert after.items() >= came.items()


@pytest.mark.slow
def test_what_fails_in_a_damaged_archive_is_no_verdict_on_the_clip(alone, fetch, public, tmp_path):  # noqa: F811
    """Bytes that were spoilt on the way, gzip's checksum says so at the end: the clip in them is not corrupt."""
    spoilt = {f"{NAMES[0]}.mp4": b"\0" * 5000, **named(*NAMES[1:])}
    body = archive(spoilt)
    (path,) = public.publish("k600", "train", body[:-8] + b"\1\2\3\4" + body[-4:])
    result = fetch(alone, *ONLY, code=1)
    assert "This run: 3 clips fetched, 0.0 MB.\n" in result.stdout
    assert NAMES[0] not in settled(tmp_path / "store")
    public.publish("k600", "train", named(*NAMES))
    public.forget()
    assert "This run: 1 clip fetched" in fetch(alone, *ONLY).stdout
    assert path in public.asked()


@pytest.mark.slow
def test_damage_that_is_met_twice_in_one_version_is_that_of_the_file(alone, fetch, public, tmp_path):  # noqa: F811
    """Else every run would read its gigabytes again. A new version on the server is read at once."""
    body = archive(named(*NAMES))
    (path,) = public.publish("k600", "train", body[: len(body) * 2 // 3])
    fetch(alone, *ONLY, code=1)
    told = fetch(alone, *ONLY).stderr
    assert f"damaged: {public.server.url(path)}: " in told
    assert "as before, so the server has it so" in told
    public.forget()
    fetch(alone, *ONLY)
    assert [request.method for request in public.server.log(path)] == ["HEAD"]
    public.server.serve(path, body)
    assert "clips fetched" in fetch(alone, *ONLY).stdout
    assert set(fetched(tmp_path / "store")) == set(NAMES)
    public.forget()
    fetch(alone, *ONLY)
    assert public.asked() == []


@pytest.mark.slow
def test_what_an_older_version_settled_from_a_damaged_archive_is_asked_again(alone, fetch, public, tmp_path):  # noqa: F811
    """It wrote the clips that failed in such an archive as verdicts, and the archive as read."""
    public.publish("k600", "train", {f"{NAMES[0]}.mp4": b"", **named(*NAMES[1:])})
    fetch(alone, *ONLY)
    assert settled(tmp_path / "store")[NAMES[0]]["failure"] == "not_video"
    (file,) = (tmp_path / "store" / "media" / "h264").glob("cvdf-*.parquet")
    rows, about = read_unit(file)
    about["archive"]["damage"] = "cut off"
    del about["archive"]["confirmed"], about["archive"]["last_modified"], about["sha256"]
    about["sha256"] = unit_digest(rows, about)
    pa.parquet.write_table(rows.replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()}), file)
    public.publish("k600", "train", named(*NAMES))
    assert "This run: 1 clip fetched, 0.0 MB.\n" in fetch(alone, *ONLY).stdout
    public.forget()
    fetch(alone, *ONLY)
    assert public.asked() == []


@pytest.mark.slow
def test_damage_of_a_version_that_nobody_names_is_never_settled(alone, fetch, public):  # noqa: F811
    body = archive(named(*NAMES))
    (path,) = public.publish("k600", "train", body[: len(body) * 2 // 3], etag=None)
    for _ in range(3):
        public.forget()
        fetch(alone, *ONLY, code=1)
        assert path in public.asked()


@pytest.mark.slow
def test_a_plain_tar_that_ends_between_two_members_is_whole_only_where_the_server_says_so(
    alone,  # noqa: F811
    fetch,  # noqa: F811
    public,  # noqa: F811
    tmp_path,
):
    """Such a tar reads well to its end. Without a size, the end of the connection may be that of a broken one."""
    whole = archive(named(*NAMES), plain=True)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        cut = tar.getmembers()[2].offset
    (path,) = public.publish("k600", "train", b"")
    public.server.serve(path, whole[:cut], always=Fault(headers={"Content-Length": None}), etag=None)
    result = fetch(alone, *ONLY, code=1)
    assert "ends without the blocks that end a tar, and the server gave" in result.stderr
    public.server.serve(path, whole)
    fetch(alone, *ONLY)
    assert set(fetched(tmp_path / "store")) == set(NAMES)


def test_pages_in_a_row_keep_nothing_from_the_archives_behind_them(alone, fetch, public, tmp_path):  # noqa: F811
    """Files of a broken mirror may come first in its list, and would stop every run there."""
    parts = public.publish("k600", "train", *[PAGE] * 5, named(*NAMES[:3]))
    result = fetch(alone, *ONLY, code=1)
    assert "k710: 5 archives could not be read; the same command reads them again" in result.stderr
    assert set(fetched(tmp_path / "store")) == set(NAMES[:3])
    public.forget()
    fetch(alone, *ONLY, code=1)
    assert {path for path in public.asked() if path in parts} == set(parts[:5])


def test_a_page_in_place_of_a_list_does_not_stay_in_the_cache(alone, fetch, public, tmp_path):  # noqa: F811
    public.publish("k600", "train", named(*NAMES))
    lines = public.server.pages[TRAIN_LIST].body
    public.server.serve(TRAIN_LIST, PAGE)
    assert "what the server sent is no list of archives" in fetch(alone, *ONLY, code=1).stderr
    public.server.serve(TRAIN_LIST, lines)
    assert "This run: 4 clips fetched" in fetch(alone, *ONLY).stdout


def test_a_page_that_an_older_version_cached_is_asked_for_again(alone, fetch, public):  # noqa: F811
    public.publish("k600", "train", named(*NAMES))
    lines = public.server.pages[TRAIN_LIST].body
    public.server.serve(TRAIN_LIST, PAGE)
    cached(public.server.url(TRAIN_LIST))
    public.server.serve(TRAIN_LIST, lines)
    assert "This run: 4 clips fetched" in fetch(alone, *ONLY).stdout


def test_a_page_in_place_of_an_annotation_list_is_not_kept(k710, public, tmp_path, monkeypatch):  # noqa: F811
    from k710.lists import public_lists
    from k710.sources import known

    urls = {split: public.server.serve(f"/{split}.csv", PAGE) for split in ("train", "val")}
    source = dataclasses.replace(known.KNOWN_SOURCES["k400"], list_urls=urls)
    monkeypatch.setattr(public_lists, "KNOWN_SOURCES", {"k400": source})
    options = ("--sources", "k400", "--splits", "train,val", "--out", tmp_path / "m")
    result = k710("build", *options)
    assert result.exit_code == 1
    assert f"{urls['train']}: what the server sent is no list" in result.stderr
    for split, youtube_id in (("train", "train-clip0"), ("val", "val-clip--0")):
        row = f"label,youtube_id,time_start,time_end,split\narchery,{youtube_id},0,10,{split}\n"
        public.server.serve(f"/{split}.csv", row.encode())
    assert k710("build", *options).exit_code == 0


# Answers without an end.


@contextmanager
def raw_server(answer: bytes, again: bytes, pause_s: float = 0.0, most_bytes: int = 64 << 20) -> Iterator[str]:
    """A server that sends `answer`, then `again` after each pause, until the client hangs up; bounded all the same."""
    ending = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    threads: list[threading.Thread] = []

    def talk(client: socket.socket) -> None:
        with client:
            client.settimeout(5.0)
            try:
                client.recv(65536)
                client.sendall(answer)
                sent = 0
                while sent < most_bytes and not ending.wait(pause_s):
                    client.sendall(again)
                    sent += len(again)
            except OSError:
                pass

    def accept() -> None:
        while not ending.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=talk, args=(client,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ending.set()
        accepting.join()
        for thread in threads:
            thread.join()
        listener.close()


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def test_a_list_without_an_end_is_refused(alone, fetch, public, tmp_path):  # noqa: F811
    with raw_server(OK, b"http://127.0.0.1/x.tar.gz\n" * 10_000) as url:
        result = fetch(alone, *ONLY, code=1, origin=f"cvdf:{url}")
    assert f"{url}{TRAIN_LIST}: has more than 4 MiB, too much for such a file" in result.stderr
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) == 0


def test_a_list_that_claims_too_much_is_refused_before_it_is_read(loopback, tmp_path):
    url = loopback.serve("/list", b"x" * 5000)
    with pytest.raises(DownloadError, match="has more than 4,000 bytes"):
        download(url, tmp_path / "list", max_bytes=4000)
    assert [path.name for path in tmp_path.iterdir() if path.stat().st_size] == []
    assert download(url, tmp_path / "list", max_bytes=5000).size_bytes == 5000


def test_a_download_has_a_time_limit(tmp_path):
    with raw_server(OK, b"x" * 5000, pause_s=0.05) as url, pytest.raises(DownloadError, match="is incomplete after 0"):
        download(f"{url}/list", tmp_path / "list", max_seconds=0.5, timeout_s=5.0)


def test_the_body_of_a_redirect_is_not_read(loopback):
    """requests would read it to its end before it follows."""
    target = loopback.serve("/target", b"here")
    redirect = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\n\r\n".encode()
    with raw_server(redirect, b"x" * 100_000, pause_s=0.001) as url:
        begin_s = time.monotonic()
        with open_url(url, retries=1, timeout_s=2.0) as reader:
            assert reader.read() == b"here"
        assert time.monotonic() - begin_s < 2.0


def test_redirects_in_a_circle_end(loopback):
    url = loopback.serve("/a", b"", always=Fault(status=302, headers={"Location": "/a"}))
    with pytest.raises(DownloadError, match=f"{url}: more than {MAX_REDIRECTS} redirects"):
        open_url(url)
    assert len(loopback.log("/a")) == MAX_REDIRECTS + 1
    with pytest.raises(DownloadError, match="redirects"):
        head(url)


def test_a_server_that_drips_is_given_up(monkeypatch):
    """A byte now and then is no progress: at that rate an archive would take years."""
    with raw_server(OK, b"\x1f", pause_s=0.02) as url:
        begin_s = time.monotonic()
        with (
            pytest.raises(DownloadError, match=r"too slow after 2 tries: \d+ bytes in"),
            open_url(url, retries=2, timeout_s=0.2, backoff_s=0.01) as reader,
        ):
            reader.read()
        assert time.monotonic() - begin_s < 5.0


def test_headers_that_drip_are_given_up():
    with raw_server(b"HTTP/1.1 200 OK\r\n", b"X", pause_s=0.02) as url:
        begin_s = time.monotonic()
        with pytest.raises(DownloadError, match="no whole answer in"):
            open_url(url, retries=2, timeout_s=0.1, backoff_s=0.01)
        assert time.monotonic() - begin_s < 5.0


def test_a_reader_that_takes_its_time_is_no_slow_server(loopback):
    url = loopback.serve("/a", bytes(300_000))
    with open_url(url, retries=1, timeout_s=0.2) as reader:
        pieces = []
        while piece := reader.read(60_000):
            pieces.append(piece)
            time.sleep(0.15)
        assert len(b"".join(pieces)) == 300_000


class Endless:
    """A tar without an end: a member after the other, all alike, but for its name's number."""

    def __init__(self, name: str, data: bytes, ends_after: int) -> None:
        self._name, self._data, self._left, self._buffer = name, data, ends_after, b""

    def read(self, size: int = -1, /) -> bytes:
        while len(self._buffer) < size and self._left:
            self._left -= 1
            info = tarfile.TarInfo(self._name.format(self._left))
            info.size = len(self._data)
            self._buffer += info.tobuf() + self._data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


@pytest.mark.parametrize(
    ("name", "data", "limit", "value", "said"),
    [
        ("e{}.txt", b"", "MAX_FRUITLESS_MEMBERS", 50, "no new clip in 50 members"),
        ("x/y.mp4", bytes(512), "MAX_FRUITLESS_BYTES", 50_000, "no new clip in 50,000 bytes"),
    ],
)
def test_a_tar_that_brings_nothing_ends(monkeypatch, name, data, limit, value, said):
    monkeypatch.setattr(f"k710.fetch.origins.archive_stream.{limit}", value)
    stream = ArchiveStream(Endless(name, data, 10_000))
    with pytest.raises(DamagedArchiveError, match=said):
        [member.data.read() for member in stream]
    fruitful = ArchiveStream(Endless(name, data, 200))
    for member in fruitful:
        member.data.read()
        fruitful.found_a_new_clip()
    assert fruitful.num_members == 200


def test_zeros_without_an_end_behind_a_tar_end(monkeypatch):
    monkeypatch.setattr("k710.fetch.origins.archive_stream.MAX_TAIL_BYTES", 4 << 20)
    with pytest.raises(DamagedArchiveError, match="more than 4,194,304 bytes follow its end"):
        list(ArchiveStream(io.BytesIO(bytes(8 << 20))))


# What a mirror does not have.


def test_a_replacement_that_is_not_there_blocks_nothing(k710, fetch, public, tmp_path):  # noqa: F811
    manifest = build(k710, tmp_path, rows_of(k400_train=["original-00"], k400_val=["valclip-000"]))
    del public.server.pages[REPLACEMENT]
    public.publish("k400", "train", named(name_of("original-00")))
    public.publish("k400", "val", named(name_of("valclip-000")))
    assert "This run: 2 clips fetched" in fetch(manifest).stdout


def test_a_replacement_that_may_come_later_is_waited_for(k710, fetch, public, tmp_path):  # noqa: F811
    manifest = build(k710, tmp_path, rows_of(k400_train=["original-00"]))
    public.server.pages[REPLACEMENT].always = Fault(status=503)
    (train,) = public.publish("k400", "train", named(name_of("original-00")))
    fetch(manifest, *ONLY, code=1)
    assert train not in public.asked()


@pytest.mark.parametrize("status", [403, 404, 410])
@pytest.mark.slow
def test_what_a_mirror_lacks_comes_from_the_older_release(k710, fetch, public, tmp_path, status):  # noqa: F811
    manifest = build(k710, tmp_path, rows_of(k600_train=["in-both-000"], k700_2020_train=["in-both-000"]))
    (home,) = public.publish("k700_2020", "train", b"")
    public.server.pages[home].always = Fault(status=status)
    public.publish("k600", "train", named(name_of("in-both-000")))
    assert "This run: 1 clip fetched" in fetch(manifest, *ONLY).stdout
    assert settled(tmp_path / "store")[name_of("in-both-000")]["origin"] == "cvdf:k600/train"


def test_a_mirror_of_one_release_alone(k710, fetch, public, tmp_path):  # noqa: F811
    manifest = build(k710, tmp_path, rows_of(k600_train=["k600-clip--"], k700_2020_train=["2020-clip--"]))
    public.publish("k600", "train", named(name_of("k600-clip--")))  # no list of k700_2020
    result = fetch(manifest, *ONLY, code=1)
    assert "This run: 1 clip fetched" in result.stdout
    assert "/700_2020/train/k700_2020_train_path.txt: 404" in result.stderr
    dry = fetch(manifest, *ONLY, "--dry-run", "--profile", "source")
    assert "not read: " in dry.stderr
    assert "cvdf:k600/train" in dry.stdout


def test_three_missing_archives_in_a_row_are_not_the_network(alone, fetch, public):  # noqa: F811
    parts = public.publish("k600", "train", *[b""] * 4, named(*NAMES))
    for path in parts[:4]:
        del public.server.pages[path]
    assert "This run: 4 clips fetched" in fetch(alone, *ONLY).stdout


@pytest.mark.parametrize(
    "host",
    [
        "https://s3.amazonaws.com/kinetics",
        "http://s3.amazonaws.com/kinetics",
        "https://kinetics.s3.amazonaws.com",
        "https://s3-us-west-2.amazonaws.com/kinetics",
    ],
)
@pytest.mark.slow
def test_the_lists_of_an_exact_mirror_are_read_as_its_own(alone, fetch, public, host):  # noqa: F811
    """An exact copy of the original's lists names the original's host."""
    (path,) = public.publish("k600", "train", named(*NAMES))
    public.server.serve(TRAIN_LIST, f"{host}{path}\n".encode())
    assert "This run: 4 clips fetched" in fetch(alone, *ONLY).stdout
    assert path in public.asked()


def test_other_hosts_in_a_list_are_left_as_they_are():
    for url in ("https://s3.amazonaws.com/kinetics2/a.tar", "https://other.example/kinetics/a.tar"):
        assert _rebased(url, "http://mirror") == url


def test_a_dry_run_lists_every_set_that_may_be_asked(k710, fetch, public, tmp_path):  # noqa: F811
    rows = rows_of(k400_train=["in-all-0000"], k600_train=["in-all-0000"], k700_2020_train=["in-all-0000"])
    manifest = build(k710, tmp_path, rows)
    for release in ("k400", "k600", "k700_2020"):
        public.publish(release, "train", named(name_of("in-all-0000")))
    result = fetch(manifest, *ONLY, "--dry-run")
    lines = [line.split()[:3] for line in result.stdout.splitlines() if line.startswith("cvdf:")]
    sets = ("k700_2020/train", "k600/train", "k400/replacement", "k400/train")
    assert lines == [[f"cvdf:{name}", "1", "1"] for name in sets]
    assert "Each is asked only for what those above it turn out to lack." in result.stdout
