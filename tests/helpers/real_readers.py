"""Runs the list readers of MMAction2 and PyTorchVideo themselves, in a process of its own: Python's arguments in, JSON
out. PYTHONPATH names the folder with their packages; see K710_TEST_TRAINERS in CONTRIBUTING.md.

PyTorchVideo imports one function of torchvision, which none of these readers call.
"""

from __future__ import annotations

import json
import sys
import types
import warnings
from typing import Any


def mmaction2(*paths: str, delimiter: str = " ") -> list[Any]:
    """VideoDataset, of each list."""
    from mmaction.datasets import VideoDataset

    read = [VideoDataset(ann_file=path, pipeline=[], lazy_init=True, delimiter=delimiter) for path in paths]
    return [[[one["filename"], one["label"]] for one in each.load_data_list()] for each in read]


def mmaction2_commas(*paths: str) -> list[Any]:
    """VideoDataset, for paths with spaces."""
    return mmaction2(*paths, delimiter=",")


def mmaction2_frames(path: str) -> list[Any]:
    """RawframeDataset."""
    from mmaction.datasets import RawframeDataset

    found = RawframeDataset(ann_file=path, pipeline=[], lazy_init=True).load_data_list()
    return [[one["frame_dir"], one["total_frames"], one["label"]] for one in found]


def pytorchvideo(*paths: str) -> list[Any]:
    """LabeledVideoPaths.from_csv, of each list."""
    from pytorchvideo.data.labeled_video_paths import LabeledVideoPaths

    read = map(LabeledVideoPaths.from_csv, paths)
    return [[[each[number][0], each[number][1]["label"]] for number in range(len(each))] for each in read]


def pytorchvideo_ssv2(labels: str, videos: str, frames: str) -> list[Any]:
    """SSv2's lists."""
    from pytorchvideo.data.ssv2 import _read_video_paths_and_labels

    return list(map(list, zip(*_read_video_paths_and_labels(labels, videos, frames), strict=True)))


def _without_torchvision() -> None:
    for name in ("torchvision", "torchvision.datasets", "torchvision.datasets.folder"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision.datasets.folder"].make_dataset = None  # type: ignore[attr-defined]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    reader, *arguments = sys.argv[1:]
    if reader.startswith("pytorchvideo"):
        _without_torchvision()
    out, sys.stdout = sys.stdout, sys.stderr
    out.write(json.dumps(globals()[reader](*arguments)))
