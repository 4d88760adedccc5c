"""Places at a URL, and a manifest at one, against a server that speaks S3."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.cli import main
from k710.errors import ManifestError, RemoteError, UsageError
from k710.manifest.read import Manifest, open_manifest
from k710.storage.remote import RemotePath, patience_s
from k710.storage.storage import location, named_by_hash, put, replacing
from k710.store.store import Store
from tests.helpers.loopback import closed_url
from tests.helpers.s3_service import environment, forget_connections, moto_server
from tests.helpers.small_stores import clips_of, manifest_of
from tests.helpers.small_stores import put as settle

pytestmark = pytest.mark.slow

NAMES = st.text("abc-_.[]*? é", min_size=1, max_size=6).filter(lambda name: name not in (".", "..") and name.strip())


@pytest.fixture
def folder(tmp_path) -> RemotePath:
    """A folder in fsspec's own memory: the class itself, without a service."""
    found = location(f"memory://{tmp_path.name}/k710")
    assert isinstance(found, RemotePath)
    return found


# What is a URL.


@pytest.mark.parametrize("text", ["manifests/k710", "/data/k710", "-abc", "a:b", "a::b", "s3:/bucket", "C:\\x", ""])
def test_a_place_on_this_machine_stays_a_plain_path(text):
    assert location(text) == Path(text)
    assert type(location(text)) is type(Path(text))


def test_file_urls_are_this_machine():
    assert location("file:///data/a%20b") == Path("/data/a b")
    assert location("FILE:///data/x") == Path("/data/x")
    assert location("file:///data/a#1?b%23") == Path("/data/a#1?b#")
    assert location("local:///data/x") == Path("/data/x")


@pytest.mark.parametrize("url", ["file://manifests/k710", "file://", "local://host/data"])
def test_a_file_url_that_is_no_whole_path_is_refused(url):
    """Its first part would be taken for a machine, and the rest for a place at the root of this one."""
    with pytest.raises(UsageError, match="needs an absolute path, such as file:///data/k710"):
        location(url)


