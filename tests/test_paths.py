"""Directories of our own on a host with other users: private, and never one that somebody else could put files into."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from crawlguard.paths import private_dir


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A state directory that is named and a cache directory to fall back on."""
    named, fallback = tmp_path / "state", tmp_path / "fallback"
    monkeypatch.setenv("CRAWLGUARD_STATE_DIR", str(named))
    monkeypatch.setenv("XDG_CACHE_HOME", str(fallback))
    return named, fallback / "crawlguard"


def test_our_directory_is_private(homes: tuple[Path, Path]) -> None:
    assert private_dir("cache") == homes[0]
    assert stat.S_IMODE(homes[0].stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_directory_that_others_write_to_is_refused(homes: tuple[Path, Path], mode: int) -> None:
    homes[0].mkdir()
    homes[0].chmod(mode)
    assert private_dir("cache") == homes[1]


def test_a_named_directory_that_is_refused_is_told_once_with_the_cure(homes: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    homes[0].mkdir()
    homes[0].chmod(0o777)
    for kind in ("cache", "rates", "cache"):
        assert private_dir(kind) not in (None, homes[0])
    wanted = f"CRAWLGUARD_STATE_DIR={homes[0]} is not used: other users can write to it; run chmod go-w {homes[0]}"
    assert [r.getMessage() for r in caplog.records] == [wanted]
    homes[0].chmod(0o755)
    assert private_dir("cache") == homes[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away takes root")
def test_a_directory_of_another_owner_is_refused(homes: tuple[Path, Path]) -> None:
    homes[0].mkdir(0o700)
    os.chown(homes[0], 12345, 12345)
    assert private_dir("cache") == homes[1]


def test_a_directory_behind_a_symlink_is_refused(homes: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(0o700)
    homes[0].symlink_to(tmp_path / "theirs")
    assert private_dir("cache") == homes[1]


def test_a_file_in_the_way_is_passed_over(homes: tuple[Path, Path]) -> None:
    homes[0].write_text("not a directory")
    assert private_dir("cache") == homes[1]
