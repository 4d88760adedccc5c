"""A union.yaml and its file of synonyms: what they mean, and what is refused, with file, line, value and choices."""

from __future__ import annotations

import csv
import io

import pytest

from k710.errors import K710Error, LabelError, RecipeError
from k710.lists.labels import class_names
from k710.lists.union_classes import read_union_synonyms, suggested_synonyms, union_classes
from k710.lists.union_spec import read_union_spec
from k710.lists.unions import members_of, read_union, synonyms_of
from tests.helpers.union_lists import write_members, write_union

MINE = {"mine.csv": "id,label,start,end,split\na,archery,0,2,train\nb,clap,1,2.5,val\n"}
MEMBERS = (("k710", ("archery", "clapping", "abseiling")), ("mit", ("clapping", "Applauding")), ("mine", ("clap",)))


def union(tmp_path, text, **files):
    return read_union_spec(str(write_union(tmp_path, text, **files)))


def test_what_a_file_says(tmp_path):
    (tmp_path / "mine.csv").write_text(MINE["mine.csv"])
    spec = union(
        tmp_path,
        "name: mash\ntitle: Our mash\nmembers: [Kinetics-710, activitynet, mine: mine.csv]\nbeside: [k700_2020, hacs]\n"
        "same_names: merge\nprecedence: [mine, K710, activitynet]\nall_clips: [activitynet]\n"
        "holdout: {k710: [val, test], hacs: val, k700_2020: [test]}\n",
    )
    assert spec.sources == ("k400", "k600", "k700", "activitynet", "mine")
    assert spec.ranked == ("mine", "k700", "k600", "k400", "activitynet")
    assert spec.kept_whole == ("activitynet",)
    assert (spec.policy, spec.policy_holdout) == ("train-purge", ("val",))
    both = ("val", "test")
    assert spec.held == {"k400": both, "k600": both, "k700": both, "hacs": ("val",), "k700_2020": ("test",)}


def test_a_union_can_be_a_member_with_its_own_decisions(tmp_path):
    write_members(tmp_path / "lists")
    inner = "name: inner\nmembers: [k710, mit]\nsame_names: merge\nholdout: [val, test]\nall_clips: [mit]\n"
    spec = union(tmp_path, "name: outer\nmembers: [inner.yaml, ssv2]\n", inner__yaml=inner)
    assert spec.sources == ("k400", "k600", "k700", "mit", "ssv2")
    assert spec.ranked == ("k700", "k600", "k400", "mit", "ssv2")
    assert spec.kept_whole == ("mit",)
    assert set(spec.held) == {"k400", "k600", "k700", "mit"}
    found = read_union(spec, tmp_path / "lists")
    names = found.union.classes
    assert len(names) == 710 + 1 + 2
    assert names[found.union.class_maps["mit"][0]] == "clapping"
    k400 = class_names("k400")
    assert names[found.union.class_maps["k400"][k400.index("tying tie")]] == "tying necktie", "as in Kinetics-710"
    assert [one["file"] for one in found.files] == ["union.yaml", "inner.yaml"]
    assert dict(found.released) == dict.fromkeys(("k400", "k600", "k700"), ("train", "val", "test"))


