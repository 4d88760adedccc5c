"""The loaders that a user would pick instead of k710's, as sides of loading.py: all give the same batches.

A batch is uint8 (B, 8, 224, 224, 3), RGB: eight frames of each clip, one random resized crop of the clip, resized
bilinearly without antialiasing, mirrored or not. Which frames and which crop is in `Shown`, drawn before anything is
timed, so peers pay only for reading, decoding and cropping. Each peer is what its own documentation shows:

- torchcodec: a Dataset that opens a VideoDecoder by path (seek_mode "exact", its default) in torch's DataLoader;
- SPDL: a Pipeline of threads that demuxes by path and decodes the wanted frames by `sample_decode_video`;
- DALI: `decoders.video` with `frames`, slice, resize and flip, on the CPU backend;
- webdataset: the tars of the store from beginning to end, decoded by PyAV up to the last wanted frame, or by seeking;
- mmaction2: DecordInit, DecordDecode, Resize (short side 256), RandomResizedCrop, Resize and Flip by OpenCV, rebuilt
  from its configuration of UniFormerV2 for Kinetics-710, without its RandAugment; pixels and speed were those of the
  package's own transforms (1.2.0);
- decord: a VideoReader by path in torch's DataLoader.

Those without a crop of their own, and SPDL, whose filter graph was slower, crop by the same function as k710's side.
"""

from __future__ import annotations

import importlib.util
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from k710.loading.augment.boxes import Box

CROP_PX = 224
SHORT_SIDE_PX = 256


class Shown(NamedTuple):
    """What a batch shows of one clip: eight frames of a file (never decreasing), one box of them, mirrored or not."""

    clip_id: str
    file: Path
    frames: tuple[int, ...]
    box: Box
    flip: bool


Batches = Iterator[tuple[list[str], Tensor]]  # clip_ids, uint8 (B, 8, 224, 224, 3)
Session = Callable[[Sequence[Shown]], Batches]


@dataclass(frozen=True)
class Peer:
    """`open(batch_size, num_workers, shards)` gives a session, whose workers stay between calls. `shards`: tars of the
    files. `workers` says what a worker is; with 0 of them, all is done in this thread or in one other. `kinds`: the
    kinds of files that a user would read so."""

    modules: tuple[str, ...]
    install: str
    open: Callable[[int, int, Sequence[Path]], Session]
    workers: str = "processes"
    kinds: tuple[str, ...] = ("source", "h264", "frames")

    def why_absent(self) -> str | None:
        """What to install, where a package is missing."""
        missing = [module for module in self.modules if importlib.util.find_spec(module.partition(".")[0]) is None]
        return f"not installed: pip install {self.install}" if missing else None


def crop(frames: Tensor, box: Box, flip: bool) -> Tensor:
    """uint8 (T, 224, 224, 3) from uint8 (T, H, W, 3)."""
    cut = frames[:, box.top : box.top + box.height, box.left : box.left + box.width].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(cut, size=(CROP_PX, CROP_PX), mode="bilinear", align_corners=False)
    return (resized.flip(-1) if flip else resized).permute(0, 2, 3, 1)


def _torchcodec(shown: Shown) -> Tensor:
    from torchcodec.decoders import VideoDecoder

    reader = VideoDecoder(str(shown.file), dimension_order="NHWC", num_ffmpeg_threads=1)
    return crop(reader.get_frames_at(list(shown.frames)).data, shown.box, shown.flip)


def _decord(shown: Shown) -> Tensor:
    import decord

    reader = decord.VideoReader(str(shown.file), num_threads=1)
    return crop(torch.from_numpy(reader.get_batch(list(shown.frames)).asnumpy()), shown.box, shown.flip)


def _mmaction2(shown: Shown) -> Tensor:
    import cv2
    import decord

    cv2.setNumThreads(0)
    reader = decord.VideoReader(io.BytesIO(shown.file.read_bytes()), num_threads=1)
    frames = list(reader.get_batch(list(shown.frames)).asnumpy())
    height, width = frames[0].shape[:2]
    scale = SHORT_SIDE_PX / min(height, width)
    size = (int(width * scale + 0.5), int(height * scale + 0.5))
    frames = [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in frames]
    top, left, height, width = shown.box
    frames = [frame[top : top + height, left : left + width] for frame in frames]
    frames = [cv2.resize(frame, (CROP_PX, CROP_PX), interpolation=cv2.INTER_LINEAR) for frame in frames]
    if shown.flip:
        frames = [cv2.flip(frame, 1) for frame in frames]
    return torch.from_numpy(np.stack(frames))


