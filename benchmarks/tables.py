"""Write the tables of the documentation from `benchmarks/results/`, or check that they agree.

    python benchmarks/tables.py [--check] [FILE.md …]

A page says where a table belongs and where its numbers come from:

    <!-- table: build -->
    …
    <!-- end -->

Between the two lines stands what `table` of build.py makes of results/build.json; `loading.peers` is what `peers_table`
makes of loading.json. With --check nothing is written, and the exit status is 1 where a page differs.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BLOCK = re.compile(r"(?<=<!-- table: )(\w+)(?:\.(\w+))?( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """The page with all its tables made anew."""
    return BLOCK.sub(_block, text)


def _block(block: re.Match[str]) -> str:
    name, part, rest, _ = block.groups()
    result = json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))
    make = getattr(importlib.import_module(name), f"{part}_table" if part else "table")
    return f"{name}{f'.{part}' if part else ''}{rest}{make(result).strip()}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tables of the documentation from the results.")
    parser.add_argument("pages", nargs="*", type=Path, help="default: all of docs/")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page differs")
    given = parser.parse_args()
    differs = False
    for page in given.pages or sorted((HERE.parent / "docs").glob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = with_tables(old)
        if new == old:
            continue
        differs = True
        if given.check:
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), str(page), "from the results", lineterm="")
            print("\n".join(lines))
        else:
            page.write_text(new, encoding="utf-8")
            print(f"{page}: written")
    sys.exit(1 if given.check and differs else 0)


if __name__ == "__main__":
    main()