@pytest.mark.parametrize("url", ["s3://", "s3:///", "http://"])
def test_a_url_of_no_place_is_refused(url):
    with pytest.raises(UsageError, match="names no place"):
        location(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@host/k710",
        "HTTPS://s3cret@host/k710",
        "s3://AKIA:s3c/ret@bucket/k710",
        "sftp://user:s3cret@host:22/k710@584d",
        "zip://x::https://user:s3cret@host/k710",
    ],
)
def test_a_key_in_a_url_is_refused_and_not_shown(url, k710):
    with pytest.raises(UsageError, match="a URL must not contain a key or password") as raised:
        location(url)
    assert "ret@" not in str(raised.value)
    result = k710("status", url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "ret" not in result.stderr


@pytest.mark.parametrize(
    "url",
    ["sftp://user@host/k710", "abfs://container@account.dfs.core.windows.net/k710", "http://host:8080/k710@584d",
     "s3://bucket/a:b@584d"],
)  # fmt: skip
def test_what_looks_like_a_key_and_is_none(url):
    assert str(location(url)) == url
    assert location("S3://Bucket/K710") == location("s3://Bucket/K710")


def test_a_path_of_this_machine_loads_no_fsspec():
    code = "import sys; from k710.storage.storage import location as at; at('a'); at('s3://b')"
    code += "; print('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_what_cannot_be_read_is_refused_with_what_to_do():
    with pytest.raises(UsageError, match="chained URLs"):
        location("simplecache::s3://bucket/k710")
    with pytest.raises(RemoteError, match=r"nothing://a/b/dataset.json: Protocol not known: nothing"):
        open_manifest("nothing://a/b")
    with pytest.raises(UsageError, match=r"k710 writes only to object stores .* ftp:// can only be read"):
        location("ftp://host/k710").put(Path(__file__))


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/etc/passwd", "a//b", ".", ""])
def test_no_name_leads_out_of_a_folder(folder, name):
    with pytest.raises(RemoteError, match="is not a name inside it"):
        folder / name


# As pathlib does it.


@given(files=st.dictionaries(st.tuples(NAMES, NAMES), st.binary(max_size=9), max_size=6), pattern=NAMES)
def test_folders_look_as_they_do_on_a_disk(files, pattern):
    with tempfile.TemporaryDirectory() as disk:
        here, there = Path(disk), RemotePath(f"memory://{Path(disk).name}")
        for (inside, name), content in files.items():
            (here / inside).mkdir(exist_ok=True)
            for place in (here / inside / name, there / inside / name):
                with replacing(place) as file:
                    file.write(content)
        for inside in {inside for inside, _ in files}:
            assert (there / inside).is_dir()
            assert {path.name for path in (there / inside).iterdir()} == {
                path.name for path in (here / inside).iterdir()
            }
            for path in (there / inside).iterdir():
                assert path.read_bytes() == (here / inside / path.name).read_bytes()
                assert path.size_bytes == len(path.read_bytes())
                assert (path.stem, path.parent) == ((here / inside / path.name).stem, there / inside)
        assert {path.name for path in there.iterdir()} == {path.name for path in here.iterdir()}
        assert [path.name for path in there.glob("*/x")] == []


@given(content=st.binary(max_size=40), start=st.integers(0, 50), size=st.integers(0, 50))
def test_a_range_is_a_slice(content, start, size):
    path = RemotePath("memory://ranges/x")
    with replacing(path) as file:
        file.write(content)
    assert path.read_range(start, size) == content[start : start + size]


def test_what_is_not_there(folder):
    assert not folder.exists()
    assert not folder.is_dir()
    assert list(folder.iterdir()) == folder.glob("*") == []
    with pytest.raises(FileNotFoundError) as raised:
        (folder / "x").read_bytes()
    assert raised.value.filename == str(folder / "x")
    with pytest.raises(FileNotFoundError):
        (folder / "x").unlink()
    (folder / "x").unlink(missing_ok=True)


def test_writing_that_fails_leaves_what_was_there(folder):
    with replacing(folder / "x") as file:
        file.write(b"old")

    def fail() -> None:
        with replacing(folder / "x") as file:
            file.write(b"new, but not wh")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (folder / "x").read_bytes() == b"old"
    with named_by_hash(folder, "it-{}") as hashed:
        hashed.write(b"content")
    assert (folder / f"it-{hashed.sha256[:16]}").read_bytes() == b"content"


def test_what_was_put_is_no_longer_here(folder, tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    put(tmp_path / "x", folder / "x")
    assert (folder / "x").read_bytes() == b"1"
    assert list(tmp_path.iterdir()) == []


def test_a_version_changes_with_the_object(s3):
    folder = location(s3.url) / "v"
    for content in (b"one", b"two"):
        with replacing(folder / "x") as file:
            file.write(content)
        (listed,) = folder.iterdir()
        (again,) = folder.iterdir()
        assert listed.version == again.version
        assert listed.size_bytes == 3
        assert 0 <= listed.age_s < 3600
        if content == b"one":
            before = listed.version
    assert listed.version != before


def test_it_pickles_and_compares_by_its_url(folder):
    again = pickle.loads(pickle.dumps(folder / "x"))
    assert again == folder / "x"
    assert {again: 1}[folder / "x"] == 1
    assert sorted([folder / "b", folder / "a"]) == [folder / "a", folder / "b"]
    assert folder != Path(str(folder))


def test_what_must_be_here_refuses_a_url(k710, sample, tmp_path, monkeypatch):
    """It became a folder `s3:` of this machine, and the command said that all was well."""
    monkeypatch.chdir(tmp_path)
    for arguments, which in (
        (("export", sample.path, "--format", "csv", "--out"), "'--out' must be a path of this machine"),
        (
            ("train", "--recipe", "tiny-k400", "--manifest", sample.path, "--out"),
            "'--out' must be a path of this machine",
        ),
        (("fetch", sample.path, "--from", "local:.", "--scratch"), "'--scratch' must be a path of this machine"),
        (("inspect",), "'CHECKPOINT' must be a path of this machine"),
        (("build", "--out", tmp_path / "m", "--annotations"), "a folder of lists must be a folder of this machine"),
        (
            ("export", sample.path, "--format", "fiftyone", "--out", "x", "--videos"),
            "'--videos' must be a path of this",
        ),
    ):
        result = k710(*arguments, "s3://bucket/k710")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"k710: s3://bucket/k710: {which}")
        assert result.stderr.endswith("; mount it, or copy it here\n")
    result = k710("fetch", sample.path, "--from", "local:s3://bucket/k710")
    assert result.exit_code == 2
    assert "a folder of clips must be a folder of this machine" in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert k710("export", sample.path, "--format", "csv", "--out", f"file://{tmp_path}/a b").exit_code == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "a b"]


