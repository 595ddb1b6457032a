"""Counting on a cluster comes to the local result, byte for byte, also when a worker dies in the middle; and shards are cut as chunks are."""

from __future__ import annotations

import gzip
import io
import os
import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from crawlguard_analyzer import cluster as cluster_module
from crawlguard_analyzer.cluster import Facts, facts
from crawlguard_analyzer.counting import AS_TOLD, Counted, Form, count, count_all, join
from crawlguard_analyzer.reading import read
from crawlguard_analyzer.rollup import Clients
from crawlguard_analyzer.shards import ARITY, CHUNKS, Shard, chunks, fold, opened, shards
from crawlguard_analyzer.source import File
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from crawlguard.errors import ConfigError, DataError

from .cluster_workers import DEADLINE, Broken, Cluster, Gate, Gated, Statuses, certificates, cluster

SIZE = 4096
"""Bytes of a chunk in these tests."""
GARBAGE = [
    r'192.0.2.9 - - [26/Nov/2026:10:00:00 +0000] "\x16\x03\x01\x00" 400 157 "-" "-"',
    "",
    "no log line",
    "192.0.2.1 - - [26/Nov/2026:10",
]


def lines(seed: int, number: int) -> list[str]:
    """Requests of some clients in the order of time, more or less, with garbage between them."""
    draw = random.Random(seed)
    found = []
    for n in range(number):
        second = max(0, n // 4 + draw.randint(-30, 0))
        target = draw.choice(["/", "/a.css", "/robots.txt", f"/{draw.randint(0, 500)}?q", f"/deep/{n}"])
        ua = draw.choice(["Mozilla/5.0 (X11)", "GPTBot/1.2", "-"])
        found.append(
            f"198.51.100.{draw.randint(0, 20)} - - [26/Nov/2026:1{seed % 10}:{second // 60 % 60:02}:{second % 60:02} +0000] "
            f'"{draw.choice(["GET", "HEAD"])} {target} HTTP/1.1" {draw.choice([200, 304, 404])} {n} "-" "{ua}"'
        )
        if draw.random() < 0.02:
            found.append(draw.choice(GARBAGE))
    return found


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two plain files, of several shards and of one, the first without a last line end; and a compressed one."""
    directory = tmp_path_factory.mktemp("logs")
    many, few = lines(1, 2400), lines(2, 100)
    (directory / "access.log").write_text("\n".join(many))
    (directory / "access.log.1").write_text("\n".join([*few, ""]))
    (directory / "access.log.2.gz").write_bytes(gzip.compress("\n".join([*lines(0, 300), ""]).encode()))
    return sorted(map(str, directory.iterdir()))


@pytest.fixture(scope="module")
def local(logs: list[str]) -> Counted:
    """What a run without a cluster comes to, with chunks of the same size."""
    return read(logs, [Clients(), Statuses()], AS_TOLD, quiet=True, size=SIZE)[0]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two workers."""
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        found.workers({}, {})
        yield found


def stored(rollup: pl.DataFrame) -> tuple[bytes, bytes]:
    """A rollup as the bytes of a Parquet and of an Arrow file, the latter without views, whose buffers may hold more than the values."""
    parquet, arrow = io.BytesIO(), io.BytesIO()
    rollup.write_parquet(parquet)
    rollup.write_ipc(arrow, compat_level=pl.CompatLevel.oldest())
    return parquet.getvalue(), arrow.getvalue()


def same(one: Counted, other: Counted) -> bool:
    for mine, theirs in zip(one.rollups, other.rollups, strict=True):
        assert_frame_equal(mine, theirs)
        assert stored(mine) == stored(theirs)
    rest = [[getattr(c, name) for name in Counted.__slots__[1:]] for c in (one, other)]
    assert rest[0] == rest[1]
    return True


# ---- shards


def test_every_line_is_counted_here(logs: list[str], local: Counted) -> None:
    written = [gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw for raw in (Path(log).read_bytes() for log in logs)]
    assert local.lines == sum(len(raw.splitlines()) for raw in written)
    assert local.rollups[0]["requests"].sum() == local.rows
    assert set(local.unparsed) == {"tls", "blank", "other", "truncated"}
    assert Counter(reject.reason for reject in local.rejects) == local.unparsed
    assert local.formats.total() == local.rows
    assert len(shards(logs, SIZE)) == 3
    assert max(map(len, shards(logs, SIZE))) >= 7


LINE = st.one_of(st.binary(max_size=40), st.integers(0, 9000).map(lambda n: b"x" * n)).map(lambda line: line.replace(b"\n", b""))


@settings(max_examples=60, deadline=None)
@given(found=st.lists(LINE, max_size=300), ended=st.booleans(), size=st.sampled_from([64, 500, 4096]))
def test_shards_have_the_chunks_of_the_file(tmp_path_factory: pytest.TempPathFactory, found: list[bytes], ended: bool, size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "some.log"
    path.write_bytes(b"GET / a log\n" * 2000 + b"\n".join(found) + b"\n" * ended)  # text enough to be no binary, whatever follows
    (cut,) = shards([str(path)], size)
    assert [chunk for shard in cut for chunk in chunks(shard, opened(shard), size)[0]] == list(File(path).chunks(size))
    assert all(len(shard.ends) < CHUNKS for shard in cut)


def test_lines_that_are_too_long_are_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("\n".join([*lines(1, 50), "x" * (2 << 20), *lines(2, 50), ""]))
    ((shard,),) = shards([str(path)])
    found = count([Clients()], AS_TOLD, SIZE, shard)
    assert (found.rows, found.unparsed["too long"], found.lines) == (100, 1, len(path.read_text().splitlines()))


@given(number=st.integers(0, 600))
def test_who_joins_what_is_the_same_by_shards_and_at_once(number: int) -> None:
    def join(parts: list[str]) -> str:
        assert 1 < len(parts) <= ARITY
        return f"({' '.join(parts)})"

    items = list(map(str, range(number)))
    whole = fold(items, join)
    by_shards = (fold(items[at : at + CHUNKS], join) for at in range(0, number, CHUNKS))
    assert fold((one for one in by_shards if one), join) == whole
    assert (whole or "").replace("(", "").replace(")", "").split() == items


def test_another_file_than_was_shared_out_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("\n".join(lines(1, 200)))
    ((first, *_),) = shards([str(path)], SIZE)
    with path.open("a") as file:
        file.write("it may grow\n")
    opened(first)
    path.write_text("\n".join(lines(2, 300)))
    with pytest.raises(DataError, match=r"access.log: not the file that was there"):
        opened(first)
    path.write_text("\n".join(lines(1, 100)))
    with pytest.raises(DataError, match=r"access.log: not the file that was there"):
        opened(first)


def test_what_has_no_place_cannot_be_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"GET\n")))
    with pytest.raises(ConfigError, match="standard input: cannot be cut into shards"):
        shards(["-"])


