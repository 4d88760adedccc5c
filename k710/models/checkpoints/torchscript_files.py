"""Tensors of a TorchScript archive, as OpenAI's CLIP `.pt` files are, read as data: none of its code is run.

Such an archive keeps its modules as a pickle. It is not unpickled: the few instructions that describe modules and
tensors are followed here over plain values, no class is looked up and nothing is called; any other is refused.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from k710.errors import CheckpointError

_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_LONGEST_PICKLE_BYTES = 1 << 26  # OpenAI's largest has less than one MiB
_MOST_MODULES = 100_000  # of which it has some hundreds


@dataclass(frozen=True)
class _Global:
    """A name that the pickle mentions; it stays a name."""

    name: str


@dataclass
class _Module:
    """A module: its attributes by name."""

    attributes: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies: a member of the archive, and which elements of it."""

    storage: str
    dtype: torch.dtype
    num_stored: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class TorchScriptFile:
    """An archive's tensors by dotted name, as the program's `state_dict` has them; they are read when asked for."""

    path: Path
    root: str
    stored: dict[str, _Stored]

    def describe(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape of every tensor."""
        return {key: (str(each.dtype).removeprefix("torch."), each.shape) for key, each in self.stored.items()}

    def tensor(self, key: str) -> torch.Tensor:
        """One tensor, copied out of the archive. Raises CheckpointError where its bytes are not as described."""
        each = self.stored[key]
        member, size = f"{self.root}data/{each.storage}", each.num_stored * each.dtype.itemsize
        last = each.offset + sum((n - 1) * step for n, step in zip(each.shape, each.stride, strict=True))
        try:
            with zipfile.ZipFile(self.path) as archive:
                fits = archive.getinfo(member).file_size == size and min(each.shape, default=1) > 0
                if not fits or each.offset < 0 or min(each.stride, default=0) < 0 or last >= each.num_stored:
                    raise CheckpointError(f"{self.path}: {key} does not fit the bytes of {member}; the file is damaged")
                data = bytearray(archive.read(member))
        except (KeyError, zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise CheckpointError(f"{self.path}: {key}: {member} cannot be read: {error}") from None
        return torch.frombuffer(data, dtype=each.dtype).as_strided(each.shape, each.stride, each.offset)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with `constants.pkl` beside its `data.pkl`."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())


def read_torchscript(path: Path) -> TorchScriptFile:
    """Find the tensors of a TorchScript archive. Raises CheckpointError for anything else in its pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            constants = next(name for name in names if name.rpartition("/")[2] == "constants.pkl")
            root = constants.removesuffix("constants.pkl")
            if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
                raise CheckpointError(f"{path}: written on a big-endian machine; only little-endian files are read")
            if archive.getinfo(f"{root}data.pkl").file_size > _LONGEST_PICKLE_BYTES:
                raise CheckpointError(f"{path}: its data.pkl is longer than {_LONGEST_PICKLE_BYTES:,} bytes")
            program = archive.read(f"{root}data.pkl")
        top = _follow(program)
        stored = dict(_tensors(top, "", frozenset(), iter(range(_MOST_MODULES)))) if isinstance(top, _Module) else None
    except CheckpointError:
        raise
    except Exception as error:  # a forged pickle can fail in any way, and each is the file's fault
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"{path}: refused or damaged TorchScript archive: {reason}") from None
    if stored is None:
        raise CheckpointError(f"{path}: holds no module")
    return TorchScriptFile(path, root, stored)


def _tensors(
    module: _Module, prefix: str, inside: frozenset[int], budget: Iterator[int]
) -> Iterator[tuple[str, _Stored]]:
    if id(module) in inside:
        raise ValueError(f"a module that contains itself, at {prefix or 'the top'}")
    if next(budget, None) is None:  # a few modules that share modules can have more names than anyone can list
        raise ValueError(f"more than {_MOST_MODULES:,} modules")
    for name, value in module.attributes.items():
        if isinstance(value, _Stored):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.", inside | {id(module)}, budget)


class _Mark:
    """Where a group of values begins on the stack."""


# Instructions that push what they carry.
_PUSHES = {
    "BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING",
    "SHORT_BINSTRING",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _follow(program: bytes) -> Any:
    """What a pickle of modules and tensors describes. Raises ValueError at the first instruction of another kind."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(program):
        name = opcode.name
        if name in _PUSHES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_Global(str(argument).replace(" ", ".")))
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            _build(name, stack)
    raise ValueError("its pickle does not end")


def _build(name: str, stack: list[Any]) -> None:
    """An instruction that makes a new value of those on the stack."""
    if name == "MARK":
        stack.append(_Mark())
    elif name in ("EMPTY_DICT", "EMPTY_LIST"):
        stack.append({} if name == "EMPTY_DICT" else [])
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
    elif name in ("SETITEM", "SETITEMS"):
        values = _since_mark(stack) if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
        stack[-1].update(zip(values[::2], values[1::2], strict=True))
    elif name in ("APPEND", "APPENDS"):
        values = _since_mark(stack) if name == "APPENDS" else [stack.pop()]
        stack[-1].extend(values)
    elif name == "BINPERSID":
        stack.append(_storage(stack.pop()))
    elif name == "NEWOBJ":
        arguments, kind = stack.pop(), stack.pop()
        if arguments != () or not isinstance(kind, _Global) or not kind.name.startswith("__torch__"):
            raise ValueError(f"it makes an object of {kind}")
        stack.append(_Module())
    elif name == "BUILD":
        state, module = stack.pop(), stack[-1]
        if not isinstance(module, _Module) or not isinstance(state, dict):
            raise ValueError(f"it sets the state of a {type(module).__name__}")
        module.attributes.update(state)
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_called(function, arguments))
    else:
        raise ValueError(f"its pickle holds the instruction {name}, which no module or tensor needs")


def _since_mark(stack: list[Any]) -> list[Any]:
    start = max(number for number, value in enumerate(stack) if isinstance(value, _Mark))
    values = stack[start + 1 :]
    del stack[start:]
    return values


def _storage(identity: Any) -> tuple[str, torch.dtype, int]:
    kind, dtype, key, _, size = identity
    if kind != "storage" or dtype.name not in _DTYPES or not str(key).isalnum():
        raise ValueError(f"it holds a {kind} of {dtype}")
    return str(key), _DTYPES[dtype.name], int(size)


def _called(function: Any, arguments: Any) -> Any:
    """The value of the few calls that such files contain; they are recognised by name, never made."""
    name = function.name if isinstance(function, _Global) else ""
    if name == "torch._utils._rebuild_tensor_v2":
        (storage, dtype, size), offset, shape, stride = arguments[:4]
        whole = all(type(number) is int for number in (offset, *shape, *stride)) and len(shape) == len(stride)
        if not whole or math.prod(shape) > size:
            raise ValueError(f"a tensor of shape {shape} and stride {stride} in {size} elements")
        return _Stored(storage, dtype, size, offset, tuple(shape), tuple(stride))
    if name == "collections.OrderedDict" and arguments == ():
        return {}
    if name.startswith("torch.jit._pickle.build_") or name == "torch.jit._pickle.restore_type_tag":
        return arguments[0]
    raise ValueError(f"it calls {name or type(function).__name__}; nothing was run")
