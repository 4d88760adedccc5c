"""What all tests share: the command line in-process, the sample's manifest, and the real lists where they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import settings

from k710.cli import main
from k710.manifest.read import Manifest, open_manifest
from k710.progress import Steps
from tests.helpers.loopback import loopback  # noqa: F401
from tests.helpers.s3_service import _bucket_numbers, moto_port, s3  # noqa: F401

# Tests run in one process per core; torch's threads on top of that would wait for one another. Read at torch's import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no failure.
settings.register_profile("k710", deadline=None)
settings.load_profile("k710")

# Nor is it a message more: steps that take long there are not named, but where a test is about that.
assert Steps.__init__.__kwdefaults__
Steps.__init__.__kwdefaults__["after_s"] = 600.0

Run = Callable[..., Result]


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests and what they start write no index of a dataset into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K710_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_epoch_was_given_out() -> None:
    """What loaders of an earlier test gave out is no repetition in this one."""
    if epochs := sys.modules.get("k710.loading.epochs"):
        epochs._given.clear()


@pytest.fixture(scope="session")
def k710() -> Run:
    """`k710("build", "--out", folder)` runs the command line and returns exit code, stdout and stderr."""

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="k710")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception  # a traceback that a user would have seen
        return result

    return run


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory, k710: Run) -> Manifest:
    """The manifest of the embedded sample, built as the README does. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("sample") / "manifest"
    result = k710("build", "--sources", "k400,k600,k700", "--annotations", "sample", "--out", folder)
    assert result.exit_code == 0, result.output
    return open_manifest(folder)


@pytest.fixture(scope="session")
def real_lists() -> Path:
    """The folder of the releases' real val and test lists, from K710_TEST_LISTS."""
    folder = os.environ.get("K710_TEST_LISTS")
    if not folder:
        pytest.skip("K710_TEST_LISTS is not set: the real lists were not tested")
    assert Path(folder).is_dir(), f"K710_TEST_LISTS={folder} is no folder"
    return Path(folder)


@pytest.fixture(scope="session")
def other_lists() -> Path:
    """Others' copies of the real lists, from K710_TEST_OTHER_LISTS: `ucf101_split1_train.txt.gz` and so on."""
    folder = os.environ.get("K710_TEST_OTHER_LISTS")
    if not folder:
        pytest.skip("K710_TEST_OTHER_LISTS is not set: the real lists of other data sets were not tested")
    return Path(folder)
