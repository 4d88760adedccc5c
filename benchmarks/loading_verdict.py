"""Of loading.py: what is wanted, and whether it is met."""

from __future__ import annotations

from typing import Any

WANTED = {"frames": 20.0, "h264": 6.0, "source": 1.3}
WANTED_OF_PEERS = {"h264": 1.5, "frames": 4.0}
WANTED_SHARE = 0.9  # of threads and processes that do not wait for one another
AGREE = 0.15


def verdict(measured: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The ratios to the published pipeline, and whether that one counts."""
    rate = {name: each["clips/s"] for name, each in measured.items()}
    combined = 1 / (1 / rate["published, decode only"] + 1 / rate["published, transform only"])
    off = rate["published"] / combined - 1
    ratios = {name: rate[name] / rate["published"] for name in WANTED}
    return {
        "published / its parts combined": round(1 + off, 3),
        "it counts": abs(off) <= AGREE,
        "times as fast": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "wanted": WANTED,
        "met": {name: ratio >= WANTED[name] for name, ratio in ratios.items()},
    }


def targets(same_batches: dict[str, Any], groups: dict[str, Any]) -> dict[str, Any]:
    """What is wanted beside the peers, and whether it is met. `frames` is compared with peers on video files: no peer
    makes files such as its own."""
    best = {kind: _best(of) for kind, of in same_batches.items()}
    on_videos = max((best[kind] for kind in ("source", "h264")), key=lambda one: one[1])
    found: dict[str, Any] = {}
    for kind, than in (("h264", best["h264"]), ("frames", on_videos)):
        wanted = WANTED_OF_PEERS[kind]
        ratio = same_batches[kind]["k710"]["clips/s"] / than[1] if than[1] else None
        title = f"{kind}, times the best peer on {'the same' if kind == 'h264' else 'video'} files"
        measured = None if ratio is None else round(ratio, 2)
        found[title] = {"best": than[0], "measured": measured, "wanted": wanted, "met": bool(ratio and ratio >= wanted)}
    for kind, of in groups.items():
        for name in ("2 threads / 2 processes", "2 processes / twice 1 process"):
            met = of[name] >= WANTED_SHARE
            found[f"{kind}, {name}"] = {"measured": of[name], "wanted": WANTED_SHARE, "met": met}
    return found


def _best(sides: dict[str, Any]) -> tuple[str, float]:
    """The fastest peer that counts, and its rate; 0.0 where there is none."""
    counted = [(name, of["clips/s"]) for name, of in sides.items() if not name.startswith("k710") and of.get("counts")]
    return max(counted, key=lambda one: one[1], default=("none", 0.0))
