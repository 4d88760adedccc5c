"""`k710 doctor` on machines where something is missing, old, broken, or crashes the process that loads it."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import namedtuple
from datetime import date
from pathlib import Path

import pytest

from k710 import doctor
from k710.doctor import CHECKS, MISSING, OK, WARNING, Finding, Here
from k710.fetch.encode.ffmpeg_binary import ffmpeg_binary


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """`modules(decord="import os; os.abort()")` puts modules before the installed ones."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def put(**scripts: str) -> None:
        for name, script in scripts.items():
            path = folder.joinpath(*name.split("__in__")).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(script)

    return put


@pytest.fixture
def only(monkeypatch):
    """`only("decord")` leaves only this check, so that a test is fast."""

    def keep(*names: str) -> None:
        monkeypatch.setattr(doctor, "CHECKS", {name: CHECKS[name] for name in names})

    return keep


def one(name: str, here: Here | None = None) -> Finding:
    [finding] = CHECKS[name](here or Here())
    return finding


GONE = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')"


@pytest.mark.parametrize(
    ("check", "module", "needed", "advice"),
    [
        ("pyav", "av", True, "pip install av"),
        ("simplejpeg", "simplejpeg", True, "pip install simplejpeg"),
        ("torch", "torch", True, "pip install torch"),
        ("decord", "decord", False, "pip install decord"),
        ("ray", "ray", False, "pip install 'k710[ray]'"),
        ("s3fs", "s3fs", False, "pip install 'k710[s3]'"),
        ("tensorboard", "tensorboard", False, "pip install 'k710[tensorboard]'"),
        ("curl_cffi", "curl_cffi", False, "pip install 'k710[youtube]'"),
    ],
)
def test_a_module_that_is_not_installed(k710, modules, only, check, module, needed, advice):
    modules(**{module: GONE.format(module)})
    found = one(check)
    assert (found.mark, found.needed, found.advice) == (MISSING, needed, advice)
    assert found.found.startswith("not installed; ")
    only(check)
    result = k710("doctor")
    assert result.exit_code == (1 if needed else 0)
    assert result.stdout == f"missing  {check}  {found.found} -> {advice}\n"
    assert result.stderr == (f"k710: needed, and missing or broken here: {check}\n" if needed else "")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os; os.abort()", "crashed when it was loaded: SIGABRT"),
        ("import os; os.kill(os.getpid(), 11)", "crashed when it was loaded: SIGSEGV"),
        ("raise OSError('libavcodec.so.99: cannot open')", "does not load: OSError: libavcodec.so.99: cannot open"),
        ("import nothing_of_this_name", "does not load: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("import sys; sys.exit(3)", "does not load: exit 3"),
        ("import os; os._exit(0)", "loads, but its output cannot be read"),
    ],
)
def test_a_decoder_that_breaks_when_it_is_loaded(modules, script, said):
    modules(decord=script)
    found = one("decord")
    assert (found.mark, found.found) == (MISSING, f"{said}; another decoder, there for x86-64 alone")
    assert found.advice == "pip install --force-reinstall decord"


def test_a_decoder_that_hangs(modules, monkeypatch):
    modules(decord="import time; time.sleep(1000)")
    monkeypatch.setattr(doctor, "IMPORT_LIMIT_S", 1.0)
    begin_s = time.monotonic()
    assert one("decord").found.startswith("did not load within 1 s; ")
    assert time.monotonic() - begin_s < 10


def test_a_module_that_prints(modules):
    modules(decord="print('hello'); print('no newline', end=''); __version__ = '7'")
    assert one("decord") == Finding("decord", OK, "7")


@pytest.mark.parametrize(
    ("version", "days", "mark"),
    [("2026.08.19", 10, OK), ("2026.08.19", 60, OK), ("2026.08.19", 61, WARNING), ("2026.8.19.123456", 400, WARNING),
     ("2026.08.19", -3, OK)],
)  # fmt: skip
def test_the_age_of_yt_dlp(modules, version, days, mark):
    modules(yt_dlp__in____init__="", yt_dlp__in__version=f"__version__ = {version!r}")
    today = date.fromordinal(date(2026, 8, 19).toordinal() + days)
    found = one("youtube_downloader", Here(today=today))
    assert found.mark == mark
    assert f"{version}, {max(0, days)} days old" in found.found
    assert found.advice == ("pip install -U 'yt-dlp[default]'" if mark == WARNING else "")
    assert not found.needed


