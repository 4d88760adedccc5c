"""k710 makes Kinetics-710 reproducible.

`open_manifest` opens what `k710 build` wrote. `open_dataset` opens the clips of a manifest's view and split, and
`ClipLoader` makes batches of them. `open_mix` opens several sources, for a training without labels. `open_stream` and
`StreamLoader` read shards of `k710 pack`.
"""

from typing import TYPE_CHECKING, Any

from k710.version import __version__

if TYPE_CHECKING:
    from k710.errors import K710Error
    from k710.loading.dataset import ClipDataset, open_dataset
    from k710.loading.load_clip import ClipOptions
    from k710.loading.loader import ClipLoader
    from k710.loading.mixed_dataset import MixedDataset, open_mix
    from k710.loading.stream import ShardStream, StreamLoader, open_stream
    from k710.manifest.read import Manifest, open_manifest


__all__ = [
    "ClipDataset",
    "ClipLoader",
    "ClipOptions",
    "K710Error",
    "Manifest",
    "MixedDataset",
    "ShardStream",
    "StreamLoader",
    "__version__",
    "open_dataset",
    "open_manifest",
    "open_mix",
    "open_stream",
]

# The module of each public name: imported when the name is first used, so that `import k710` costs nothing.
_MODULES = {
    "ClipDataset": "k710.loading.dataset",
    "ClipLoader": "k710.loading.loader",
    "ClipOptions": "k710.loading.load_clip",
    "K710Error": "k710.errors",
    "Manifest": "k710.manifest.read",
    "MixedDataset": "k710.loading.mixed_dataset",
    "ShardStream": "k710.loading.stream",
    "StreamLoader": "k710.loading.stream",
    "open_dataset": "k710.loading.dataset",
    "open_manifest": "k710.manifest.read",
    "open_mix": "k710.loading.mixed_dataset",
    "open_stream": "k710.loading.stream",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module 'k710' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
