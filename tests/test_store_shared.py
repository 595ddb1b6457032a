"""The shared table's file and the processes around it: creation, damage, other boots, kill -9, full and read-only disks."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crawlguard.errors import DataError
from crawlguard.policy.model import Store
from crawlguard.signals.rate import Window
from crawlguard.store import MemoryStore, SharedStore, open_store

S = 1_000_000
SIZE = 65_536
KEY = 0x0123_4567_89AB_CDEF
NOW = 10**12

WORKER = """
import sys, time
from crawlguard.store import SharedStore
path, key, interval, requests, hits = sys.argv[1], *map(int, sys.argv[2:])
store, admitted, clock = SharedStore(path, 65_536), 0, time.monotonic_ns
print(store.seed.hex(), flush=True)
sys.stdin.readline()
while hits:
    hits -= 1
    admitted += store.hit(key, clock() // 1000, interval, interval * requests, 0) == 0
print(admitted, flush=True)
"""


def workers(path: Path, number: int, *, requests: int, interval: int, hits: int) -> list[subprocess.Popen[str]]:
    """Processes that open the table, say its seed, wait for a line, and then hit one key ``hits`` times (-1: without end)."""
    command = [sys.executable, "-c", WORKER, str(path), str(KEY), str(interval), str(requests), str(hits)]
    pipe = subprocess.PIPE
    return [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(number)]


def say(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()


def hear(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def end(workers: list[subprocess.Popen[str]]) -> None:
    for worker in workers:
        worker.kill()
        worker.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rates.bin"


def fill(store: SharedStore, now: int = NOW, hold: int = 0) -> Window:
    window = Window.of(10, 60 * S)
    for _ in range(11 if hold else 10):
        store.hit(KEY, now, window.interval, window.tolerance, hold)
    return window


# ---- the file


def test_it_is_complete_private_and_of_fixed_size(path: Path) -> None:
    store = SharedStore(path, SIZE)
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_blocks * 512 >= found.st_size  # no holes: writing to one on a full disk kills the process
    for n in range(20_000):
        store.hit(n * 0x9E3779B97F4A7C15 & (1 << 64) - 1, NOW, 100, 1000, 0)
    assert path.stat().st_size == found.st_size
    store.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_it_is_shared_and_outlives_its_users(path: Path) -> None:
    one, two = SharedStore(path, SIZE), SharedStore(path, SIZE)
    window = fill(one)
    assert one.seed == two.seed
    assert two.hit(KEY, NOW, window.interval, window.tolerance, 0) == window.interval
    one.close()
    two.close()
    three = SharedStore(path, SIZE)
    assert three.peek(KEY, NOW, window.interval, window.tolerance, 0) == window.interval
    three.close()


def test_times_of_another_boot_count_as_fresh(path: Path) -> None:
    store = SharedStore(path, SIZE)
    window = fill(store, now=30 * 86_400 * S)
    after_boot = 20 * S
    assert store.peek(KEY, after_boot, window.interval, window.tolerance, 0) == 0
    assert [store.hit(KEY, after_boot, window.interval, window.tolerance, 0) for _ in range(11)] == [0] * 10 + [window.interval]
    store.close()


def test_a_penalty_of_another_boot_ends(path: Path) -> None:
    store, hold = SharedStore(path, SIZE), 3600 * S
    window = fill(store, now=30 * 86_400 * S, hold=hold)
    assert store.peek(KEY, 20 * S, window.interval, window.tolerance, hold) == 0
    assert store.hit(KEY, 20 * S, window.interval, window.tolerance, hold) == 0
    store.close()


def test_a_table_of_another_boot_is_made_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = SharedStore(path, SIZE)
    fill(before)
    assert SharedStore(path, SIZE).seed == before.seed
    monkeypatch.setattr("crawlguard.store.mapped.boot_id", lambda: b"another boot".ljust(36, b"\0"))
    after = SharedStore(path, SIZE)
    assert after.seed != before.seed
    assert not any(after._words)
    after.close()
    before.close()


def test_a_state_that_is_not_its_keys_counts_as_fresh(path: Path) -> None:
    # Another worker took the slot over between the two reads: the key is ours, the state is somebody else's.
    busy, worker = SharedStore(path, SIZE), SharedStore(path, SIZE)
    window = fill(busy)
    at = next(i for i in range(0, len(busy._words), 2) if busy._words[i] == KEY)
    busy._words[at + 1] ^= 1
    assert worker.peek(KEY, NOW, window.interval, window.tolerance, 0) == 0
    assert [worker.hit(KEY, NOW, window.interval, window.tolerance, 0) for _ in range(11)] == [0] * 10 + [window.interval]
    busy.close()
    worker.close()


class Stalls:
    """Words of a table in which the first write takes as long as ``meanwhile``: a page of a file on a disk that has to be made writable."""

    def __init__(self, words: Any, meanwhile: Callable[[], object]) -> None:
        self._words, self._meanwhile = words, meanwhile
        self._first = True

    def __getitem__(self, at: int) -> int:
        return int(self._words[at])

    def __setitem__(self, at: int, word: int) -> None:
        if self._first:
            self._first = False
            self._meanwhile()
        self._words[at] = word


@pytest.mark.parametrize("full", [False, True])
def test_what_others_count_while_a_new_key_is_written_counts(path: Path, full: bool) -> None:
    one, two = SharedStore(path, SIZE), SharedStore(path, SIZE)
    slots = range(8 if full else 0)
    for n in slots:  # strangers in all slots of its neighbourhood
        at = 2 * ((KEY >> 16 & one._slot_mask) + n)
        one._words[at], one._words[at + 1] = KEY ^ (n + 1) << 40, (NOW + S) << 16 | KEY & 0x1FF
    words = one._words
    one._words = Stalls(words, lambda: [two.hit(KEY, NOW, S, 10 * S, 0) for _ in range(9)])  # type: ignore[assignment]
    assert [one.hit(KEY, NOW, S, 10 * S, 0) for _ in range(3)] == [0, S, S]
    assert two.hit(KEY, NOW, S, 10 * S, 0) == S
    one._words = words
    one.close()
    two.close()


# ---- files that are not ours, or not whole


@pytest.mark.parametrize("length", [0, 1, 4096, SIZE])
def test_a_table_that_was_cut_short_is_made_anew(path: Path, length: int) -> None:
    SharedStore(path, SIZE).close()
    with path.open("r+b") as file:
        file.truncate(length)
    store = SharedStore(path, SIZE)
    window = fill(store)
    assert store.hit(KEY, NOW, window.interval, window.tolerance, 0) == window.interval
    store.close()


def test_a_table_of_another_size_is_replaced_and_its_users_keep_theirs(path: Path) -> None:
    old = SharedStore(path, SIZE)
    window = fill(old)
    new = SharedStore(path, 2 * SIZE)
    assert new.peek(KEY, NOW, window.interval, window.tolerance, 0) == 0
    assert old.peek(KEY, NOW, window.interval, window.tolerance, 0) == window.interval
    old.close()
    new.close()


@pytest.mark.parametrize("size", [5, 100_000, 4096 + (4096 + 8) * 16])
def test_a_file_that_is_not_a_table_is_refused_and_left_alone(path: Path, size: int) -> None:
    precious = (b"somebody's letters, pointed at by mistake\n" * (size // 40 + 1))[:size]
    path.write_bytes(precious)
    with pytest.raises(DataError, match=r"rates\.bin"):
        SharedStore(path, SIZE)
    assert path.read_bytes() == precious
    store, complaint = open_store(Store("shared", str(path), SIZE), "x")
    assert isinstance(store, MemoryStore)
    assert "rates.bin" in complaint


@pytest.mark.parametrize("dangling", [True, False])
def test_a_symlink_is_refused(path: Path, tmp_path: Path, dangling: bool) -> None:
    target = tmp_path / "target"
    if not dangling:
        SharedStore(target, SIZE).close()
    path.symlink_to(target)
    with pytest.raises((OSError, DataError)):
        SharedStore(path, SIZE)
    assert path.is_symlink()
    assert target.exists() is not dangling


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
def test_what_is_no_file_falls_back_to_memory(path: Path, make: object) -> None:
    assert callable(make)
    make(path)
    store, complaint = open_store(Store("shared", str(path), SIZE), "x")
    assert isinstance(store, MemoryStore)
    assert complaint
    assert path.exists()


# ---- disks


def test_a_missing_directory_falls_back_to_memory(tmp_path: Path) -> None:
    store, complaint = open_store(Store("shared", str(tmp_path / "none" / "rates"), SIZE), "x")
    assert isinstance(store, MemoryStore)
    assert "each process alone" in complaint


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 KiB, too small for the smallest table."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs takes root")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(tmp_path)], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_falls_back_to_memory_and_leaves_nothing_behind(disk: Path) -> None:
    store, complaint = open_store(Store("shared", str(disk / "rates"), SIZE), "x")
    assert isinstance(store, MemoryStore)
    assert "No space left" in complaint
    assert list(disk.iterdir()) == []


def test_a_read_only_disk_falls_back_to_memory(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    store, complaint = open_store(Store("shared", str(disk / "rates"), SIZE), "x")
    assert isinstance(store, MemoryStore)
    assert "Read-only" in complaint


# ---- other processes


def test_processes_that_create_it_at_once_share_one_file(path: Path) -> None:
    crowd = workers(path, 6, requests=1, interval=S, hits=0)
    try:
        seeds = {hear(worker) for worker in crowd}
        assert len(seeds) == 1
        assert len(seeds.pop()) == 64
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    finally:
        end(crowd)


def hammered(path: Path) -> int:
    """What four processes admit together on one key with a limit of 200,000."""
    crowd = workers(path, 4, requests=200_000, interval=10 * S, hits=200_000)
    try:
        for worker in crowd:
            hear(worker)
        for worker in crowd:
            say(worker)
        return sum(int(hear(worker)) for worker in crowd)
    finally:
        end(crowd)


def test_four_processes_on_one_key_admit_no_more_than_two_percent_too_many(path: Path) -> None:
    # The median of three: a worker that a busy machine stops in the middle of a write for long loses what it was about to write.
    admitted = sorted(hammered(path.with_name(f"rates-{number}.bin")) for number in range(3))
    assert 200_000 <= admitted[1] <= 204_000


def test_a_killed_process_leaves_the_others_counting(path: Path) -> None:
    doomed = workers(path, 2, requests=100_000, interval=10 * S, hits=-1)
    rest = workers(path, 2, requests=100_000, interval=10 * S, hits=120_000)
    try:
        for worker in doomed + rest:
            hear(worker)
        for worker in doomed:
            say(worker)
        store = SharedStore(path, SIZE)
        while not any(store._words):  # until they are at it
            assert all(worker.poll() is None for worker in doomed)
        for worker in doomed:
            worker.send_signal(signal.SIGKILL)
        for worker in rest:
            say(worker)
        assert sum(int(hear(worker)) for worker in rest) <= 102_000
        assert [worker.wait() for worker in rest] == [0, 0]
        assert store.hit(KEY ^ 1 << 20, NOW, S, 10 * S, 0) == 0
        store.close()
    finally:
        end(doomed + rest)
