"""The clips that many lines or paths name, at once. The rule is that of `lists/clip_paths.py`, which decides every line
that is not of a plain form; a test holds the two to the same answers."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.identify.keys import NO_TIME, Clips, Mask, clip_names, keys_of
from k710.lists.clip_paths import COLUMN_NAMES, NUMBERED_NAMES, ClipName, class_keys, clips_in_line
from k710.manifest.clip_ids import ID_SIZE
from k710.sources.known import KNOWN_SOURCES, UNION

Recognise = Callable[[str], Sequence[ClipName]]

NO_CLASS = -1
MAX_CLASS = 9_999  # a number above it is no index of a class
# What an ID may be instead: the name of a numbered file, of a column or of a data set; see `_is_word` there.
_DATA_SETS = "|".join([*(source.name_pattern for source in KNOWN_SOURCES.values()), UNION.name_pattern])
_DOUBTFUL = f"(?i)^(?:{NUMBERED_NAMES}|{COLUMN_NAMES}|{_DATA_SETS})$"
_LAST_NUMBER = r"[ ,\t](?P<class>[0-9]{1,4})[\r\n]*$"
_SEVERAL_NUMBERS = r"[ ,\t]-?[0-9.]+[ ,\t]+-?[0-9.]+[\r\n]*$"


@dataclass(frozen=True)
class Unclear:
    """A row that names no clip, or several: `candidates` are then the clips that it may mean. `why` is set for what is
    wrong with its times; then its video is known, and its row is among the others, without a span."""

    row: int
    text: str
    candidates: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Recognised:
    """The clips of those rows that name one: `row` is the position of each among the texts, `class_index` the number
    behind a path, NO_CLASS without one."""

    row: npt.NDArray[np.int64]
    clips: Clips
    class_index: npt.NDArray[np.int32]
    unclear: tuple[Unclear, ...]


def recognise(texts: pa.Array, parse: Recognise = clips_in_line) -> Recognised:
    """The clip that each text names: a line of a list, a path, an address or an ID. `texts`: bytes or strings; those
    that are empty or null name none. `parse` decides those of no plain form."""
    texts = pc.fill_null(texts.cast(pa.binary()), b"")
    count = len(texts)
    key, tail = np.zeros(count, np.uint64), np.zeros(count, np.uint8)
    start, end = np.full((2, count), NO_TIME, np.int32)
    class_index = np.full(count, NO_CLASS, np.int32)
    done = np.zeros(count, np.bool_)
    lines = _Lines(texts)
    for find in (_plain_paths, _watch_pages):
        index, found, numbers = find(lines, np.flatnonzero(~done))
        key[index], tail[index], start[index], end[index] = found.key, found.tail, found.start_ms, found.end_ms
        class_index[index] = numbers
        done[index] = True
    row, names, unclear = [], [], []
    for number in np.flatnonzero(~done).tolist():
        text = texts[number].as_py().decode("utf-8", "surrogateescape").strip("\r\n")
        named = parse(text)
        if len(named) == 1:
            row.append(number)
            names.append(named[0])
            class_index[number] = _class_of(text)
        else:
            unclear.append(Unclear(number, text.strip(), tuple(map(str, named))))
    if row:
        clips = clips_of(names)
        key[row], tail[row], start[row], end[row] = clips.key, clips.tail, clips.start_ms, clips.end_ms
        done[row] = True
    index = np.flatnonzero(done)
    return Recognised(
        index, Clips(key[index], tail[index], start[index], end[index]), class_index[index], tuple(unclear)
    )


def clips_of(names: Sequence[ClipName]) -> Clips:
    """These clips as columns."""
    key, tail, _ = keys_of(pa.array([name.youtube_id for name in names], pa.string()))
    times = [tuple(round(time * 1000) for time in name.span_s) if name.span_s else (NO_TIME,) * 2 for name in names]
    start, end = np.array(times, np.int32).reshape(-1, 2).T
    return Clips(key, tail, start, end)


def shown(clips: Clips, limit: int = 20) -> list[str]:
    """The names of the first clips."""
    names: list[str] = clip_names(clips.take(np.arange(min(limit, len(clips))))).to_pylist()
    return names


class _Lines:
    """The bytes of texts, with the first of each and the one behind its last, line ends left out."""

    def __init__(self, texts: pa.Array) -> None:
        offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset).astype(np.int64)
        data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
        self.data = np.concatenate([data, np.zeros(64, np.uint8)])  # whoever looks a little ahead sees zeros
        self.start, end = offsets[:-1] - offsets[0], offsets[1:] - offsets[0]
        for char in (_LINE_FEED, _RETURN):
            end = end - ((end > self.start) & (self.data[end - 1] == char))
        self.end = end

    def has(self, places: npt.NDArray[np.int64], start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Mask:
        """Whether any of these places, which are sorted, is from start to before end."""
        found: Mask = np.searchsorted(places, start) < np.searchsorted(places, end)
        return found


_LINE_FEED, _RETURN, _SLASH, _SPACE, _DOT, _UNDERSCORE = b"\n\r/ ._"
_IS_DIGIT = np.zeros(256, np.bool_)
_IS_DIGIT[ord("0") : ord("9") + 1] = True
_SEPARATES = np.zeros(256, np.bool_)
_SEPARATES[list(b" ,\t")] = True
# Whatever else may mean something, `?`, `@`, a colon, is for the patient reader.
_MEANS_MORE = np.zeros(256, np.bool_)
_MEANS_MORE[list(b',;:@\\\t?"')] = True
_SUFFIXES = (b".mp4", b".mkv", b".avi", b".webm")
_WATCH = (b"https://www.youtube.com/watch?v=", b"https://youtube.com/watch?v=", b"http://www.youtube.com/watch?v=")
_Found = tuple[npt.NDArray[np.int64], Clips, npt.NDArray[np.int32]]


def _plain_paths(lines: _Lines, index: npt.NDArray[np.int64]) -> _Found:
    """Of the lines at `index` those with the form `[FOLDERS/]ID[_000012_000022].mp4[ 371]`, or with no more than an ID
    or the name of a clip: their positions, their clips and the numbers behind them."""
    data, start, end = lines.data, lines.start[index], lines.end[index]
    slashes = np.flatnonzero(data == _SLASH)
    last = np.searchsorted(slashes, end) - 1
    stem = np.where(last < 0, start, np.maximum(start, slashes[last] + 1)) if len(slashes) else start
    fine = end - stem >= ID_SIZE
    fine &= ~lines.has(np.flatnonzero(_MEANS_MORE[data]), start, stem)
    fine &= ~lines.has(np.flatnonzero((data[:-1] == _SPACE) & (data[1:] == _SLASH)), start, end)
    index, start, end, stem = (values[fine] for values in (index, start, end, stem))
    after = stem + ID_SIZE
    spans = _is_span(data, after)
    times = [np.where(spans, _six_digits(data, after + place) * 1000, NO_TIME) for place in (1, 8)]
    after = after + np.where(spans, 14, 0)
    is_bare = (after == end) & (stem == start)
    has_suffix = np.zeros(len(index), np.bool_)
    for suffix in _SUFFIXES:
        is_this = _matches(data, after, suffix)
        has_suffix |= is_this
        after = after + np.where(is_this, len(suffix), 0)
    numbers, behind = _number(data, after)
    fine = is_bare | (has_suffix & (behind == end))
    ids = _id_array(data, stem[fine])
    key, tail, are_ids = keys_of(ids)
    are_ids &= ~_doubtful(ids)
    index, numbers = index[fine][are_ids], np.where(is_bare, NO_CLASS, numbers)[fine][are_ids]
    begin, finish = (time[fine][are_ids].astype(np.int32) for time in times)
    return index, Clips(key[are_ids], tail[are_ids], begin, finish), numbers.astype(np.int32)


def _watch_pages(lines: _Lines, index: npt.NDArray[np.int64]) -> _Found:
    """As `_plain_paths`, of lines that are the address of a video's page and no more."""
    parts = []
    for prefix in _WATCH:
        here = index[lines.end[index] - lines.start[index] == len(prefix) + ID_SIZE]
        parts.append((here[_matches(lines.data, lines.start[here], prefix)], len(prefix)))
    where = np.concatenate([found for found, _ in parts])
    key, tail, are_ids = keys_of(
        _id_array(lines.data, np.concatenate([lines.start[found] + size for found, size in parts]))
    )
    none = np.full(int(are_ids.sum()), NO_TIME, np.int32)
    return where[are_ids], Clips(key[are_ids], tail[are_ids], none, none), np.full(len(none), NO_CLASS, np.int32)


