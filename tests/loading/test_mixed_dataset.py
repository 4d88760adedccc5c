"""The clips of several sources as one dataset: ids, strides, choices, shares; the same with workers and ranks."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from k710 import ClipLoader, ClipOptions, open_dataset, open_mix
from k710.engine.part import Share
from k710.errors import LoadError, ManifestError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.order import Sample
from tests.helpers.numbered_stores import make_numbered, numbers
from tests.helpers.tiny_media import clip_file, read_number

pytest_plugins = ("tests.helpers.run_fixtures",)

WINDOW = ClipOptions(num_frames=4, method="window", stride=4, seed=1)
PLAIN = Augment(randaugment=None, flip_prob=0.0, crop_px=32)


@pytest.fixture(scope="module")
def mixed(experiment, tmp_path_factory) -> Path:
    """The file of a mix: 38 clips of a manifest, 4 films of 80 frames in pieces of 20, of which half come in an
    epoch, and 2 of 3 short videos, three times each."""
    folder = tmp_path_factory.mktemp("mixed")
    for number in range(4):
        clip_file(folder / f"films/{number}.mp4", seconds=8, first=1000 * number)
    for number in range(3):
        clip_file(folder / f"own/{number}.mp4", seconds=2, first=100 * number)
    (folder / "mix.yaml").write_text(
        f"k710: {{manifest: {experiment[0].path}, folder: {experiment[1]}}}\n"
        "films: {folder: films, clip_frames: 20, weight: 0.5}\n"
        "own: {folder: own, clips: 2, weight: 3, stride: 1}\n"
    )
    return folder / "mix.yaml"


def ids_and_frames(loader: ClipLoader) -> list:
    return [(batch.clip_ids, batch.samples, batch.pixels.sum(dim=(1, 2, 3, 4)).tolist()) for batch in loader]


def test_the_members_stand_one_after_another_with_their_names(mixed, experiment):
    dataset = open_mix(mixed, options=WINDOW)
    assert (len(dataset), dataset.clips_per_epoch) == (38 + 16 + 2, 38 + 8 + 6)
    alone = open_dataset(experiment[0], folder=experiment[1], options=WINDOW)
    first = dataset[Sample(0, epoch=2)]
    assert first.clip_id == "k710/" + alone.clip_id(0)
    assert first.class_id == -1, "each member has classes of its own, so a mix has none"
    assert dataset[Sample(38)].clip_id == "films/0.mp4#0"
    assert dataset[Sample(55)].clip_id.startswith("own/")
    assert dataset.key(Sample(38, 3, 1)).clip == "films/0.mp4#0"
    with pytest.raises(IndexError, match="clip 56 of 56"):
        dataset[Sample(56)]
    assert dataset.messages() == [
        "k710: 38 clips; 38 an epoch, 73.1% of the draws",
        "films: 16 clips (4 videos, 0 min 32 s together); 8 an epoch, 15.4% of the draws",
        "own: 2 of 3 clips (3 videos, 0 min 6 s together); 6 an epoch, 11.5% of the draws",
    ]


def test_fixed_views_are_drawn_by_the_clip_of_the_member(mixed):
    options = replace(WINDOW, fixed_views=True, num_clips=2, num_crops=3)
    dataset, shown = open_mix(mixed, options=options), {}
    for batch in ClipLoader(dataset, batch_size=4, augment=PLAIN, epoch=0):
        for sample in batch.samples:
            view, again = dataset.view_of(sample), dataset[sample]
            if again.clip_id.startswith("films/"):  # pieces of 20 frames, so each temporal clip has its own
                shown.setdefault(view.clip, set()).add(tuple(again.frames % 20))
    assert {clip: len(frames) for clip, frames in shown.items()} == {0: 1, 1: 1}
    assert shown[0] != shown[1]


def test_a_member_has_its_own_stride(mixed):
    dataset = open_mix(mixed, options=WINDOW)
    film, own = (dataset[Sample(clip, epoch=1)] for clip in (40, 55))
    spans = [[read_number(frame) for frame in loaded.pixels.numpy()] for loaded in (film, own)]
    assert spans[0][-1] - spans[0][0] == 15, "a window of 4 x 4 frames"
    assert spans[1][-1] - spans[1][0] == 3


def test_workers_ranks_and_pickles_give_the_same(mixed):
    def loader(**how) -> ClipLoader:
        return ClipLoader(open_mix(mixed, options=WINDOW), batch_size=8, augment=PLAIN, num_repeats=2, epoch=0, **how)

    alone = ids_and_frames(loader())
    assert len(alone) == 13
    assert ids_and_frames(loader(num_workers=2)) == alone
    halves = [ids_and_frames(loader(share=Share(rank, 2))) for rank in (0, 1)]
    assert [one[0] + other[0] for one, other in zip(*halves, strict=True)] == [batch[0] for batch in alone]
    assert [one[2] + other[2] for one, other in zip(*halves, strict=True)] == [batch[2] for batch in alone]
    dataset = open_mix(mixed, options=WINDOW)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint == dataset.fingerprint
    assert (copy[Sample(50, 1)].pixels == dataset[Sample(50, 1)].pixels).all()


def test_an_epoch_draws_each_member_by_its_weight(mixed):
    loader = ClipLoader(open_mix(mixed, options=WINDOW), batch_size=4, augment=PLAIN)
    epochs = [[clip_id for batch in loader for clip_id in batch.clip_ids] for _ in range(2)]
    for seen in epochs:
        of = {name: [one for one in seen if one.startswith(name)] for name in ("k710/", "films/", "own/")}
        assert {name: len(ids) for name, ids in of.items()} == {"k710/": 38, "films/": 8, "own/": 6}
        assert [of["own/"].count(one) for one in set(of["own/"])] == [3, 3]
    films = [one for seen in epochs for one in seen if one.startswith("films/")]
    assert len(set(films)) == 16, "two epochs show each piece once"


def test_a_position_continues_and_another_mix_is_refused(mixed):
    def loader(**changes) -> ClipLoader:
        text = mixed.read_text()
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new)
        other = mixed.with_name("other.yaml")
        other.write_text(text)
        return ClipLoader(open_mix(other, options=WINDOW), batch_size=4, augment=PLAIN, epoch=0)

    whole, stopped = loader(), loader()
    batches = [ids_and_frames(whole), ids_and_frames(whole)]
    list(stopped)
    for _, _ in zip(range(5), stopped, strict=False):
        state = stopped.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    assert ids_and_frames(resumed) == batches[1][5:]
    for change in (("weight: 3", "weight: 4"), ("clips: 2", "clips: 1"), ("own:", "mine:"), ("20,", "21,")):
        with pytest.raises(UsageError, match="the saved position is one in other clips"):
            loader(change=change).load_state_dict(state)


def test_val_is_of_the_manifests_alone(mixed, experiment, tmp_path):
    val = open_mix(mixed, options=WINDOW, split="val")
    assert len(val) == len(open_dataset(experiment[0], folder=experiment[1], split="val")) == 10
    assert {clip_id.split("/")[0] for batch in ClipLoader(val, batch_size=4) for clip_id in batch.clip_ids} == {"k710"}
    (tmp_path / "mix.yaml").write_text(f"own: {{folder: {mixed.parent / 'own'}}}\n")
    with pytest.raises(UsageError, match="no member has val clips"):
        open_mix(tmp_path / "mix.yaml", options=WINDOW, split="val")


@pytest.mark.slow
def test_members_have_stores_and_profiles_of_their_own(k710, tmp_path):
    numbered = make_numbered(tmp_path, k710, ("frames", "h264"))
    (tmp_path / "mix.yaml").write_text(
        "frames: {manifest: m, view: k400, profile: frames}\n"
        f"h264: {{manifest: m, view: k400, store: {tmp_path / 'm/store'}, stride: 2}}\n"
        "files: {manifest: m, view: k400, folder: clips}\n"
    )
    dataset = open_mix(tmp_path / "mix.yaml", options=WINDOW)
    count = len(open_dataset(numbered.manifest, view="k400", profile="h264"))
    assert [len(member) for member in dataset.members] == [count] * 3
    loaded = [dataset[Sample(clip, 5)] for clip in range(3 * count)]
    assert {one.clip_id.partition("/")[0] for one in loaded} == {"frames", "h264", "files"}
    for one in loaded[count:]:
        assert numbers(one.pixels) == one.frames.tolist()
        assert one.frames[-1] - one.frames[0] == (7 if one.clip_id.startswith("h264/") else 15)


def test_more_clips_than_there_are_is_said(mixed, tmp_path):
    (tmp_path / "mix.yaml").write_text(f"own: {{folder: {mixed.parent / 'own'}, clips: 250000}}\n")
    assert open_mix(tmp_path / "mix.yaml", options=WINDOW).messages() == [
        "own: 3 clips (3 videos, 0 min 6 s together); 3 an epoch, 100.0% of the draws",
        "own: 250,000 clips are wanted, and there are no more than 3",
    ]


@pytest.mark.parametrize(("member", "error", "message"), [
    ("folder: nowhere", LoadError, r"mix\.yaml: a: .*nowhere: no folder of videos"),
    ("manifest: nowhere", ManifestError, "nowhere"),
    ("manifest: MANIFEST", LoadError, r"mix\.yaml: a: .*has no k710 train clip in profile h264"),
    ("manifest: MANIFEST, view: ssv2", UsageError, r"mix\.yaml: a: unknown view 'ssv2'"),
    ("folder: s3://bucket/videos", UsageError, r"mix\.yaml: a: .*must be a folder of this machine"),
])  # fmt: skip
def test_a_member_that_cannot_be_opened_is_named(experiment, tmp_path, member, error, message):
    text = member.replace("MANIFEST", str(experiment[0].path))
    (tmp_path / "mix.yaml").write_text(f"a: {{{text}}}\n")
    with pytest.raises(error, match=message):
        open_mix(tmp_path / "mix.yaml", options=WINDOW)
