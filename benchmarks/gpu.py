"""What one GPU does with k710's models and its `k710 train`, in at most eight minutes, into one JSON.

    bash benchmarks/gpu.sh --out gpu.json                        # sets up what is needed, then runs this
    python benchmarks/gpu.py --out gpu.json --device cpu --tiny  # every part on a CPU, with tiny models

A part is a process of its own, with a limit of seconds (PARTS). What it has measured when its limit ends is kept, and
the part says so; a part for which no time is left is skipped and says so. The file is whole after each part.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from k710.storage.storage import replacing

HERE = Path(__file__).resolve().parent
LEAST_S = 10.0  # a part with less than this is not begun: loading PyTorch takes most of it
ON_A_CPU = 3  # times the limit of a part: a rehearsal may share its cores with others


@dataclass(frozen=True)
class Setting:
    """Where parts run. `save(found)` keeps what a part has found so far; `folder` is the part's own."""

    device: torch.device
    tiny: bool
    folder: Path
    save: Callable[[dict[str, Any]], None]

    @property
    def workers(self) -> int:
        return 1 if self.tiny else max(1, min(14, (os.cpu_count() or 2) - 2))


def parts() -> dict[str, tuple[Callable[[Setting], dict[str, Any]], float]]:
    """Each part and the most seconds that it may take, in the order of their worth."""
    import gpu_models
    import gpu_runs

    return {
        "steps": (gpu_models.steps, 105.0),
        "layouts": (gpu_models.layouts, 105.0),
        "resume": (gpu_runs.resume, 60.0),
        "fp16_resume": (gpu_runs.fp16_resume, 50.0),
        "precision": (gpu_runs.precision, 30.0),
        "data_wait": (gpu_runs.data_wait, 60.0),
        "pretrain": (gpu_models.pretrain, 35.0),
    }


def about(device: torch.device, tiny: bool) -> dict[str, Any]:
    """The machine and the versions that the numbers hold for."""
    from model import machine

    found = machine(device) | {"device": device.type, "tiny": tiny, "cuda": torch.version.cuda, "driver": driver()}
    found["dtype"] = "bf16 autocast over fp32 weights, where a part does not say otherwise"
    found["written"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return found


def driver() -> str | None:
    """The version of NVIDIA's driver, None where nvidia-smi does not tell it."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split()
    return told[0] if told else None


def write(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def run_part(name: str, limit_s: float, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A part in a process of its own, and what it left: whole, or cut off at the limit, or with its error."""
    left, said = folder / "found.json", folder / "said.txt"
    folder.mkdir(parents=True)
    command = [sys.executable, str(HERE / "gpu.py"), "--part", name, "--out", str(left), "--device", options.device]
    begin_s = time.monotonic()
    with said.open("wb") as output:
        process = subprocess.Popen(
            [*command, *(["--tiny"] if options.tiny else [])],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):  # its loaders and runs end with it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    found: dict[str, Any] = json.loads(left.read_text()) if left.exists() else {}
    found["seconds"] = round(time.monotonic() - begin_s, 1)
    if code is None:
        found["cut_off"] = f"its {limit_s:.0f} s were over; what is here was measured before"
    elif code != 0:
        found["error"] = said.read_text(errors="replace")[-2000:]
    return found


def run_all(options: argparse.Namespace) -> dict[str, Any]:
    """All parts, one after the other; the file is rewritten after each."""
    begin_s = time.monotonic()
    result: dict[str, Any] = {
        "what": "k710 on one GPU: models, `k710 train`, loading"
        if options.device == "cuda"
        else "a rehearsal on a CPU",
        "machine": about(torch.device(options.device), options.tiny),
        "parts": {},
    }
    write(options.out, result)
    wanted = options.only.split(",") if options.only else list(parts())
    with tempfile.TemporaryDirectory(prefix="k710-gpu-") as folder:
        for name in wanted:
            spent_s = time.monotonic() - begin_s
            limit_s = min(parts()[name][1] * (1 if options.device == "cuda" else ON_A_CPU), options.total_s - spent_s)
            if limit_s < LEAST_S:
                found = {"skipped": f"{spent_s:.0f} of {options.total_s:.0f} s were spent"}
            else:
                found = run_part(name, limit_s, options, Path(folder) / name)
            result["parts"][name] = found
            result["seconds"] = round(time.monotonic() - begin_s, 1)
            write(options.out, result)
            state = next((key for key in ("error", "skipped", "cut_off") if key in found), "done")
            print(f"{name}: {state} in {found.get('seconds', 0)} s", flush=True)
    return result


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure k710 on one GPU, in at most eight minutes.")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few steps: to see that every part runs")
    parser.add_argument("--total-s", type=float, default=450.0, help="seconds for all parts  [450]")
    parser.add_argument("--only", help="parts, with commas between")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that PyTorch sees; --device cpu --tiny rehearses on the CPU")
    if options.device == "cpu" and not options.tiny:
        parser.error("the models are too large for a CPU in this time: --device cpu wants --tiny")
    unknown = [name for name in (options.only or "").split(",") if name and name not in parts()]
    if unknown:
        parser.error(f"--only: no part {unknown[0]!r}; there are {', '.join(parts())}")
    return options


def main() -> None:
    options = parse()
    print(f"{platform.node() or 'this machine'}: PyTorch {torch.__version__}, {options.device}", flush=True)
    if options.part is None:
        result = run_all(options)
        sys.exit(1 if any("error" in found for found in result["parts"].values()) else 0)
    work, _ = parts()[options.part]
    if options.device == "cpu":
        torch.set_num_threads(1)  # so small models want one
    setting = Setting(
        torch.device(options.device), options.tiny, options.out.parent, lambda found: write(options.out, found)
    )
    write(options.out, work(setting))


if __name__ == "__main__":
    main()
