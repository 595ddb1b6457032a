"""The data directory: files whole or not at all, believed only where nobody else can write, and never a reason to fail."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from crawlguard import datadir
from crawlguard.errors import DataError

VALUE = {"lists": {"https://a.test/": {"checked": "2026-11-22", "parts": []}}}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRAWLGUARD_DATA_DIR", str(tmp_path / "data"))
    return datadir.target()


def put(directory: Path) -> Path:
    with datadir.locked(directory):
        datadir.replace(directory, datadir.RANGES, VALUE)
    return directory / datadir.RANGES


def test_what_is_written_is_read(directory: Path) -> None:
    path = put(directory)
    assert datadir.load(datadir.RANGES) == [VALUE]
    assert datadir.current(directory, datadir.RANGES) == VALUE
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(directory.stat().st_mode) & 0o022 == 0
    assert sorted(p.name for p in directory.iterdir()) == [".lock", datadir.RANGES]


def test_nothing_is_nothing_to_talk_about(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert datadir.load(datadir.RANGES) == []
    assert datadir.current(directory, datadir.RANGES) == {}
    assert caplog.records == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"a.test", b"b.test"))


def _version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 2'))


def _list(path: Path) -> None:
    body = b"[]"
    path.write_bytes(json.dumps({"version": 1, "digest": datadir._digest(body)}).encode() + b"\n" + body)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _giant(path: Path) -> None:
    os.truncate(path, datadir.MAX_BYTES + 1)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: path.write_bytes(b"hello"),
    "nested too deeply": lambda path: path.write_bytes(b"[" * 100_000),
    "cut off": _cut,
    "edited": _edit,
    "of another version": _version,
    "a list": _list,
    "a link": _link,
    "a pipe": _pipe,
    "giant": _giant,
    "a directory": _directory,
    "writable by others": lambda path: path.chmod(0o666),
    "in a directory that others write to": lambda path: path.parent.chmod(0o777),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_trusted_is_passed_over_with_one_warning(directory: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = put(directory)
    BROKEN[name](path)
    with caplog.at_level(logging.WARNING, "crawlguard"):
        assert datadir.load(datadir.RANGES) == []
        assert datadir.load(datadir.RANGES) == []
    assert [str(path) in r.getMessage() for r in caplog.records] == [True]


def test_a_directory_that_others_write_to_is_refused_with_the_cure(directory: Path) -> None:
    directory.chmod(0o777)
    with pytest.raises(DataError, match=f"other users can write to it; run chmod go-w {directory}"):
        datadir.target()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CRAWLGUARD_DATA_DIR", str(tmp_path / "file" / "data"))
    with pytest.raises(DataError, match="cannot keep updated data"):
        datadir.target()
    assert datadir.load(datadir.RANGES) == []


def test_without_a_name_the_users_own_directory_counts_and_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRAWLGUARD_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datadir, "SYSTEM", tmp_path / "system")
    own, system = tmp_path / "home" / "crawlguard", tmp_path / "system"
    assert datadir.directories() == [own, system]
    assert datadir.target() == (system if os.getuid() == 0 else own)
    assert [p.parent.name for p in map(Path, datadir.files())] == ["crawlguard", "crawlguard", "system", "system"]


def test_a_write_that_fails_leaves_the_old_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(directory)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with datadir.locked(directory), pytest.raises(DataError, match=r"No space left on device.*the old data stay"):
        datadir.replace(directory, datadir.RANGES, {"lists": {}})
    assert path.read_bytes() == before
    assert sorted(p.name for p in directory.iterdir()) == [".lock", datadir.RANGES]


_WRITER = """
import sys
from pathlib import Path
from crawlguard import datadir
from crawlguard.update.run import save
for number in range(20):
    save(Path(sys.argv[1]), {f"https://{sys.argv[2]}.test/{number}": {"checked": "2026-11-22", "parts": []}})
"""


def test_updates_at_once_lose_nothing_of_each_other(directory: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(directory), name]) for name in "abc"]
    torn = 0
    while any(w.poll() is None for w in writers):  # meanwhile a reader never sees half a file
        torn += len(datadir.load(datadir.RANGES)) == 0 and (directory / datadir.RANGES).exists()
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert torn <= 1  # the look may fall before the first file, and exists() after it
    assert len(datadir.load(datadir.RANGES)[0]["lists"]) == 60


def test_the_lock_is_waited_for_and_not_for_ever(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datadir, "LOCK_WAIT", 0.1)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with datadir.locked(directory):
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with pytest.raises(DataError, match="another update has held its lock"), datadir.locked(directory):
        pass
    done.set()
    thread.join()
    with datadir.locked(directory):
        pass
