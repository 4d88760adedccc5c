"""The pages: every link inside the repository leads somewhere, and every file of the code that they name is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for pattern in ("*.md", "docs/*.md", "manifests/README.md", "examples/README.md")
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
    there = {path.name for folder in ("k710", "tests") for path in (CHECKOUT / folder).rglob("*.py")}
    assert set(named) - there == set()


def test_the_readme_leads_to_every_page_once():
    links = re.findall(r"\]\((docs/[^)#]+\.md)\)", prose(CHECKOUT / "README.md").partition("## Where to read on")[2])
    assert sorted(links) == [name for name in PAGES if name.startswith("docs/")]


@pytest.mark.parametrize("name", PAGES)
def test_snippets_are_python(name):
    text = (CHECKOUT / name).read_text(encoding="utf-8")
    for snippet in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if not snippet.startswith(">>>"):
            compile(snippet, name, "exec")


def transcripts(name: str) -> list[tuple[str, str]]:
    """A page's `$ k710 …` lines with what stands below each."""
    blocks = re.findall(
        r"^```console\n(.*?)^```$", (CHECKOUT / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    shown = [part for block in blocks for part in re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]]
    return [(command, output) for command, _, output in (part.partition("\n") for part in shown)]


# Of what needs no clips.
SAMPLE_TRANSCRIPTS = [
    (name, command, output)
    for name in PAGES
    for command, output in transcripts(name)
    if re.match(r"k710 (labels|(explain|audit|export) .*manifests/sample|audit --annotations sample)", command)
    and output
    and not re.search(r"--store|--videos|--present", command)
]


@pytest.mark.parametrize(("name", "command", "output"), SAMPLE_TRANSCRIPTS)
def test_transcripts_of_the_sample_are_what_is_printed(k710, tmp_path, monkeypatch, name, command, output):
    monkeypatch.chdir(tmp_path)
    Path("two.txt").write_text("archery\nabseiling\n")  # as the page makes it
    assert k710("build", "--annotations", "sample", "--out", "manifests/sample").exit_code == 0
    assert k710(*shlex.split(command)[1:]).stdout.strip() == output.strip()


def test_there_are_such_transcripts():
    assert {command.split()[1] for _, command, _ in SAMPLE_TRANSCRIPTS} == {"labels", "explain", "audit", "export"}


def test_the_readme_shows_what_a_build_of_the_real_lists_prints(k710, real_lists, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (command, output), *_ = [shown for shown in transcripts("README.md") if "--splits val" in shown[0]]
    result = k710(*shlex.split(command.replace("../kinetics-lists", str(real_lists)))[1:])
    assert result.stdout == output
