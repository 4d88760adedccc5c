"""The embedded sample: a miniature of the releases with known counts, for the demo, the tests and a first look."""

from pathlib import Path

# The frozen lists in the formats of the releases; written by `k710.sample.generate`.
LISTS = Path(__file__).resolve().parent / "lists"
