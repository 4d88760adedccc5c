"""One of N: a part of the work of a fetch, for N machines over one store, and a rank of N processes.

What falls into a part follows from the key of the work alone, an archive's address or a video's ID, and never from what
is done already: the machines agree without any communication.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from k710.errors import UsageError

_PART = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True)
class Part:
    """Part `number`, from 1, of `of` parts; by itself the whole."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def is_whole(self) -> bool:
        return self.of == 1

    def has(self, key: str) -> bool:
        """Whether the work of this key falls into this part; of the N parts exactly one has it."""
        digest = hashlib.blake2b(key.encode(), digest_size=8, person=b"k710-part").digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1


def parse_part(text: str) -> Part:
    """`I/N` as a part. Raises UsageError for anything else, and where I does not lie between 1 and N."""
    found = _PART.fullmatch(text)
    part = Part(int(found[1]), int(found[2])) if found else None
    if part is None or not 1 <= part.number <= part.of:
        raise UsageError(f"part {text!r}: a part is I/N with I from 1 to N, such as 1/8")
    return part


@dataclass(frozen=True)
class Share:
    """Which of `world_size` ranks this process is. Raises UsageError for a rank that is none of them."""

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise UsageError(f"rank {self.rank} of {self.world_size}; allowed: 0 to {self.world_size - 1}")

    def of(self, start: int, stop: int) -> range:
        """This rank's piece of start..stop: contiguous, in order of rank, sizes differing by one at most."""
        size = stop - start
        return range(start + size * self.rank // self.world_size, start + size * (self.rank + 1) // self.world_size)
