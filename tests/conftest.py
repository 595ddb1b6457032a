"""What all tests share: a state directory of their own, and the data that lies beside the repository."""

from __future__ import annotations

import gc
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from .updating import Desk

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Corpora and databases for tests; SOURCES.md there says where each comes from."""

# Set before anything of crawlguard is asked for a directory, and inherited by every server that a test starts.
os.environ["CRAWLGUARD_STATE_DIR"] = tempfile.mkdtemp(prefix="crawlguard-tests-")
os.environ["CRAWLGUARD_DATA_DIR"] = os.path.join(
    os.environ["CRAWLGUARD_STATE_DIR"], "data"
)  # what this host has fetched is no part of a test


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three for two processors: for a third of their time tests wait, for servers to start and for times to pass."""
    return (3 * (os.cpu_count() or 1) + 1) // 2


# Of the time of all tests a sixth went into looking again and again through what never goes: modules, and the syntax trees of tests.
gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``make test`` finds the files of what runs alone by these words: a test that is marked in others would never run."""
    for path in {item.path for item in items if item.get_closest_marker("alone")}:
        if "mark.alone" not in path.read_text("utf-8"):
            raise pytest.UsageError(f"{path}: write pytest.mark.alone, by which the Makefile finds the file")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What has been loaded stays: from here on only what tests make is looked through for garbage, and seldom while it is young."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 10)
    gc.enable()


# The secrets of stores that are made in a test's own process are the same in every run: under one secret in some hundreds two of a few paths
# set the same bit, and what a test counts exactly is one less. Servers, and other processes, draw theirs.
_secrets = random.Random()


def pytest_sessionstart() -> None:
    from crawlguard.store import mapped, memory

    mapped.urandom = memory.urandom = _secrets.randbytes  # type: ignore[attr-defined]


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> None:
    _secrets.seed(f"{request.node.nodeid} {fixturedef.argname} {request.param_index}")  # type: ignore[attr-defined]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    _secrets.seed(item.nodeid)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a throw-away certificate authority, for servers of https."""
    from .tls_site import make_authority

    directory = tmp_path_factory.mktemp("authority")
    make_authority(directory)
    return directory


@pytest.fixture
def desk(authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A small catalogue whose lists a server on loopback publishes."""
    from .tls_site import serving
    from .updating import Desk

    with serving(authority) as site:
        yield Desk(tmp_path, site, monkeypatch)
