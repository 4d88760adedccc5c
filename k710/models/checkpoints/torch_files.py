"""Files that `torch.save` wrote: read as data and never as code, written back in the form they came in."""

from __future__ import annotations

import copy
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch

from k710.errors import CheckpointError
from k710.models.checkpoints.harmless import HARMLESS, NUMPY_VALUE
from k710.models.checkpoints.safetensors_files import Sink

# The first bytes of a file of torch before 1.6: a pickle of torch's own magic number.
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
ZIP_MAGIC = b"PK\x03\x04"

# Where training code keeps its state dict, in the order in which they are looked for. V-JEPA's has a `classifier`, and
# V-JEPA 2's a list `classifiers`, one for each set of hyper-parameters.
ENTRIES = ("model_state", "state_dict", "module", "model", "model_state_dict", "classifier", "classifiers")

# Entries that hold one state dict between them, as Omnivore's do.
TOGETHER = ("trunk", "heads")

# A tensor larger than its file repeats what is there; one that is not larger than this does no harm.
_REPEATED_BYTES = 1 << 30

# Tensors of which each process holds a part.
_DISTRIBUTED = ("torch.distributed.tensor.", "torch.distributed._tensor.", "torch.distributed._shard")
_SHARDED = (
    "refused: its tensors are DTensors or ShardedTensors, of which each process holds a part, as FSDP leaves them. "
    "Have whole tensors saved where the file was made: torch.distributed.checkpoint.state_dict.get_model_state_dict "
    "with StateDictOptions(full_state_dict=True, cpu_offload=True), then torch.save"
)

# What a zip file has room for at its end.
_COMMENT_BYTES = 0xFFFF


