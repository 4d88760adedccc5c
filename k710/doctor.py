"""Is this machine fit for the work? Small checks, each on its own; nothing here is imported into this process."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

from k710.errors import RemoteError, UsageError
from k710.fetch.encode.codecs import AUDIO_ENCODER, CODECS, DEFAULT_CODEC
from k710.fetch.encode.ffmpeg_binary import failure_reason, ffmpeg_binary
from k710.storage.download import cache_folder
from k710.storage.remote import RemotePath
from k710.storage.storage import Location
from k710.text import counted, data_size, os_error_text

OK, WARNING, MISSING = "ok", "warning", "missing"

IMPORT_LIMIT_S = 20.0  # a module that takes longer to load counts as broken
_OLD_DAYS = 60
_STORE_BYTES, _CACHE_BYTES, _SHARED_MEMORY_BYTES = 20e9, 1e9, 1e9
_OPEN_FILES = 1024
_COLOUR_LEVELS = 8  # of 255: encoding costs up to 4, a wrong matrix or a wrong range 15 and more


@dataclass(frozen=True)
class Finding:
    """One line: a mark (`ok`, `warning`, `missing`), what was found, what to do. Where something that is `needed` is
    missing or broken, k710 cannot do its work here."""

    name: str
    mark: str
    found: str
    advice: str = ""
    needed: bool = False


@dataclass(frozen=True)
class Here:
    """What the checks look at."""

    store: Location | None = None
    today: date = field(default_factory=lambda: datetime.now(timezone.utc).date())


def examine(here: Here, *, on_waiting: Callable[[list[str]], None] = lambda names: None) -> list[Finding]:
    """What all checks find, in their order; they run side by side, since most wait for processes of their own.

    `on_waiting` gets, from any thread, the checks that are not done.
    """
    waiting = dict.fromkeys(CHECKS)

    def found(check: Callable[[Here], Iterable[Finding]]) -> list[Finding]:
        try:
            on_waiting([name.replace("_", " ") for name in list(waiting)])
            return list(check(here))
        except OSError as error:  # one folder that cannot be looked into must not hide the other lines
            where = f"{error.filename}: " if error.filename else ""
            reason = f"{where}{os_error_text(error)}"
            return [
                Finding(check.__name__.replace("_", " "), MISSING, reason, "let this user read it, or take another")
            ]
        finally:
            waiting.pop(check.__name__, None)
            on_waiting([name.replace("_", " ") for name in list(waiting)])

    with ThreadPoolExecutor(len(CHECKS)) as threads:
        return [finding for findings in threads.map(found, CHECKS.values()) for finding in findings]


class _BrokenError(Exception):
    """A module that is there and does not load."""


def _load(module: str, expression: str) -> Any:
    """Load a module in a process of its own, where it may crash or hang, and return the value of an expression there.

    Raises ModuleNotFoundError where it is not installed, _BrokenError where it fails, crashes or hangs.
    """
    script = f"import json, {module}\nprint(); print(json.dumps({expression}))"
    environment = os.environ | {"PYTHONSAFEPATH": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True, "env": environment}
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", script], capture_output=True, timeout=IMPORT_LIMIT_S, check=False, **options
        )
    except subprocess.TimeoutExpired:
        raise _BrokenError(f"did not load within {IMPORT_LIMIT_S:.0f} s") from None
    except OSError as error:
        raise _BrokenError(str(error)) from None
    messages = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
    if done.returncode < 0:
        raise _BrokenError(f"crashed when it was loaded: {signal.Signals(-done.returncode).name}")
    if done.returncode:
        top = module.partition(".")[0]
        if messages[-1].startswith("ModuleNotFoundError") and f"'{top}'" in messages[-1]:
            raise ModuleNotFoundError(top)
        raise _BrokenError(f"does not load: {messages[-1][:200]}")
    try:
        return json.loads(done.stdout.decode(errors="replace").strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise _BrokenError("loads, but its output cannot be read") from None


def _module(name: str, module: str, *, use: str, install: str, needed: bool = False) -> list[Finding]:
    """A finding on a module: its version, or what it is wanted for and how to get it."""
    try:
        version = _load(module, f"str(getattr({module}, '__version__', 'of unknown version'))")
    except ModuleNotFoundError:
        return [Finding(name, MISSING, f"not installed; {use}", f"pip install {install}", needed)]
    except _BrokenError as error:
        return [Finding(name, MISSING, f"{error}; {use}", f"pip install --force-reinstall {install}", needed)]
    return [Finding(name, OK, str(version), needed=needed)]


# The checks.


def python(here: Here) -> Iterable[Finding]:
    yield Finding("python", OK, f"{platform.python_version()}, {platform.system()} {platform.machine()}", needed=True)


def youtube_downloader(here: Here) -> Iterable[Finding]:
    """Its version is its date, and YouTube breaks old ones."""
    install = "pip install -U 'yt-dlp[default]'"
    use = "only clips from YouTube itself need it"
    try:
        version = _load("yt_dlp.version", "yt_dlp.version.__version__")
        year, month, day = (int(part) for part in str(version).split(".")[:3])
        days = (here.today - date(year, month, day)).days
    except ModuleNotFoundError:
        yield Finding("yt-dlp", MISSING, f"not installed; {use}", install)
        return
    except (_BrokenError, ValueError) as error:
        yield Finding("yt-dlp", MISSING, f"{error}; {use}", install)
        return
    if days > _OLD_DAYS:
        yield Finding("yt-dlp", WARNING, f"{version}, {days} days old; YouTube breaks old ones", install)
    else:
        yield Finding("yt-dlp", OK, f"{version}, {max(0, days)} days old")


_RUNTIMES = """[
  (name, str(info.path), str(info.version), bool(info.supported))
  for name, kind in sorted(__import__('yt_dlp.globals').globals.supported_js_runtimes.value.items())
  for info in [kind().info] if info
]"""


def javascript(here: Here) -> Iterable[Finding]:
    """What yt-dlp takes for a JavaScript runtime, by its own search."""
    advice = "pip install 'k710[youtube]', or see https://github.com/yt-dlp/yt-dlp/wiki/EJS"
    try:
        runtimes = _load("yt_dlp", _RUNTIMES)
    except (ModuleNotFoundError, _BrokenError):
        # Without yt-dlp, or with one that is built otherwise: what is on the path.
        names = {"deno": "deno", "node": "node", "bun": "bun", "quickjs": "qjs"}
        runtimes = [(name, path, "", True) for name, command in names.items() if (path := shutil.which(command))]
    good = [f"{name} {version}".strip() for name, _, version, supported in runtimes if supported]
    old = [f"{name} {version}" for name, _, version, supported in runtimes if not supported]
    if good:
        yield Finding("javascript", OK, ", ".join(good) + (f"; too old: {', '.join(old)}" if old else ""))
    elif old:
        yield Finding("javascript", WARNING, f"{', '.join(old)}: too old for yt-dlp", advice)
    else:
        yield Finding("javascript", MISSING, "no deno, node, bun or quickjs; yt-dlp needs one for YouTube", advice)


def curl_cffi(here: Here) -> Iterable[Finding]:
    use = "yt-dlp needs it only for requests that look like a browser's"
    return _module("curl_cffi", "curl_cffi", use=use, install="'k710[youtube]'")


def ffmpeg(here: Here) -> Iterable[Finding]:
    """The binary that makes clips: its version, and the encoders and protocols that k710 asks it for."""
    install = "pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to a full build"
    try:
        binary = ffmpeg_binary()
        version = _output_of(binary, "-version").splitlines()[0].removeprefix("ffmpeg version ").split(" ")[0]
        encoders = set(re.findall(r"^ [A-Z.]{6} (\S+)", _output_of(binary, "-hide_banner", "-encoders"), re.MULTILINE))
        protocols = set(_output_of(binary, "-hide_banner", "-protocols").split())
    except (OSError, RuntimeError, IndexError, subprocess.SubprocessError) as error:
        messages = str(error).strip().splitlines() or [type(error).__name__]
        yield Finding("ffmpeg", MISSING, messages[-1][:300], install, needed=True)
        return
    lacks = [f"encoder {name} ({use})" for name, use in _encoders().items() if name not in encoders]
    lacks += [f"protocol {name}" for name in ("file", "pipe") if name not in protocols]
    if lacks:
        broken = CODECS[DEFAULT_CODEC].encoder not in encoders or "file" not in protocols
        mark = MISSING if broken else WARNING
        yield Finding("ffmpeg", mark, f"{version}, {binary}: lacks {', '.join(lacks)}", install, needed=True)
    else:
        yield Finding("ffmpeg", OK, f"{version}, {binary}", needed=True)


def _encoders() -> dict[str, str]:
    """The encoders that k710 uses, by FFmpeg's names, and what for."""
    codecs: dict[str, list[str]] = {}
    for name, codec in CODECS.items():
        codecs.setdefault(codec.encoder, []).append(name)
    uses = {
        encoder: f"{'profile' if len(names) == 1 else 'profiles'} {' and '.join(names)}"
        for encoder, names in codecs.items()
    }
    return uses | {AUDIO_ENCODER: "--audio"}


