"""Features of clips, computed once and kept: what the frozen part of a model sees of a view, in place of its pixels.

    FEATURES/
        about.json               what they are of, and the shape of each tensor; features of anything else are refused
        {digest}.safetensors     some views: each tensor (views, …), and in the metadata which views they are

A file appears whole or not at all and is never changed, so what is there stays when a computation is interrupted. A
view is named by its clip, the stamp of the clip's bytes, and its place among the views of an evaluation.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from k710.errors import LoadError, UsageError
from k710.loading.dataset import ClipDataset
from k710.random_key import Ints
from k710.storage.storage import TEMPORARY_PREFIX, named_by_hash, replacing
from k710.text import counted, os_error_text

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ABOUT = "about.json"
_FORMAT, _KEY, _SUFFIX = 1, "k710", ".safetensors"
_SAME = (("float16", "fp16"), ("bfloat16", "bf16"))
_OPEN_FILES = 64  # at once; opening one takes less than a millisecond


class KeptView(NamedTuple):
    """Which view a row of a file is: `clip` of `num_clips`, and the crop (see View). `error`: why the clip could not be
    read, so that its features are those of black frames."""

    clip_id: str
    stamp: str
    clip: int
    num_clips: int
    crop: int
    error: str | None = None


@dataclass(frozen=True)
class KeptFeatures:
    """A folder of features. `of`: plain values that say of which weights, frames and pixels they are; `shapes`: of one
    view, by name; `dtype`: one of DTYPES."""

    folder: Path
    of: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    dtype: str

    @property
    def key(self) -> str:
        """16 digits that name what is kept: features of one key can stand for each other."""
        return hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def view_bytes(self) -> int:
        """Bytes of one view."""
        return sum(math.prod(shape) for shape in self.shapes.values()) * DTYPES[self.dtype].itemsize

    @property
    def is_exact(self) -> bool:
        """Whether the type can hold all numbers of the pass that they are from."""
        return self.dtype == "float32" or (self.dtype, self.of.get("precision")) in _SAME

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob(f"[!.]*{_SUFFIX}"))

    def check(self) -> None:
        """Raises LoadError where other features, or something else, are in the folder already."""
        if (self.folder / ABOUT).exists():
            there = open_features(self.folder)
            if there.key != self.key:
                raise LoadError(f"{self.folder}: holds other features: {'; '.join(differences(there, self))}")
        elif self.folder.exists() and any(path.name[0] != "." for path in self.folder.iterdir()):
            raise LoadError(f"{self.folder}: holds something else than features; choose another --out")

    def begin(self) -> None:
        """Make the folder, where it is not there. Raises LoadError as `check`, OSError where it cannot be made."""
        for path in self.folder.glob(f"{TEMPORARY_PREFIX}*"):  # a killed computation may leave one
            path.unlink(missing_ok=True)
        self.check()
        if (self.folder / ABOUT).exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / ABOUT) as file:
            file.write((json.dumps({"format": _FORMAT, **self._about()}, indent=1) + "\n").encode())

    def write(self, views: Sequence[KeptView], tensors: Mapping[str, Tensor]) -> None:
        """Add views; `tensors` are (views, …) each. Raises LoadError where the disk has no room for them."""
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {_KEY: json.dumps(views)})
        try:
            with named_by_hash(self.folder, "{}" + _SUFFIX) as file:
                file.write(content)
        except OSError as error:
            raise LoadError(
                f"{self.folder}: cannot be written: {os_error_text(error)}. What was written before stays, and the "
                "same command goes on from there; make room, or take another --out or --dtype"
            ) from None

    def _about(self) -> dict[str, Any]:
        return {
            "of": self.of,
            "dtype": self.dtype,
            "tensors": {name: list(shape) for name, shape in self.shapes.items()},
        }


def differences(one: KeptFeatures, other: KeptFeatures, *, but: Iterable[str] = ()) -> list[str]:
    """In words, what two features are not both of; `but` are keys of `of` that may differ."""
    pairs: dict[str, tuple[Any, Any]] = {}
    pairs |= {"dtype": (one.dtype, other.dtype), "tensors": (sorted(one.shapes.items()), sorted(other.shapes.items()))}
    pairs |= {key: (one.of.get(key), other.of.get(key)) for key in (*one.of, *other.of)}
    return [
        f"{key} {mine!r}, not {theirs!r}" for key, (mine, theirs) in pairs.items() if key not in but and mine != theirs
    ]


def open_features(folder: Path) -> KeptFeatures:
    """The features in a folder. Raises LoadError where none are."""
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        shapes = {str(name): tuple(map(int, shape)) for name, shape in about["tensors"].items()}
        found = KeptFeatures(folder.absolute(), dict(about["of"]), shapes, about["dtype"])
        known = about["format"] == _FORMAT and found.dtype in DTYPES
    except OSError as error:
        raise LoadError(f"{path}: {os_error_text(error)}; `k710 features` makes it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(f"{path}: damaged ({type(error).__name__}: {error}); compute the features again") from None
    if not known:
        raise LoadError(f"{path}: not the features of this k710; compute them again")
    return found


@dataclass(frozen=True)
class FeatureReader:
    """The features of a dataset's views. `places`: (clips, views, 2), of each its file and its row, -1 where it has
    none; `changed` are the clips that only features of other bytes are of; `errors` by clip and view.

    It pickles to names and numbers, so that workers get it at little cost.
    """

    folder: Path
    names: tuple[str, ...]
    files: list[str]
    places: npt.NDArray[np.int32]
    changed: frozenset[int]
    errors: dict[tuple[int, int], str]

    @property
    def missing(self) -> Ints:
        """Positions of the clips that some view has no features of."""
        return np.flatnonzero((self.places[:, :, 0] < 0).any(1))

    def read(self, views: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """The features (views, …) of views, each given by the clip's position and its number. Raises LoadError."""
        rows = [self._read(*self.places[clip, view]) for clip, view in views]
        return {name: torch.stack([row[name] for row in rows]) for name in self.names}

    def _read(self, file: int, row: int) -> dict[str, Tensor]:
        path = self.folder / self.files[file]
        try:
            opened = _opened(str(path))
            return {name: opened.get_slice(name)[int(row) : int(row) + 1][0] for name in self.names}
        except (OSError, SafetensorError, IndexError) as error:
            raise LoadError(f"{path}: features cannot be read ({error}); {_REMOVE}") from None


