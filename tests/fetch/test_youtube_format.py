"""Which of a video's formats is downloaded."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from k710.fetch.origins.youtube.format import choose


def video(format_id: str, width: int, height: int, size: int | None, **more: Any) -> dict[str, Any]:
    about = {"format_id": format_id, "url": "https://x/", "ext": "mp4", "vcodec": "avc1", "acodec": "none"}
    return about | {"width": width, "height": height, "filesize": size, "protocol": "https"} | more


def sound(format_id: str, size: int, **more: Any) -> dict[str, Any]:
    about = {"format_id": format_id, "url": "https://x/", "ext": "m4a", "vcodec": "none", "acodec": "mp4a"}
    return about | {"filesize": size, "protocol": "https"} | more


LADDER = [
    video("160", 256, 144, 1_000),
    video("133", 426, 240, 2_000),
    video("134", 640, 360, 4_000),
    video("243", 640, 360, 3_500, ext="webm", vcodec="vp9"),
    video("135", 854, 480, 8_000),
    video("18", 640, 360, 3_000, acodec="mp4a"),
    sound("140", 600),
    sound("139", 300),
]


def chosen(formats: list[dict[str, Any]], short_side_px: int = 320, **how: Any) -> str:
    return "+".join(
        found["format_id"] for found in choose(formats, short_side_px=short_side_px, **({"sections": False} | how))
    )


def test_the_ladder_of_a_video():
    assert chosen(LADDER) == "243"  # the smallest of those without sound
    assert chosen(LADDER, 240) == "133"
    assert chosen(LADDER, 400) == "135"
    assert chosen(LADDER, 1000) == "135"  # nothing covers it: the largest
    assert chosen(LADDER, 0) == "135"  # as large as can be
    assert chosen(LADDER, 0, max_bytes=5_000) == "243"
    assert chosen(LADDER, audio=True) == "18"  # 3,000 against 3,500 + 300
    assert chosen([f for f in LADDER if f["format_id"] != "18"], audio=True) == "243+139"
    assert chosen(LADDER, sections=True) == "134"  # MP4 alone can be cut exactly
    assert chosen([f for f in LADDER if f["format_id"] == "18"]) == "18"


def test_an_upright_video_is_as_large_as_its_width():
    assert chosen([video("a", 144, 640, 500), video("b", 360, 640, 4_000)]) == "b"


def test_what_is_never_taken():
    storyboard = {"format_id": "sb0", "url": "https://x/", "ext": "mhtml", "vcodec": "none", "acodec": "none"}
    locked = video("drm", 640, 360, 10, has_drm=True)
    program = video("rtmp", 640, 360, 10, protocol="rtmp")
    live = video("m3u8", 640, 360, 10, protocol="m3u8")  # FFmpeg would read whatever the playlist names
    assert chosen([storyboard, locked, program, live, sound("140", 5)]) == ""
    assert chosen([storyboard, locked, program, live, video("134", 640, 360, 10**9)]) == "134"


def test_another_picture_than_the_one_uploaded_comes_last():
    upscaled = video("399-sr", 640, 360, 10, format_note="360p, AI-upscaled")
    high_range = video("694", 640, 360, 10, dynamic_range="HDR10")
    assert chosen([upscaled, high_range, video("133", 426, 240, 2_000)]) == "133"


def test_the_original_language_is_kept():
    dubbed = sound("140-1", 100, language_preference=-1)
    original = sound("140-0", 600, language_preference=10)
    assert chosen([video("134", 640, 360, 4_000), dubbed, original], audio=True) == "134+140-0"


def test_a_plain_file_says_nothing_of_itself():
    plain = {"format_id": "0", "url": "http://x/abc", "ext": "unknown_video"}
    assert chosen([plain]) == "0"
    assert chosen([plain], audio=True) == "0"
    assert chosen([plain], sections=True) == ""


SIDES = st.integers(16, 2_000)
VIDEOS = st.lists(st.tuples(SIDES, SIDES, st.one_of(st.none(), st.integers(1, 10**9))), min_size=1, max_size=8)


@given(VIDEOS, st.integers(1, 1_000))
def test_the_smallest_that_covers_else_the_largest(sizes, wanted):
    formats = [video(f"{n}", width, height, size) for n, (width, height, size) in enumerate(sizes)]
    (found,) = choose(formats, short_side_px=wanted, sections=False)
    side = {one["format_id"]: min(one["width"], one["height"]) for one in formats}
    covering = [one for one in formats if side[one["format_id"]] >= wanted]
    if covering:
        assert found in covering
        known = [one["filesize"] for one in covering if one["filesize"]]
        assert not known or found["filesize"] == min(known)
    else:
        assert side[found["format_id"]] == max(side.values())


@given(VIDEOS, st.randoms())
def test_the_order_does_not_matter(sizes, random):
    formats = [video(f"{n}", width, height, size) for n, (width, height, size) in enumerate(sizes)]
    mixed = formats.copy()
    random.shuffle(mixed)
    assert choose(formats, short_side_px=320, sections=False) == choose(mixed, short_side_px=320, sections=False)
