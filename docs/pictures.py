"""The pictures that docs/ shows. `python docs/pictures.py REPORT.html FOLDER` writes report-*.png of a report there,
and with `--sheet FILE.png` that sheet of `k710 show`, in fewer bytes.

The report's are made by a headless chromium through playwright (both come with `pip install -e '.[dev]'` and
`apt install chromium`).
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import click
from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = {"width": 1200, "height": 860}
# The part of the page, the colour scheme, what stands at the top.
SHOTS = {"report-rows": ("light", "#attrition"), "report-clips": ("dark", "#gallery")}
MOST_BYTES = 200_000
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@click.command(help=__doc__)
@click.argument("report", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--sheet", "sheets", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(report: Path, folder: Path, sheets: tuple[Path, ...]) -> None:
    for sheet in sheets:
        with Image.open(sheet) as picture:
            write(folder / sheet.name, picture.convert("RGB"))
    names = ("chromium", "chromium-browser", "google-chrome")
    browser_path = next(filter(None, map(shutil.which, names)), None)
    if browser_path is None:
        raise click.ClickException(f"none of {', '.join(names)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(ARGUMENTS))
        for name, (scheme, anchor) in SHOTS.items():
            write(folder / f"{name}.png", shot(browser, report, scheme, anchor))
        browser.close()


def write(path: Path, picture: Image.Image) -> None:
    content = small(picture)
    path.write_bytes(content)
    click.echo(f"{path}: {len(content):,} bytes")


def shot(browser: Any, report: Path, scheme: str, anchor: str) -> Image.Image:
    """A screen of the report from `anchor` on."""
    page = browser.new_page(viewport=SIZE, color_scheme=scheme)
    page.goto(report.resolve().as_uri() + anchor)
    page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    return picture.convert("RGB")


def small(picture: Image.Image) -> bytes:
    """The picture as a PNG of few colours, fewer until it is small enough."""
    for colours in (256, 128, 64, 32):
        content = io.BytesIO()
        picture.quantize(colours).save(content, format="png", optimize=True)
        if len(content.getvalue()) < MOST_BYTES:
            break
    return content.getvalue()


if __name__ == "__main__":
    main()
