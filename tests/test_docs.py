"""The pages: every link inside the repository leads somewhere, and every file of the code that they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for pattern in ("*.md", "docs/*.md", "manifests/README.md")
    for path in CHECKOUT.glob(pattern)
)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = CHECKOUT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), f"{name}: {link}"
        assert not anchor or anchor in anchors(target), f"{name}: {link}"


@pytest.mark.parametrize("name", PAGES)
def test_files_of_the_repository_that_are_named_are_there(name):
    found = re.findall(
        r"(?<![\w/])(?:tests|benchmarks|labelmaps|pipelines|k710|docs)/[\w./-]*\.(?:py|csv|yaml|json|md|png)\b",
        (CHECKOUT / name).read_text(encoding="utf-8"),
    )
    assert [path for path in found if not (CHECKOUT / path).exists()] == []


def test_modules_that_contributing_names_are_there():
    named = re.findall(r"`(?:[\w.]+/)*(\w+\.py)`", (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert set(named) - {path.name for path in CHECKOUT.glob("k710/**/*.py")} == set()


def test_the_readme_leads_to_every_page_once():
    links = re.findall(r"\]\((docs/[^)#]+\.md)\)", prose(CHECKOUT / "README.md").partition("## Where to read on")[2])
    assert sorted(links) == [name for name in PAGES if name.startswith("docs/")]


@pytest.mark.parametrize("name", PAGES)
def test_snippets_are_python(name):
    text = (CHECKOUT / name).read_text(encoding="utf-8")
    for snippet in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if not snippet.startswith(">>>"):
            compile(snippet, name, "exec")