def ffmpeg_colours(here: Here) -> Iterable[Finding]:
    """Whether that binary keeps the colours of a BT.709 video. The line on ffmpeg says which binary it is."""
    module = "k710.fetch.encode.colour_check"
    try:
        error = float(_load(module, f"{module}.worst_error()"))
    except ModuleNotFoundError:
        yield Finding("ffmpeg colours", WARNING, "not tested: k710 is not installed in this Python", "pip install .")
        return
    except _BrokenError:
        yield Finding("ffmpeg colours", WARNING, "not tested: this ffmpeg made no clip", "see the line on ffmpeg")
        return
    if error > _COLOUR_LEVELS:
        advice = "pip install -U imageio-ffmpeg, and unset IMAGEIO_FFMPEG_EXE"
        yield Finding("ffmpeg colours", WARNING, f"clips come out wrong by {error:.0f} of 255 levels", advice)
    else:
        yield Finding("ffmpeg colours", OK, f"kept, to {error:.0f} of 255 levels")


def _output_of(*command: str) -> str:
    done = subprocess.run(  # noqa: S603
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=IMPORT_LIMIT_S, check=False
    )
    if done.returncode:
        reason = failure_reason(done.stderr.decode(errors="replace"), done.returncode)
        raise RuntimeError(f"{command[0]} does not work: {reason}")
    return done.stdout.decode(errors="replace")


