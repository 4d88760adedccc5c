"""The dataset card: a README.md with the header that the Hugging Face Hub reads, written from what a manifest holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k710.errors import ManifestError, UsageError
from k710.export.card_facts import CardFacts, card_facts
from k710.maintenance.status import SplitStatus, status
from k710.manifest.read import Manifest
from k710.sources.catalogue import Catalogue
from k710.sources.source import Source
from k710.storage.storage import held, replacing
from k710.store.store import Store

# The Hub's own names of sizes.
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_SPECIAL = re.compile(r"([\\`*_\[\]|~$#@!])")


@dataclass(frozen=True)
class Exported:
    """A view that lies beside the card as a Parquet file per split, in the place of a manifest.

    `left_out` says in words what of the view is not there; `renumbered`, that its classes have indices of their own.
    """

    view: str
    dialect: str
    rows: dict[str, int]  # by split
    files: dict[str, str]  # by split, relative to the card
    media: bool = False  # whether the videos are in the files
    left_out: str = ""
    renumbered: bool = False


def card(manifest: Manifest, *, store: Store | None = None, exported: Exported | None = None) -> str:
    """The card of a manifest, or of what was exported of it, as Markdown with its YAML header.

    `store` adds what is fetched. Raises ManifestError, RecipeError and StoreError for damage.
    """
    facts = card_facts(manifest)
    if exported is None:
        rows, data = facts.rows, [{"split": "clips", "path": list(facts.clips_files)}]
    else:
        rows = sum(exported.rows.values())
        data = [{"split": split, "path": path} for split, path in exported.files.items()]
    header = yaml.safe_dump(_header(facts, rows, data), sort_keys=False, allow_unicode=True, width=1000)
    media = status(manifest, store) if store is not None else ()
    sections = [
        _what_it_is(facts), _exported(exported), _counts(facts), _media(media, store), _rebuild(facts),
        _left_out(facts), _labels(facts),
        _licence(facts), _cite(facts),
    ]  # fmt: skip
    return "\n\n".join([f"---\n{header}---", *(section for section in sections if section)]) + "\n"


def check_card_place(manifest: Manifest, path: Path, name: str = "README.md") -> None:
    """Raise UsageError for a file inside the manifest that has not this name: it would be in the way of a build, or be
    the manifest's own."""
    folder, path = manifest.path.resolve(), path.resolve()
    if folder in path.parents and path != folder / name:
        what = "card" if name == "README.md" else "Croissant file"
        raise UsageError(f"{path}: lies inside the manifest {manifest.path}, where a {what} is {name} and nothing else")


def write_card(path: Path, text: str, *, force: bool = False) -> None:
    """Write a card or a Croissant file, whole or not at all. Raises ManifestError where a file is there and `force` is
    not given."""
    with held(path):
        if path.exists() and not force:
            raise ManifestError(f"{path}: exists already; --force replaces it")
        with replacing(path) as file:
            file.write(text.encode())


def _header(facts: CardFacts, rows: int, data_files: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "pretty_name": facts.catalogue.union.title,
        "license": "other",
        "license_name": "annotations-cc-by-4.0-videos-of-their-owners",
        "language": ["en"],
        "task_categories": ["video-classification"],
        "size_categories": [next((name for limit, name in _SIZES if rows < limit), "10M<n<100M")],
        "tags": [*facts.catalogue.union.tags, "action-recognition", "video", *facts.recipe.sources],
        "configs": [{"config_name": "default", "data_files": data_files}],
    }