BAD = {
    "name: mash\nmembers: [k710, nobody]\n": "line 2: members: 'nobody'; known: k710, k400",
    "name: mash\nmembers: [k710, activitynet]\nprecedence: [k710]\n": "line 3: precedence: lacks activitynet; want",
    "name: mash\nmembers: [k710]\nprecedence: [k710, mit]\n": "line 3: precedence: 'mit' is no member; members: k710",
    "name: mash\nmembers: [ssv2, mit]\nprecedence: [mit, ssv2, mit]\n": "line 3: precedence: 'mit' appears twice",
    "name: mash\nmembers:\n- k710\n- k400\n": "line 4: members: k400 is named twice, by k710 and k400; want each data",
    "name: mash\nmembers: [mit, mit]\n": "line 2: members: mit is named twice, by mit; want each data set once",
    "name: mash\nmembers: [ucf101]\n": "'ucf101' has several views; name one of them: ucf101_1, ucf101_2, ucf101_3",
    "name: mash\nmembers:\n- k710\n- mine: nowhere.csv\n": "line 4: members: mine: .*nowhere.csv: no such "
    "file or folder; a path is relative to the folder of this file",
    "name: mash\nmembers: [other.yaml]\n": "line 2: members: .*other.yaml: no such file or folder",
    "name: mash\nmembers: [union.yaml]\n": "a union is a member of itself: union.yaml -> union.yaml",
    "name: mash\nmembers: [k710]\nsynonyms: names.csv\n": "line 3: synonyms: .*names.csv: no such file or folder",
    "name: mash\nmembers: []\n": r"members: want a list of data sets, not \[\]",
    "name: mash\n": "members: want a list of data sets, not None",
    "members: [k710]\n": "union.yaml: no name",
    "name: k400\nmembers: [k710]\n": "line 1: name: 'k400' is the name of another data set",
    "name: hacs\nmembers: [k710]\n": "line 1: name: 'hacs' is the name of another data set",
    "name: K-Mash\nmembers: [k710]\n": "line 1: name: a source cannot be called 'K-Mash'; want lower-case letters",
    "name: mash\nmembers: [k710]\nsame_names: maybe\n": "line 3: same_names: 'maybe'; known: ask, merge",
    "name: mash\nmembers: [k710]\npolicy: none\n": "line 3: policy: 'none'; known: train-purge, val-purge",
    "name: mash\nmembers: [k710]\nholdout: test\n": "line 3: holdout: lacks val; the val lists of the members",
    "name: mash\nmembers: [k710]\nholdout: train\n": "line 3: holdout: 'train'; want val, test or",
    "name: mash\nmembers: [k710]\nholdout: {mit: val}\n": "holdout: 'mit'; known: k710. `beside` takes more data sets",
    "name: mash\nmembers: [k710]\nholdout: {k710: test}\n": "holdout: k710 lacks val; the val lists of the members",
    "name: mash\nmembers: [k710]\npolicy: val-purge\nholdout: [val, test]\n": "line 3: policy: val-purge keeps every",
    "name: mash\nmembers: [k710]\nall_clips: [k400]\n": "line 3: all_clips: 'k400' is no member; members: k710",
    "name: mash\nmembers: [k710]\nmember: [mit]\n": "line 3: unknown key 'member'; did you mean 'members'",
    "name: mash\nmembers: [k710]\nname: mesh\n": "line 3: key 'name' appears twice",
    "name: mash\ntitle: k400\nmembers: [k710]\n": "line 2: title: 'k400' is the name of a data set",
    'name: mash\ntitle: "a\\tb"\nmembers: [k710]\n': "line 2: title: want one line of text",
    "name: mash\nmembers: [k710\n": "line 3: not YAML",
    "- a\n": "want keys and values: name, title, members",
    "name: mash\nmembers: [k710]\nbeside: [k710]\n": "line 3: beside: holds a union; name the sources",
    "name: mash\nmembers: [{k400: x.csv}]\n": "line 2: members: k400 takes no path; its lists are in the folder of",
    "name: mash\nmembers: [3]\n": "line 2: members: 3; want a name, NAME: PATH, or the path of a union",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_is_refused(tmp_path, text):
    with pytest.raises(RecipeError, match=BAD[text]) as caught:
        union(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "union.yaml"))


def test_an_unknown_name_is_no_file(tmp_path):
    with pytest.raises(RecipeError, match="nothing: no such union; known: kmash, or the path of a YAML file"):
        read_union_spec("nothing")


def test_a_ring_of_unions_is_named(tmp_path):
    other = "name: second\nmembers: [union.yaml]\n"
    with pytest.raises(RecipeError, match=r"a union is a member of itself: union.yaml -> other.yaml -> union.yaml"):
        union(tmp_path, "name: mash\nmembers: [other.yaml]\n", other__yaml=other)


def test_a_path_in_another_folder_is_relative_to_its_file(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.csv").write_text(MINE["mine.csv"])
    write_union(tmp_path / "deep", "name: mash\nmembers: [mine: mine.csv]\n")
    monkeypatch.chdir(tmp_path)
    found = read_union(read_union_spec("deep/union.yaml"), None)
    assert found.union.classes == ("archery", "clap")


def classes_of(tmp_path, rows, same_names="ask", members=MEMBERS):
    path = tmp_path / "names.csv"
    path.write_text("member,name,label,new\n" + "".join(f"{row}\n" for row in rows))
    return union_classes(members, read_union_synonyms(path), same_names=same_names, where=tmp_path / "union.yaml")


def test_classes_are_joined_by_synonyms_and_sorted_by_name(tmp_path):
    found = classes_of(tmp_path, ["mit,clapping,clapping,", "mit,applauding,Clapping,", "mine,clap,hand clap,yes"])
    assert found.names == ("abseiling", "archery", "clapping", "hand clap")
    assert found.maps == {"k710": (1, 2, 0), "mit": (2, 2), "mine": (3,)}
    assert found.notes == (f"{tmp_path}/union.yaml: by synonyms, one class: 'clapping', 'Applauding' of mit",)


def test_a_class_without_a_synonym_is_its_own(tmp_path):
    found = classes_of(tmp_path, ["mit,clapping,clapping (Moments),yes"])
    assert found.names == ("abseiling", "Applauding", "archery", "clap", "clapping", "clapping (Moments)")
    assert found.notes == ()


def test_equal_names_are_asked_about_or_merged_by_an_explicit_word(tmp_path):
    with pytest.raises(LabelError, match=r"1 name is a class of several members") as caught:
        classes_of(tmp_path, [])
    assert "`mit,clapping,clapping,`) or not (`mit,clapping,NEW NAME,yes`)" in str(caught.value)
    assert "'clapping': k710, mit" in str(caught.value)
    assert "labels --suggest" in str(caught.value)
    found = classes_of(tmp_path, [], same_names="merge")
    assert found.maps["mit"][0] == found.maps["k710"][1]
    assert "1 name is a class of several members and one class each of the union" in found.notes[0]


def test_two_names_of_one_member_that_differ_in_symbols_alone_are_refused(tmp_path):
    members = (("mine", ("Hand-stand", "handstand", "run")),)
    with pytest.raises(LabelError, match="'Hand-stand' and 'handstand' of mine are one name but for case and symbols"):
        classes_of(tmp_path, [], same_names="merge", members=members)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nobody,clapping,clapping,", "line 2: member 'nobody'; known: k710, mit, mine"),
        ("mit,claping,clapping,", "line 2: mit has no class 'claping'; nearest: 'clapping'"),
        ("mit,clapping,claping,", "line 2: no class of the union has the name 'claping'; nearest: 'clapping'"),
        ("mit,Applauding,archery,yes", "line 2: new is yes, and k710 has a class 'archery'; leave new empty"),
        ("mit,clapping,,", "line 2: member, name and label must all be given"),
        ("mit,clapping,clapping,no", "line 2: new is 'no'; want yes or nothing"),
        ("mit,clapping,clapping,\nmit,Clapping,archery,", "line 3: mit 'Clapping' has a label in line 2 already"),
    ],
)  # fmt: skip
def test_synonyms_that_are_refused(tmp_path, row, message):
    with pytest.raises(LabelError, match=message):
        classes_of(tmp_path, [row])


