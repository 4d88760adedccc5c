"""`k710 export`: list files for other trainers, and folders that other libraries open."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import COMMA_LIST, FILE, FOLDER, FOLDER_OR_URL, PATH_OR_URL, VIEW, named_store, steps
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted

if TYPE_CHECKING:
    from k710.manifest.read import Manifest
    from k710.store.store import Store


@click.command("export")
@click.argument("manifest", type=PATH_OR_URL)
@click.option(
    "--format",
    "form",
    required=True,
    help="csv, slowfast, videomae, videomaev2-pretrain, mmaction2, parquet, hf, fiftyone or lance.",
)
@click.option("--out", type=FOLDER, required=True, help="Folder for the files, one per split.")
@click.option(
    "--view", "view_name", type=VIEW, default="k710", show_default=True, help="k710, or a release as published."
)
@click.option("--splits", type=COMMA_LIST, help="Splits to write.  [all splits of the view]")
@click.option(
    "--dialect", default="canonical", show_default=True, help="Index order: canonical, uniformerv2, videomaev2."
)
@click.option("--template", help="Path of a clip's file; see docs/export.md.  [{clip_id}.mp4]")
@click.option("--separator", help="Separator of path and class index; UniFormerV2's configs need a comma.  [a space]")
@click.option("--store", type=FOLDER_OR_URL, help="With hf or lance: add the place of each clip's media in this store.")
@click.option("--profile", help="With --store: the encode profile.  [h264]")
@click.option("--media", is_flag=True, default=None, help="With --store: put the videos into the files.")
@click.option("--about", type=FILE, help="With hf: a YAML file with what only you know, for croissant.json.")
@click.option("--videos", type=FOLDER, help="With fiftyone: export the clips in this folder of files.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def command(
    manifest: Location,
    form: str,
    out: Path,
    view_name: str,
    splits: tuple[str, ...] | None,
    dialect: str,
    force: bool,
    **special: Any,
) -> None:
    """Write list files for other trainers.

    Writes one file per split of a view, with class indices in the given dialect. The formats hf, fiftyone and lance
    write a folder for Hugging Face's datasets, for FiftyOne or for Lance. --media adds the videos of a store.

    \b
    Examples:
      k710 export manifests/sample --format slowfast --view k400 --out lists/k400
      k710 export manifests/sample --format hf --out hf/k710
    """
    from k710.export.lists import FOLDER_FORMS, FORMS
    from k710.manifest.read import open_manifest
    from k710.sources.known import check_splits

    given = {name: value for name, value in special.items() if value is not None}
    for name in given:
        if form in (*FORMS, *FOLDER_FORMS) and form not in _OF_FORM[name]:
            raise click.UsageError(f"--{name} needs --format {' or '.join(_OF_FORM[name])}, not with {form}")
    opened = open_manifest(manifest)
    common = {"dialect": dialect, "splits": check_splits(splits) if splits else (), "force": force}
    _WRITERS.get(form, _lists)(opened, out, form, view_name, common, given)


def _lists(
    manifest: Manifest, out: Path, form: str, view_name: str, common: dict[str, Any], given: dict[str, Any]
) -> None:
    from k710.export.lists import export
    from k710.manifest.views import view

    dialect = common.pop("dialect")
    written = export(
        view(manifest.clips, view_name, manifest.catalogue, dialect=dialect), out, form=form, **common, **given
    )
    for name, rows in written.items():
        click.echo(f"{out / name}: {counted(rows, 'clip')}")


def _hf(
    manifest: Manifest, out: Path, form: str, view_name: str, common: dict[str, Any], given: dict[str, Any]
) -> None:
    from k710.export.card import Exported, card
    from k710.export.croissant import CROISSANT, view_croissant
    from k710.export.hf import CARD, data_file, export_hf
    from k710.export.stated import Stated, read_stated

    store = _store_of(given)
    with_media = "media" in given

    def card_of(rows: dict[str, int]) -> str:
        files = {split: data_file(split, media=with_media) for split in rows}
        return card(manifest, store=store, exported=Exported(view_name, common["dialect"], rows, files, with_media))

    stated = read_stated(given["about"]) if "about" in given else Stated()

    def croissant_of(files: dict[str, bytes]) -> str:
        return view_croissant(manifest, {data_file(split): content for split, content in files.items()}, stated)

    step = steps()
    written = export_hf(
        manifest,
        out,
        view_name=view_name,
        store=store,
        media=with_media,
        card_of=card_of,
        croissant_of=croissant_of,
        on_progress=partial(step, "writing videos"),
        **common,
    )
    step.end()
    for split, rows in written.items():
        click.echo(f"{out / data_file(split, media=with_media)}: {counted(rows, 'clip')}")
    click.echo(f"{out / CARD}: the card")
    if not with_media:
        click.echo(f"{out / CROISSANT}: Croissant")


def _lance(
    manifest: Manifest, out: Path, form: str, view_name: str, common: dict[str, Any], given: dict[str, Any]
) -> None:
    from k710.export.lance_folder import export_lance, lance_folder

    store, step = _store_of(given), steps()
    progress = partial(step, "writing videos")
    written = export_lance(
        manifest, out, view_name=view_name, store=store, media="media" in given, on_progress=progress, **common
    )
    step.end()
    for split, rows in written.items():
        click.echo(f"{out / lance_folder(split)}: {counted(rows, 'clip')}")


def _store_of(given: dict[str, Any]) -> Store | None:
    """The store that the options name; --profile and --media need one."""
    for name in ("profile", "media"):
        if name in given and "store" not in given:
            raise click.UsageError(f"--{name} needs --store")
    return named_store(given["store"], given.get("profile", DEFAULT_PROFILE)) if "store" in given else None


def _fiftyone(
    manifest: Manifest, out: Path, form: str, view_name: str, common: dict[str, Any], given: dict[str, Any]
) -> None:
    from k710.export.fiftyone import SAMPLES, export_fiftyone

    if {"template", "videos"} <= given.keys():
        raise click.UsageError(
            "--template and --videos cannot be combined: --template makes paths, --videos finds files"
        )
    counts = export_fiftyone(manifest, out, view_name=view_name, **common, **given)
    written = ", ".join(f"{count:,} {split}" for split, count in counts.samples.items())
    click.echo(f"{out / SAMPLES}: {written}")
    if any(counts.missing.values()):
        missing = ", ".join(f"{count:,} {split}" for split, count in counts.missing.items())
        click.echo(f"left out, because {given['videos']} has no file for them: {missing}")


_LISTS = ("slowfast", "videomae", "videomaev2-pretrain", "mmaction2")
# The formats that each option is for.
_OF_FORM = {
    "template": (*_LISTS, "fiftyone"),
    "separator": _LISTS,
    "store": ("hf", "lance"),
    "profile": ("hf", "lance"),
    "about": ("hf",),
    "media": ("hf", "lance"),
    "videos": ("fiftyone",),
}
_WRITERS = {"hf": _hf, "fiftyone": _fiftyone, "lance": _lance}
