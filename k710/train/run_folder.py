"""The files of a run. Each appears whole or not at all, and a resume needs only the newest checkpoint.

    RUN/
        recipe.yaml                      what was run, every value
        run.json                         on which clips, with which classes, by which versions
        mix.yaml, left-out.json          of a run on a mix: its members, and the videos that could not be used
        log.jsonl                        a line for each step and each validation
        checkpoints/step-00001200.pt     everything a resume needs: the last few
        best.pt                          weights and head of the best validation: for use, not for a resume

Each `.pt` is a k710 checkpoint (docs/heads.md).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import nn

from k710.errors import CheckpointError, TrainError
from k710.loading.clip_source import Media
from k710.loading.dataset import ClipDataset
from k710.loading.mix_file import Mix
from k710.loading.mixed_dataset import MixedDataset
from k710.manifest.read import Manifest
from k710.models.checkpoints.formats import OWN_MARK, OWN_VERSION
from k710.recipes import recipe_text
from k710.storage.storage import TEMPORARY_PREFIX, new_folder, replacing
from k710.text import counted, data_size, os_error_text
from k710.train.mix_record import changed_members
from k710.train.read_recipe import train_recipe_from
from k710.train.recipe import TrainRecipe
from k710.train.start import Origin
from k710.version import __version__

FOLDER = "checkpoints"
BEST = "best.pt"
LOG = "log.jsonl"
_LOCK = ".lock"
NEW = "new"  # in the record of a start: the names of the weights that it did not give
_STEP_FILE = re.compile(r"step-(\d{8})\.pt")


def step_files(run: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    files = [path for path in (run / FOLDER).glob("step-*.pt") if _STEP_FILE.fullmatch(path.name)]
    return sorted(files, reverse=True)


def step_name(step: int) -> str:
    return f"step-{step:08d}.pt"


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a k710 checkpoint, whole or not at all. Raises TrainError where the disk has no room for it."""
    try:
        with replacing(path) as file:
            torch.save({OWN_MARK: OWN_VERSION, **content}, file)
    except RuntimeError as error:  # torch hides the system's reason inside its own
        raise TrainError(f"{path}: cannot be written ({str(error).splitlines()[0]}); is the disk full?") from None
    except OSError as error:
        raise TrainError(f"{path}: cannot be written: {os_error_text(error)}; the checkpoint before it stays") from None


def write_step(run: Path, step: int, content: dict[str, Any], *, keep: int) -> Path:
    """Write the checkpoint of a step, then remove all but it and the newest `keep` - 1 before it."""
    path = run / FOLDER / step_name(step)
    write_checkpoint(path, content)
    before = [other for other in step_files(run) if other.name < path.name]
    for old in before[keep - 1 :]:
        old.unlink(missing_ok=True)
    return path


def newest_checkpoint(run: Path) -> tuple[Path, dict[Path, str]]:
    """The newest whole checkpoint of a run, and the damaged ones after it: what is wrong with each.

    Raises CheckpointError where none is.
    """
    damaged: dict[Path, str] = {}
    for path in step_files(run):
        try:
            check_whole(path)
            read_checkpoint(path)
        except CheckpointError as error:
            damaged[path] = str(error)
            continue
        return path, damaged
    reason = f" ({'; '.join(damaged.values())})" if damaged else ""
    raise CheckpointError(f"{run}: no checkpoint to go on from{reason}; take another --out, and begin anew")


def checkpoint_to_resume(run: Path) -> tuple[Path, dict[Path, str]] | None:
    """As `newest_checkpoint`; None where nothing has been saved yet, or nothing is there at all.

    Raises CheckpointError for a run whose checkpoints were removed: to begin anew would replace its best.pt.
    """
    if not step_files(run) and (run / BEST).exists():
        raise CheckpointError(f"{run}: has a {BEST}, and no checkpoint to go on from; take another --out")
    return newest_checkpoint(run) if step_files(run) else None


def check_whole(path: Path) -> None:
    """Raises CheckpointError unless each record of the file has its CRC, which torch does not look at."""
    try:
        with zipfile.ZipFile(path) as file:
            bad = file.testzip()
    except Exception as error:  # a damaged file can fail in any way
        raise CheckpointError(f"{path}: damaged: {error}") from None
    if bad is not None:
        raise CheckpointError(f"{path}: damaged: {bad} is not what was written")