def plain(text: object) -> str:
    """Text of whatever origin as Markdown that shows it and does nothing else, on one line."""
    shown = "".join(character if character.isprintable() else " " for character in str(text))
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", shown).replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table: numbers with thousands separators at the right; text is made plain."""
    rows = [list(row) for row in rows]
    numeric = [any(isinstance(row[number], int) for row in rows) for number in range(len(columns))]
    lines = [columns, ["---:" if is_number else "---" for is_number in numeric]]
    lines += [[f"{cell:,}" if isinstance(cell, int) else plain(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _what_it_is(facts: CardFacts) -> str:
    titles = ", ".join(_title(facts.catalogue[source]) for source in facts.recipe.sources)
    union, title = facts.catalogue.union, plain_title(facts.catalogue)
    sides = " and ".join(f"{count:,} {split}" for split, count in facts.counts[union.name].items()) or "no"
    classes = len(union.classes) or union.paper_classes
    what = "Clips of videos with a label each, as annotation: ID, span in seconds" if union.is_own else _OF_KINETICS
    several = f" Of {', '.join(union.all_clips)} all clips of a video are in it." if union.all_clips else ""
    return f"""# {title}

{what}, one of {classes} classes.
Made by `k710` from the annotation lists of {titles}: one clip per video, no video in both train and val, labels
aligned.{several} {title} has {sides} clips of {facts.classes:,} classes here. The manifest's table holds
{facts.rows:,} clips, those that were left out and why among them.

Content hash (SHA-256 over the rows): `{_hexadecimal(facts.content_hash)}`"""


_OF_KINETICS = "Clips of YouTube videos with a human action each, as annotation: YouTube ID, span in seconds"


def plain_title(sources: Catalogue) -> str:
    """The title of the union; of an own one, what the user says."""
    return plain(sources.union.title) if sources.union.is_own else sources.union.title


def _title(source: Source) -> str:
    return plain(source.title) if source.is_own else source.title


def _licence_of(source: Source) -> str:
    """The sentence on the licence of a source's lists; of a user's own source, what the user says."""
    if not source.is_own:
        return source.licence
    return f"{_title(source)}: {plain(source.licence) if source.licence else 'its lists state no licence.'}"


def _citations(facts: CardFacts) -> list[str]:
    """BibTeX entries. No line of a user's own can end the block that they stand in."""
    return [entry.replace("`", "") for entry in facts.catalogue.citations(facts.recipe.sources)]


def _hexadecimal(text: str) -> str:
    return re.sub(r"[^0-9a-f]", "?", text)


def _exported(exported: Exported | None) -> str:
    if exported is None:
        return ""
    rows = [[split, count, exported.files[split]] for split, count in exported.rows.items()]
    media = (
        "The column `video` holds the video\nof each clip that was fetched."
        if exported.media
        else "Of a clip's\nmedia only its place in the store is here, where the export was given one."
    )
    part = f"a part of its clips ({exported.left_out})" if exported.left_out else "a row per clip, fetched or not"
    order = "of the chosen classes" if exported.renumbered else f"`{exported.dialect}`"
    return f"""## What is here

View `{exported.view}`, {part}; class indices in the order {order}. {media}

{_table(["split", "clips", "file"], rows)}"""


def _counts(facts: CardFacts) -> str:
    splits = list(dict.fromkeys(split for counts in facts.counts.values() for split in counts))
    rows = [[view, *(counts.get(split, "") for split in splits)] for view, counts in facts.counts.items()]
    one = "a source" if facts.catalogue.union.is_own else "a release"
    return f"""## Clips by view and split

`{facts.catalogue.union.name}` is the curated dataset; {one} is what its lists say, untouched by curation.

{_table(["view", *splits], rows)}"""


def _media(lines: Sequence[SplitStatus], store: Store | None) -> str:
    if store is None:
        return ""
    failures = list(dict.fromkeys(name for line in lines for name in line.failed))
    rows = [
        [f"{line.view} {line.split}", line.clips, line.fetched, *(line.failed.get(name, 0) for name in failures),
         line.unsettled]
        for line in lines
    ]  # fmt: skip
    return f"""## Media

What was fetched of these clips, in encode profile {plain(store.profile_folder)}, when this card was written; videos
vanish from their public places, so no two copies are the same.

{_table(["", "clips", "fetched", *map(plain, failures), "not settled"], rows)}"""


def _rebuild(facts: CardFacts) -> str:
    lists = [[one.name, one.rows, one.malformed, one.sha256, one.origin] for one in facts.lists]
    tools = ", ".join(f"{plain(name)} {plain(version)}" for name, version in facts.tools.items())
    where = (
        "The lists are downloaded from their public addresses; one that was replaced there since has another SHA-256."
        if facts.lists_are_public
        else "`LISTS` is a folder with the annotation lists below."
    )
    same = (
        "The content hash must be the same."
        if facts.is_as_built
        else "A later step dropped clips of what this command builds (see the drop reasons below), so its content hash "
        "is another."
    )
    parts = [
        f"""## How to build it again

```console
$ {facts.build_command()}
```

{same} {where} Built with {tools or "unknown versions"}.

{_table(["list", "rows", "rows left out", "SHA-256", "from"], lists)}""",
        *map(plain, facts.list_warnings),
    ]
    if facts.union_files:
        files = _table(["file of the union", "SHA-256"], facts.union_files.items())
        parts.append(f"`{facts.catalogue.union.name}.yaml` is the file of the union:\n\n{files}")
    if facts.synonyms:
        rows = facts.synonyms.items()
        parts.append(f"`synonyms.csv` has the columns name,label and these rows:\n\n{_table(['name', 'label'], rows)}")
    return "\n\n".join(parts)


def _left_out(facts: CardFacts) -> str:
    recipe = facts.recipe
    rows = [[reason, clips, meaning] for reason, (clips, meaning) in facts.reasons.items()]
    ones = "sources" if facts.catalogue.union.is_own else "releases"
    held_out = f"{', '.join(recipe.holdout)}{_more_held_out(facts)}"
    policy = f"""## What was left out, and why

Leak policy {recipe.leak_policy}, holdout {held_out}. Of several {ones} that have a video the first
of {plain(", ".join(recipe.precedence))} wins."""
    return f"{policy}\n\n{_table(['drop reason', 'clips', 'meaning'], rows)}" if rows else policy


def _more_held_out(facts: CardFacts) -> str:
    held = facts.catalogue.union.holdout
    return "".join(f", and {' and '.join(splits)} of {name}" for name, splits in held.items())


def _labels(facts: CardFacts) -> str:
    rows = [[one.synonym.name, one.synonym.label, one.release, one.clips, one.synonym.doubt] for one in facts.doubts]
    name = facts.catalogue.union.short_title
    if not rows:
        return ""
    return f"""## Label doubts

Names that differ between the releases are joined by published synonyms. Of these the meanings may differ:

{_table(["name in the release", f"{name} class", "release", f"clips in {name}", "doubt"], rows)}"""


def _licence(facts: CardFacts) -> str:
    of_lists = dict.fromkeys(_licence_of(facts.catalogue[source]) for source in facts.recipe.sources)
    points = "\n".join("- " + licence.replace("\n", "\n  ") for licence in of_lists)
    return f"""## Licence

As far as known, and to be checked by whoever uses it:

{points}
- The videos belong to the people who uploaded them. No licence to them is given here; their owners' rights and
  YouTube's terms of service apply. Videos may be removed by their owners at any time, and copies should follow."""


def _cite(facts: CardFacts) -> str:
    return "## Citation\n\n```bibtex\n" + "\n".join(_citations(facts)) + "\n```"
