"""Opening a manifest for a command that reads tables and computes little: pyarrow is imported without pandas first."""

from __future__ import annotations

from k710.cli.arrow import import_arrow_without_pandas

import_arrow_without_pandas()  # before any module below gives pyarrow a value

from k710.manifest.read import open_manifest as open_manifest  # noqa: E402