def rename_damaged(damaged: Iterable[Path]) -> None:
    """Rename damaged checkpoints, so that no later resume tries them and none counts as one to keep."""
    for path in damaged:
        path.rename(path.with_suffix(".damaged"))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint that k710 wrote. Raises CheckpointError for any other file and for a damaged one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # processes share its pages
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; every process must see the folder of the run") from None
    except Exception as error:  # a damaged file can fail in any way
        raise CheckpointError(f"{path}: damaged: {str(error).splitlines()[0][:120]}") from None
    if not isinstance(content, dict) or content.get(OWN_MARK) != OWN_VERSION:
        raise CheckpointError(f"{path}: no checkpoint of this k710")
    return cast("dict[str, Any]", content)


def start_folder(run: Path, *, resume: bool) -> None:
    """Make the folder of a run. Raises TrainError where one is there already, unless it is to go on, and where
    something else is."""
    check_folder(run, resume=resume)
    with new_folder(run):
        pass


def check_folder(run: Path, *, resume: bool) -> None:
    """As `start_folder`, and makes nothing."""
    if run.exists() and not run.is_dir():
        raise TrainError(f"{run}: is a file, not a folder; choose another --out")
    if (run / "run.json").exists() and resume:
        return
    if (run / "run.json").exists():
        raise TrainError(f"{run}: a run is there already; --resume goes on with it, another --out starts anew")
    if not run.exists():
        return
    foreign = sorted(path.name for path in run.iterdir() if path.name != FOLDER and path.name[0] != ".")
    if foreign:
        raise TrainError(f"{run}: holds {foreign[0]!r}, so it is no folder for a run; choose another --out")


def write_facts(run: Path, recipe: TrainRecipe, facts: dict[str, Any]) -> None:
    """Write run.json and recipe.yaml; run.json first, since it marks the folder as a run's."""
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    with replacing(run / "run.json") as file:
        file.write((json.dumps(facts, indent=1) + "\n").encode())
    with replacing(run / "recipe.yaml") as file:
        file.write(yaml.safe_dump(recipe.as_dict(), sort_keys=False).encode())


def read_facts(run: Path) -> tuple[TrainRecipe, dict[str, Any]]:
    """The recipe and the facts of a run. Raises CheckpointError where there is none."""
    try:
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
        content = yaml.safe_load(recipe_text(run / "recipe.yaml"))
    except FileNotFoundError:
        raise CheckpointError(f"{run}: no run to go on with; start it without --resume") from None
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{run}: its run.json or recipe.yaml is damaged: {error}") from None
    return train_recipe_from(content, run / "recipe.yaml"), facts


