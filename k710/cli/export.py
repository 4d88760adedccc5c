"""`k710 export`: list files for other trainers, and folders that other libraries open."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import (
    COMMA_LIST,
    FILE,
    FOLDER,
    FOLDER_OR_URL,
    PATH_OR_URL,
    VIEW,
    annotation_files,
    named_store,
    steps,
)
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted

if TYPE_CHECKING:
    from k710.export.selection import Selection
    from k710.manifest.read import Manifest
    from k710.store.store import Store


@click.command("export")
@click.argument("manifest", type=PATH_OR_URL)
@click.option(
    "--format",
    "form",
    required=True,
    help="csv, slowfast, videomae, videomaev2-pretrain, mmaction2, parquet, hf, fiftyone, lance; of clips in a store "
    "mmaction2-frames, videomae-frames, videomaev2-pretrain-frames, slowfast-frames, uniformerv2-frames, "
    "uniformerv2-segments.",
)
@click.option("--out", type=FOLDER, required=True, help="Folder for the files, one per split.")
@click.option("--view", "view_name", type=VIEW, help="The union, or a source as published.  [the union: k710]")
@click.option("--splits", type=COMMA_LIST, help="Splits to write.  [all splits of the view]")
@click.option(
    "--dialect", default="canonical", show_default=True, help="Index order: canonical, uniformerv2, videomaev2."
)
@click.option("--template", help="Path of a clip's file; see docs/export.md.  [{clip_id}.mp4]")
@click.option("--separator", help="Separator of path and class index; UniFormerV2's configs need a comma.  [a space]")
@click.option("--present", is_flag=True, help="Only clips that the store has.")
@click.option(
    "--store", type=FOLDER_OR_URL, help="Place of the media; with hf or lance, the place of each clip's media is added."
)
@click.option("--profile", help="Which encode profile of the store.  [h264]")
@click.option(
    "--classes", type=FILE, help="Only these classes: a file, one a line, whose order gives the class indices."
)
@click.option("--keep-indices", is_flag=True, help="With --classes: the class indices of the whole view.")
@click.option("--clips", type=FILE, help="Only the clips or videos of this list.")
@click.option("--per-class", type=click.IntRange(1), metavar="N", help="At most N clips of each class and split.")
@click.option("--seed", type=int, help="With --per-class: which ones.  [0]")
@click.option("--left-out", type=FILE, help="Write the names of the clips left out, and why, here (CSV).")
@click.option("--is-cc-from", metavar="DIR|sample", help="With csv: the lists of the release, to keep their is_cc.")
@click.option(
    "--media", is_flag=True, default=None, help="With hf or lance, and --store: put the videos into the files."
)
@click.option("--about", type=FILE, help="With hf: a YAML file with what only you know, for croissant.json.")
@click.option("--videos", type=FOLDER, help="With fiftyone: export the clips in this folder of files.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def command(
    manifest: Location,
    form: str,
    out: Path,
    view_name: str | None,
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
      k710 export manifests/sample --format videomae --view k400 --per-class 2 --out lists/k400-small
      k710 export manifests/sample --format hf --out hf/k710
    """
    from k710.cli.manifests import open_manifest
    from k710.export.lists import FOLDER_FORMS, FORMS, MEDIA_FORMS, split_parts
    from k710.export.selection import in_words, select, with_media, write_left_out
    from k710.manifest.views import view
    from k710.sources.known import check_splits

    given = {name: value for name, value in special.items() if value not in (None, False)}
    for name in given:
        allowed = _OF_FORM.get(name, (form,))
        if form in (*FORMS, *MEDIA_FORMS, *FOLDER_FORMS) and form not in allowed:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} needs --format {' or '.join(allowed)}, not with {form}")
    _check_together(form, given)
    opened = open_manifest(manifest)
    view_name = opened.catalogue.check_view(view_name)
    common: dict[str, Any] = {"dialect": dialect, "splits": check_splits(splits) if splits else (), "force": force}
    selection, left_out = _selection(opened, form, given), given.pop("left_out", None)
    if selection is None:
        _WRITERS.get(form, _lists)(opened, out, form, view_name, common, given)
        return
    table = view(opened.clips, view_name, opened.catalogue, dialect=dialect)
    split_parts(table, common["splits"])
    chosen, left = select(opened, table, selection, common["splits"])
    common["splits"] = ()
    if form in MEDIA_FORMS:
        assert selection.store is not None
        chosen = with_media(chosen, selection.store)
    if form == "hf":
        renumbered = selection.classes is not None and not selection.keep_indices
        given["part"] = {"left_out": in_words(left), "renumbered": renumbered}
    _WRITERS.get(form, _lists)(opened, out, form, view_name, common | {"chosen": chosen}, given)
    if left_out:
        write_left_out(left_out, left, force=force)
    if left:
        click.echo(in_words(left).replace("; ", "\n") + f"\n{left_out} names them" * bool(left_out))


