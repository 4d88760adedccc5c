"""Clips out of folders of media: files by their names, the samples of WebDataset tars by their keys."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from k710.errors import ListError
from k710.identify.batch import Batch, of_texts
from k710.identify.columns import may_name
from k710.identify.recognise import NO_CLASS, recognise
from k710.identify.records import Record, batch_of_records, choose_of_records
from k710.lists.annotation_rows import quoted
from k710.lists.clip_paths import clips_in_path

_AT_ONCE = 1 << 16
_MAX_MEMBER_BYTES = 4 << 20  # of a `.json`; what is larger is no description of a clip
_MAX_CLASS_BYTES = 16


def batches_of_files(root: Path, files: list[str]) -> Iterator[Batch]:
    """The clips of video files, given by their paths inside `root`. The folder of each is the name of its class, where
    it is one."""
    for start in range(0, len(files), _AT_ONCE):
        part = files[start : start + _AT_ONCE]
        texts = pa.array([name.encode("utf-8", "surrogateescape") for name in part])
        found = of_texts(str(root), texts, np.arange(start + 1, start + 1 + len(part)), recognise(texts, clips_in_path))
        labels = [_class_folder(part[int(line) - start - 1]) for line in found.line]
        yield Batch(**{**vars(found), "label": pa.array(labels, pa.string()), "class_index": found.class_index * 0 - 1})


def _class_folder(path: str) -> str:
    folders = path.split("/")[:-1]
    return folders[-1].encode("utf-8", "replace").decode() if folders else ""


def batches_of_tar(path: Path) -> Iterator[Batch]:
    """The samples of a tar in the form of WebDataset: the key of a sample is its clip, or its `.json` names it. The
    place of a sample in the tar is its line. Raises ListError for a tar that is damaged or cut off."""
    samples: list[_Sample] = []
    for number, sample in enumerate(_samples(path), 1):
        sample.number = number
        samples.append(sample)
        if len(samples) == _AT_ONCE:
            yield from _batches(path, samples)
            samples = []
    yield from _batches(path, samples)


class _Sample:
    """What is known of one sample: its key, and what its `.json` and its `.cls` hold."""

    def __init__(self, key: str) -> None:
        self.key, self.number = key, 0
        self.record: Record | None = None
        self.class_index = NO_CLASS


def _batches(path: Path, samples: list[_Sample]) -> Iterator[Batch]:
    if not samples:
        return
    texts = pa.array([sample.key.encode("utf-8", "surrogateescape") for sample in samples])
    read = recognise(texts, clips_in_path)
    by_key = {samples[row].number for row in read.row.tolist()}
    # A numbered key names nothing. video2dataset's samples are called 000000012; their .json has the address.
    rest = [s for s in samples if s.number not in by_key and s.record is not None and may_name(s.record)]
    described = {sample.number for sample in rest}
    kept = [sample for sample in samples if sample.number not in described]
    if kept:
        texts = pa.array([sample.key.encode("utf-8", "surrogateescape") for sample in kept])
        line = np.array([sample.number for sample in kept], np.int64)
        found = of_texts(path.name, texts, line, recognise(texts, clips_in_path))
        index = {sample.number: sample.class_index for sample in kept}
        classes = np.array([index[number] for number in found.line.tolist()], np.int32)
        yield Batch(**{**vars(found), "class_index": classes})
    if rest:
        records = [sample.record for sample in rest if sample.record is not None]
        yield batch_of_records(path.name, records, choose_of_records(records), [sample.number for sample in rest])


def _samples(path: Path) -> Iterator[_Sample]:
    """The samples in their order: members whose names agree up to the first dot behind the last slash."""
    current: _Sample | None = None
    try:
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
        with tarfile.open(path, "r|gz" if is_gzip else "r:") as archive:
            for member in archive:
                if member.size < 0:  # tarfile would go back and read it again, for ever
                    raise ListError(f"the archive is damaged: {quoted(member.name)} has a negative size")
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                if not member.isfile() or not stem:
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if current is None or current.key != key:
                    if current is not None:
                        yield current
                    current = _Sample(key)
                _describe(current, suffix.lower(), archive, member)
    except (tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        raise ListError(f"the archive is damaged or cut off: {error}") from None
    if current is not None:
        yield current


def _describe(sample: _Sample, suffix: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Read the members that say what a sample is; the others are passed over."""
    limit = {"json": _MAX_MEMBER_BYTES, "cls": _MAX_CLASS_BYTES}.get(suffix, 0)
    if not 0 < member.size <= limit or (stream := archive.extractfile(member)) is None:
        return
    data = stream.read()
    if suffix == "cls":
        text = data.decode("ascii", "replace").strip()
        sample.class_index = int(text) if text.isdecimal() and len(text) <= 4 else NO_CLASS
        return
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(record, dict):
        sample.record = record