def _spdl(shown: Shown) -> Tensor:
    import spdl.io

    packets = spdl.io.demux_video(str(shown.file))
    # It refuses frames that come twice, as the last of one segment and the first of the next may.
    once = list(dict.fromkeys(shown.frames))
    frames = spdl.io.sample_decode_video(packets, once, filter_desc="format=rgb24")
    clip = crop(torch.from_numpy(spdl.io.to_numpy(spdl.io.convert_frames(frames))), shown.box, shown.flip)
    return clip if len(once) == len(shown.frames) else clip[[once.index(frame) for frame in shown.frames]]


def _pyav_one_pass(media: bytes, shown: Shown) -> Tensor:
    wanted, found = set(shown.frames), {}
    with av.open(io.BytesIO(media)) as file:
        file.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(file.decode(video=0)):
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if number == shown.frames[-1]:
                break
    return crop(torch.from_numpy(np.stack([found[number] for number in shown.frames])), shown.box, shown.flip)


def _pyav_seeking(media: bytes, shown: Shown) -> Tensor:
    """Seeks to the key frame before each wanted frame; a frame's time follows from its number and the rate."""
    found = []
    with av.open(io.BytesIO(media)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count = 1
        assert stream.average_rate is not None
        assert stream.time_base is not None
        for number in shown.frames:
            time = int(number / stream.average_rate / stream.time_base) + (stream.start_time or 0)
            file.seek(time, stream=stream)
            at = next(frame for frame in file.decode(stream) if frame.pts is not None and frame.pts >= time)
            found.append(at.to_ndarray(format="rgb24"))
    return crop(torch.from_numpy(np.stack(found)), shown.box, shown.flip)


class _Clips(Dataset[Any]):
    def __init__(self, clip: Callable[[Shown], Tensor]) -> None:
        self._clip = clip

    def __getitem__(self, shown: Shown) -> tuple[str, Tensor]:
        return shown.clip_id, self._clip(shown)


class _Batches:
    """A batch sampler whose list is changed between the passes of one DataLoader."""

    def __init__(self, batch_size: int) -> None:
        self.shown: Sequence[Shown] = ()
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[Sequence[Shown]]:
        yield from (self.shown[at : at + self._batch_size] for at in range(0, len(self.shown), self._batch_size))

    def __len__(self) -> int:
        return -(-len(self.shown) // self._batch_size)


def _collate(clips: Sequence[tuple[str, Tensor]]) -> tuple[list[str], Tensor]:
    return [clip_id for clip_id, _ in clips], torch.stack([pixels for _, pixels in clips])


def _workers(num_workers: int) -> dict[str, Any]:
    """Options of torch's DataLoader."""
    forked = {"persistent_workers": True, "multiprocessing_context": "fork"}
    return {"num_workers": num_workers, **(forked if num_workers else {})}


def _in_data_loader(clip: Callable[[Shown], Tensor]) -> Callable[[int, int, Sequence[Path]], Session]:
    def open_session(batch_size: int, num_workers: int, shards: Sequence[Path]) -> Session:
        batches = _Batches(batch_size)
        loader: DataLoader[Any] = DataLoader(
            _Clips(clip),
            batch_sampler=batches,  # type: ignore[arg-type]  # torch asks for no more than this
            collate_fn=_collate,
            **_workers(num_workers),
        )

        def session(shown: Sequence[Shown]) -> Batches:
            batches.shown = shown
            yield from loader

        return session

    return open_session


def _spdl_session(batch_size: int, num_workers: int, shards: Sequence[Path]) -> Session:
    from spdl.pipeline import PipelineBuilder

    threads = max(num_workers, 1)

    def session(shown: Sequence[Shown]) -> Batches:
        builder = PipelineBuilder().add_source(shown)
        builder = builder.pipe(lambda one: (one.clip_id, _spdl(one)), concurrency=threads, output_order="input")
        pipeline = builder.aggregate(batch_size).pipe(_collate).add_sink(2).build(num_threads=threads)
        with pipeline.auto_stop():
            yield from pipeline

    return session


def _dali_session(batch_size: int, num_workers: int, shards: Sequence[Path]) -> Session:
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(
        batch_size=batch_size,
        num_threads=max(num_workers, 1),
        device_id=None,
        prefetch_queue_depth=1,
        exec_async=False,
        exec_pipelined=False,
    )
    def batches() -> Any:
        media, frames, begin, size, flip = (fn.external_source(name=name) for name in _DALI_INPUTS)
        clip = fn.slice(fn.decoders.video(media, frames=frames), begin, size, axes=[1, 2])
        clip = fn.resize(clip, size=[CROP_PX, CROP_PX], interp_type=types.INTERP_LINEAR, antialias=False)
        return fn.flip(clip, horizontal=flip)

    made: list[Any] = []

    def session(shown: Sequence[Shown]) -> Batches:
        if not made:
            made.append(batches())
            made[0].build()
        for at in range(0, len(shown), batch_size):
            part = shown[at : at + batch_size]
            for name, values in _dali_inputs(part).items():
                made[0].feed_input(name, values)
            (clips,) = made[0].run()
            yield [one.clip_id for one in part], torch.from_numpy(np.array(clips.as_array()))

    return session


_DALI_INPUTS = ("media", "frames", "begin", "size", "flip")


def _dali_inputs(shown: Sequence[Shown]) -> dict[str, list[Any]]:
    return {
        "media": [np.frombuffer(one.file.read_bytes(), np.uint8) for one in shown],
        "frames": [np.array(one.frames, np.int32) for one in shown],
        "begin": [np.array([one.box.top, one.box.left], np.int32) for one in shown],
        "size": [np.array([one.box.height, one.box.width], np.int32) for one in shown],
        "flip": [np.int32(one.flip) for one in shown],
    }


def _webdataset(clip: Callable[[bytes, Shown], Tensor]) -> Callable[[int, int, Sequence[Path]], Session]:
    def open_session(batch_size: int, num_workers: int, shards: Sequence[Path]) -> Session:
        import webdataset

        shown_of: dict[str, list[Shown]] = defaultdict(list)
        seen: Counter[str] = Counter()

        def decode(sample: dict[str, Any]) -> tuple[str, Tensor]:
            clip_id = sample["__key__"]
            chosen, number = shown_of[clip_id], seen[clip_id]
            seen[clip_id] += 1
            media = next(sample[suffix] for suffix in ("mp4", "mjpeg") if suffix in sample)
            return clip_id, clip(media, chosen[number % len(chosen)])

        dataset = webdataset.WebDataset([str(shard) for shard in shards], shardshuffle=False)
        dataset = dataset.map(decode).batched(batch_size, collation_fn=_collate)
        loader = webdataset.WebLoader(dataset, batch_size=None, **_workers(num_workers))

        def session(shown: Sequence[Shown]) -> Batches:
            shown_of.clear()
            seen.clear()
            for one in shown:
                shown_of[one.clip_id].append(one)
            passes = max(len(chosen) for chosen in shown_of.values())
            for _ in range(passes):
                yield from loader

        return session

    return open_session


PEERS: dict[str, Peer] = {
    "torchcodec": Peer(("torchcodec",), "torchcodec==0.13.0", _in_data_loader(_torchcodec)),
    "SPDL": Peer(("spdl",), "spdl", _spdl_session, workers="threads"),
    "DALI": Peer(("nvidia",), "nvidia-dali-cuda120", _dali_session, workers="threads"),
    "webdataset, PyAV in one pass": Peer(("webdataset",), "webdataset", _webdataset(_pyav_one_pass)),
    # Through files with a key frame in 250 no one would seek eight times; a stream of JPEGs has no place to seek to.
    "webdataset, PyAV seeking": Peer(("webdataset",), "webdataset", _webdataset(_pyav_seeking), kinds=("h264",)),
    "mmaction2's pipeline": Peer(("decord", "cv2"), "decord opencv-python-headless", _in_data_loader(_mmaction2)),
    "decord": Peer(("decord",), "decord", _in_data_loader(_decord)),
}