def _matches(data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], text: bytes) -> Mask:
    found = np.ones(len(at), np.bool_)
    for place, char in enumerate(text):
        found &= data[np.minimum(at + place, len(data) - 1)] == char
    return found


def _is_span(data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]) -> Mask:
    found: Mask = (data[at] == _UNDERSCORE) & (data[at + 7] == _UNDERSCORE)
    for place in (*range(1, 7), *range(8, 14)):
        found &= _IS_DIGIT[data[at + place]]
    return found


def _six_digits(data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    value = np.zeros(len(at), np.int64)
    for place in range(6):
        value = value * 10 + (data[at + place] & 15)
    return value


def _number(
    data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The number of up to four digits behind a space, a comma or a tab, and where it ends; none: NO_CLASS and `at`."""
    begins = _SEPARATES[data[at]] & _IS_DIGIT[data[at + 1]]
    value, behind, going = np.zeros(len(at), np.int64), at + begins, begins
    for place in range(1, 5):
        going = going & _IS_DIGIT[data[at + place]]
        value = np.where(going, value * 10 + (data[at + place] & 15), value)
        behind = behind + going
    return np.where(begins, value, NO_CLASS), behind


def _id_array(data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]) -> pa.Array:
    """The texts of 11 bytes from these places on."""
    letters = data[at[:, None] + np.arange(ID_SIZE)]
    offsets = np.arange(0, ID_SIZE * (len(at) + 1), ID_SIZE, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(at), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(letters.tobytes())]
    )


def _doubtful(ids: pa.Array) -> Mask:
    """Which of these texts of 11 bytes may be words instead of IDs: they are asked one by one."""
    letters = np.frombuffer(ids.buffers()[2], np.uint8).reshape(-1, ID_SIZE)
    doubtful = np.zeros(len(ids), np.bool_)
    digits = _IS_DIGIT[letters]
    named = np.flatnonzero(digits[:, -1] | ~digits.any(axis=1))
    if len(named):
        found = pc.match_substring_regex(ids.take(pa.array(named)), _DOUBTFUL)
        doubtful[named[found.to_numpy(zero_copy_only=False)]] = True
    words = np.flatnonzero(~digits.any(axis=1) & (letters < 128).all(axis=1))
    if len(words):
        names = pc.ascii_lower(ids.take(pa.array(words)).cast(pa.string()))
        names = pc.replace_substring(pc.replace_substring(names, "_", ""), "-", "")
        doubtful[words[pc.is_in(names, value_set=_words()).to_numpy(zero_copy_only=False)]] = True
    return doubtful


@functools.cache
def _words() -> pa.Array:
    return pa.array(sorted(key for key in class_keys() if len(key) <= ID_SIZE))


def _class_of(line: str) -> int:
    """The number behind a path, where there is one and no second."""
    if re.search(_SEVERAL_NUMBERS, line):
        return NO_CLASS
    match = re.search(_LAST_NUMBER, line)
    return int(match["class"]) if match else NO_CLASS