def pyav(here: Here) -> Iterable[Finding]:
    return _module("pyav", "av", use="it checks clips, and decodes them for training", install="av", needed=True)


def decord(here: Here) -> Iterable[Finding]:
    return _module("decord", "decord", use="another decoder, there for x86-64 alone", install="decord")


def simplejpeg(here: Here) -> Iterable[Finding]:
    return _module("simplejpeg", "simplejpeg", use="profile frames needs it", install="simplejpeg", needed=True)


_DEVICES = """[torch.__version__, torch.version.cuda, torch.cuda.is_available() and [
  [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())], torch.cuda.is_bf16_supported()
]]"""


def torch(here: Here) -> Iterable[Finding]:
    """PyTorch and the GPUs that it sees."""
    try:
        version, cuda, seen = _load("torch", _DEVICES)
    except ModuleNotFoundError:
        yield Finding("torch", MISSING, "not installed; training and loading need it", "pip install torch", needed=True)
        return
    except _BrokenError as error:
        yield Finding("torch", MISSING, str(error), "pip install --force-reinstall torch", needed=True)
        return
    yield Finding("torch", OK, str(version), needed=True)
    driver, advice = _nvidia_driver(), "install a PyTorch for this driver, see https://pytorch.org/get-started/locally"
    if seen and seen[0]:
        names, bf16 = seen
        counted = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
        text = f"{counted}; CUDA {cuda}, driver {driver or 'unknown'}, {'bf16' if bf16 else 'no bf16'}"
        no_bf16 = "" if bf16 else "precision: fp32 in the recipe"
        yield Finding("gpu", OK if bf16 else WARNING, text, no_bf16)
    elif driver:
        yield Finding("gpu", WARNING, f"NVIDIA driver {driver}, but this PyTorch ({version}) sees no GPU", advice)
    else:
        yield Finding("gpu", OK, "none; fetching needs none, training at full size does")


def _nvidia_driver() -> str | None:
    binary = shutil.which("nvidia-smi")
    if binary is None:
        return None
    try:
        versions = _output_of(binary, "--query-gpu=driver_version", "--format=csv,noheader").split()
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None
    return versions[0] if versions else None


def ray(here: Here) -> Iterable[Finding]:
    return _module("ray", "ray", use="only --engine ray needs it", install="'k710[ray]'")


