"""The embedded sample: a miniature of the releases, known in every number, for the demo, the tests and a first look."""

from pathlib import Path

# The frozen lists, in the forms that the releases publish; written by `k710.sample.generate`.
LISTS = Path(__file__).resolve().parent / "lists"
