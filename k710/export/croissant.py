"""A dataset's description in Croissant, the JSON-LD format of MLCommons, with the fields of Croissant RAI.

Readers load the rows of the Parquet files by it, and check their SHA-256. Croissant 1.0:
http://mlcommons.org/croissant/1.0
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from k710.errors import ManifestError, UsageError
from k710.export.card_facts import CardFacts, card_facts
from k710.export.responsible_ai import joined_fields, responsible_ai
from k710.export.stated import Stated
from k710.manifest.read import Manifest

CROISSANT = "croissant.json"
_CONFORMS_TO = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
_PARQUET = "application/x-parquet"  # the name that Croissant's readers know

# The terms of the format, as its specification lists them for the @context of every file.
_CR_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{term: f"cr:{term}" for term in _CR_TERMS},
}

_COLUMNS = {
    "clip_id": "ID of the clip: the video's ID and the span",
    "youtube_id": "ID of the video; SOURCE~ID where it is not YouTube's",
    "time_start_s": "start of the clip in its video, in seconds",
    "time_end_s": "end of the clip in its video, in seconds",
    "label": "class of the clip: its name, or its index in record set classes-label",
    "class_id": "index of the class",
    "other_class_ids": "other classes that lists give this very clip",
    "split": "train or val; null for a clip that was left out",
    "drop_reason": "why the clip was left out",
    "kept_clip_id": "the clip that was kept instead",
    "failure": "why the clip's video could not be fetched",
    "tar": "file of the store that holds the clip's video",
    "offset": "first byte of the video in that file",
    "size": "bytes of the video",
    "sha256": "SHA-256 of the video",
    "suffix": "kind of the video file",
    "width": "width of the video in pixels",
    "height": "height of the video in pixels",
    "fps": "frames per second of the video",
    "num_frames": "frames of the video",
    "duration_s": "length of the video in seconds",
    "codec": "codec of the video",
}
_OF_SOURCE = {
    "split": "the split in which {title} lists the clip; several are joined by commas",
    "class_id": "index of the class that {title} gives the clip, see record set classes-{source}",
    "class_ids": "index of the class in each split of {title} that lists the clip",
    "label": "index of the class that {title} gives the clip, see record set classes-{source}",
}


@dataclass(frozen=True)
class RecordFile:
    """A Parquet file whose rows are a record set. `address` is relative to the Croissant file, or a URL."""

    record_set: str
    address: str
    schema: pa.Schema
    size_bytes: int
    sha256: str


def record_file(record_set: str, address: str, content: bytes) -> RecordFile:
    """What a Croissant file says of a Parquet file with this content."""
    schema = pa.parquet.read_schema(io.BytesIO(content))
    return RecordFile(record_set, address, schema, len(content), hashlib.sha256(content).hexdigest())


def manifest_croissant(manifest: Manifest, stated: Stated, *, base_url: str = "") -> str:
    """The Croissant file of a manifest: its clips table is the record set `clips`.

    The table's address is relative to the manifest's folder, or below `base_url`. Raises ManifestError for a manifest
    whose rows or files are not those that dataset.json lists, and the errors of `card_facts`.
    """
    facts, union = card_facts(manifest), manifest.catalogue.union
    entries = manifest.about["clips"]
    if len(entries) != 1:
        raise ManifestError(f"{manifest.path}: has {len(entries)} clips files; Croissant describes a table of one")
    (entry,) = entries
    table = record_file("clips", _below(base_url, entry["file"]), (manifest.path / entry["file"]).read_bytes())
    if table.sha256 != entry["sha256"]:
        raise ManifestError(
            f"{manifest.path / entry['file']}: SHA-256 {table.sha256}, dataset.json has {entry['sha256']}"
        )
    names = {view: manifest.class_names(view) for view in (union.name, *facts.recipe.sources)}
    return croissant(facts, [table], names, stated)


def view_croissant(manifest: Manifest, files: Mapping[str, bytes], stated: Stated) -> str:
    """The Croissant file of Parquet files that export_hf made of a view, by their addresses; each is a record set named
    as the file. The classes are those that the files' own metadata names."""
    tables = [record_file(Path(address).stem, address, content) for address, content in files.items()]
    features = json.loads(tables[0].schema.metadata[b"huggingface"])["info"]["features"]
    names = {
        column.removesuffix("_label"): feature["names"] for column, feature in features.items() if "names" in feature
    }
    return croissant(card_facts(manifest), tables, names, stated)


def check_croissant_place(manifest: Manifest, path: Path, base_url: str | None) -> None:
    """Raise UsageError for a Croissant file from which no reader would find the table: outside the manifest without the
    manifest's address, or with one that is none of the web."""
    if base_url is None and path.resolve().parent != manifest.path.resolve():
        raise UsageError(
            f"{path}: lies outside {manifest.path}, so its readers would not find the table; write "
            f"{manifest.path / CROISSANT}, or say with --base-url where the manifest is published"
        )
    if base_url is not None and not re.match(r"https?://[^\s/]", base_url):
        raise UsageError(f"--base-url {base_url!r} is no address that starts with https:// or http://")


