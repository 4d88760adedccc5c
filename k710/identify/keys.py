"""YouTube IDs and clips as numbers, one to one and in the order of their names.

An ID has 11 characters of 6 bits, so 66 bits: the first 64 are its `key`, the last two its `tail`. The characters count
in the order of ASCII (`-` 0-9 A-Z `_` a-z), so that (key, tail) sorts as the IDs do. A clip is (key, rest): `rest`
holds the tail, then the start plus one millisecond and the end, 31 bits each; both are zero for a clip without a span.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k710.manifest.clip_ids import ID_SIZE

Keys = npt.NDArray[np.uint64]
Tails = npt.NDArray[np.uint8]
Times = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

NO_TIME = -1
# What a clip can hold: 999,999 s, as six digits in a file name.
MAX_TIME_MS = 999_999_000

_ALPHABET = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_BAD = 255
_CODE_OF = np.full(256, _BAD, np.uint8)
_CODE_OF[np.frombuffer(_ALPHABET, np.uint8)] = np.arange(64, dtype=np.uint8)
_CHAR_OF = np.frombuffer(_ALPHABET, np.uint8)
_SECOND = 1000

# YouTube writes 64 bits as 11 characters in base64, whose last character then has only these values. All 266,515 rows
# of the val and test lists of Kinetics-400, 600 and 700 end so.
LAST_CHARACTERS = "AEIMQUYcgkosw048"
_CAN_BE_LAST = np.zeros(64, np.bool_)
_CAN_BE_LAST[_CODE_OF[np.frombuffer(LAST_CHARACTERS.encode(), np.uint8)]] = True


@dataclass(frozen=True)
class Clips:
    """Clips as columns of one length. Times are milliseconds of the video; both are NO_TIME without a span."""

    key: Keys
    tail: Tails
    start_ms: Times
    end_ms: Times

    def __len__(self) -> int:
        return len(self.key)

    def take(self, index: npt.NDArray[np.int64] | Mask) -> Clips:
        return Clips(self.key[index], self.tail[index], self.start_ms[index], self.end_ms[index])

    @property
    def rest(self) -> Keys:
        """The second number of each clip, beside its key."""
        rest = self.tail.astype(np.uint64) << np.uint64(62)
        rest |= (self.start_ms + np.int32(1)).astype(np.uint64) << np.uint64(31)
        return rest | np.where(self.start_ms < 0, 0, self.end_ms).astype(np.uint64)

    @property
    def has_span(self) -> Mask:
        spans: Mask = self.start_ms >= 0
        return spans


def from_rest(key: Keys, rest: Keys) -> Clips:
    """The clips that these numbers stand for. The inverse of `Clips.rest`."""
    times = np.uint64((1 << 31) - 1)
    start = ((rest >> np.uint64(31)) & times).astype(np.int64) - 1
    end = np.where(start < 0, NO_TIME, (rest & times).astype(np.int64))
    return Clips(key, (rest >> np.uint64(62)).astype(np.uint8), start.astype(np.int32), end.astype(np.int32))


def no_clips() -> Clips:
    return Clips(np.zeros(0, np.uint64), np.zeros(0, np.uint8), np.zeros(0, np.int32), np.zeros(0, np.int32))


def joined(parts: list[Clips]) -> Clips:
    """All the clips of several columns, in their order."""
    parts = parts or [no_clips()]
    return Clips(*(np.concatenate([getattr(part, name) for part in parts]) for name in Clips.__dataclass_fields__))


def keys_of(ids: pa.Array) -> tuple[Keys, Tails, Mask]:
    """The key and the tail of each ID, and which of the texts are IDs: 11 characters of YouTube's alphabet.

    `ids`: strings or bytes, without null."""
    ids = ids.cast(pa.binary())
    offsets = np.frombuffer(ids.buffers()[1], np.int32, len(ids) + 1, 4 * ids.offset).astype(np.int64)
    data = np.frombuffer(ids.buffers()[2] or b"", np.uint8)
    right = np.diff(offsets) == ID_SIZE
    key, tail = np.zeros(len(ids), np.uint64), np.zeros(len(ids), np.uint8)
    if not right.any():
        return key, tail, right
    starts = np.where(right, offsets[:-1], offsets[np.argmax(right)])
    is_bad = ~right
    for place in range(ID_SIZE):
        code = _CODE_OF[data[starts + place]]
        is_bad |= code == _BAD
        if place < ID_SIZE - 1:
            key = key << np.uint64(6) | code
        else:
            key, tail = key << np.uint64(4) | code >> np.uint8(2), code & np.uint8(3)
    return np.where(is_bad, np.uint64(0), key), np.where(is_bad, np.uint8(0), tail), ~is_bad


def can_be_youtube(key: Keys, tail: Tails) -> Mask:
    """Which IDs end in a character that the ID of a video can end in."""
    last = (key & np.uint64(15)) << np.uint64(2) | tail
    possible: Mask = _CAN_BE_LAST[last.astype(np.uint8)]
    return possible


def _letters(key: Keys, tail: Tails) -> npt.NDArray[np.uint8]:
    """(clips, 11) the characters of the IDs."""
    letters = np.empty((len(key), ID_SIZE), np.uint8)
    letters[:, 10] = _CHAR_OF[((key & np.uint64(15)) << np.uint64(2) | tail).astype(np.uint8)]
    rest = key >> np.uint64(4)
    for place in range(ID_SIZE - 2, -1, -1):
        letters[:, place] = _CHAR_OF[(rest & np.uint64(63)).astype(np.uint8)]
        rest = rest >> np.uint64(6)
    return letters


def ids_of(key: Keys, tail: Tails) -> pa.Array:
    """The IDs as text."""
    return (
        pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(ID_SIZE), len(key), [None, pa.py_buffer(_letters(key, tail).tobytes())]
        )
        .cast(pa.binary())
        .cast(pa.string())
    )


def _digits(values: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.uint8]:
    found = np.empty((len(values), count), np.uint8)
    for place in range(count - 1, -1, -1):
        values, found[:, place] = values // 10, values % 10 + ord("0")
    return found


def _form(clips: Clips) -> npt.NDArray[np.int8]:
    """Of each clip: 0 without a span, 1 with one in whole seconds, 2 with a fraction."""
    whole = (clips.start_ms % _SECOND == 0) & (clips.end_ms % _SECOND == 0)
    return np.where(~clips.has_span, 0, np.where(whole, 1, 2)).astype(np.int8)


def _names_of_form(clips: Clips, form: int) -> npt.NDArray[np.uint8]:
    """(clips, characters) the names of clips of one form."""
    columns = [_letters(clips.key, clips.tail)]
    for time in (clips.start_ms, clips.end_ms) if form else ():
        digits = _digits(time.astype(np.int64) // (_SECOND if form == 1 else 1), 6 if form == 1 else 9)
        columns += [np.full((len(clips), 1), ord("_"), np.uint8), digits]
    return np.concatenate(columns, axis=1)


def clip_names(clips: Clips) -> pa.Array:
    """The names of clips, as `sources/video_ids.py` says: ID, ID and seconds, or ID and milliseconds."""
    forms = _form(clips)
    parts, index = [], []
    for form in range(3):
        here = np.flatnonzero(forms == form)
        if len(here):
            text = _names_of_form(clips.take(here), form)
            fixed = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(text.shape[1]), len(here), [None, pa.py_buffer(text.tobytes())]
            )
            parts.append(fixed.cast(pa.binary()).cast(pa.string()))
            index.append(here)
    if not parts:
        return pa.array([], pa.string())
    names = pa.concat_arrays(parts)
    return names if len(parts) == 1 else names.take(pa.array(np.argsort(np.concatenate(index))))


def name_lines(clips: Clips) -> bytes:
    """The names of clips with a line feed behind each, in the order of their names."""
    forms = _form(clips)
    if len(clips) and (forms == forms[0]).all() and forms[0] < 2:  # the numbers are in the order of the names
        text = _names_of_form(clips, int(forms[0]))
        return np.concatenate([text, np.full((len(clips), 1), ord("\n"), np.uint8)], axis=1).tobytes()
    names = sorted(clip_names(clips).to_pylist())
    return "".join(f"{name}\n" for name in names).encode()


def id_lines(key: Keys, tail: Tails) -> bytes:
    """The IDs with a line feed behind each."""
    return np.concatenate([_letters(key, tail), np.full((len(key), 1), ord("\n"), np.uint8)], axis=1).tobytes()
