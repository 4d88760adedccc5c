"""The page in a real browser: nothing fails, nothing is fetched, nothing of the data runs, all controls work."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from k710.report.charts import kinds_chart
from k710.report.page import render_page
from k710.report.parts import Filmstrip, Gallery, Link, Section, Table, Tiles
from tests.helpers.report_pages import ATTACKS, hostile_manifest, ids_unchecked, start_browser, write_run
from tests.helpers.small_stores import LABELS, clips_of, film, manifest_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    yield from start_browser()


@pytest.fixture(scope="module")
def report(tmp_path_factory, k710) -> Path:
    """The report of some clips that were fetched, with a run beside them."""
    folder = tmp_path_factory.mktemp("report")
    clips = [*clips_of(8), *clips_of(4, "val", first=100)]
    manifest = manifest_of(k710, folder, clips)
    result = k710("fetch", manifest, "--from", f"local:{film(folder / 'clips', clips)}", "--workers", 2)
    assert result.exit_code == 0, result.output
    run = write_run(folder / "runs" / "one")
    result = k710("report", manifest, "--runs", run.parent, "--out", folder / "report.html")
    assert result.exit_code == 0, result.output
    return folder / "report.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, k710) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    manifest = hostile_manifest(folder)
    with ids_unchecked():
        result = k710("report", manifest.path, "--runs", folder / "runs", "--out", folder / "report.html")
    assert result.exit_code == 0, result.output
    return folder / "report.html"


class Visit:
    """A page that is open, and all that the browser had to say."""

    def __init__(self, browser: Any, path: Path, *, width: int = 1280, scheme: str = "light") -> None:
        self.said: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()

    def see_all(self) -> None:
        """Every chart drawn, every table of a chart open."""
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        for plot in self.page.locator(".plot").all():
            plot.scroll_into_view_if_needed()
            plot.locator("svg").first.wait_for()

    def wait_for(self, condition: str, *, limit_s: float = 30) -> None:
        """Until a condition of the page is true. Playwright's own waiting evaluates a string in the page, which the
        page's policy forbids."""
        end_s = time.monotonic() + limit_s
        while not self.page.evaluate(condition):
            assert time.monotonic() < end_s, f"waited in vain: {condition}"
            self.page.wait_for_timeout(50)

    def check(self) -> None:
        assert self.said == []
        fetched = [url for url in self.requests[1:] if not url.startswith("data:")]
        assert fetched == [], "a report needs no other file"

    def column(self, table: str, place: int) -> list[str]:
        script = "([id, place]) => [...document.getElementById(id).tBodies[0].rows].filter(row => !row.hidden)"
        return self.page.evaluate(script + ".map(row => row.cells[place].textContent)", [table, place])

    def table(self, caption: str) -> str:
        return self.page.locator("table", has=self.page.locator(f"caption:text-is('{caption}')")).get_attribute("id")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_every_part_shows_and_nothing_is_fetched(browser, report, width, scheme):
    with Visit(browser, report, width=width, scheme=scheme) as visit:
        visit.see_all()
        assert visit.page.locator(".plot").count() >= 8
        assert visit.page.locator(".plot svg.main-svg").count() >= 8
        wide = visit.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], "the page scrolls sideways"
        visit.check()


def test_printed_it_shows_every_chart_and_every_filmstrip(browser, report, tmp_path):
    """Without having been scrolled, from dark colours: charts are as wide as paper, and nothing is cut."""
    with Visit(browser, report, scheme="dark") as visit:
        page, count = visit.page, visit.page.locator(".plot").count()
        assert page.locator(".plot svg.main-svg").count() < count, "not all are drawn before"
        page.evaluate(
            "addEventListener('beforeprint', () => { window.theme = document.documentElement.dataset.theme })"
        )
        page.pdf(path=tmp_path / "report.pdf")
        assert page.evaluate("[...document.querySelectorAll('.plot')].every(one => one.querySelector('svg'))")
        assert page.evaluate("window.theme") == "light"
        assert page.evaluate("document.documentElement.dataset.theme ?? 'system'") == "system", "and back again"
        page.set_viewport_size({"width": 700, "height": 1000})
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        cut = "[...document.querySelectorAll('.scroll, .gallery, .plot')].filter(one => one.checkVisibility()"
        cut += " && (one.scrollHeight > one.clientHeight + 2 || one.querySelector('svg')?.clientWidth > 700)).length"
        assert page.evaluate(cut) == 0
        assert page.locator("#gallery img").count() == 12
        assert page.evaluate("[...document.querySelectorAll('#gallery img')].every(one => one.naturalWidth > 200)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        visit.check()


def test_a_phone_is_told_what_is_wider_than_it(browser, report):
    with Visit(browser, report, width=390) as visit:
        visit.see_all()
        flow = visit.page.locator("#attrition figure .scroll").first
        hint = visit.page.locator("#attrition figure .hint").first
        assert hint.is_visible()
        assert "scroll sideways" in hint.text_content()
        assert "cut" in flow.get_attribute("class").split()
        flow.evaluate("one => one.scrollTo(one.scrollWidth, 0)")
        visit.wait_for("!document.querySelector('#attrition figure .scroll').classList.contains('cut')")
        wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 4)"
        untold = f"{wide}.filter(one => !one.previousElementSibling.checkVisibility()).length"
        visit.wait_for(f"{untold} === 0")
        visit.check()
    with Visit(browser, report, width=1280) as visit:
        visit.see_all()
        assert not visit.page.locator("#attrition figure .hint").first.is_visible(), "there it fits"