def test_what_ends_with_the_process_is_no_place_for_a_command(k710):
    """A build there was 'done', and gone."""
    result = k710("build", "--annotations", "sample", "--out", "memory://k710")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "k710: memory://k710: is lost when this command ends; give a folder or a bucket\n"


def test_every_option_for_a_path_knows_a_url():
    context = click.Context(main)
    for name in main.list_commands(context):
        for parameter in main.get_command(context, name).params:
            assert type(parameter.type) is not click.Path, f"{name} {parameter.name}: it takes s3:// for a folder"


# What a service says, and when it says nothing.


def test_a_bucket_that_is_not_there_is_named(s3, k710, sample):
    url = "s3://no-such-bucket/k710"
    said = f"k710: {url}{{}}: there is no such bucket; create it first, k710 creates no buckets\n"
    for command in (("prune", url), ("status", url), ("export", url, "--format", "csv", "--out", "x")):
        result = k710(*command)
        assert (result.exit_code, result.stderr) == (1, said.format("/dataset.json")), command
    result = k710("build", "--annotations", "sample", "--out", url)
    assert (result.exit_code, result.stderr) == (1, said.format(""))
    result = k710("fetch", sample.path, "--from", f"local:{Path(__file__).parent}", "--store", url)
    assert (result.exit_code, result.stderr) == (1, said.format("/media/h264"))


def test_no_manifest_there(s3, k710):
    result = k710("status", f"{s3.url}/nothing")
    assert result.exit_code == 1
    assert result.stderr == (
        f"k710: {s3.url}/nothing: no manifest there (no dataset.json); `k710 build --out {s3.url}/nothing` makes one\n"
    )


def test_a_wrong_key_is_one_message(k710, monkeypatch, tmp_path):
    with moto_server(INITIAL_NO_AUTH_ACTION_COUNT="0") as port:
        for name, value in environment(port, tmp_path).items():
            monkeypatch.setenv(name, value)
        forget_connections()
        result = k710("status", "s3://bucket/k710")
        assert result.exit_code == 1
        assert result.stderr.startswith("k710: s3://bucket/k710/dataset.json: refused: ")
        assert result.stderr.endswith("; check the credentials and the clock (docs/remote.md)\n")
        assert result.stderr.count("\n") == 1
        forget_connections()


def test_no_credentials_at_all(s3, k710, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget_connections()
    result = k710("status", f"{s3.url}/k710")
    assert result.exit_code == 1
    assert "docs/remote.md lists the places for credentials" in result.stderr, result.stderr


def test_a_service_that_does_not_answer_is_one_message(s3, k710, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_url())
    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", "1")
    forget_connections()
    result = k710("status", f"{s3.url}/k710")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"k710: {s3.url}/k710/dataset.json: no answer for 1 s: ")
    assert "the same command continues from there" in result.stderr


def test_a_service_that_comes_back_was_never_away(s3, sample):
    (location(s3.url) / "x").exists()  # a connection is open
    s3.proxy.down()
    threading.Timer(1.5, s3.proxy.up).start()
    with replacing(location(s3.url) / "x") as file:
        file.write(b"after all")
    assert s3.read("x") == b"after all"


@pytest.mark.parametrize("said", ["long", "nan", "-1", ""])
def test_patience_is_a_number(monkeypatch, said):
    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", said)
    with pytest.raises(RemoteError, match=f"K710_REMOTE_PATIENCE_S is '{said}'"):
        patience_s()


