"""k710 makes Kinetics-710 reproducible. `k710.open_manifest(folder)` opens what `k710 build` wrote."""

from typing import TYPE_CHECKING, Any

from k710.version import __version__

if TYPE_CHECKING:
    from k710.errors import K710Error
    from k710.loading.dataset import ClipDataset
    from k710.manifest.read import Manifest, open_manifest


__all__ = ["ClipDataset", "K710Error", "Manifest", "__version__", "open_manifest"]

# Where each public name lives: imported when first used, so that `import k710` costs nothing.
_HOMES = {
    "ClipDataset": "k710.loading.dataset",
    "K710Error": "k710.errors",
    "Manifest": "k710.manifest.read",
    "open_manifest": "k710.manifest.read",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'k710' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
