"""Each byte of a log is read once, in order, whatever it is packed in, however it is cut, and however it has been rotated since."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import zstandard
from crawlguard_analyzer import remote, streams
from crawlguard_analyzer.positions import Position
from crawlguard_analyzer.source import File, Stream
from crawlguard_analyzer.sources import open_sources, positions_after
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlguard.errors import DataError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def line(number: int, day: int = 1) -> bytes:
    return b'192.0.2.%d - - [%02d/Nov/2026:00:00:00 +0000] "GET /%d HTTP/1.1" 200 5 "-" "x"\n' % (number % 250, day, number)


def lines(count: int, day: int = 1) -> bytes:
    return b"".join(line(number, day) for number in range(count))


def content(path: Path, size: int = 1 << 20) -> bytes:
    (source,) = open_sources([str(path)])
    return b"".join(source.chunks(size))


# ---- compression ----


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("size", [100, 4096, 1 << 20])
def test_any_compression_is_told_by_its_bytes(tmp_path: Path, ending: str, size: int) -> None:
    data = lines(3000)
    path = tmp_path / "access.log"  # the name says nothing
    path.write_bytes(PACKERS[ending](data))
    (source,) = open_sources([str(path)])
    assert source.sample() == data[: 1 << 16][: data[: 1 << 16].rfind(b"\n") + 1]
    told: list[int] = []
    chunks = list(source.chunks(size, progress=told.append))
    assert b"".join(chunks) == data
    assert all(chunk.endswith(b"\n") for chunk in chunks)
    assert told == sorted(told)
    assert told[-1] == source.total == path.stat().st_size
    assert not source.problems


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_members_that_follow_each_other_are_one(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(PACKERS[ending](lines(10)) + PACKERS[ending](b"") + PACKERS[ending](lines(20, 2)))
    assert content(path) == lines(10) + lines(20, 2)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_torn_file_gives_what_there_is_and_says_so(tmp_path: Path, ending: str) -> None:
    dice = random.Random(4)
    data = "".join(f"{dice.random()}\n" for _ in range(100_000)).encode()
    packed = PACKERS[ending](data)
    (tmp_path / "a").write_bytes(packed[: len(packed) * 2 // 3])
    (source,) = open_sources([str(tmp_path / "a")])
    read = b"".join(source.chunks())
    assert data.startswith(read)
    assert len(read) > len(data) // 4
    assert len(source.problems) == 1
    assert "end too early" in source.problems[0]


def test_a_torn_file_of_which_nothing_can_be_had_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bz2.compress(lines(3000))[:500])  # less than a block
    (source,) = open_sources([str(tmp_path / "a")])
    assert source.sample() == b""
    assert "end too early" in source.problems[0]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_what_follows_or_is_damaged_is_said(tmp_path: Path, ending: str) -> None:
    packed = PACKERS[ending](lines(10))
    (tmp_path / "a").write_bytes(packed + b"garbage")
    (source,) = open_sources([str(tmp_path / "a")])
    assert b"".join(source.chunks()) == lines(10)
    assert "something else follows" in source.problems[0]
    (tmp_path / "b").write_bytes(packed + packed[: len(packed) // 2] + bytes(range(1, 200)) * 40)
    (source,) = open_sources([str(tmp_path / "b")])
    assert b"".join(source.chunks()).startswith(lines(10))
    assert "damaged" in source.problems[0]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_bomb_never_is_in_memory(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a").write_bytes(PACKERS[ending](lines(5) + b"a" * (64 << 20)))
    how = streams.compression_of((tmp_path / "a").read_bytes()[:6])
    assert how is not None
    with (tmp_path / "a").open("rb") as file:
        sizes = [len(block) for block in streams.decompressed(file, how, lambda damage: pytest.fail(damage.words))]
    assert sum(sizes) == len(lines(5)) + (64 << 20)
    assert max(sizes) <= streams.BLOCK * 16
    (source,) = open_sources([str(tmp_path / "a")])
    assert b"".join(source.chunks(1 << 20)) == lines(5)
    assert (source.rejected, len(source.rejects[0].line)) == (1, streams.SHOWN)


# ---- cutting ----


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), max_size=30),
    st.integers(1, 60),
    st.integers(5, 60),
    st.booleans(),
)
def test_no_line_is_lost_however_it_is_cut(found: list[bytes], size: int, block: int, ended: bool) -> None:
    data = b"\n".join(found) + (b"\n" if ended and found else b"")
    cutter = streams.Lines(longest=20)
    chunks = list(cutter.cut((data[at : at + block] for at in range(0, len(data), block)), size))
    rest = cutter.finish()
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    got = b"".join(chunks).split(b"\n")[:-1] + ([rest] if rest else [])
    assert got == [one for one in expected if len(one) <= 20]
    beyond = [one for one in expected if len(one) > 20]
    assert all(one.startswith(reject.line) and len(reject.line) > 20 for one, reject in zip(beyond, cutter.too_long, strict=True))
    assert cutter.too_many == len(expected) - len(got)
    assert cutter.taken == len(data)


@settings(deadline=None)
@given(st.lists(st.integers(0, 90), max_size=40), st.integers(8, 200))
def test_a_plain_file_is_cut_the_same(widths: list[int], size: int) -> None:
    data = b"".join(b"x" * width + b"\n" for width in widths) + b"end"
    path = Path(os.environ["CRAWLGUARD_STATE_DIR"]) / "cut.log"
    path.write_bytes(data)
    source = File(path)
    source._lines.longest = 50
    assert b"".join(source.chunks(size)) == b"".join(b"x" * width + b"\n" for width in widths if width <= 50) + b"end"
    assert source.rejected == sum(width > 50 for width in widths)


def test_an_endless_line_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(lines(2) + b"y" * (5 << 20) + b"\n" + lines(1, 2) + b"z" * (2 << 20))
    (source,) = open_sources([str(tmp_path / "a")])
    assert b"".join(source.chunks(1 << 20)) == lines(2) + lines(1, 2)
    assert [(reject.reason, reject.line[:2]) for reject in source.rejects] == [("too long", b"yy"), ("too long", b"zz")]


def test_closing_a_reader_ends_its_thread(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(lines(300_000)))
    before = threading.active_count()
    (source,) = open_sources([str(tmp_path / "a")])
    chunks = source.chunks(1000)
    assert next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


# ---- what a user names ----


def test_rotated_files_come_oldest_first_and_once(tmp_path: Path) -> None:
    for name, day in (
        ("access.log", 9),
        ("access.log.1", 8),
        ("access.log.2.gz", 7),
        ("access.log.10.gz", 2),
        ("access.log-20261101.xz", 1),
    ):
        ending = Path(name).suffix if Path(name).suffix in PACKERS else ""
        (tmp_path / name).write_bytes(PACKERS[ending](lines(3, day)))
    (tmp_path / "current.log").symlink_to(tmp_path / "access.log")
    found = open_sources([str(tmp_path / "*"), str(tmp_path / "access.log"), str(tmp_path)])
    assert [Path(one.name).name for one in found] == [
        "access.log-20261101.xz",
        "access.log.10.gz",
        "access.log.2.gz",
        "access.log.1",
        "access.log",
    ]
    assert b"".join(chunk for one in found for chunk in one.chunks()) == b"".join(lines(3, day) for day in (1, 2, 7, 8, 9))


def test_without_times_inside_the_age_decides(tmp_path: Path) -> None:
    for age, name in enumerate(("a.log", "a.log.1", "a.log.2")):
        (tmp_path / name).write_bytes(b"hello\n")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert [Path(one.name).name for one in open_sources([str(tmp_path)])] == ["a.log.2", "a.log.1", "a.log"]


@pytest.mark.parametrize(
    ("start", "time"),
    [
        (b"x [01/Nov/2026:00:00:01 +0200] y", 1793491201),
        (b'{"time":"2026-11-01T00:00:01.5Z"}', 1793491201),
        (b"2026-11-01\t00:00:01\tLHR", 1793491201),
        (b'{"ts":1793491201.25,', 1793491201),
        (b'{"ts":1793491201250,', 1793491201),
        (b"99/Nov/2026:00:00:01", None),
        (b"hello", None),
    ],
)
def test_the_first_time_in_a_log(tmp_path: Path, start: bytes, time: int | None) -> None:
    (tmp_path / "a").write_bytes(start)
    assert File(tmp_path / "a").first_time() == time


def test_a_directory_gives_its_logs_only(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    for name in ("access.log", "error.log", ".hidden", "site/access.log", "page.html"):
        (tmp_path / name).write_bytes(lines(1) + name.encode())
    (tmp_path / "cache.bin").write_bytes(bytes(500))
    (tmp_path / "empty.log").write_bytes(b"")
    found = open_sources([str(tmp_path)])
    assert sorted(str(Path(one.name).relative_to(tmp_path)) for one in found) == ["access.log", "site/access.log"]
    assert all(one.found for one in found)


def test_what_cannot_be_read_is_said_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none").mkdir()
    for name, words in (("x", "no such file"), ("x*", "no such files"), ("none", "no logs in this directory")):
        with pytest.raises(DataError, match=words):
            open_sources([str(tmp_path / name)])
    path = tmp_path / "a"
    path.write_bytes(lines(1))

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("crawlguard_analyzer.source.open", refuse, raising=False)  # tests run as root
    with pytest.raises(DataError, match="not allowed to read it"):
        open_sources([str(path)])


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"PK\x03\x04....", "ZIP"),
        (b"\x7fELF....", "program"),
        (b"LPKSHHRH...", "journalctl"),
        (b"\xff\xfea\0b\0", "UTF-16"),
        (bytes(257) + b"ustar", "tar"),
        (b"ab\0\1\2\3", "binary"),
    ],
)
def test_a_binary_is_no_log(tmp_path: Path, start: bytes, words: str) -> None:
    for name, data in (("a", start), ("b", gzip.compress(start))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=words):
            list(open_sources([str(tmp_path / name)])[0].chunks())


@pytest.mark.parametrize("ending", PACKERS)
def test_standard_input_and_pipes(tmp_path: Path, ending: str) -> None:
    source = Stream("standard input", io.BytesIO(PACKERS[ending](lines(5000) + b"last")))
    assert source.sample().startswith(lines(100))
    assert b"".join(source.chunks(1000)) == lines(5000) + b"last"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(PACKERS[ending](lines(5000))))
    writer.start()
    (piped,) = open_sources([str(fifo)], {})
    assert b"".join(piped.chunks()) == lines(5000)
    writer.join()
    assert positions_after([piped], {}) == {}


# ---- the next run ----


class Logs:
    """A directory of logs, and the runs over it: each gives what it has read."""

    def __init__(self, directory: Path, *inputs: str) -> None:
        self.directory, self.inputs = directory, inputs or ("access.log",)
        self.positions: dict[str, Position] = {}

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def append(self, data: bytes, name: str = "access.log") -> None:
        with (self.directory / name).open("ab") as file:
            file.write(data)

    def run(self) -> bytes:
        found = open_sources([str(self.directory / one) for one in self.inputs], self.positions)
        data = b"".join(chunk for one in found for chunk in one.chunks(300))
        self.positions = json.loads(json.dumps(positions_after(found, self.positions)))
        return data


@pytest.fixture(params=["access.log", "access.log*"])
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> Logs:
    return Logs(tmp_path, request.param)


def test_a_run_reads_what_is_new(logs: Logs) -> None:
    logs.append(lines(50))
    assert logs.run() == lines(50)
    assert logs.run() == b""
    logs.append(lines(9, 2) + b"half a l")
    assert logs.run() == lines(9, 2)
    assert logs.run() == b""
    logs.append(b"ine\n")
    assert logs.run() == b"half a line\n"


def test_the_last_line_counts_when_there_is_no_next_run(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_bytes(lines(2) + b"half")
    assert content(tmp_path / "access.log") == lines(2) + b"half"


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("dated", [False, True])
def test_rotation_by_a_new_file(logs: Logs, ending: str, dated: bool) -> None:
    logs.append(lines(50))
    assert logs.run() == lines(50)
    logs.append(lines(7, 2) + b"the end, unfinished")
    rotated = logs / ("access.log-20261102" if dated else "access.log.1")
    os.rename(logs / "access.log", rotated)
    logs.append(lines(60, 3))
    if ending:  # logrotate has compressed it by now
        rotated.with_name(rotated.name + ending).write_bytes(PACKERS[ending](rotated.read_bytes()))
        rotated.unlink()
    assert logs.run() == lines(7, 2) + b"the end, unfinished" + lines(60, 3)
    assert logs.run() == b""
    logs.append(lines(1, 4))
    assert logs.run() == lines(1, 4)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_log_that_is_just_being_compressed_counts_once(tmp_path: Path, ending: str) -> None:
    data = lines(5000)
    (tmp_path / "access.log.1").write_bytes(data)
    packed = tmp_path / f"access.log.1{ending}"
    for part in (0, 12, len(PACKERS[ending](data)) // 2, None):
        packed.write_bytes(PACKERS[ending](data)[:part])
        found = open_sources([str(tmp_path / "access.log*")])
        assert b"".join(chunk for one in found for chunk in one.chunks()) == data
    logs = Logs(tmp_path, "access.log*")
    assert logs.run() == data
    (tmp_path / "access.log.1").unlink()
    assert logs.run() == b""


def test_a_file_beside_that_only_has_such_a_name_counts(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_bytes(lines(50))
    (tmp_path / "access.log.gz").write_bytes(gzip.compress(lines(50, 2)))
    found = open_sources([str(tmp_path / "access.log*")])
    assert b"".join(chunk for one in found for chunk in one.chunks()) == lines(50) + lines(50, 2)


def test_a_compressed_file_that_grows_is_read_on_from_its_last_whole_line(tmp_path: Path) -> None:
    dice = random.Random(4)
    data = "".join(f"{dice.random()}\n" for _ in range(100_000)).encode()
    packed = gzip.compress(data)
    logs = Logs(tmp_path, "access.log.gz")
    (logs / "access.log.gz").write_bytes(packed[: len(packed) // 2])
    first = logs.run()
    assert first.endswith(b"\n")
    (logs / "access.log.gz").write_bytes(packed)
    assert first + logs.run() == data


def test_a_rotation_while_logs_are_read(tmp_path: Path) -> None:
    for name, day in (("access.log.1", 1), ("access.log", 2)):
        (tmp_path / name).write_bytes(lines(50, day))
    logs = Logs(tmp_path, "access.log*")
    found = open_sources([str(tmp_path / "access.log*")], {})
    os.rename(tmp_path / "access.log.1", tmp_path / "access.log.2")
    os.rename(tmp_path / "access.log", tmp_path / "access.log.1")
    logs.append(lines(60, 3))
    assert b"".join(chunk for one in found for chunk in one.chunks()) == lines(50) + lines(50, 2)
    logs.positions = positions_after(found, {})
    assert logs.run() == lines(60, 3)


def test_a_log_that_is_taken_away_while_logs_are_read(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_bytes(lines(50))
    (source,) = open_sources([str(tmp_path / "access.log")])
    (tmp_path / "other").write_bytes(lines(50, 2))
    os.rename(tmp_path / "other", tmp_path / "access.log")
    with pytest.raises(DataError, match=r"access\.log: was taken away.*run it again"):
        list(source.chunks())


def test_two_rotations_and_names_that_move_on(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "access.log*")
    logs.append(lines(50))
    logs.run()
    for day in (2, 3, 4):
        logs.append(lines(20, day))
        for number in (3, 2, 1):
            if (logs / f"access.log.{number}.gz").exists():
                os.rename(logs / f"access.log.{number}.gz", logs / f"access.log.{number + 1}.gz")
        (logs / "access.log.1.gz").write_bytes(gzip.compress((logs / "access.log").read_bytes()))
        (logs / "access.log").unlink()
        logs.append(lines(20, day + 10))
        assert logs.run() == lines(20, day) + lines(20, day + 10)
        assert logs.run() == b""


def test_rotation_by_copying_and_truncating(logs: Logs) -> None:
    logs.append(lines(50))
    logs.run()
    logs.append(lines(5, 2))
    shutil.copy(logs / "access.log", logs / "access.log.1")
    os.truncate(logs / "access.log", 0)
    logs.append(lines(3, 3))
    assert logs.run() == lines(5, 2) + lines(3, 3)
    assert logs.run() == b""
    shutil.copy(logs / "access.log", logs / "access.log.1")
    os.truncate(logs / "access.log", 0)
    logs.append(lines(80, 4))  # longer than what was read before
    assert logs.run() == lines(80, 4)


def test_an_inode_that_is_used_again_is_another_file(logs: Logs) -> None:
    logs.append(lines(50))
    logs.run()
    (key,) = logs.positions
    (logs / "access.log").write_bytes(lines(90, 5))
    assert logs.positions[key]["inode"] == (logs / "access.log").stat().st_ino
    assert logs.run() == lines(90, 5)


def test_a_file_that_was_empty_or_tiny(logs: Logs) -> None:
    (logs / "access.log").touch()
    assert logs.run() == b""
    logs.append(b"1\n")
    assert logs.run() == b"1\n"
    logs.append(b"2\n")
    assert logs.run() == b"2\n"
    (logs / "access.log").write_bytes(b"3\n")
    assert logs.run() == b"3\n"


def test_other_logs_are_remembered(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "a.log")
    logs.append(lines(30), "a.log")
    logs.append(lines(30, 2), "b.log")
    assert logs.run() == lines(30)
    logs.inputs = ("b.log",)
    assert logs.run() == lines(30, 2)
    logs.inputs = ("a.log", "b.log")
    assert logs.run() == b""


def test_a_compressed_file_that_is_known_is_not_opened_again(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "access.log.1.gz")
    (logs / "access.log.1.gz").write_bytes(gzip.compress(lines(30)))
    assert logs.run() == lines(30)
    (source,) = open_sources([str(logs / "access.log.1.gz")], logs.positions)
    assert source.total == 0
    (logs / "access.log.1.gz").write_bytes(gzip.compress(lines(30)) + gzip.compress(lines(2, 2)))  # appended
    assert logs.run() == lines(2, 2)


def test_the_header_in_force_is_remembered(tmp_path: Path) -> None:
    logs = Logs(tmp_path, "u_ex.log")
    logs.append(b"#Version: 1.0\n#Fields: a b\n1 2\n", "u_ex.log")
    logs.run()
    (source,) = open_sources([str(logs / "u_ex.log")], logs.positions)
    assert source.header == b"#Fields: a b\n"
    logs.append(b"3 4\n#Fields: c\n5\n" + b"6\n" * 400, "u_ex.log")
    assert logs.run().endswith(b"6\n")
    (source,) = open_sources([str(logs / "u_ex.log")], logs.positions)
    assert source.header == b"#Fields: c\n"


# ---- object stores and web servers, by polars ----


class Store(BaseHTTPRequestHandler):
    """Serves ranges of ``content``, as object stores do."""

    protocol_version = "HTTP/1.1"
    content: dict[str, bytes] = {}
    asked: list[str] = []

    def do_GET(self) -> None:
        data = self.content.get(self.path)
        if data is None:
            self.send_error(404)
            return
        span = self.headers.get("Range", "bytes=0-")
        self.asked.append(span)
        first, last = span.removeprefix("bytes=").split("-")
        end = min(int(last or len(data) - 1), len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
        self.send_header("Content-Length", str(end + 1 - int(first)))
        self.send_header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(data[int(first) : end + 1])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def store() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Store.content, Store.asked = {}, []
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_url(store: str, ending: str) -> None:
    odd = b'a\x01b\0"c\r\n\n\xff\xfe\n'
    Store.content["/a"] = PACKERS[ending](lines(30_000) + odd + b"last")
    (source,) = open_sources([f"{store}/a"], {})
    assert lines(30_000).startswith(source.sample())
    told: list[int] = []
    read = b"".join(source.chunks(1 << 20, progress=told.append))
    assert read == lines(30_000) + b'a\x01b\0"c\n\n' + "��\nlast\n".encode()
    assert told[-1] == len(read)


def test_a_url_is_read_on_from_its_last_line(store: str) -> None:
    Store.content["/a"] = lines(50)
    positions: dict[str, Position] = {}
    for expected, grown in ((lines(50), lines(50) + lines(5, 2)), (lines(5, 2), lines(3, 4)), (lines(3, 4), b"")):
        found = open_sources([f"{store}/a"], positions)
        assert b"".join(found[0].chunks()) == expected
        positions = json.loads(json.dumps(positions_after(found, positions)))
        Store.content["/a"] = grown


def test_several_urls_come_oldest_first(store: str) -> None:
    line = '203.0.113.1 - - [%02d/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "x"\n'
    Store.content = {"/log": (line % 3).encode(), "/log.1": (line % 2).encode(), "/log.2": (line % 1).encode(), "/odd": b"what is this\n"}
    found = open_sources([f"{store}/{name}" for name in ("odd", "log", "log.1", "log.2")])
    assert [source.name.rpartition("/")[2] for source in found] == ["log.2", "log.1", "log", "odd"]


def test_a_url_that_is_not_there(store: str) -> None:
    (source,) = open_sources([f"{store}/none"])
    with pytest.raises(DataError, match=r"/none: cannot be read .*404"):
        source.sample()


def test_what_polars_fetches() -> None:
    assert remote.is_remote("s3://logs/2026/*.gz")
    assert remote.is_remote("gs://logs/a")
    assert not remote.is_remote("/var/log/nginx/access.log")
    assert not remote.is_remote("C:/logs/u_ex.log")
    with pytest.raises(DataError, match="name them one by one"):
        open_sources(["s3://logs/2026/*.gz"], {})