@pytest.mark.parametrize("script", ["__version__ = 'unknown'", "__version__ = '2026.13.45'", "1/0", "__version__ = 1"])
def test_a_yt_dlp_that_says_nonsense(modules, script):
    modules(yt_dlp__in____init__="", yt_dlp__in__version=script)
    assert one("youtube_downloader").mark == MISSING


def runtimes(*each: tuple[str, str, bool]) -> str:
    lines = ["from collections import namedtuple", "I = namedtuple('I', 'path version supported')"]
    lines += [f"class {name}:\n    info = I('/bin/{name}', {version!r}, {good})" for name, version, good in each]
    lines += ["class none:\n    info = None", "class supported_js_runtimes:"]
    return "\n".join([*lines, f"    value = dict(none=none, {', '.join(f'{name}={name}' for name, _, _ in each)})"])


@pytest.mark.parametrize(
    ("found", "mark", "said"),
    [
        ([("deno", "2.4.0", True), ("node", "18.1.0", False)], OK, "deno 2.4.0; too old: node 18.1.0"),
        ([("node", "18.1.0", False)], WARNING, "node 18.1.0: too old for yt-dlp"),
        ([], MISSING, "no deno, node, bun or quickjs; yt-dlp needs one for YouTube"),
    ],
)
def test_javascript_runtimes(modules, found, mark, said):
    modules(yt_dlp__in____init__="", yt_dlp__in__globals=runtimes(*found))
    finding = one("javascript")
    assert (finding.mark, finding.found) == (mark, said)
    assert bool(finding.advice) == (mark != OK)