# ---- the cluster


def test_the_result_is_the_local_one(at: Cluster, logs: list[str], local: Counted) -> None:
    told: list[tuple[int, int]] = []
    found = count_all(logs, [Clients(), Statuses()], address=at.address, size=SIZE, progress=lambda *n: told.append(n))
    assert same(found, local)
    total = sum(map(len, shards(logs, SIZE)))
    assert told == [(n, total) for n in range(1, total + 1)]


def test_a_worker_that_is_killed_midway_changes_nothing(tmp_path: Path, logs: list[str], local: Counted) -> None:
    gate, found = Gate(), []
    with cluster(tmp_path) as at, gate.server:

        def run() -> None:
            found.append(count_all(logs, [Gated(), Statuses()], address=at.address, size=SIZE))

        # Each has counted a shard or two, and is in the middle of another one.
        victim, other = at.workers(gate.behind(CHUNKS + 3), gate.behind(2 * CHUNKS + 3))
        first = threading.Thread(target=run)
        first.start()
        waiting = gate.arrivals(2)
        assert set(waiting) == {victim.popen.pid, other.popen.pid}
        victim.kill()
        for connection in waiting.values():
            connection.close()
        first.join(DEADLINE)
        run()  # and one worker alone comes to the same
    assert [same(one, local) for one in found] == [True, True]


def analyzed(logs: list[str], clients: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "crawlguard", "analyze", *logs, "--clients", str(clients), "--quiet", *options]
    return subprocess.run(call, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_the_command_counts_on_a_cluster_that_talks_by_tls(tmp_path: Path, logs: list[str]) -> None:
    tls = certificates(tmp_path)
    with cluster(tmp_path, tls) as at:
        at.workers({}, {})
        there = analyzed(logs, tmp_path / "there.parquet", "--cluster", at.address, **tls)
        stranger = analyzed(logs, tmp_path / "stranger.parquet", "--cluster", at.address)
        (elsewhere := tmp_path / "elsewhere").mkdir()
        other = analyzed(logs, tmp_path / "other.parquet", "--cluster", at.address, **certificates(elsewhere))
    here = analyzed(logs, tmp_path / "here.parquet")
    assert (there.returncode, there.stderr, here.returncode) == (0, "", 0)
    assert_frame_equal(pl.read_parquet(tmp_path / "there.parquet"), pl.read_parquet(tmp_path / "here.parquet"))
    assert stranger.returncode == 1
    assert stranger.stderr.startswith(f"crawlguard: {at.address}: TLS needs certificates: name them in dask's settings")
    assert other.returncode == 1
    assert other.stderr.startswith(f"crawlguard: {at.address}: no scheduler answers (")
    assert not (tmp_path / "stranger.parquet").exists()


def test_an_interrupt_cancels_what_is_left(at: Cluster, logs: list[str]) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count_all(logs, [Clients()], address=at.address, size=SIZE, progress=stop)
    with Client(f"tcp://{at.place}", set_as_default=False) as client:  # type: ignore[no-untyped-call]
        assert client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)) == []


