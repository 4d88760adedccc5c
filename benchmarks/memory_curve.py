"""Memory of one process while it opens clip after clip, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from k710 import ClipOptions, open_dataset
from k710.manifest.read import Manifest

POINTS = 20


def resident_mib() -> float:
    """What this process has in memory now."""
    import os
    from pathlib import Path

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def opens_report(manifest: Manifest, profile: str, opens: int, *, decoder: str = "pyav") -> dict[str, Any]:
    """Resident MiB after each twentieth of `opens`; `growth` is that from the first of them to the last."""
    command = [sys.executable, __file__, str(manifest.path), profile, str(opens), decoder]
    curve = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"opens": opens, "MiB": curve, "growth MiB": round(curve[-1] - curve[0], 1)}


def main(path: str, profile: str, opens: str, decoder: str) -> None:
    dataset = open_dataset(path, view="k400", profile=profile, options=ClipOptions(decoder=decoder))
    curve = []
    for number in range(1, int(opens) + 1):
        dataset[number % len(dataset)]
        if number % max(int(opens) // POINTS, 1) == 0:
            curve.append(round(resident_mib(), 1))
    print(json.dumps(curve))


if __name__ == "__main__":
    main(*sys.argv[1:])
