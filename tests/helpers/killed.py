"""A command in processes of their own, each killed at one more of its steps: what does a crash at any moment leave?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MOST_STEPS = 120  # more than any command tried here has

_KILLER = """
import importlib, itertools, os, signal, sys
prefix, modules, *command = sys.argv[1:]
for module in modules.split(","):
    importlib.import_module(module)
from k710.cli import main

def killed_at(step, folder):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        here = any(folder in str(each) for each in arguments)
        if here and event.split(".")[0] in ("open", "os", "shutil", "tempfile"):
            seen += 1
            if seen > step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    main([each.replace("{folder}", folder) for each in command], prog_name="k710")

for step in itertools.count():
    if not (child := os.fork()):
        sys.stdout = open(os.devnull, "w")
        killed_at(step, f"{prefix}.{step}")
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        print(step)
        break
"""


def kill_at_every_step(prefix: Path, command: tuple[str, ...], *, imports: tuple[str, ...]) -> int:
    """Run a k710 command on PREFIX.0, PREFIX.1, …, killed at its first step that touches the folder, its second, …

    `{folder}` in the command is that folder. `imports` are modules to load beforehand, once for all. Gives the number
    of steps at which it was killed: the run on PREFIX.<steps> went through.
    """
    run = [sys.executable, "-c", _KILLER, str(prefix), ",".join((*imports, "pyarrow.dataset")), *command]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    assert steps < MOST_STEPS
    return steps