def croissant(
    facts: CardFacts, tables: Sequence[RecordFile], names: Mapping[str, Sequence[str]], stated: Stated
) -> str:
    """The text of a Croissant file. `names` gives the classes of each view, in the order of their indices."""
    titles = ", ".join(facts.catalogue[name].title for name in facts.recipe.sources)
    description = (
        "Clips of videos with a human action each, as annotations: the video's ID, the span in seconds, the class. "
        f"Made by k710 from the annotation lists of {titles}. "
        f"The videos are not part of it. Content hash (SHA-256 over the rows): {facts.content_hash}"
    )
    about = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": facts.catalogue.union.title,
        "description": description,
        "conformsTo": _CONFORMS_TO,
        "license": _licences(facts),
        "usageInfo": "The videos belong to the people who uploaded them. No licence to them is given here.",
        "citeAs": "\n".join(facts.catalogue.citations(facts.recipe.sources)),
        "keywords": [*facts.catalogue.union.tags, "action recognition", "video", *facts.recipe.sources],
        "inLanguage": "en",
        "isBasedOn": [_source_list(one) for one in facts.lists],
        **stated.properties,
        **joined_fields(responsible_ai(facts), stated.rai),
        "distribution": [_file_object(table) for table in tables],
        "recordSet": [
            *(_record_set(table, facts) for table in tables),
            *(_classes(view, classes) for view, classes in names.items()),
        ],
    }
    return json.dumps(about, indent=1) + "\n"


def _below(base_url: str, file: str) -> str:
    return f"{base_url.rstrip('/')}/{file}" if base_url else file


def _licences(facts: CardFacts) -> list[str]:
    """The licence of the annotations of each source: the addresses that its sentence links to, else the sentence."""
    found: dict[str, None] = {}
    for name in facts.recipe.sources:
        source = facts.catalogue[name]
        text = source.licence or f"{source.title}: its lists state no licence."
        found |= dict.fromkeys(re.findall(r"\]\((https?://[^)\s]+)\)", text) if not source.is_own else ()) or {
            text: None
        }
    return list(found)


def _source_list(one: Any) -> dict[str, str]:
    where = {"url": one.origin} if "://" in one.origin else {"alternateName": one.origin}
    return {"@type": "sc:Dataset", "name": f"annotation list {one.name}", **where, "sha256": one.sha256}


def _file_object(table: RecordFile) -> dict[str, str]:
    return {
        "@type": "cr:FileObject",
        "@id": f"{table.record_set}.parquet",
        "name": f"{table.record_set}.parquet",
        "contentUrl": table.address,
        "contentSize": f"{table.size_bytes} B",
        "encodingFormat": _PARQUET,
        "sha256": table.sha256,
    }


def _record_set(table: RecordFile, facts: CardFacts) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": table.record_set,
        "name": table.record_set,
        "key": {"@id": f"{table.record_set}/clip_id"},
        "field": [
            _field(table.record_set, column, meaning)
            for column in table.schema
            if (meaning := _meaning(column.name, facts))  # a column that no k710 writes is not described
        ],
    }


def _field(record_set: str, column: pa.Field, meaning: str) -> dict[str, Any]:
    is_list = pa.types.is_list(column.type)
    kind = column.type.value_type if is_list or pa.types.is_dictionary(column.type) else column.type
    data_type = "sc:Integer" if pa.types.is_integer(kind) else "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{column.name}",
        "name": column.name,
        "description": meaning,
        "dataType": data_type,
        **({"repeated": True} if is_list else {}),
        "source": {"fileObject": {"@id": f"{record_set}.parquet"}, "extract": {"column": column.name}},
    }


def _meaning(column: str, facts: CardFacts) -> str:
    if column in _COLUMNS:
        return _COLUMNS[column]
    for source in facts.catalogue.names:
        what = column.removeprefix(f"{source}_")
        if what != column and what in _OF_SOURCE:
            return _OF_SOURCE[what].format(title=facts.catalogue[source].title, source=source)
    return ""


def _classes(view: str, names: Sequence[str]) -> dict[str, Any]:
    """The names of a view's classes, as a record set with its rows in it."""
    name = f"classes-{view}"

    def field(column: str, data_type: str) -> dict[str, str]:
        return {"@type": "cr:Field", "@id": f"{name}/{column}", "name": column, "dataType": data_type}

    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"the classes of {view} and their indices",
        "key": {"@id": f"{name}/class_id"},
        "field": [field("class_id", "sc:Integer"), field("label", "sc:Text")],
        "data": [{f"{name}/class_id": index, f"{name}/label": label} for index, label in enumerate(names)],
    }