@pytest.mark.slow
def test_both_colour_schemes_are_readable(browser, report):
    """Text against what it stands on, by WCAG's contrast; the switch turns one into the other."""
    script = """() => [...document.querySelectorAll('h1, p, td, th, figcaption, summary, nav a, .sankey-node text')]
        .filter(one => one.checkVisibility() && one.textContent.trim()).map(one => {
            let under = one, paper;
            do { paper = getComputedStyle(under).backgroundColor; under = under.parentElement; }
            while (under && /rgba\\(.*, 0\\)|transparent|color/.test(paper));
            const style = getComputedStyle(one);
            return [one.tagName, one instanceof SVGElement ? style.fill : style.color, paper];
        })"""
    backgrounds = []
    for scheme in ("light", "dark"):
        with Visit(browser, report, scheme=scheme) as visit:
            visit.see_all()
            for attempt in range(2):
                found = visit.page.evaluate(script)
                assert len(found) > 100
                worst = min(found, key=lambda one: contrast(one[1], one[2]))
                assert contrast(*worst[1:]) > 4.5, f"{scheme}, {worst}"
                backgrounds.append(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))
                if not attempt:
                    visit.page.get_by_role("button", name="colours").click()
            visit.check()
    assert backgrounds[0] == backgrounds[3] != backgrounds[1] == backgrounds[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two CSS colours."""

    def luminance(colour: str) -> float:
        parts = np.array([float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ np.array([0.2126, 0.7152, 0.0722]))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_tables_sort_by_keyboard_and_say_so(browser, report):
    with Visit(browser, report) as visit:
        table = visit.table("All classes")
        header = visit.page.locator(f"#{table} thead th").nth(1)
        header.get_by_role("button").focus()
        for key, order in (("Enter", "ascending"), ("Space", "descending")):
            visit.page.keyboard.press(key)
            assert header.get_attribute("aria-sort") == order
            numbers = [int(text) for text in visit.column(table, 1)]
            assert numbers == sorted(numbers, reverse=order == "descending")
            assert len(set(numbers)) == len(LABELS)
        names = visit.page.locator(f"#{table} thead th").nth(0)
        names.get_by_role("button").click()
        assert visit.column(table, 0) == sorted(LABELS)
        assert header.get_attribute("aria-sort") == "none"
        visit.check()


def test_numbers_sort_as_numbers_and_nothing_comes_last(browser, tmp_path):
    cells = ["", "9", "1,200", "", "10.5%", "-3"]
    table = Table(("row", "value"), [(f"row {number}", cell) for number, cell in enumerate(cells)], "Values")
    path = tmp_path / "page.html"
    path.write_text(render_page("page", [Section("one", "One", [table])]))
    with Visit(browser, path) as visit:
        control = visit.page.locator("thead button").nth(1)
        control.click()
        assert visit.column("one-1", 1) == ["-3", "9", "10.5%", "1,200", "", ""]
        control.click()
        assert visit.column("one-1", 1) == ["1,200", "10.5%", "9", "-3", "", ""]
        visit.check()
    histogram = Table(("kB", "clips"), [("800 to 1,000", 1), ("1,200 to 1,400", 2), ("1,000 to 1,200", 3)], "Bytes")
    path.write_text(render_page("page", [Section("one", "One", [histogram])]))
    with Visit(browser, path) as visit:
        visit.page.locator("thead button").nth(0).click()
        assert visit.column("one-1", 0) == ["800 to 1,000", "1,000 to 1,200", "1,200 to 1,400"]
        visit.check()


def test_search_narrows_and_tells(browser, report):
    with Visit(browser, report) as visit:
        table = visit.table("All classes")
        box = visit.page.locator(f"#{table}-search")
        box.fill("ARCH")
        assert visit.column(table, 0) == ["archery"]
        assert visit.page.locator(f"output[for='{table}-search']").text_content() == "1 of 4"
        box.fill("no such class")
        assert visit.column(table, 0) == []
        box.fill("")
        assert len(visit.column(table, 0)) == 4
        visit.check()


def test_filmstrips_load_and_are_searched(browser, report):
    with Visit(browser, report) as visit:
        gallery = visit.page.locator("#gallery .gallery")
        pictures = gallery.locator("img")
        assert pictures.count() == 12
        for picture in pictures.all():
            picture.scroll_into_view_if_needed()
        visit.wait_for("[...document.querySelectorAll('#gallery img')].every(one => one.naturalWidth > 200)")
        visit.page.locator("#gallery input[type=search]").fill("juggling")
        assert gallery.locator("li:visible").count() == 3
        link = gallery.locator("li:visible a").first
        assert link.get_attribute("href").startswith("https://www.youtube.com/watch?v=clip-")
        assert link.get_attribute("rel") == "noopener noreferrer"
        visit.check()


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_nothing_of_a_hostile_manifest_runs(browser, hostile, width):
    with Visit(browser, hostile, width=width) as visit:
        visit.see_all()
        for control in visit.page.locator("thead button").all():
            control.click(force=True)
        for bar in visit.page.locator(".plot .point path, .plot .sankey-node").all():
            bar.dispatch_event("mousemove")
        assert visit.page.evaluate("window.hacked") is None
        wide = visit.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], "a long text makes the page scroll sideways"
        for attack in ATTACKS[:6]:
            assert visit.page.get_by_text(attack, exact=False).count(), "it is shown as it stands"
        hrefs = visit.page.evaluate("[...document.querySelectorAll('a')].map(one => one.href)")
        allowed = ("https://www.youtube.com/watch?v=", hostile.as_uri() + "#")
        assert [href for href in hrefs if not href.startswith(allowed)] == []
        visit.check()


def test_a_word_without_end_does_not_widen_the_page(browser, tmp_path):
    word = "A" * 5000
    table = Table((word, "value"), [(word, word), (Link(word, "https://a.org"), 1)], word, word, searchable=True)
    chart = kinds_chart([{"kind": word, "clips": 2}, {"kind": "b", "clips": 1}], word, word)
    strip = Filmstrip(None, 384, 72, word, Link(word, "https://a.org"), (word,), word)
    blocks = [word, Tiles([("1", word)]), table, chart, Gallery(word, [strip], word, [word], searchable=True)]
    path = tmp_path / "page.html"
    path.write_text(render_page(word, [Section("one", word, blocks)], subtitle=word))
    for width in (390, 1280):
        with Visit(browser, path, width=width) as visit:
            visit.see_all()
            assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            visit.check()


@pytest.mark.slow
def test_the_policy_stops_what_escapes_all_the_same(browser, hostile, tmp_path):
    """The check above can fail, and behind the escaping stands the browser's own lock."""
    page = hostile.read_text()
    bad = "<script>window.hacked=1</script><img src='https://example.org/x.png' onerror='window.hacked=1'>"
    path = tmp_path / "page.html"
    path.write_text(page.replace("<h1>", bad + "<h1>"))
    with Visit(browser, path) as visit:
        assert visit.page.evaluate("window.hacked") is None
        assert any("Content Security Policy" in text for text in visit.said)
    start = page.index("<meta http-equiv")
    path.write_text((page[:start] + page[page.index(">", start) + 1 :]).replace("<h1>", bad + "<h1>"))
    with Visit(browser, path) as visit:
        assert visit.page.evaluate("window.hacked") == 1


def test_a_page_without_charts_is_small_and_works(browser, tmp_path):
    """What another page needs of the template: text, tiles, tables, links, filmstrips."""
    strip = Filmstrip(None, 400, 72, "archery", Link("here", "https://example.org/"), ("a line",), "it is gone")
    blocks = [
        "A sentence.",
        Tiles([("3", "things")]),
        Table(("a",), [(Link("x", "javascript:alert(1)"),)]),
        Gallery("", [strip]),
    ]
    path = tmp_path / "page.html"
    path.write_text(render_page("Small", [Section("one", "One", blocks)]))
    assert path.stat().st_size < 50_000
    with Visit(browser, path) as visit:
        assert visit.page.get_by_text("it is gone").is_visible()
        assert visit.page.locator("tbody a").count() == 0, "a link leads to https or nowhere"
        visit.check()


def test_plotly_markup_in_a_label_is_text(browser, tmp_path):
    """Plotly takes some HTML in its labels; none of it may come from the data."""
    kinds = [{"kind": "<b>bold</b> <a href='https://example.org/'>link</a> &lt;", "clips": 3}]
    chart = kinds_chart(kinds, "kind", "Kinds")
    assert chart is not None
    path = tmp_path / "page.html"
    path.write_text(render_page("Charts", [Section("one", "One", [dataclasses.replace(chart, note="noted")])]))
    with Visit(browser, path) as visit:
        visit.see_all()
        assert visit.page.locator(".plot a").count() == 0
        assert "<b>bold</b> <a href" in visit.page.locator(".ytick").text_content()
        visit.check()