def s3fs(here: Here) -> Iterable[Finding]:
    return _module("s3fs", "s3fs", use="only stores on S3 need it", install="'k710[s3]'")


def tensorboard(here: Here) -> Iterable[Finding]:
    return _module("tensorboard", "tensorboard", use="only --tensorboard needs it", install="'k710[tensorboard]'")


def disk(here: Here) -> Iterable[Finding]:
    """Room where k710 writes by default, and in the store."""
    places = {"manifests": Path("manifests"), "temporary": Path(tempfile.gettempdir())}
    wanted = {"manifests": _STORE_BYTES, "temporary": _CACHE_BYTES, "store": _STORE_BYTES}
    if isinstance(here.store, RemotePath):
        yield _at_url(here.store)
    elif here.store is not None:
        places["store"] = here.store
    for name, folder in places.items():
        existing, needed = _existing(folder), name == "store"
        if not _can_be_written(existing):
            yield Finding(f"{name} disk", MISSING, f"{existing} cannot be written to", "take another folder", needed)
            continue
        free = shutil.disk_usage(existing).free
        few = free < wanted[name]
        advice = "k710 fetch --dry-run says what a fetch needs; --store puts it elsewhere" if few else ""
        yield Finding(f"{name} disk", WARNING if few else OK, f"{data_size(free)} free in {existing}", advice, needed)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _can_be_written(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _at_url(store: RemotePath) -> Finding:
    try:
        count = len(list(store.iterdir()))
    except (RemoteError, UsageError) as error:
        return Finding("store", MISSING, str(error), "docs/remote.md explains URLs and credentials", True)
    return Finding("store", OK, f"{store}: answers, and holds {counted(count, 'name') if count else 'nothing yet'}")


def cache(here: Here) -> Iterable[Finding]:
    """What was downloaded once, and what was made of it."""
    folder = cache_folder()
    if not _can_be_written(existing := _existing(folder)):
        use = "lists that are downloaded and stores at a URL need it"
        yield Finding("cache", MISSING, f"{existing} cannot be written to; {use}", "set K710_CACHE to another folder")
        return
    if not folder.is_dir():
        yield Finding("cache", OK, f"{folder}: nothing there yet")
        return
    parts = []
    total = 0
    for entry in sorted(folder.iterdir()):
        files = [entry] if entry.is_file() else [path for path in entry.rglob("*") if path.is_file()]
        size = sum(map(_size_bytes, files))
        total += size
        # Files are named there by a hash of their address and their name; records and locks beside them add nothing.
        if entry.is_dir():
            parts.append(f"{entry.name}/ {data_size(size)}")
        elif not entry.name.endswith((".json", ".lock", ".part")):
            parts.append(f"{re.sub(r'^[0-9a-f]{16}-', '', entry.name)} {data_size(size)}")
    shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
    yield Finding("cache", OK, f"{folder}: {data_size(total)}" + (f" ({shown})" if shown else ""))


def _size_bytes(file: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # runs remove theirs all the time
        return file.stat().st_size
    return 0


def open_files(here: Here) -> Iterable[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} at a time"
    few = soft != resource.RLIM_INFINITY and soft < _OPEN_FILES
    yield Finding("open files", WARNING if few else OK, text, f"ulimit -n {_OPEN_FILES * 4}" if few else "")


def shared_memory(here: Here) -> Iterable[Finding]:
    """Where batches go from the loader's workers to the process that trains."""
    folder = Path("/dev/shm")  # noqa: S108
    if not folder.is_dir():
        yield Finding("shared memory", OK, "this system has no /dev/shm")
        return
    size = shutil.disk_usage(folder).total
    few = size < _SHARED_MEMORY_BYTES
    advice = "the loader's workers need some GB; in a container --shm-size=8g" if few else ""
    yield Finding("shared memory", WARNING if few else OK, f"{data_size(size)} in {folder}", advice)


CHECKS: dict[str, Callable[[Here], Iterable[Finding]]] = {
    check.__name__: check
    for check in (
        *(python, ffmpeg, ffmpeg_colours, pyav, decord, simplejpeg, torch),
        *(youtube_downloader, javascript, curl_cffi, ray, s3fs, tensorboard),
        *(disk, cache, open_files, shared_memory),
    )
}