_REMOVE = "remove the file and run `k710 features` again"


def reader_of(features: KeptFeatures, dataset: ClipDataset, names: Iterable[str]) -> FeatureReader:
    """Where the features of a dataset's views are; a view that there are several of has the newest without an error.

    Raises LoadError for a damaged file.
    """
    position_of = {clip_id: number for number, clip_id in enumerate(dataset.index.clip_ids.to_pylist())}
    view_of = {(view.clip, view.crop): number for number, view in enumerate(dataset.views)}
    num_clips = dataset.reader.options.num_clips
    stamp = functools.cache(dataset.stamp)
    places = np.full((len(dataset), len(dataset.views), 2), -1, np.int32)
    files, other_bytes, errors = features.files(), set[int](), dict[tuple[int, int], str]()
    for number, name in enumerate(files):
        for row, kept in enumerate(_views_of(features.folder / name, features.shapes)):
            position, view = position_of.get(kept.clip_id), view_of.get((kept.clip, kept.crop))
            if position is None or view is None or kept.num_clips != num_clips:
                continue
            if kept.stamp != stamp(position):
                other_bytes.add(position)
            elif kept.error is None:
                places[position, view] = (number, row)
                errors.pop((position, view), None)
            elif places[position, view, 0] < 0:
                places[position, view] = (number, row)
                errors[position, view] = kept.error
    without = np.flatnonzero((places[:, :, 0] < 0).any(1)).tolist()
    changed = frozenset(other_bytes.intersection(without))
    return FeatureReader(features.folder, tuple(names), files, places, changed, errors)


def check_all_there(reader: FeatureReader, dataset: ClipDataset) -> None:
    """Raises UsageError where a view of the dataset has no features."""
    if not len(reader.missing):
        return
    example = dataset.index.clip_ids[int(reader.missing[0])].as_py()
    options = dataset.reader.options
    views = counted(len(dataset.views), "view")
    why = f", {len(reader.changed)} of them since their bytes have changed" if reader.changed else ""
    raise UsageError(
        f"{reader.folder}: has no features of {len(reader.missing):,} of the {len(dataset):,} {dataset.view} "
        f"{dataset.split} clips in {views} of each, such as {example}{why}; `k710 features --split {dataset.split} "
        f"--clips {options.num_clips} --crops {options.num_crops}` computes what is missing"
    )


def _views_of(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> list[KeptView]:
    try:
        opened = _opened(str(path))
        views = [KeptView(*row) for row in json.loads((opened.metadata() or {})[_KEY])]
        for name, shape in shapes.items():
            if (found := opened.get_slice(name).get_shape()) != [len(views), *shape]:
                raise ValueError(f"{name} is {found}")
        return views
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise LoadError(f"{path}: no file of features, or damaged ({error}); {_REMOVE}") from None


@functools.lru_cache(maxsize=_OPEN_FILES)
def _opened(path: str) -> Any:
    return safe_open(path, framework="pt")
