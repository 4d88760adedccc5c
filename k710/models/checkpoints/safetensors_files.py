"""Files of the safetensors format, rewritten byte for byte but for the tensors that change.

The library's own writer sorts tensors anew; here the order, the metadata and dtypes that torch lacks stay as they were.
Format: 8 bytes with the header's length, a JSON header, the tensors' bytes without gaps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from k710.errors import CheckpointError
from k710.storage.storage import HashedFile

if TYPE_CHECKING:
    import torch

# What a checkpoint can be written to: a file, or what passes bytes on to one.
Sink = IO[bytes] | HashedFile

_CHUNK_BYTES = 1 << 20

_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class SafetensorsFile:
    """A file's header in its own order; the tensors stay on disk until they are asked for."""

    path: Path
    header: dict[str, dict[str, Any]]
    metadata: dict[str, str] | None
    data_start: int

    def describe(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape of every tensor, in the file's order."""
        return {
            key: (_TORCH_NAMES.get(entry["dtype"], entry["dtype"]), tuple(entry["shape"]))
            for key, entry in self.header.items()
        }

    def tensor(self, key: str) -> torch.Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(key)
                return tensor
        except (SafetensorError, AttributeError, TypeError) as error:
            dtype = self.header[key]["dtype"]
            raise CheckpointError(f"{self.path}: {key}: torch cannot read its dtype {dtype}: {error}") from None

    def write(
        self, file: Sink, tensors: Mapping[str, torch.Tensor], *, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write the file with these `tensors` in place of its own (same dtype), `metadata` added to its own."""
        header: dict[str, Any] = {}
        if self.metadata is not None or metadata:
            header["__metadata__"] = {**(self.metadata or {}), **(metadata or {})}
        header |= {key: dict(entry) for key, entry in self.header.items()}
        in_data_order = sorted(self.header, key=lambda key: self.header[key]["data_offsets"])
        position = 0
        for key in in_data_order:
            start, end = self.header[key]["data_offsets"]
            size = tensors[key].nbytes if key in tensors else end - start
            if key in tensors:
                header[key]["shape"] = list(tensors[key].shape)
            header[key]["data_offsets"] = [position, position + size]
            position += size
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8, as the library writes them
        file.write(len(text).to_bytes(8, "little") + text)
        with self.path.open("rb") as source:
            for key in in_data_order:
                start, end = self.header[key]["data_offsets"]
                if key in tensors:
                    file.write(tensor_bytes(tensors[key]))
                else:
                    source.seek(self.data_start + start)
                    _copy(source, file, end - start)


def read_safetensors(path: Path) -> SafetensorsFile:
    """Read the header. Raises CheckpointError where the file is damaged or holds a dtype that nobody here knows."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):  # checks lengths, offsets and dtypes
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        if "unknown variant" in str(error):
            raise CheckpointError(f"{path}: a dtype that cannot be read: {error}") from None
        raise CheckpointError(
            f"{path}: damaged, or cut short in a download ({path.stat().st_size:,} bytes): {error}"
        ) from None
    metadata = header.pop("__metadata__", None)
    return SafetensorsFile(path, header, metadata, 8 + length)


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor as they stand in memory, whatever its dtype; numpy has no bfloat16 and no float8."""
    import torch

    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _copy(source: IO[bytes], target: Sink, num_bytes: int) -> None:
    while num_bytes > 0:
        chunk = source.read(min(num_bytes, _CHUNK_BYTES))
        if not chunk:
            raise OSError("it became shorter while it was read")
        target.write(chunk)
        num_bytes -= len(chunk)
