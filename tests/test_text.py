"""Counts, sizes, names and errors in messages, and what a command shows while it is at work."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time

import pytest

from k710.cli.output import ShownStream, json_text, shown_streams
from k710.manifest.read import open_manifest
from k710.progress import Steps
from k710.text import counted, data_size, os_error_text, printable

# A title of the window, a clear screen, one-character CSI, and text turned round.
HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\x9bd\u202ee"
SHOWN = "a\\x1b]0;owned\\x07b\\x1b[2Jc\\x9bd\\u202ee"


def test_counts():
    assert [counted(number, "clip") for number in (0, 1, 2, 2000)] == ["0 clips", "1 clip", "2 clips", "2,000 clips"]
    assert [counted(number, "is", "are") for number in (1, 3)] == ["1 is", "3 are"]


def test_sizes():
    sizes = (1, 999, 1000, 2_500_000, 3e9, 4.2e12)
    assert [*map(data_size, sizes)] == ["1 byte", "999 bytes", "1.0 kB", "2.5 MB", "3.0 GB", "4.2 TB"]


def test_names_are_printed_as_codes():
    assert printable("Café ☕ clip.mp4") == "Café ☕ clip.mp4"
    assert printable(HOSTILE) == SHOWN
    assert printable("one\ntwo\r.mp4") == "one\\ntwo\\r.mp4"


def test_errors_without_a_number():
    error = OSError("Corrupt footer")
    error.filename = "a.parquet"
    assert "[Errno None] None" in str(error), "so Python shows it"
    assert os_error_text(error) == "Corrupt footer"
    assert os_error_text(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert os_error_text(OSError()) == "OSError"


def test_streams_show_codes_and_keep_lines():
    stream = io.StringIO()
    assert ShownStream(stream).write(f"{HOSTILE}\n\tnext\n") == len(f"{HOSTILE}\n\tnext\n")
    assert stream.getvalue() == f"{SHOWN}\n\tnext\n"
    before = sys.stdout, sys.stderr
    with shown_streams():
        assert (sys.stdout.as_it_is, sys.stderr.as_it_is) == before
    assert (sys.stdout, sys.stderr) == before


def test_json_stays_what_it_says():
    text = json_text(json.dumps([HOSTILE], ensure_ascii=False))
    assert json.loads(text) == [HOSTILE]
    assert not any(char in text for char in "\x1b\x9b\u202e")


def test_no_command_prints_what_a_name_commands(k710, tmp_path):
    """A folder, a checkpoint and a clip with such a name, in messages of all kinds."""
    folder = tmp_path / HOSTILE.replace("/", "")
    folder.mkdir()
    (folder / "x.pt").write_bytes(b"no checkpoint")
    for words in (
        ["audit", folder],
        ["inspect", folder / "x.pt"],
        ["build", "--annotations", folder],
        ["build", "--annotations", "sample", "--out", folder / "x.pt"],
        ["labels", HOSTILE],
        ["explain", HOSTILE],
        [HOSTILE],
    ):
        result = k710(*words)
        assert result.exit_code, words
        assert not any(char in result.output for char in "\x1b\x07\x9b\u202e"), words
        assert "x1b" in result.output, f"{words}: it is named"


def test_a_line_in_a_name_does_not_pass_for_one_of_ours(k710, tmp_path):
    result = k710("audit", tmp_path / "a\nk710: all is well")
    assert [line for line in result.stderr.splitlines() if line.startswith("k710:")] == [f"k710: {tmp_path}/a"]


def test_a_printed_manifest_is_a_line(sample):
    said = repr(open_manifest(sample.path))
    assert said == str(sample)
    assert said == f"Manifest({str(sample.path)!r}, {len(sample.clips)} clips, content hash {sample.content_hash[:16]})"


# Never silent.


def test_a_quick_step_says_nothing(capsys):
    steps = Steps(after_s=30)
    steps("reading")
    steps.end()
    steps.close()
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_long_step_says_what_it_does(capsys):
    steps = Steps(after_s=0, every_s=0)
    steps("packing clips", 120, 4000)
    time.sleep(0.7)
    steps.say("a message")
    steps("writing the page")
    time.sleep(0.7)
    steps.close()
    time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "packing clips: 120 of 4,000 …"
    assert "a message" in lines
    assert lines[-1] == "writing the page …"


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.slow
def test_a_step_on_a_terminal_is_written_over(term):
    code = (
        "import time\nfrom k710.progress import Steps\nsteps = Steps(after_s=0)\n"
        f"steps('reading ' + {HOSTILE!r} + 'x' * 100)\ntime.sleep(0.7)\nsteps.say('done')\nsteps.close()"
    )
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    subprocess.run([sys.executable, "-c", code], stderr=there, env=os.environ | {"TERM": term}, timeout=60, check=True)
    os.close(there)
    shown = os.read(here, 10_000).decode()
    os.close(here)
    if term == "xterm":
        assert shown.startswith("\r\x1b[Kreading a\\x1b]0;owned")
        assert "\r\x1b[Kdone" in shown
        assert max(map(len, shown.replace("\r\n", "\r\x1b[K").split("\r\x1b[K"))) < 40
    assert "\x07" not in shown or term == "dumb", "a dumb one obeys nothing"


SLOW_COMMANDS = {
    "report": ["{manifest}", "--out", "{out}/r.html"],
    "stats": ["{manifest}"],
    "doctor": [],
    "plan": ["{manifest}", "--no-measure"],
    "pack": ["{manifest}", "--out", "{out}/s"],
    "unpack": ["{manifest}", "--out", "{out}/c"],
    "verify": ["{manifest}"],
    "near-duplicates": ["{manifest}"],
    "train": ["--recipe", "tiny-k710", "--manifest", "{manifest}", "--out", "{out}/run"],
    "eval": ["--checkpoint", "{out}/none.pt", "--manifest", "{manifest}", "--view", "k400"],
    "features": ["--recipe", "tiny-k710", "--manifest", "{manifest}", "--set", "frozen=true"],
    "predict": ["{out}/none.mp4", "--checkpoint", "{out}/none.pt"],
}


@pytest.mark.parametrize("name", SLOW_COMMANDS)
@pytest.mark.slow
def test_commands_that_may_be_slow_say_what_they_are_at(name, k710, sample, tmp_path, monkeypatch):
    """As if the first step took long: then it is on stderr. There is no store, so most end with a message after it."""
    monkeypatch.setattr(Steps.__init__, "__kwdefaults__", {"after_s": 0.0, "every_s": 30.0})
    begun, called = [], Steps.__call__

    def slow(self: Steps, what: str, done: int = 0, total: int = 0) -> None:
        called(self, what, done, total)
        time.sleep(0 if begun else 0.5)
        begun.append(what)

    monkeypatch.setattr(Steps, "__call__", slow)
    (tmp_path / "store" / "media" / "h264").mkdir(parents=True)
    store = ["--store", tmp_path / "store"] if name == "verify" else []
    result = k710(name, *(word.format(manifest=sample.path, out=tmp_path) for word in SLOW_COMMANDS[name]), *store)
    assert f"{begun[0]} …" in result.stderr.splitlines()