@pytest.fixture
def refusing(monkeypatch, tmp_path):
    """`refusing(403, "AccessDenied", "Access Denied")`: a service that says so to everything, as S3 does."""

    class Handler(BaseHTTPRequestHandler):
        answer = (403, b"")
        asked = 0

        def refuse(self) -> None:
            status, body = self.answer
            type(self).asked += 1
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = refuse  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    def say(status: int, code: str, message: str) -> type[Handler]:
        Handler.answer = (status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())
        return Handler

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in environment(server.server_address[1], tmp_path).items():
            monkeypatch.setenv(name, value)
        forget_connections()
        yield say
        forget_connections()
        server.shutdown()


REGION = (
    "the credentials may have expired, or the bucket may be in another region than AWS_DEFAULT_REGION (docs/remote.md)"
)
KEYS = "check the credentials and the clock (docs/remote.md)"


@pytest.mark.parametrize(
    ("status", "code", "message", "when_asked", "when_listed"),
    [
        (403, "AccessDenied", "Access Denied", f"refused: Forbidden; {KEYS}", f"refused: Access Denied; {KEYS}"),
        (403, "RequestTimeTooSkewed", "The times differ.", f"refused: Forbidden; {KEYS}", f"The times differ; {KEYS}"),
        (400, "ExpiredToken", "It has expired.", f"refused: Bad Request; {REGION}", f"refused: It has expired; {KEYS}"),
        (400, "AuthorizationHeaderMalformed", "expecting 'eu-1'", f"Bad Request; {REGION}", f"'eu-1'; {REGION}"),
        (403, "OfAnotherService", "Quota", f"refused: Forbidden; {KEYS}", "ListObjectsV2 operation: Quota"),
    ],
)
def test_a_refusal_is_told_at_once_with_what_to_do(k710, refusing, status, code, message, when_asked, when_listed):
    """A HEAD, by which a manifest is looked for, has no body that could tell the reason; a listing has."""
    service = refusing(status, code, message)
    for command, said in (("versions", when_asked), ("build", when_listed)):
        how = ("--annotations", "sample", "--out") if command == "build" else ()
        result = k710(command, *how, "s3://bucket/k710")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("k710: s3://bucket/k710")
        assert result.stderr.endswith(f"{said}\n")
        assert result.stderr.count("\n") == 1
    assert service.asked <= 4, "nothing is tried again"


@pytest.mark.parametrize("url", ["reference://x/k710", "ftp://127.0.0.1:1/k710"])
def test_a_file_system_that_cannot_even_be_opened(k710, url):
    result = k710("status", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"k710: {url}/dataset.json: ")


def test_a_web_server_that_is_not_there_is_no_missing_manifest(k710, monkeypatch):
    """For fsspec whatever happens over HTTP is a file that is not there."""
    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    result = k710("versions", f"{closed_url()}/k710")
    assert result.exit_code == 1
    assert "no answer for 0 s" in result.stderr


def test_a_web_server_that_refuses_is_no_missing_manifest(k710, refusing):
    refusing(403, "x", "y")
    url = f"{os.environ['AWS_ENDPOINT_URL']}/k710"
    result = k710("versions", url)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"k710: {url}/dataset.json: 403, ")


def test_a_full_disk_here_is_no_fault_of_the_service(folder, monkeypatch, tmp_path):
    """Told at once, as an OSError of this machine."""
    with replacing(folder / "x") as file:
        file.write(b"1")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.get_file", full)
    with pytest.raises(OSError, match="No space left"):
        (folder / "x").get(tmp_path / "x")