@dataclass(frozen=True)
class TorchFile:
    """A file of `torch.save`. `state` is its state dict, found under `payload[entry]`, or `payload` itself.

    Several state dicts that belong together (a list of them, or TOGETHER) are one `state`, each tensor under the name
    of its place: `classifiers.0.linear.weight`, `trunk.norm.weight`. The tensors of a zip file stay on disk
    (memory-mapped) until they are used.
    """

    path: Path
    payload: dict[str, Any]
    entry: str | None
    legacy: bool

    @property
    def entries(self) -> tuple[str, ...]:
        """The top-level entries that hold the state dict; none where the file is one."""
        if self.entry is None:
            return ()
        return TOGETHER if self.entry == TOGETHER[0] else (self.entry,)

    @property
    def state(self) -> dict[str, Any]:
        if self.entry is None:
            return self.payload
        return dict(_flat(self.payload, self.entries)) if self._is_split else self.payload[self.entry]

    @property
    def _is_split(self) -> bool:
        return self.entry is not None and (len(self.entries) > 1 or isinstance(self.payload[self.entry], list))

    @property
    def comment(self) -> bytes:
        """What stands at the end of a zip file, where no loader looks; empty for the form before torch 1.6."""
        if self.legacy:
            return b""
        with zipfile.ZipFile(self.path) as archive:
            return archive.comment

    def describe(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape of every tensor, in the file's order."""
        return {
            key: (str(value.dtype).removeprefix("torch."), tuple(value.shape))
            for key, value in self.state.items()
            if isinstance(value, torch.Tensor)
        }

    def tensor(self, key: str) -> torch.Tensor:
        tensor: torch.Tensor = self.state[key]
        if tensor.layout != torch.strided or tensor.is_meta:
            kind = "has no values (device meta)" if tensor.is_meta else f"is stored as {tensor.layout}"
            raise CheckpointError(f"{self.path}: {key} {kind}; a head must be a plain matrix")
        return tensor.detach()

    def write(
        self,
        file: Sink,
        tensors: Mapping[str, torch.Tensor],
        *,
        entries: Mapping[str, Any] | None = None,
        dropped: tuple[str, ...] = (),
        state_metadata: Mapping[str, Any] | None = None,
        comment: bytes = b"",
    ) -> None:
        """Write the file with these `tensors` and top-level `entries` in place of its own, and all else as it was.

        `state_metadata` joins the `_metadata` that an OrderedDict of `Module.state_dict` carries; others have none.
        `comment` stands at the end of a zip file, where it has room; the form before torch 1.6 has none.
        """
        payload = copy.copy(self.payload)
        if self._is_split:
            payload.update(_with_tensors(self.payload, self.entries, tensors))
        else:
            state = _renewed(self.state, tensors)
            if state_metadata and hasattr(state, "_metadata"):
                state._metadata = copy.copy(state._metadata)
                state._metadata.update(state_metadata)
            if self.entry is None:
                payload = state
            else:
                payload[self.entry] = state
        payload.update(entries or {})
        for name in dropped:
            del payload[name]
        try:
            write_torch(file, payload, comment=comment, legacy=self.legacy)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from None


def write_torch(file: Sink, payload: Any, *, comment: bytes = b"", legacy: bool = False) -> None:
    """Write a file of `torch.save`; `comment` stands at its end, where no loader looks and a zip file has room.

    The form before torch 1.6 (`legacy`) has no room for one, nor for a longer one than a zip file can hold: then there
    is none. Raises OSError where torch cannot write it.
    """
    commented = _Commented(file, b"" if legacy or len(comment) > _COMMENT_BYTES else comment)
    try:
        torch.save(payload, cast("IO[bytes]", commented), _use_new_zipfile_serialization=not legacy)
        commented.finish()
    except RuntimeError as error:  # torch hides the system's reason inside its own
        raise OSError(f"torch could not write it ({_first_line(error)}); is the disk full?") from None


def _renewed(state: dict[str, Any], tensors: Mapping[str, torch.Tensor], prefix: str = "") -> Any:
    """A copy of a state dict with those of `tensors` in it whose names begin with `prefix`."""
    new: Any = copy.copy(state)  # keeps the type and, of an OrderedDict, the attribute _metadata
    for key, old in state.items():
        if (tensor := tensors.get(prefix + key)) is not None:
            is_parameter = isinstance(old, torch.nn.Parameter)
            new[key] = torch.nn.Parameter(tensor, old.requires_grad) if is_parameter else tensor
    return new


def _flat(payload: Mapping[str, Any], entries: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The tensors of several state dicts, each under the name of its place."""
    for prefix, state in _places(payload, entries):
        for key, value in state.items():
            yield prefix + key, value


def _places(payload: Mapping[str, Any], entries: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in entries:
        if isinstance(payload[entry], list):
            yield from ((f"{entry}.{number}.", state) for number, state in enumerate(payload[entry]))
        else:
            yield f"{entry}.", payload[entry]


def _with_tensors(
    payload: Mapping[str, Any], entries: tuple[str, ...], tensors: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """The entries with `tensors` in place of their own."""
    renewed = {prefix: _renewed(state, tensors, prefix) for prefix, state in _places(payload, entries)}
    return {
        entry: [renewed[f"{entry}.{number}."] for number in range(len(payload[entry]))]
        if isinstance(payload[entry], list)
        else renewed[f"{entry}."]
        for entry in entries
    }


class _Commented(io.RawIOBase):
    """Passes a zip file on with a comment: its last two bytes are the comment's length, which torch leaves at zero."""

    def __init__(self, file: Sink, comment: bytes) -> None:
        self._file, self._comment, self._held = file, comment, b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self._comment:
            self._file.write(data)
            return len(data)
        end = self._held + bytes(data[-2:])
        if len(data) > 2:
            self._file.write(self._held)
            self._file.write(data[:-2])
            end = bytes(data[-2:])
        else:
            self._file.write(end[:-2])
        self._held = end[-2:]
        return len(data)

    def finish(self) -> None:
        """Write what was held back, and the comment. Raises OSError where torch ended the file in another way."""
        if not self._comment:
            return
        if self._held != b"\0\0":
            raise OSError("torch ended the file otherwise than a zip file ends")
        self._file.write(len(self._comment).to_bytes(2, "little") + self._comment)


def read_torch(path: Path) -> TorchFile:
    """Read a file of `torch.save`, running no code of it. Raises CheckpointError where that cannot be done."""
    with path.open("rb") as file:
        legacy = file.read(4) != ZIP_MAGIC
    if not legacy:
        _check_archive(path)
    with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's doubts about a file; what it cannot read it refuses
        try:
            payload = torch.load(path, map_location="cpu", weights_only=True, mmap=not legacy)
        except Exception as error:  # a damaged pickle can fail in any way; each is the file's fault, not the user's
            raise CheckpointError(f"{path}: {_why_refused(path, legacy, error)}") from None
    if not isinstance(payload, dict):
        raise CheckpointError(f"{path}: holds a {type(payload).__name__}, not a state dict; nothing to remap in it")
    entry = _find_entry(payload)
    if entry is None and not _holds_tensors(payload):
        names = ", ".join(map(repr, list(payload)[:8])) or "nothing"
        raise CheckpointError(f"{path}: no state dict in it; it holds {names}, and none of {', '.join(ENTRIES)}")
    found = TorchFile(path, payload, entry, legacy)
    # Where torch.distributed.tensor was imported, torch makes them, each with this process's part alone.
    if any(f"{type(value).__module__}.".startswith(_DISTRIBUTED) for value in found.state.values()):
        raise CheckpointError(f"{path}: {_SHARDED}")
    _check_sizes(found)
    return found


def _check_sizes(file: TorchFile) -> None:
    """A few bytes, repeated by their strides, can pass for a tensor that fills the memory when it is copied."""
    size_bytes = file.path.stat().st_size
    allowed_bytes = max(size_bytes, _REPEATED_BYTES)
    for key, value in file.state.items():
        is_plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
        if is_plain and value.nbytes > allowed_bytes:
            shape = list(value.shape)
            raise CheckpointError(
                f"{file.path}: {key} has the shape {shape}, and the file only {size_bytes:,} bytes; it is damaged"
            )


def _find_entry(payload: dict[str, Any]) -> str | None:
    """The entry that holds the state dict, or the first of several that do."""
    for name in ENTRIES:
        value = payload.get(name)
        if isinstance(value, list) and value and all(map(_holds_tensors, value)):
            return name
        if _holds_tensors(value):
            return name
    return TOGETHER[0] if all(_holds_tensors(payload.get(name)) for name in TOGETHER) else None


def _holds_tensors(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(key, str) for key in value)
        and any(isinstance(item, torch.Tensor) for item in value.values())
    )


def _check_archive(path: Path) -> None:
    """Tell TorchScript programs and other zip files apart before torch sees them."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise CheckpointError(
            f"{path}: damaged, or cut short in a download: it begins like a checkpoint and does not end like one "
            f"({path.stat().st_size:,} bytes); fetch it again"
        ) from None
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(
            f"{path}: a TorchScript program, as the .pt files of OpenAI's CLIP are, not a checkpoint; it is code, so "
            "it is not opened, and CLIP's encoder has no classification head to remap"
        )
    if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        raise CheckpointError(f"{path}: a zip archive, but not one that torch.save wrote")
    if packed:  # a small file can unpack to what fills the memory; torch packs nothing
        raise CheckpointError(f"{path}: a compressed archive, as torch.save writes none; save it anew")


def _why_refused(path: Path, legacy: bool, error: Exception) -> str:
    refused: list[str] = []
    if legacy:
        refused = re.findall(r"GLOBAL (\S+)", str(error))[:1]
    else:
        try:
            refused = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
        except Exception:  # the same damage again
            refused = []
    if not refused and "Unsupported operand" in str(error):
        return "refused: not written as torch.save writes by itself (pickle protocol 2), and not read in any other way"
    if not refused and str(error).startswith(NUMPY_VALUE):
        return f"refused: it holds {error}, and of numpy only plain numbers and arrays of these are read"
    if not refused:
        return f"damaged, or cut short in a download ({path.stat().st_size:,} bytes): {_first_line(error)}"
    if any(name.startswith(_DISTRIBUTED) for name in refused):
        return _SHARDED
    more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
    return (
        f"refused: it holds more than tensors and plain values: {', '.join(refused[:3])}{more}. Loading these would "
        "run code of the file; none was run. Have its state dict saved alone, where the file was made, and give that"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    # Around the reason of a refusal torch wraps advice to load without weights_only, which k710 never gives.
    reason = re.search(r"WeightsUnpickler error:\s*(.+)", text)
    return (reason[1] if reason else text.splitlines()[0])[:200]