def test_nothing_to_count_is_nothing(at: Cluster, tmp_path: Path) -> None:
    (tmp_path / "access.log").touch()
    assert same(count_all([str(tmp_path / "access.log")], [Clients()], address=at.address), join([Clients()], []))


def test_what_a_worker_cannot_read_is_named(at: Cluster, tmp_path: Path, logs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [[Shard(str(tmp_path / "gone.log"), stop=10, mark=(10, (0, "")))]]
    monkeypatch.setattr("crawlguard_analyzer.counting.shards", lambda inputs, size: gone)
    with pytest.raises(DataError, match=r"gone\.log: no such file"):
        count_all(logs, [Clients()], address=at.address)


def test_a_worker_that_fails_is_no_traceback(at: Cluster, logs: list[str]) -> None:
    with pytest.raises(DataError, match=r"a worker failed \(ZeroDivisionError: here\)"):
        count_all(logs, [Broken()], address=at.address, size=SIZE)


def test_a_worker_with_other_versions_is_refused(at: Cluster, logs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "HASH_CHECK", 5)
    monkeypatch.setattr(pl, "__version__", "99.0")
    with pytest.raises(
        ConfigError, match=r"worker tcp://127\.0\.0\.1:\d+ has polars [\d.]+ \(here 99\.0\), hashes \d+ \(here 5\); its counts"
    ):
        count_all(logs, [Clients()], address=at.address)


SHARD = Shard("access.log")


def test_a_worker_that_comes_later_is_checked_too() -> None:
    count = cluster_module._Checked(facts(), len)
    assert count(SHARD) == len(SHARD)
    with pytest.raises(ConfigError, match=r"a worker has crawlguard .* \(here 0\)"):
        cluster_module._Checked(Facts("0", pl.__version__, 0), len)(SHARD)


def test_small_logs_are_counted_together_there_as_here(at: Cluster, tmp_path: Path) -> None:
    logs = []
    for number in range(30):
        logs.append(str(tmp_path / f"site{number}.log"))
        Path(logs[-1]).write_text("\n".join(lines(number % 3, 3 + number)))
    small = shards(logs, SIZE * 32)
    assert len(small) < 10
    assert sum(1 + len(shard.more) for log in small for shard in log) == 30
    here = read(logs, [Clients(), Statuses()], AS_TOLD, quiet=True, size=SIZE * 32)[0]
    assert same(count_all(logs, [Clients(), Statuses()], address=at.address, size=SIZE * 32), here)


def test_a_format_of_which_no_line_is_ends_with_the_first_line(at: Cluster, tmp_path: Path) -> None:
    odd, good = tmp_path / "odd.log", tmp_path / "good.log"
    odd.write_text("hello\n" * 3)
    good.write_text("\n".join([*lines(1, 2), ""]))
    with pytest.raises(DataError, match=r"odd\.log: no line of it is of the format combined; the first one is\n    hello"):
        count_all([str(odd)], [Statuses()], address=at.address, form=Form("combined"))
    assert count_all([str(odd), str(good)], [Statuses()], address=at.address, form=Form("combined")).rows == 2


# ---- no cluster


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, logs: list[str]) -> None:
    monkeypatch.setattr(cluster_module, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:  # bound, and nobody answers
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"dask://127\.0\.0\.1:{port}: no scheduler answers"):
            count_all(logs, [Clients()], address=f"dask://127.0.0.1:{port}")
    with pytest.raises(ConfigError, match="no scheduler answers"):
        count_all(logs, [Clients()], address=f"dask://127.0.0.1:{port}")


def test_a_scheduler_without_workers_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: list[str]) -> None:
    monkeypatch.setattr(cluster_module, "TIMEOUT", 5)
    with cluster(tmp_path) as at, pytest.raises(ConfigError, match="has no workers"):
        count_all(logs, [Clients()], address=at.address)


@pytest.mark.parametrize(
    "address", ["", "host:8786", "tcp://host:8786", "dask://host", "dask://:8786", "dask://a b:1", "dask://user@host:1", "ray://host:1"]
)
def test_what_is_no_address_is_named(address: str, logs: list[str]) -> None:
    with pytest.raises(ConfigError, match="no address of a cluster; write dask://HOST:PORT"):
        count_all(logs, [Clients()], address=address)


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, logs: list[str]) -> None:
    monkeypatch.setattr(cluster_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'crawlguard\[cluster\]'"):
        count_all(logs, [Clients()], address="dask://127.0.0.1:1")