def test_javascript_runtimes_without_yt_dlp(modules, tmp_path, monkeypatch):
    modules(yt_dlp=GONE.format("yt_dlp"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert one("javascript").mark == MISSING
    (tmp_path / "qjs").write_text("#!/bin/sh\n")
    (tmp_path / "qjs").chmod(0o755)
    assert one("javascript") == Finding("javascript", OK, "quickjs")


def test_the_runtimes_of_the_installed_yt_dlp():
    """Its list is no public API: this fails when it moves."""
    pytest.importorskip("yt_dlp")
    assert isinstance(doctor._load("yt_dlp", doctor._RUNTIMES), list)


@pytest.fixture
def use_ffmpeg(tmp_path, monkeypatch):
    def use(script: str) -> Path:
        path = tmp_path / "an-ffmpeg"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
        ffmpeg_binary.cache_clear()
        return path

    yield use
    ffmpeg_binary.cache_clear()


SAYS = """case "$*" in
*-version*) echo "ffmpeg version 7.1 Copyright" ;;
*-encoders*) echo " V....D = decorator"; for e in {encoders}; do echo " V....D $e    some text libx264"; done ;;
*-protocols*) echo "Input:"; for p in {protocols}; do echo "  $p"; done ;;
esac"""


@pytest.mark.parametrize(
    ("encoders", "protocols", "mark", "said"),
    [
        ("libx264 mjpeg aac", "file pipe", OK, ""),
        ("libx264 aac", "file pipe", WARNING, ": lacks encoder mjpeg (profile frames)"),
        ("libx264 mjpeg", "file pipe", WARNING, ": lacks encoder aac (--audio)"),
        ("h264_v4l2m2m mjpeg aac", "file pipe", MISSING, ": lacks encoder libx264 (profiles h264 and source)"),
        ("libx264 mjpeg aac", "pipe http", MISSING, ": lacks protocol file"),
    ],
)
def test_what_an_ffmpeg_lacks(k710, use_ffmpeg, only, encoders, protocols, mark, said):
    path = use_ffmpeg(SAYS.format(encoders=encoders, protocols=protocols))
    found = one("ffmpeg")
    assert (found.mark, found.found) == (mark, f"7.1, {path}{said}")
    only("ffmpeg")
    assert k710("doctor").exit_code == (1 if mark == MISSING else 0)


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo 'no such library' >&2; exit 127", "no such library"), ("kill -SEGV $$", "crashed (SIGSEGV)")],
)
def test_an_ffmpeg_that_does_not_run(use_ffmpeg, script, said):
    path = use_ffmpeg(script)
    found = one("ffmpeg")
    assert (found.mark, found.needed, found.found) == (MISSING, True, f"{path} does not work: {said}")


def test_an_ffmpeg_that_hangs(use_ffmpeg, monkeypatch):
    use_ffmpeg("exec sleep 100")
    monkeypatch.setattr(doctor, "IMPORT_LIMIT_S", 0.5)
    found = one("ffmpeg")
    assert (found.mark, found.needed) == (MISSING, True)
    assert "timed out" in found.found


def test_an_ffmpeg_that_is_not_there(use_ffmpeg):
    use_ffmpeg("").unlink()
    assert one("ffmpeg").mark == MISSING


def test_an_ffmpeg_that_keeps_colours(use_ffmpeg):
    assert one("ffmpeg_colours").mark == OK


@pytest.mark.parametrize(
    ("spoil", "outcome"),
    [
        # As if the matrix were not converted.
        ("s/out_color_matrix=bt601/out_color_matrix=bt709/", "clips come out wrong by"),
        ("s/in_color_matrix=bt709/in_color_matrix=bt601/", "clips come out wrong by"),
        ("s/libx264/none264/", "not tested: this ffmpeg made no clip"),
    ],
)
@pytest.mark.slow
def test_an_ffmpeg_that_changes_colours(use_ffmpeg, spoil, outcome):
    real = ffmpeg_binary()
    use_ffmpeg(
        f"""for argument; do shift; set -- "$@" "$(printf %s "$argument" | sed '{spoil}')"; done\nexec {real} "$@" """
    )
    found = one("ffmpeg_colours")
    assert (found.mark, found.needed) == (WARNING, False)
    assert found.found.startswith(outcome)
    assert found.advice


TORCH = """__version__ = '2.13.0'
class version: cuda = {cuda!r}
class cuda:
    is_available = staticmethod(lambda: {names!r} is not None)
    device_count = staticmethod(lambda: len({names!r}))
    get_device_name = staticmethod(lambda n: {names!r}[n])
    is_bf16_supported = staticmethod(lambda: {bf16})
"""


@pytest.mark.parametrize(
    ("names", "bf16", "driver", "mark", "said"),
    [
        (["H200", "H200", "T4"], True, "570.1", OK, "2 x H200, 1 x T4; CUDA 12.8, driver 570.1, bf16"),
        (["T4"], False, "570.1", WARNING, "1 x T4; CUDA 12.8, driver 570.1, no bf16"),
        (None, False, "470.2", WARNING, "NVIDIA driver 470.2, but this PyTorch (2.13.0) sees no GPU"),
        (None, False, None, OK, "none; fetching needs none, training at full size does"),
    ],
)
def test_gpus(modules, tmp_path, monkeypatch, names, bf16, driver, mark, said):
    modules(torch=TORCH.format(cuda="12.8", names=names, bf16=bf16))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{f'echo {driver}' if driver else 'exit 9'}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    torch, gpu = CHECKS["torch"](Here())
    assert torch == Finding("torch", OK, "2.13.0", needed=True)
    assert (gpu.mark, gpu.found, bool(gpu.advice)) == (mark, said, mark != OK)


Usage = namedtuple("Usage", "total used free")


def test_disks(tmp_path, monkeypatch):
    store = tmp_path / "not" / "there" / "yet"
    found = {finding.name: finding for finding in CHECKS["disk"](Here(store))}
    assert list(found) == ["manifests disk", "temporary disk", "store disk"]
    assert found["store disk"].found.endswith(f" free in {tmp_path}")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: Usage(5e9, 2e9, 3e9))
    found = {finding.name: finding for finding in CHECKS["disk"](Here(store))}
    assert found["store disk"].mark == WARNING
    assert found["store disk"].found == f"3.0 GB free in {tmp_path}"
    assert "--dry-run" in found["store disk"].advice
    assert found["temporary disk"].mark == OK