def test_without_s3fs_it_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['s3fs'] = None; from k710.cli import main; main(prog_name='k710')"
    command = [sys.executable, "-c", code, "status", "s3://bucket/k710"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr == (
        "k710: s3://bucket/k710/dataset.json: the package that reads s3:// is not installed: pip install 'k710[s3]'\n"
    )


@pytest.mark.slow
def test_a_large_file_whose_upload_breaks_is_there_whole_or_not_at_all(s3, tmp_path, monkeypatch):
    content = os.urandom(1 << 20) * 120  # goes in parts
    (tmp_path / "big").write_bytes(content)
    target = location(s3.url) / "big"
    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", "1")
    target.exists()
    s3.proxy.die_after = len(s3.proxy.requests) + 2
    with pytest.raises(RemoteError, match="no answer"):
        target.put(tmp_path / "big")
    assert s3.keys() == []
    s3.proxy.up()
    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", "30")
    s3.proxy.die_after = len(s3.proxy.requests) + 2
    threading.Timer(2, s3.proxy.up).start()
    target.put(tmp_path / "big")
    assert s3.keys() == ["big"]
    assert s3.read("big") == content
    target.get(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A web server that shows the files of tmp_path, with index pages, as they are to be had anywhere."""
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1) as server:
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().split()[5]}"
        finally:
            server.kill()


def test_a_manifest_may_be_read_from_any_web_server_and_a_store_may_not(web, k710, sample, tmp_path):
    shutil.copytree(sample.path, tmp_path / "m")
    (tmp_path / "m/store/media/h264").mkdir(parents=True)
    (tmp_path / "m/store/media/h264/x-1.parquet").write_bytes(b"x")
    manifest = open_manifest(f"{web}/m")
    assert manifest.clips == sample.clips
    manifest.verify()
    result = k710("status", f"{web}/m")
    assert result.exit_code == 1
    assert result.stderr == (
        f"k710: {web}/m/store/media/h264/x-1.parquet: its listing has no sizes, so a store cannot be read there\n"
    )
    for command in (("fetch", f"{web}/m", "--from", f"local:{tmp_path}"), ("build", "--out", f"{web}/new")):
        result = k710(*command)
        assert result.exit_code == 2
        assert "k710 writes only to object stores" in result.stderr


# A manifest.


def build(k710, url: str, *options: object) -> Manifest:
    result = k710("build", "--sources", "k400,k600,k700", "--annotations", "sample", "--out", url, *options)
    assert result.exit_code == 0, result.output
    return open_manifest(url)


def test_a_manifest_at_a_url_is_the_one_on_the_disk(s3, k710, sample):
    there = build(k710, f"{s3.url}/m")
    assert there.about == sample.about
    assert there.clips == sample.clips
    there.verify()
    for path in sample.path.rglob("*"):
        if path.is_file():
            assert s3.read(f"m/{path.relative_to(sample.path)}") == path.read_bytes()
    assert len(s3.keys()) == 2


def test_every_command_that_reads_a_manifest_reads_one_at_a_url(s3, k710, sample, tmp_path):
    build(k710, f"{s3.url}/m")
    for command in (("audit", "{}"), ("explain", "sample-0001", "--manifest", "{}"), ("audit", "{}", "--json")):
        here, there = (k710(*(word.format(m) for word in command)) for m in (sample.path, f"{s3.url}/m"))
        assert there.exit_code == 0
        assert there.stdout == here.stdout
    for name, m in (("here", sample.path), ("there", f"{s3.url}/m")):
        assert k710("export", m, "--format", "slowfast", "--view", "k400", "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / "here/val.csv").read_bytes() == (tmp_path / "there/val.csv").read_bytes()


@pytest.mark.slow
def test_two_datasets_cards_and_reports_at_a_url(s3, k710, sample, tmp_path):
    """With a store beside the manifest, of failures alone: nothing is to be decoded."""
    build(k710, f"{s3.url}/m")
    here = tmp_path / "m"
    shutil.copytree(sample.path, here)
    settle(Store(here / "store", "h264"), dict.fromkeys(sample.clips["clip_id"].to_pylist()[:5], "private"))
    for path in (here / "store").rglob("*.parquet"):
        s3.write(f"m/{path.relative_to(here)}", path.read_bytes())
    url = f"{s3.url}/m"
    for command in (("versions", "{}"), ("stats", "{}"), ("stats", "{}", "--json"), ("status", "{}")):
        local, remote = (k710(*(word.format(m) for word in command)) for m in (here, url))
        assert remote.exit_code == 0, remote.output
        assert remote.stdout.replace(url, str(here)).replace(s3.url, str(tmp_path)) == local.stdout
    same = k710("diff", url, here)
    assert "No clip differs in view k710" in same.stdout
    cards = [k710("card", m, "--store", f"{m}/store").stdout for m in (here, url)]
    assert cards[0] == cards[1]
    assert k710("export", url, "--format", "hf", "--store", f"{url}/store", "--out", tmp_path / "hf").exit_code == 0
    result = k710("report", url, "--out", tmp_path / "report.html")
    assert result.exit_code == 0, result.output
    assert "private" in (tmp_path / "report.html").read_text()


def test_a_new_version_keeps_the_old_until_prune(s3, k710):
    before = build(k710, f"{s3.url}/m")
    refused = k710("build", "--annotations", "sample", "--out", f"{s3.url}/m")
    assert refused.exit_code == 1
    assert "a manifest is there already" in refused.stderr
    now = build(k710, f"{s3.url}/m", "--leak-policy", "val-purge", "--force")
    assert now.content_hash != before.content_hash
    assert f"m/versions/{before.content_hash[:16]}.json" in s3.keys("m/versions/")
    assert before.clips.num_rows, "what was opened before reads on"
    result = k710("prune", f"{s3.url}/m")
    assert result.exit_code == 0
    assert sorted(result.stdout.split()[1::2]) == sorted(
        f"{s3.url}/m/{name}" for name in (f"versions/{before.content_hash[:16]}.json", before.about["clips"][0]["file"])
    )
    assert s3.keys() == sorted(["m/dataset.json", f"m/{now.about['clips'][0]['file']}"])
    open_manifest(f"{s3.url}/m").verify()


def test_a_manifest_may_stand_at_the_root_of_a_bucket(s3, k710, sample):
    """An empty bucket passed for a file."""
    assert build(k710, s3.url).content_hash == sample.content_hash
    assert "584da9b5124f5ce5" in k710("versions", f"{s3.url}/").stdout
    for url in (f"{s3.url}@584d", f"{s3.url}/@584d"):
        assert k710("audit", url).stdout == k710("audit", sample.path).stdout
    assert "holds no version 5555" in k710("audit", f"{s3.url}@5555").stderr


def test_a_prune_spares_what_another_machine_may_be_about_to_commit(s3, k710, monkeypatch):
    """No lock reaches there, and a build puts its clips before its commit."""
    build(k710, s3.url)
    s3.write("clips/clips-0123456789abcdef.parquet", b"of a build on another machine")
    assert f"{s3.url}: nothing to remove" in k710("prune", s3.url).stdout
    monkeypatch.setattr("k710.manifest.write._UNCOMMITTED_S", -86400.0)
    assert "removed" in k710("prune", s3.url).stdout
    assert len(s3.keys("clips/")) == 1


def test_the_commit_is_put_last(s3, k710):
    build(k710, f"{s3.url}/m")
    put = [path.partition("?")[0] for method, path in s3.proxy.requests if method == "PUT"]
    assert put[-1] == f"/{s3.bucket}/m/dataset.json"
    assert len(put) == 2


@pytest.mark.slow
def test_a_build_that_breaks_leaves_the_old_manifest(s3, k710, monkeypatch):
    before = build(k710, f"{s3.url}/m")
    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", "1")
    count = len(s3.proxy.requests)
    command = ("build", "--annotations", "sample", "--leak-policy", "val-purge", "--out", f"{s3.url}/m", "--force")
    for requests in range(1, 14, 3):
        s3.proxy.die_after = len(s3.proxy.requests) + requests
        result = k710(*command)
        assert result.exit_code == 1, requests
        assert "no answer for 1 s" in result.stderr
        s3.proxy.up()
        open_manifest(f"{s3.url}/m").verify()
        assert open_manifest(f"{s3.url}/m").content_hash == before.content_hash
    assert len(s3.proxy.requests) > count
    assert k710(*command).exit_code == 0
    assert open_manifest(f"{s3.url}/m").content_hash != before.content_hash


def test_a_commit_whose_answer_is_lost_counts(s3, k710, monkeypatch):
    """It looks as if it had failed; the clips that it lists must not be tidied away."""
    build(k710, f"{s3.url}/m")
    really = RemotePath.put

    def put_unheard(path: RemotePath, local: Path) -> None:
        really(path, local)
        if path.name == "dataset.json":
            raise RemoteError("no answer")

    command = ("build", "--annotations", "sample", "--leak-policy", "val-purge", "--out", f"{s3.url}/m", "--force")
    with monkeypatch.context() as broken:
        broken.setattr(RemotePath, "put", put_unheard)
        assert k710(*command).exit_code == 1
    manifest = open_manifest(f"{s3.url}/m")
    manifest.verify()
    assert manifest.about["recipe"]["leak_policy"] == "val-purge"


@pytest.mark.parametrize("damage", ["gone", "cut", "altered"])
def test_a_damaged_clips_file_is_named_by_its_url(s3, k710, damage):
    manifest = build(k710, f"{s3.url}/m")
    key = f"m/{manifest.about['clips'][0]['file']}"
    content = s3.read(key)
    if damage == "gone":
        s3.delete(key)
    else:
        s3.write(key, content[:-9] if damage == "cut" else content[:-9] + bytes(9))
    said = f"{s3.url}/{key}: damaged: SHA-256 is {'no file' if damage == 'gone' else ''}"
    with pytest.raises(ManifestError, match=said):
        open_manifest(f"{s3.url}/m").verify()
    with pytest.raises(ManifestError, match=said):
        _ = open_manifest(f"{s3.url}/m").clips


def test_a_copy_that_is_damaged_here_is_brought_again(s3, k710, sample):
    build(k710, f"{s3.url}/m")
    assert open_manifest(f"{s3.url}/m").clips == sample.clips
    copies = list(Path(os.environ["K710_CACHE"]).glob("remote/*/clips-*.parquet"))
    assert len(copies) == 1
    count = len(s3.proxy.requests)
    assert open_manifest(f"{s3.url}/m").clips == sample.clips
    assert [path for _, path in s3.proxy.requests[count:] if "clips-" in path] == [], "it is read once"
    copies[0].write_bytes(copies[0].read_bytes()[:-1])
    assert open_manifest(f"{s3.url}/m").clips == sample.clips


@pytest.mark.parametrize("name", ["../x", "clips/../../x.parquet", "/etc/passwd", "s3://other/clips.parquet"])
def test_a_manifest_that_lists_another_place_is_refused(s3, k710, name):
    manifest = build(k710, f"{s3.url}/m")
    about = manifest.about | {"clips": [manifest.about["clips"][0] | {"file": name}]}
    s3.write("m/dataset.json", json.dumps(about).encode())
    with pytest.raises(ManifestError, match="which is no clips file of this folder"):
        open_manifest(f"{s3.url}/m")


def test_a_commit_that_is_cut_off_is_damaged(s3, k710):
    build(k710, f"{s3.url}/m")
    s3.write("m/dataset.json", s3.read("m/dataset.json")[:-100])
    result = k710("audit", f"{s3.url}/m")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"k710: {s3.url}/m/dataset.json: damaged: ")


def test_a_bucket_with_something_else_in_it_is_no_manifest(s3, k710):
    s3.write("m/notes.txt", b"mine")
    result = k710("build", "--annotations", "sample", "--out", f"{s3.url}/m")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"k710: {s3.url}/m: holds 'notes.txt', so it is no manifest folder")


def test_build_and_fetch_in_one_go(s3, k710, tmp_path):
    manifest = manifest_of(k710, tmp_path, [*clips_of(2), *clips_of(1, "val", first=2)])
    assert manifest
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "clip-000000_000000_000002.mp4").write_bytes(b"no video")
    command = ("--sources", "k400", "--annotations", tmp_path / "lists", "--clips", f"local:{tmp_path / 'clips'}")
    result = k710("build", *command, "--out", f"{s3.url}/m")
    assert result.exit_code == 0, result.output
    assert f"{s3.url}/m/store, profile h264" in result.stdout
    assert len(s3.keys("m/store/media/")) == 1
