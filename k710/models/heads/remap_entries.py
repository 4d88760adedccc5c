"""What a remap does to the other entries of a training checkpoint: whatever belongs to a row of the head goes with it.

Copies of the head (running averages) get the same rows; optimizer state is dropped, or its moments are picked; shapes,
class counts and class names that a loader believes are set to the new head's. What else has as many rows is named.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch

from k710.errors import CheckpointError
from k710.models.checkpoints.formats import bare
from k710.models.checkpoints.harmless import HistoryBuffer, without_curves
from k710.models.checkpoints.torch_files import TorchFile
from k710.models.heads.head_labels import labels_of_names
from k710.models.heads.heads import other_heads
from k710.models.heads.remap import Remap, fill

# Optimizer state under these names is dropped in whatever form it is; under any other name it is told by its form.
OPTIMIZER_ENTRIES = ("optimizer_state", "optimizer", "optimizer_state_dict", "optimizer_states")

# From these Lightning builds the model anew, so they must fit the new head.
_BUILT_FROM = ("hyper_parameters", "hparams")

_CLASS_COUNT = re.compile(
    r"(?:num|n|nb|number_of|no_of)_?(?:classes|labels|class|label|outputs)|classes|labels", re.IGNORECASE
)

_DEPTH = 16


class OtherEntries:
    """The other top-level entries of the first checkpoint as the remap leaves them.

    `changed` are the entries that are written in place of the old ones, `dropped` the names of those that are left out,
    `notes` the sentences that say so. Raises CheckpointError where optimizer state cannot be kept honestly, and for a
    copy of the head where several checkpoints are combined.
    """

    def __init__(self, remap: Remap, *, keep_optimizer: bool) -> None:
        source = remap.sources[0]
        self._remap, self._keep = remap, keep_optimizer
        self._path, self._labels, self._rows = source.checkpoint.path, source.labels, source.head.rows
        keys = filter(None, (key for head in source.heads for key in (head.weight, head.bias)))
        self._keys = {bare(key): key for key in keys}
        self._shapes = {name: source.checkpoint.tensors[key][1] for name, key in self._keys.items()}
        self._seen: dict[int, Any] = {}  # a few lists of lists can have more places than anyone can visit
        self._moments = dict.fromkeys(self._shapes, 0)
        self._kept: list[str] = []
        self.changed: dict[str, Any] = {}
        self.dropped: tuple[str, ...] = ()
        self.notes: list[str] = []
        self._stay: list[str] = []
        first = source.checkpoint.files[0]
        own = first.entries if isinstance(first, TorchFile) else ()
        for name, entry in source.checkpoint.payload.items():
            if name not in own:
                self._take(name, entry)
        if self._keep:
            self._check_moments()
        self._say_the_rest()

    def _take(self, name: str, entry: Any) -> None:
        if name in OPTIMIZER_ENTRIES or _is_optimizer(entry):
            if self._keep:
                self.changed[name] = self._keep_optimizer(name, entry)
            else:
                self.dropped += (name,)
                self.notes.append(f"{name} dropped (--keep-optimizer keeps it)")
            return
        without = without_curves(entry)
        if without is not entry:
            self.notes.append(f"the curves of MMEngine's log in {name} are left out")
        renewed = self._renewed(without, name)
        if renewed is not entry:
            self.changed[name] = renewed

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _renewed(self, value: Any, where: str, depth: int = 0) -> Any:
        """The value with all that belongs to the head's rows made to fit; the value itself where nothing does."""
        if not isinstance(value, dict | list) or depth > _DEPTH:
            return value
        if id(value) not in self._seen:
            new, same = copy.copy(value), True
            for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
                place = f"{where}.{key}"
                if isinstance(value, dict) and _is_optimizer(inner):
                    same = False
                    if self._keep:
                        new[key] = self._keep_optimizer(place, inner)
                    else:
                        del new[key]
                        self._note(f"{place} dropped (--keep-optimizer keeps it)")
                    continue
                new[key] = self._item(key, inner, place, depth)
                same = same and new[key] is inner
            self._seen[id(value)] = value if same else new
        return self._seen[id(value)]

    def _item(self, key: Any, value: Any, where: str, depth: int) -> Any:
        own = next((name for name in self._shapes if f".{key}".endswith(f".{name}")), None)
        entry = where.partition(".")[0]
        if isinstance(value, torch.Tensor):
            return self._tensor(own, value, where)
        if own and isinstance(value, torch.Size) and tuple(value) == self._shapes[own]:
            self._note(f"the shape of the head in {entry} is set to the new one")
            return torch.Size((len(self._remap.rows), *value[1:]))
        if isinstance(value, HistoryBuffer):
            raise CheckpointError(
                f"{self._path}: {where} is a curve of MMEngine's log in a place of its own; remove it"
            )
        if type(value) is int and value == self._rows != len(self._remap.rows):
            return self._count(str(key), value, where)
        if self._are_the_names(value, where):
            self._note(f"the class names in {where} are the new head's")
            return type(value)(self._remap.target.names)
        return self._renewed(value, where, depth + 1)

    def _tensor(self, own: str | None, value: torch.Tensor, where: str) -> torch.Tensor:
        if not own or not _is_plain(value, self._shapes[own]):
            if self._rows in value.shape:
                self._stay.append(where)
            return value
        entry = where.partition(".")[0]
        if len(self._remap.sources) > 1:
            raise CheckpointError(
                f"{self._path}: {entry} holds a second copy of the head (a running average); several checkpoints "
                "cannot be combined in it. Give the checkpoint without it"
            )
        self._note(f"the copy of the head in {entry} is remapped too")
        return fill(self._remap.rows, [value.detach()], self._remap.new_rows)

    def _count(self, key: str, value: int, where: str) -> int:
        if where.startswith(tuple(f"{name}." for name in _BUILT_FROM)) and _CLASS_COUNT.fullmatch(key):
            self._note(f"{where} is {len(self._remap.rows)}, so that the model is built with the new head")
            return len(self._remap.rows)
        if where.startswith(_BUILT_FROM) or _CLASS_COUNT.fullmatch(key):
            self._stay.append(f"{where} = {value}")
        return value

    def _are_the_names(self, value: Any, where: str) -> bool:
        if not isinstance(value, list | tuple) or len(value) != self._rows or type(value) not in (list, tuple):
            return False
        if not all(isinstance(name, str) for name in value):
            return False
        return where == "meta.dataset_meta.classes" or labels_of_names("own", value).keys == self._labels.keys

    def _keep_optimizer(self, where: str, value: Any) -> Any:
        self._kept.append(where)
        self._note(f"{where} kept, its moments of the head picked by the same rows")
        return self._optimizers(where, value)

    def _optimizers(self, where: str, value: Any) -> Any:
        """Optimizer states with the head's moments picked like its rows: one, or a list or dict of several.

        State goes by number or by name. By number, the head's is known by its shape alone. Refused where that is not
        certain, and where rows are averaged or new: moments of another row would be a lie, and zeros under an old step
        count too.
        """
        if not self._remap.only_picks:
            raise self._cannot(where, "some rows are new or averaged, and there are no true moments for them")
        if isinstance(value, list):
            return [self._optimizers(where, each) for each in value]
        if not isinstance(value, dict):
            raise self._cannot(where, "it is not in the form of torch.optim")
        if not isinstance(state := value.get("state"), dict):
            if not value or not all(_is_optimizer(each) for each in value.values()):
                raise self._cannot(where, "it is not in the form of torch.optim")
            return {key: self._optimizers(where, each) for key, each in value.items()}
        changed = dict(state)
        for name, shape in self._shapes.items():
            found = [key for key in state if isinstance(key, str) and f".{key}".endswith(f".{name}")]
            found = found or [key for key, slot in state.items() if _has_shape(slot, shape)]
            if len(found) > 1:
                raise self._cannot(where, self._uncertain(name, len(found)))
            for key in found:
                self._moments[name] += 1
                changed[key] = {
                    moment: fill(self._remap.rows, [each]) if _is_plain(each, shape) else each
                    for moment, each in state[key].items()
                }
        return {**value, "state": changed}

    def _check_moments(self) -> None:
        """With several optimizers, each parameter is in one of them."""
        for name, count in self._moments.items():
            if self._kept and count != 1:
                raise self._cannot(self._kept[0], self._uncertain(name, count))

    def _uncertain(self, name: str, count: int) -> str:
        shape = list(self._shapes[name])
        return f"{count} parameters have the shape {shape} of {self._keys[name]}, so its own is not certain"

    def _cannot(self, where: str, why: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {where} cannot be kept: {why}; drop it with --drop-optimizer")

    def _say_the_rest(self) -> None:
        source = self._remap.sources[0]
        others = [other.partition(" (")[0] for other in other_heads(source.checkpoint, source.head)]
        own = {*self._keys.values(), *(f"{name}.{kind}" for name in others for kind in ("weight", "bias"))}
        tensors = source.checkpoint.tensors.items()
        stay = [key for key, (_, shape, _) in tensors if shape[:1] == (self._rows,) and key not in own]
        stay += self._stay
        moved = list(self._remap.rows) != [((0, row),) for row in range(self._rows)]
        if stay and moved:
            more = f" and {len(stay) - 5} more" if len(stay) > 5 else ""
            self.notes.append(
                f"not the head, yet of {self._rows} rows or classes too; left as it is, look whether it belongs to the "
                f"classes: {', '.join(stay[:5])}{more}"
            )
        if {"ds_version", "param_shapes"} & source.checkpoint.payload.keys():
            self.notes.append(
                "a checkpoint of DeepSpeed: the optimizer's parts beside it (zero_pp_rank_*) keep the old head; load "
                "with load_module_only=True"
            )


def _is_optimizer(value: Any, depth: int = 0) -> bool:
    """Whether this is the state of a torch optimizer, or a list or dict of such states and of nothing else."""
    if isinstance(value, dict) and {"state", "param_groups"} <= value.keys():
        return True
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return bool(inner) and depth < 2 and all(_is_optimizer(each, depth + 1) for each in inner)


def _has_shape(slot: Any, shape: tuple[int, ...]) -> bool:
    values = slot.values() if isinstance(slot, dict) else ()
    return any(_is_plain(value, shape) for value in values)


def _is_plain(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value is a tensor of that shape, with its numbers in it."""
    is_tensor = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
    return is_tensor and tuple(value.shape) == shape
