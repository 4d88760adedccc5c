"""The responsible-AI fields of a Croissant file: what a manifest and the papers of its sources state, and what a user
adds.

The names are those of Croissant RAI 1.0 (http://mlcommons.org/croissant/RAI/1.0). A field of which nothing is known is
left out.
"""

from __future__ import annotations

from k710.export.card_facts import CardFacts
from k710.sources.kinetics import K400
from k710.sources.known import KNOWN_SOURCES, UNION
from k710.sources.source import YOUTUBE
from k710.text import counted

# The fields of the vocabulary, and whether each may have several values (as mlcroissant 1.1 reads them).
RAI_FIELDS = {
    "dataCollection": False,
    "dataCollectionType": True,
    "dataCollectionMissingData": False,
    "dataCollectionRawData": False,
    "dataCollectionTimeframe": True,
    "dataImputationProtocol": False,
    "dataPreprocessingProtocol": True,
    "dataManipulationProtocol": False,
    "dataAnnotationProtocol": True,
    "dataAnnotationPlatform": True,
    "dataAnnotationAnalysis": True,
    "annotationsPerItem": False,
    "annotatorDemographics": True,
    "machineAnnotationTools": True,
    "dataBiases": True,
    "dataUseCases": True,
    "dataLimitations": True,
    "dataSocialImpact": False,
    "personalSensitiveInformation": True,
    "dataReleaseMaintenancePlan": False,
}

_KINETICS_PAPER = "Kay et al., The Kinetics Human Action Video Dataset, arXiv:1705.06950"


def responsible_ai(facts: CardFacts) -> dict[str, list[str]]:
    """What is known of each field, in the order of RAI_FIELDS."""
    known = {
        "dataCollection": _collection(facts),
        "dataCollectionType": ["Secondary Data analysis"],
        "dataCollectionMissingData": _missing(facts),
        "dataCollectionRawData": _raw_data(facts),
        "dataPreprocessingProtocol": _curation(facts),
        "dataAnnotationProtocol": _annotation(facts),
        "dataAnnotationPlatform": [f"Amazon Mechanical Turk, of Kinetics-400 ({_KINETICS_PAPER})"]
        if _has_kinetics_400(facts)
        else [],
        "dataBiases": _biases(facts),
        "dataUseCases": [f"Training and evaluation of models that classify human actions in video.{_used_by(facts)}"],
        "dataLimitations": _limitations(facts),
        "personalSensitiveInformation": _persons(facts),
    }
    return {name: values for name in RAI_FIELDS if (values := known.get(name))}


def _used_by(facts: CardFacts) -> str:
    """Who trains on the published union; of a user's own nothing is known."""
    if facts.catalogue.union.is_own:
        return ""
    return f" {UNION.title} is a training set of UniFormerV2 (arXiv:2211.09552) and VideoMAE V2 (arXiv:2303.16727)."


def _has_kinetics(facts: CardFacts) -> bool:
    return any(source in KNOWN_SOURCES for source in facts.recipe.sources)


def _has_kinetics_400(facts: CardFacts) -> bool:
    return K400.name in facts.recipe.sources


def _titles(facts: CardFacts) -> str:
    return ", ".join(facts.catalogue[source].title for source in facts.recipe.sources)


def _collection(facts: CardFacts) -> list[str]:
    collected = [
        f"Made by k710 from the annotation lists of {_titles(facts)}. No video and no label was collected anew."
    ]
    if _has_kinetics(facts):
        collected.append(
            "The Kinetics releases are clips of YouTube videos; within a class each is from another video "
            "(Carreira et al., A Short Note on the Kinetics-700 Human Action Dataset, arXiv:1907.06987, section 1)."
        )
    return [" ".join(collected)]


def _raw_data(facts: CardFacts) -> list[str]:
    lists = "; ".join(f"{one.name}: {counted(one.rows, 'row')}, SHA-256 {one.sha256}" for one in facts.lists)
    return [f"Annotation lists. {lists}."]


