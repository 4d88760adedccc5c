"""What is installed: every label map and recipe by name, and nothing at the top but the package."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from k710.version import __version__

CHECKOUT = Path(__file__).parent.parent
DATA = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for pattern in ("labelmaps/*.csv", "pipelines/*/*.yaml")
    for path in CHECKOUT.glob(pattern)
)
TEMPLATES = [f"k710/report/templates/{path.name}" for path in (CHECKOUT / "k710/report/templates").iterdir()]
SAMPLE = [f"k710/sample/lists/{path.name}" for path in (CHECKOUT / "k710/sample/lists").iterdir()]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, CHECKOUT]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_the_wheel_holds_the_data_inside_the_package(distributions):
    names = zipfile.ZipFile(distributions[1]).namelist()
    assert DATA
    assert {f"k710/{name}" for name in DATA} | set(SAMPLE) | set(TEMPLATES) <= set(names)
    assert {name.partition("/")[0] for name in names} == {"k710", f"k710-{__version__}.dist-info"}


@pytest.mark.slow
def test_the_sdist_holds_the_data_beside_the_package(distributions):
    with tarfile.open(distributions[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(DATA) | set(SAMPLE) | set(TEMPLATES) | {"cli.py", "LICENSE", "README.md", "manifests/README.md"} <= names
    assert not {name for name in names if name.startswith((".venv", "manifests/k710", ".git/"))}


@pytest.mark.slow
def test_an_installed_wheel_works_away_from_the_checkout(distributions, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False, system_site_packages=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(distributions[1]).extractall(site)
    # The dependencies are this environment's own.
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    command = [python, "-m", "k710", "build", "--annotations", "sample", "--out", "m"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "73 clips" in result.stdout
    command = [python, "-m", "k710", "report", "m", "--out", "report.html"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    command = [python, "-c", "import k710; print(k710.__file__)"]
    location = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert str(tmp_path) in location.stdout