def _check_together(form: str, given: dict[str, Any]) -> None:
    """Raises UsageError for an option without the one that it belongs to. A store that is the project's, and not named
    for this command, is then left alone."""
    from k710.export.lists import MEDIA_FORMS

    needs_store = "present" in given or form in MEDIA_FORMS or form in _FOLDERS
    in_hf = given.keys() & {"store", "present"}
    for name, others, is_given in (
        ("store", "--present, --format hf or lance, or a format of clips in a store", needs_store),
        (
            "profile",
            "--present, --store or a format of clips in a store",
            needs_store and (form not in _FOLDERS or in_hf),
        ),
        ("media", "--store", "store" in given),
        ("keep_indices", "--classes", "classes" in given),
        ("seed", "--per-class", "per_class" in given),
        ("left_out", "--present, --classes, --clips or --per-class", given.keys() & _CHOOSING or form in MEDIA_FORMS),
    ):
        if name in given and not is_given:
            if name in ("store", "profile") and click.get_current_context().get_parameter_source(name) in _USUAL:
                del given[name]
                continue
            raise click.UsageError(f"--{name.replace('_', '-')} needs {others}")


def _selection(manifest: Manifest, form: str, given: dict[str, Any]) -> Selection | None:
    """What the options say of the clips to export; None where they say nothing. They are taken out of `given`."""
    from k710.cli.fetch import store_of
    from k710.export.lists import MEDIA_FORMS
    from k710.export.selection import Selection

    chosen: dict[str, Any] = {
        name: given.pop(name) for name in ("classes", "keep_indices", "clips", "per_class", "seed") if name in given
    }
    if given.pop("present", False) or form in MEDIA_FORMS:
        profile = given.get("profile", DEFAULT_PROFILE)
        chosen["store"] = named_store(store_of(manifest.path, given.get("store")), profile)
        if form not in _FOLDERS or "store" not in given:
            given.pop("store", None)
            given.pop("profile", None)
    return Selection(**chosen) if chosen else None


def _lists(
    manifest: Manifest, out: Path, form: str, view_name: str, common: dict[str, Any], given: dict[str, Any]
) -> None:
    from k710.export.is_cc import with_is_cc
    from k710.export.lists import export
    from k710.manifest.views import splits_of, view
    from k710.sources.known import KNOWN_SOURCES

    dialect, table = common.pop("dialect"), common.pop("chosen", None)
    if table is None:
        table = view(manifest.clips, view_name, manifest.catalogue, dialect=dialect)
    if annotations := given.pop("is_cc_from", None):
        if view_name not in KNOWN_SOURCES:
            raise click.UsageError(f"--is-cc-from needs the view of a release: {', '.join(KNOWN_SOURCES)}")
        files = annotation_files(annotations, (view_name,), common["splits"] or splits_of(table))
        table = with_is_cc(table, view_name, manifest, files)
    written = export(table, out, form=form, **common, **given)
    for name, rows in written.items():
        click.echo(f"{out / name}: {counted(rows, 'clip')}")


def _hf(
    manifest: Manifest, out: Path, form: str, view_name: str, common: dict[str, Any], given: dict[str, Any]
) -> None:
    from k710.export.card import Exported, card
    from k710.export.croissant import CROISSANT, view_croissant
    from k710.export.hf import CARD, data_file, export_hf
    from k710.export.stated import Stated, read_stated

    store, part = _store_of(given), given.get("part", {})
    with_media = "media" in given

    def card_of(rows: dict[str, int]) -> str:
        files = {split: data_file(split, media=with_media) for split in rows}
        exported = Exported(view_name, common["dialect"], rows, files, with_media, **part)
        return card(manifest, store=store, exported=exported)

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


_LISTS = (
    *("slowfast", "videomae", "videomaev2-pretrain", "mmaction2"),
    *("mmaction2-frames", "videomae-frames", "videomaev2-pretrain-frames", "slowfast-frames", "uniformerv2-frames"),
    "uniformerv2-segments",
)
_USUAL = (click.core.ParameterSource.DEFAULT_MAP, click.core.ParameterSource.ENVIRONMENT)
_FOLDERS = ("hf", "lance")  # which hold the places of the media, or the media
_CHOOSING = {"present", "classes", "clips", "per_class"}
# The formats that each option is for.
_OF_FORM = {
    "template": (*_LISTS, "fiftyone"),
    "separator": _LISTS,
    "is_cc_from": ("csv",),
    "about": ("hf",),
    "media": ("hf", "lance"),
    "videos": ("fiftyone",),
}
_WRITERS = {"hf": _hf, "fiftyone": _fiftyone, "lance": _lance}