def test_a_store_at_a_url(k710, s3, only):
    only("disk")
    assert (
        f"ok       store           {s3.url}/m/store: answers, and holds nothing yet"
        in k710("doctor", "--store", f"{s3.url}/m/store").stdout
    )
    s3.write("m/store/media/h264/u.parquet", b"x")
    assert "answers, and holds 1 name" in k710("doctor", "--store", f"{s3.url}/m/store").stdout
    result = k710("doctor", "--store", "s3://nobody-has-this-bucket/m")
    assert result.exit_code == 1
    assert "missing  store           s3://nobody-has-this-bucket/m: there is no such bucket" in result.stdout


def test_a_store_in_a_file(k710, tmp_path, only):
    only("disk")
    (tmp_path / "file").write_text("")
    result = k710("doctor", "--store", tmp_path / "file" / "store")
    assert result.exit_code == 1
    assert f"missing  store disk      {tmp_path / 'file'} cannot be written to" in result.stdout


def test_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    assert one("cache").found == f"{tmp_path / 'cache'}: nothing there yet"
    (tmp_path / "cache" / "index").mkdir(parents=True)
    (tmp_path / "cache" / "index" / "a.bin").write_bytes(bytes(2_500_000))
    for name in ("0123456789abcdef-val.csv", "0123456789abcdef-val.csv.json", "0123456789abcdef-val.csv.part.lock"):
        (tmp_path / "cache" / name).write_bytes(bytes(1000))
    assert one("cache").found == f"{tmp_path / 'cache'}: 2.5 MB (val.csv 1.0 kB, index/ 2.5 MB)"
    for number in range(5):
        (tmp_path / "cache" / f"0123456789abcde{number}-train.csv").write_bytes(bytes(1000))
    assert one("cache").found.endswith(" and 3 more)")


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "file" / "cache"))
    found = one("cache")
    assert (found.mark, found.advice) == (MISSING, "set K710_CACHE to another folder")
    assert found.found.startswith(f"{tmp_path / 'file'} cannot be written to; ")
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor.os, "access", lambda folder, mode: False)  # root may write everywhere
    assert one("cache").found.startswith(f"{tmp_path / 'cache'} cannot be written to; ")


@pytest.mark.slow
def test_a_folder_that_cannot_be_looked_into_hides_no_other_line(k710, tmp_path, only, monkeypatch):
    def locked(here):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setitem(CHECKS, "shared_memory", locked)
    locked.__name__ = "shared_memory"
    result = k710("doctor", "--json")
    findings = {each["name"]: each for each in json.loads(result.stdout)["findings"]}
    assert findings["shared memory"]["mark"] == MISSING
    assert findings["shared memory"]["found"] == f"{tmp_path}: Permission denied"
    assert "open files" in findings


def test_few_open_files_and_little_shared_memory(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    assert one("open_files") == Finding("open files", WARNING, "256 at a time", "ulimit -n 4096")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert one("open_files") == Finding("open files", OK, "no limit")
    if Path("/dev/shm").is_dir():
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: Usage(64e6, 0, 64e6))
        found = one("shared_memory")
        assert (found.mark, found.found) == (WARNING, "64.0 MB in /dev/shm")
        assert "--shm-size=8g" in found.advice


def test_this_machine(k710):
    """On which the tests run, so nothing that is needed can be missing."""
    result = k710("doctor", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["fit"] is True
    found = {finding["name"]: finding for finding in said["findings"]}
    assert all(finding["mark"] in (OK, WARNING, MISSING) for finding in found.values())
    assert {"ffmpeg", "pyav", "torch", "gpu", "javascript", "cache", "open files"} <= found.keys()
    assert found["python"]["found"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
