"""A folder of lists and cards, sent to a dataset repository of the Hugging Face Hub.

Lists, tables and cards are sent; media only where the user asks for them, because their owners' rights apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from k710.errors import MachineError, ManifestError, RemoteError, UsageError
from k710.manifest.read import open_manifest

_LISTS = (".md", ".json", ".csv", ".txt")
# Of a manifest: its store and its earlier versions are k710's own.
_OF_MANIFEST = ("README.md", "croissant.json", "dataset.json")


@dataclass(frozen=True)
class Push:
    """Files of a folder, relative to it: those to send, and the media that stay here."""

    folder: Path
    files: tuple[str, ...]
    media: tuple[str, ...]

    def size_bytes(self) -> int:
        """Of the files to send."""
        return sum((self.folder / name).stat().st_size for name in self.files)


def plan_push(folder: Path, *, media: bool = False) -> Push:
    """What of a folder is sent: with `media`, also its videos, shards, and tables that hold videos.

    Of a manifest, only the committed table and its cards are sent. Hidden files stay here. Raises ManifestError for a
    folder without such files or a damaged table, UsageError for a link that leads out of the folder.
    """
    if (folder / "dataset.json").exists():
        named = [*_OF_MANIFEST, *(entry["file"] for entry in open_manifest(folder).about["clips"])]
        files, kept = [name for name in named if (folder / name).is_file()], []
    else:
        found = sorted(_files(folder))
        kept = [] if media else [name for name in found if _is_media(folder / name)]
        files = [name for name in found if name not in set(kept)]
    if not files:
        of_which = f"; its {len(kept)} files are media, which --media sends" if kept else ""
        raise ManifestError(f"{folder}: has nothing to push{of_which}")
    for name in files:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"{folder / name}: is a link that leads out of {folder}; only files of the folder are sent"
            )
    return Push(folder, tuple(files), tuple(kept))


def push(plan: Push, repository: str, *, public: bool = False) -> str:
    """Send the files to a dataset repository `ORGANISATION/NAME`; returns its address.

    A repository that is not there is made, private unless `public`; one that is there keeps its visibility. The login
    is that of huggingface_hub (HF_TOKEN, or `hf auth login`). Raises MachineError where huggingface_hub is
    not installed, UsageError for a name that is none, RemoteError where the Hub refuses or does not answer.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
    except ImportError as error:
        raise MachineError(f"push needs huggingface_hub ({error}): pip install 'k710[hub]'") from None
    hub = HfApi()
    try:
        url = hub.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=plan.folder,
            allow_patterns=[_literal(name) for name in plan.files],
            commit_message="k710 push",
        )
    except HFValidationError as error:
        raise UsageError(f"{repository}: {error}") from None
    except LocalTokenNotFoundError:
        raise RemoteError("the Hub needs a login: `hf auth login`, or set HF_TOKEN") from None
    except Exception as error:  # of its HTTP library, which is another one in each of its major versions
        why = " ".join(str(one).strip() for one in (error, error.__cause__) if one)
        raise RemoteError(f"{repository}: the Hub did not take it: {why}") from error
    return str(url)


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()


def _is_media(path: Path) -> bool:
    """Whether a file is neither a list nor a card; a table is media if it has a column of bytes."""
    if path.suffix != ".parquet":
        return path.suffix not in _LISTS
    try:
        return any(_holds_bytes(field.type) for field in pa.parquet.read_schema(path))
    except pa.ArrowException as error:
        raise ManifestError(f"{path}: is no Parquet file that can be read: {error}") from None


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _literal(name: str) -> str:
    """A pattern that matches this name alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