def _missing(facts: CardFacts) -> list[str]:
    unlabelled = facts.reasons.get("unlabelled", (0, ""))[0]
    malformed = sum(one.malformed for one in facts.lists)
    parts = [
        f"{counted(unlabelled, 'clip')} of test lists have no label." if unlabelled else "",
        f"{counted(malformed, 'list row')} could not be read and were left out." if malformed else "",
        "Videos are removed from their public places over time; the table also holds clips whose video is gone.",
        *facts.list_warnings,
    ]
    return [" ".join(part for part in parts if part)]


def _curation(facts: CardFacts) -> list[str]:
    recipe, union = facts.recipe, facts.catalogue.union
    ones, whose = ("sources", "the union's") if union.is_own else ("releases", "published")
    but = f" (of {', '.join(union.all_clips)} all clips of a video)" if union.all_clips else ""
    more = "".join(f", and {' and '.join(splits)} of {name}" for name, splits in union.holdout.items())
    steps = [
        f"One clip per video{but}; where several {ones} have a video, "
        f"the first of {', '.join(recipe.precedence)} wins. "
        "No video is in train and held out "
        f"(leak policy {recipe.leak_policy}, holdout {', '.join(recipe.holdout)}{more}). "
        f"Class names that mean one class are joined by {whose} synonyms.",
        f"`{facts.build_command()}` builds the table again, with content hash {facts.content_hash}.",
    ]
    if not facts.is_as_built:
        steps[1] = f"`{facts.build_command()}` builds the table from which a later step dropped clips."
    left_out = [f"{counted(clips, 'clip')} left out as {name}: {why}." for name, (clips, why) in facts.reasons.items()]
    return steps + left_out


def _annotation(facts: CardFacts) -> list[str]:
    labels = [f"Each labelled clip has one of {counted(facts.classes, 'class', 'classes')}, as its list gives it."]
    if _has_kinetics_400(facts):
        labels.append(f"Of Kinetics-400: crowd workers confirmed what a clip shows ({_KINETICS_PAPER}).")
    return labels


def _biases(facts: CardFacts) -> list[str]:
    if not _has_kinetics_400(facts):
        return []
    return [
        "Kinetics-400's authors carry out a preliminary analysis of whether imbalance in the dataset leads to bias in "
        f"the classifiers ({_KINETICS_PAPER}). k710 has not measured biases."
    ]


def _limitations(facts: CardFacts) -> list[str]:
    limits = [
        "The dataset is a table of annotations. The videos are not part of it, and no two copies of them are the same, "
        "because videos are removed from their public places.",
        "A list gives a clip one class; other actions that the clip shows are not labelled.",
    ]
    used = [(one.synonym, one.release, counted(one.clips, "clip")) for one in facts.doubts if one.clips]
    if used:
        doubts = "; ".join(f"{name.name} ({by}) as {name.label}, {name.doubt}: {clips}" for name, by, clips in used)
        limits.append(f"Class names that are joined although their meanings may differ: {doubts}.")
    if "near_duplicate" not in facts.reasons:
        limits.append("Videos are compared by their IDs; the same footage under two IDs was not removed.")
    return limits


def _persons(facts: CardFacts) -> list[str]:
    youtube = any(facts.catalogue[source].ids == YOUTUBE for source in facts.recipe.sources)
    ids = "YouTube IDs" if youtube else "IDs of videos"
    what = f"The table holds {ids}, times and class names; it has no column on persons."
    shown = "The videos show people, who may be recognisable."
    videos = shown if _has_kinetics(facts) else ""
    removed = "Owners may remove their videos at any time, and copies should follow."
    return [" ".join(part for part in (what, videos, removed) if part)]


def joined_fields(known: dict[str, list[str]], added: dict[str, list[str]]) -> dict[str, str | list[str]]:
    """The fields as Croissant has them, with the values of `added` after those that are known."""
    fields: dict[str, str | list[str]] = {}
    for name, several in RAI_FIELDS.items():
        values = [*known.get(name, ()), *added.get(name, ())]
        if values:
            fields[f"rai:{name}"] = values if several and len(values) > 1 else " ".join(values)
    return fields
