"""What a model says of the clips of a split, computed once and kept: the answers that a distillation learns from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from k710.errors import CheckpointError
from k710.evaluation.view_model import ViewModel
from k710.evaluation.views_pass import Predictions
from k710.models.checkpoints.checkpoint import file_sha256
from k710.storage.storage import replacing

SUFFIX = ".parquet"
_KEY, _FORMAT = b"k710_logits", 1


@dataclass(frozen=True)
class KeptLogits:
    """Logits (clips, classes) float16 of the clips `clip_ids`, each the mean of its views', by the classes of `view`.

    `failed` are the clips that could not be read. `about` has what they are of: checkpoint, views, labels, manifest.
    """

    clip_ids: list[str]
    logits: npt.NDArray[np.float16]
    about: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        return [str(clip_id) for clip_id in self.about["failed"]]


def write_logits(path: Path, found: Predictions, model: ViewModel, about: dict[str, Any]) -> None:
    """Write logits as Parquet, whole or not at all. `about` joins what is recorded of them. Raises OSError."""
    record = about | {"format": _FORMAT, "label_sha256": model.labels.sha256, "failed": sorted(found.failed)}
    flat = pa.array(np.ascontiguousarray(found.scores.astype(np.float16)).reshape(-1), pa.float16())
    table = pa.table(
        {
            "clip_id": pa.array(found.clip_ids, pa.string()),
            "logits": pa.FixedSizeListArray.from_arrays(flat, found.scores.shape[1]),
        }
    ).replace_schema_metadata({_KEY: json.dumps(record).encode()})
    with replacing(path) as file:
        pa.parquet.write_table(table, file, compression="zstd")


def read_logits(path: Path) -> KeptLogits:
    """Raises CheckpointError for a file that `write_logits` did not write, or a damaged one."""
    try:
        table = pa.parquet.read_table(path)
        about = json.loads((table.schema.metadata or {})[_KEY])
        ids, column = table["clip_id"].to_pylist(), table["logits"].combine_chunks()
        logits = column.flatten().to_numpy(zero_copy_only=False).reshape(len(ids), -1)
        kept = KeptLogits([str(clip_id) for clip_id in ids], logits, about)
        _ = kept.failed, about["view"], about["label_sha256"], about["checkpoint"]["file"]
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:  # a file of anything can fail in any way
        reason = f"{type(error).__name__}: {str(error)[:120]}"
        raise CheckpointError(f"{path}: no logits of k710 predict --logits ({reason})") from None
    if about.get("format") != _FORMAT or logits.dtype != np.float16 or not np.isfinite(logits).all():
        raise CheckpointError(f"{path}: not the logits of this k710, or some are not finite; compute them again")
    return kept


def recorded_checkpoint(path: Path) -> dict[str, Any]:
    """What is kept of the checkpoint that answers: its file and, of a single file, its SHA-256."""
    return {"file": str(path.absolute()), "sha256": file_sha256(path) if path.is_file() else None}
