"""`k710 explain`: the history of one clip."""

from __future__ import annotations

import click

from k710.cli.common import DEFAULT_MANIFEST, PATH_OR_URL, NamesWithDash, print_json
from k710.storage.storage import Location


# IDs may begin with a dash. No option of this command is as long as an ID, so an unknown option is the argument.
@click.command("explain", cls=NamesWithDash)
@click.argument("id_or_clip")
@click.option("--manifest", type=PATH_OR_URL, default=DEFAULT_MANIFEST, show_default=True, help="The manifest.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(id_or_clip: str, manifest: Location, as_json: bool) -> None:
    """Explain the history of a clip.

    Prints the lists that contain the clip, the fate of each row, and the reason. A YouTube ID or address explains all
    clips of the video.

    \b
    Examples:
      k710 explain sample-0001 --manifest manifests/sample
      k710 explain sample-0001_000020_000030.mp4 --manifest manifests/sample
      k710 explain https://youtu.be/sample-0001 --manifest manifests/sample
    """
    import pyarrow.compute as pc

    from k710.cli.manifests import open_manifest
    from k710.curation.explain import explain
    from k710.errors import ManifestError
    from k710.manifest.file_names import name_alone, name_in

    wrong = (
        f"{id_or_clip!r} is not a YouTube ID (11 characters), the address of a video or a clip ({{id}}_000010_000020)"
    )
    try:
        opened = open_manifest(manifest)
    except ManifestError:
        if name_alone(id_or_clip):
            raise
        raise click.UsageError(wrong) from None  # whatever the manifest, this is no YouTube ID
    name = name_in(opened, id_or_clip)
    if name is None:
        own = " or ".join(source.title for source in opened.catalogue.own)
        raise click.UsageError(f"{wrong}, or an ID of {own}" if own else wrong)
    story = explain(opened, name)
    if as_json:
        clips = opened.clips.filter(pc.field("youtube_id") == name.youtube_id).to_pylist()
        print_json({"manifest": str(opened.path), "name": str(name), "story": story, "clips": clips})
    else:
        click.echo("\n".join(story))