def test_a_file_of_synonyms_that_is_none(tmp_path):
    (tmp_path / "names.csv").write_text("name,label\na,b\n")
    with pytest.raises(LabelError, match="line 1: no column member; want member,name,label"):
        read_union_synonyms(tmp_path / "names.csv")
    (tmp_path / "names.csv").write_bytes(b"member,name,label\n\xff,a,b\n")
    with pytest.raises(LabelError, match="not a CSV file in UTF-8"):
        read_union_synonyms(tmp_path / "names.csv")


def test_suggestions_are_for_a_person_to_edit(tmp_path):
    text, number = suggested_synonyms(MEMBERS, ())
    rows = list(csv.DictReader(io.StringIO(text)))
    assert number == len(rows)
    assert (rows[0]["member"], rows[0]["name"], rows[0]["label"]) == ("mit", "clapping", "")
    assert (rows[0]["nearest"], rows[0]["of"], rows[0]["likeness"]) == ("clapping", "k710", "100")
    assert ("mine", "clap") in {(row["member"], row["name"]) for row in rows}
    (tmp_path / "names.csv").write_text(text)
    with pytest.raises(LabelError, match="line 2: member, name and label must all be given"):
        read_union_synonyms(tmp_path / "names.csv")


def test_the_command_proposes_and_the_build_takes_what_was_decided(k710, tmp_path):
    folder = write_members(tmp_path / "lists")
    path = write_union(
        tmp_path, "name: mash\nmembers: [k710, mit]\nsynonyms: names.csv\n", names__csv="member,name,label\n"
    )
    build = ("build", "--union", path, "--annotations", folder, "--out", tmp_path / "m")
    refused = k710(*build)
    assert (refused.exit_code, "2 names are classes of several members" in refused.stderr) == (1, True)
    assert not (tmp_path / "m").exists()
    result = k710("labels", "--suggest", path, "--annotations", folder)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    decided = [f"{row['member']},{row['name']},{row['nearest']}" for row in rows if row["likeness"] == "100"]
    assert decided == ["mit,archery,archery", "mit,clapping,clapping"]
    (tmp_path / "names.csv").write_text("\n".join(["member,name,label", *decided, ""]))
    result = k710(*build)
    assert result.exit_code == 0, result.output
    assert "of its 711 classes" in result.stdout


@pytest.mark.parametrize("option", [("--sources", "k400"), ("--holdout", "val"), ("--recipe", "k710-strict")])
def test_options_that_the_file_decides_are_refused(k710, tmp_path, option):
    result = k710("build", "--union", "kmash", *option, "--out", tmp_path / "m")
    assert result.exit_code == 2
    assert f"{option[0]} and --union: the file of the union says its members and every choice" in result.stderr


def test_the_real_class_lists_have_no_two_names_that_are_one(other_lists):
    """K-Mash's members by their published class names: within one member, nothing falls together."""
    names = {}
    for member, file in (("mit", "mit_v1_labels.txt"), ("ssv2", "ssv2_labels.txt"),
                         ("activitynet", "activitynet13_labels_mmaction2.txt")):  # fmt: skip
        names[member] = tuple((other_lists / file).read_text().split("\n")[:-1])
    members = (("k710", class_names("k710")), *names.items())
    with pytest.raises(K710Error, match="names are classes of several members"):
        union_classes(members, (), same_names="ask", where=other_lists)
    found = union_classes(members, (), same_names="merge", where=other_lists)
    assert len(found.names) < sum(len(classes) for _, classes in members)
    for member, classes in members:
        assert len(set(found.maps[member])) == len(classes), member


def test_the_members_of_a_spec(tmp_path):
    write_members(tmp_path / "lists")
    spec = union(tmp_path, "name: mash\nmembers: [k600, hacs]\n")
    assert dict(members_of(spec, tmp_path / "lists")) == {"k600": class_names("k600"), "hacs": ("Archery", "Ballet")}
    assert synonyms_of(spec) == ()