def check_room(run: Path, needed_bytes: int) -> None:
    """Raises TrainError unless the disk has room for the run's checkpoints: checkpoints that
    are there already will be replaced, and count as free. `run` need not exist yet."""
    place = next(path for path in (run, *run.resolve().parents) if path.exists())
    there_bytes = sum(path.stat().st_size for path in (*step_files(run), run / BEST) if path.exists())
    free_bytes = shutil.disk_usage(place).free + there_bytes
    if free_bytes < needed_bytes:
        raise TrainError(
            f"{run}: its checkpoints need {data_size(needed_bytes)}, and the disk has {data_size(free_bytes)} "
            "free; make room, keep fewer (--keep 1), or write elsewhere with --out"
        )


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds the folder of a run for the time of the block, and removes half-written files. Raises TrainError where
    another process holds it."""
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    with (run / FOLDER / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainError(
                f"{run}: another process trains there, and holds {run / FOLDER / _LOCK}; wait for its end, or take "
                "another --out"
            ) from None
        except OSError:  # a file system without locks
            pass
        sweep(run)
        yield


def sweep(run: Path) -> None:
    """Remove what a killed run left half written."""
    for folder in (run, run / FOLDER):
        for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
            with contextlib.suppress(OSError):
                path.unlink()


# What a resume may change: how a batch is cut and how much of it is kept in memory. The results stay the same.
_CHANGEABLE = ("optim.gpu_batch_size", "model.checkpoint_blocks")


def facts_of(
    recipe: TrainRecipe,
    source: Manifest | Mix,
    media: Media,
    train: ClipDataset | MixedDataset,
    val: ClipDataset | MixedDataset | None,
    head: dict[str, Any] | None,
    origin: Origin,
) -> dict[str, Any]:
    """What run.json and every checkpoint record of a run: recipe, manifest, clips, labels, start, versions."""
    return {
        "recipe": recipe.as_dict(),
        **_source(source, media, train),
        "clips": {name: _clips(clips) for name, clips in (("train", train), ("val", val)) if clips is not None},
        "labels": head and {key: head[key] for key in ("label_set", "dialect", "label_sha256")},
        "start": {"clip_weights": _recorded(origin.weights), "init": _recorded(origin.init)},
        "versions": {"k710": __version__, "torch": str(torch.__version__)},
    }


def _source(source: Manifest | Mix, media: Media, train: ClipDataset | MixedDataset) -> dict[str, Any]:
    if isinstance(train, MixedDataset):
        return {"manifest": None, "profile": None, "mix": train.record()}
    assert not isinstance(source, Mix)
    manifest = {"content_hash": source.content_hash, "recipe": source.about["recipe"]}
    return {"manifest": manifest, "profile": media.profile_name}


def ignored_start(given: dict[str, Any], begun: dict[str, Any]) -> str | None:
    """The message for a resume that names another start than the run began from; None where it does not."""
    if not _start_files(given) or _start_files(given) == _start_files(begun):
        return None
    from_what, ignored = (" and ".join(map(str, _start_files(start).values())) for start in (begun, given))
    return f"it began from {from_what or 'nothing'}; {ignored} is not looked at"


def _recorded(source: str | Path | None) -> str | None:
    """A file by its absolute path, since the record is read from other folders; a name or an address as it is."""
    if source is None:
        return None
    return str(Path(source).absolute() if Path(source).exists() else source)


def _start_files(start: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in start.items() if name not in ("run", NEW) and value}


def _clips(clips: ClipDataset | MixedDataset) -> dict[str, Any]:
    return {"fingerprint": clips.fingerprint, **dataclasses.asdict(clips.counts)}


def check_same(out: Path, recipe: TrainRecipe, facts: dict[str, Any]) -> None:
    """Raises CheckpointError unless the run in `out` is of this recipe, these clips and these labels."""
    before, old = read_facts(out)
    was_given, is_given = before.flat(), recipe.flat()
    changed = [
        f"{key} was {was_given.get(key)!r} and is {is_given.get(key)!r}"
        for key in {**was_given, **is_given}
        if key not in _CHANGEABLE and was_given.get(key) != is_given.get(key)
    ]
    if changed:
        raise CheckpointError(f"{out}: the run there has another recipe: {'; '.join(changed)}")
    if changed := changed_members(old.get("mix"), facts.get("mix")):
        raise CheckpointError(
            f"{out}: the run there is on another mix: {'; '.join(changed)}. Go on with the old one, or start anew with "
            "another --out"
        )
    for split in ("train", "val"):
        was, now = old["clips"].get(split), facts["clips"].get(split)
        if (was or {}).get("fingerprint") != (now or {}).get("fingerprint"):
            counts = [f"{counted((clips or {}).get('loaded', 0), 'clip')}" for clips in (was, now)]
            raise CheckpointError(
                f"{out}: the run there is on other {split} clips ({counts[0]}, now {counts[1]}): the manifest, the "
                "store or the profile has changed since. Go on with the old ones, or start anew with another --out"
            )
    was, now = (set((one.get("teacher") or {}).get("sha256", {}).values()) for one in (old, facts))
    if was != now:
        raise CheckpointError(
            f"{out}: the run there learns from another teacher, {(old.get('teacher') or {}).get('file')}, whose bytes "
            "are not those of this one"
        )
    was, now = ((one.get("features") or {}).get("key") for one in (old, facts))
    if was != now:
        given = [f"features {key}" if key else "clips" for key in (was, now)]
        raise CheckpointError(f"{out}: the run there is trained on {given[0]}, and would go on with {given[1]}")
    if old["labels"] != facts["labels"]:
        raise CheckpointError(f"{out}: the run there has other labels: {old['labels']}, not {facts['labels']}")


def needed_bytes(model: nn.Module, recipe: TrainRecipe, *, keep: int) -> int:
    """The most bytes that a run's checkpoints take: those that are kept, one that is being written, and the best."""
    weights = sum(int(tensor.numel()) * 4 for tensor in model.state_dict().values())
    trained = sum(parameter.numel() * 4 for parameter in model.parameters() if parameter.requires_grad)
    each = weights + 2 * trained + (weights if recipe.optim.ema_decay else 0)
    return (keep + 1) * each + 2 * weights
