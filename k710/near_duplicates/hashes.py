"""PDQ, a perceptual hash of pictures that Meta published (ThreatExchange, pdq/cpp), as two matrix products.

PDQ blurs the luma with box filters, samples 64 x 64 points, and computes 16 x 16 frequencies. A bit of the hash says
whether a frequency is above their median. Blurring and sampling are linear and separate for rows and columns. So both
together are one banded matrix on each side, which depends only on the size of the picture. The result equals that of
pdqhash, except for bits whose frequency equals the median within the precision of a float. Tests check this.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from k710.errors import UsageError

Luma = npt.NDArray[np.float32]  # (num_frames, height_px, width_px), 0 to 255
Words = npt.NDArray[np.uint64]  # (…, 4): the 256 bits of a hash

HASH_BITS = 256
HASH_WORDS = 4
_POINTS, _FREQUENCIES = 64, 16
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luma_of(pixels: npt.NDArray[np.uint8]) -> Luma:
    """(num_frames, height_px, width_px) of RGB pixels (num_frames, height_px, width_px, 3)."""
    luma: Luma = np.empty(pixels.shape[:3], np.float32)
    for frame, rgb in zip(
        luma, pixels, strict=True
    ):  # all frames at once would need four times the memory of the pixels, as floats
        np.matmul(rgb, _LUMA, out=frame)
    return luma


def pdq(luma: Luma) -> tuple[Words, Words, npt.NDArray[np.uint8]]:
    """The hashes of pictures: (n, 4) of each picture, (n, 4) of its mirror image, and (n,) PDQ's quality, 0 to 100.

    The second hash is computed from the mirrored picture. PDQ's own shortcut changes the signs of the picture's
    frequencies. It is up to 30 bits off if the box filter has an even width and so is not symmetric. Raises UsageError
    for pictures without a pixel.
    """
    if luma.ndim != 3 or not luma.shape[1] or not luma.shape[2]:
        raise UsageError(f"pictures of shape {luma.shape}; must be (num_frames, height_px, width_px), each at least 1")
    rows, columns = _points_matrix(luma.shape[1]), _points_matrix(luma.shape[2])
    lines = rows @ luma  # (n, 64, width_px)
    points, mirrored = (np.asarray(lines @ side.T, np.float32) for side in (columns, columns[:, ::-1]))  # (n, 64, 64)
    return _bits(points), _bits(mirrored), _quality(points)


def distance(one: Words, other: Words) -> npt.NDArray[np.uint16]:
    """The number of bits in which hashes (…, 4) differ."""
    differing: npt.NDArray[np.uint16] = _popcount(one ^ other).sum(axis=-1, dtype=np.uint16)
    return differing


def _popcount(words: Words) -> npt.NDArray[np.uint8]:
    """The number of bits set in each word; numpy has a function for it since 2.0."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(words), np.uint8)
    bits: npt.NDArray[np.uint8] = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1)
    counted: npt.NDArray[np.uint8] = bits.reshape(*words.shape, 64).sum(axis=-1, dtype=np.uint8)
    return counted


@functools.lru_cache(maxsize=64)
def _points_matrix(size_px: int) -> npt.NDArray[np.float32]:
    """(64, size_px): two box filters, then the middle of each 64th. A picture of 64 pixels is not changed, as in
    PDQ."""
    if size_px == _POINTS:
        return np.eye(_POINTS, dtype=np.float32)
    window = -(-size_px // (2 * _POINTS))
    half = (window + 2) // 2
    places = np.arange(size_px)
    first, last = np.maximum(places - (window - half), 0), np.minimum(places + half - 1, size_px - 1)
    box = (places >= first[:, None]) & (places <= last[:, None])
    box = box / box.sum(axis=1, keepdims=True)
    taken = ((np.arange(_POINTS) + 0.5) * size_px / _POINTS).astype(int)
    return np.asarray(box[taken] @ box, np.float32)


@functools.cache
def _cosine_matrix() -> npt.NDArray[np.float32]:
    """(16, 64): the discrete cosine transform without its constant term."""
    frequency, place = np.arange(1, _FREQUENCIES + 1)[:, None], np.arange(_POINTS)[None, :]
    cosines = np.sqrt(2 / _POINTS) * np.cos(np.pi / 2 / _POINTS * frequency * (2 * place + 1))
    return np.asarray(cosines, np.float32)


def _bits(points: Luma) -> Words:
    cosines = _cosine_matrix()
    flat = (cosines @ points @ cosines.T).reshape(len(points), HASH_BITS)
    median = np.partition(flat, HASH_BITS // 2 - 1, axis=1)[:, HASH_BITS // 2 - 1]  # the lower of the two middle ones
    packed = np.packbits(flat > median[:, None], axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8").astype(np.uint64)


def _quality(points: Luma) -> npt.NDArray[np.uint8]:
    """The amount of detail: the sum of the steps between neighbouring points, in hundredths of white, divided by 90."""
    total = np.zeros(len(points))
    for axis in (1, 2):
        steps = np.diff(points, axis=axis) * np.float32(100) / np.float32(255)
        total += np.abs(np.trunc(steps)).sum(axis=(1, 2))
    return np.minimum(total // 90, 100).astype(np.uint8)
