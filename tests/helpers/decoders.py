"""The decoders that this machine has; tests of the others are skipped and say why."""

from __future__ import annotations

import pytest

from k710.loading.decoders.decode import DECODERS

WHY_NOT = {name: reason for name, decoder in DECODERS.items() if (reason := decoder.why_unavailable())}
HERE = tuple(name for name in DECODERS if name not in WHY_NOT)
EACH = [
    pytest.param(name, marks=pytest.mark.skipif(name in WHY_NOT, reason=WHY_NOT.get(name, "here"))) for name in DECODERS
]
