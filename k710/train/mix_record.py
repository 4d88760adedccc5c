"""What a run on a mix leaves in its folder, and how two such records differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from k710.loading.mix_file import Mix
from k710.loading.mix_member import LEFT_OUT
from k710.loading.mixed_dataset import MixedDataset
from k710.storage.storage import replacing

MIX = "mix.yaml"
LEFT_OUT_FILE = "left-out.json"
# What follows from other parts of a member's record, or changes nothing that is drawn.
_FOLLOWING = ("share", "draws", "fingerprint", LEFT_OUT)


def write_mix(run: Path, mix: Mix, train: MixedDataset) -> None:
    """Write mix.yaml, with whole paths, and the videos that were left out with their reasons, where there are any."""
    with replacing(run / MIX) as file:
        file.write(yaml.safe_dump(mix.as_dict(), sort_keys=False, allow_unicode=True).encode())
    left_out = train.left_out()
    if left_out:
        with replacing(run / LEFT_OUT_FILE) as file:
            file.write((json.dumps(left_out, indent=1) + "\n").encode())


def changed_members(was: list[dict[str, Any]] | None, now: list[dict[str, Any]] | None) -> list[str]:
    """What is different between the records of two mixes; None is a run on a manifest."""
    if was is None or now is None:
        kinds = ["a manifest" if one is None else "a mix" for one in (was, now)]
        return [] if was is now else [f"it was on {kinds[0]} and is on {kinds[1]}"]
    old, new = ({member["name"]: member for member in members} for members in (was, now))
    changed = [f"{name} is new" for name in new if name not in old] + [
        f"{name} is gone" for name in old if name not in new
    ]
    for name in (name for name in old if name in new):
        keys = [key for key in {**old[name], **new[name]} if old[name].get(key) != new[name].get(key)]
        told = [key for key in keys if key not in _FOLLOWING]
        changed += [f"{key} of {name} was {old[name].get(key)} and is {new[name].get(key)}" for key in told]
        if not told and "fingerprint" in keys:
            changed.append(f"the files of {name} are others")
    if not changed and list(old) != list(new):
        changed = ["its members have another order"]
    return changed
