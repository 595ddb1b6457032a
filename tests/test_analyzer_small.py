"""Many small logs cost what their lines cost, come to what they come to one by one, and are each remembered."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from crawlguard_analyzer.counting import AS_TOLD, Counted
from crawlguard_analyzer.formats import FEW, _rows
from crawlguard_analyzer.formats.known import NAMES, named
from crawlguard_analyzer.reading import read
from crawlguard_analyzer.rollup import Clients
from crawlguard_analyzer.small import PART, batches
from crawlguard_analyzer.source import CHUNK
from crawlguard_analyzer.sources import open_sources
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from .cluster_workers import Statuses
from .conftest import SHARED

HEADERS = "#Fields: date time c-ip cs-method cs-uri-stem sc-status cs(User-Agent)"


class Called(Statuses):
    """How often chunks were looked at."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rows: pl.DataFrame, /) -> pl.DataFrame:
        self.calls += 1
        return super().__call__(rows)


def combined(second: int, status: int = 200) -> str:
    minute = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f'203.0.113.{second % 50} - - [26/Nov/2026:{minute} +0000] "GET /{second} HTTP/1.1" {status} 512 "-" "Mozilla/5.0"'


def caddy(second: int) -> str:
    request = {"client_ip": "203.0.113.9", "method": "GET", "uri": f"/{second}", "proto": "HTTP/1.1", "host": "a", "headers": {}}
    return json.dumps({"ts": 1_795_000_000 + second, "request": request, "status": 404, "size": 1})


def write(directory: Path, logs: Iterable[list[str]], end: str = "") -> list[str]:
    """One file for each; the last line of each has ``end`` behind it."""
    paths = []
    for number, lines in enumerate(logs):
        paths.append(str(directory / f"site{number:04}.log"))
        Path(paths[-1]).write_text("\n".join(lines) + end)
    return paths


def came_to(logs: list[str], positions: dict[str, Any] | None = None) -> tuple[Counted, dict[str, Any], int]:
    called = Called()
    found, after = read(logs, [Clients(), called], AS_TOLD, positions, quiet=True)
    return found, after, called.calls


@pytest.mark.parametrize("end", ["\n", ""])
def test_many_small_logs_are_counted_as_one(tmp_path: Path, end: str) -> None:
    lines = [[combined(5 * log + at) for at in range(5)] for log in range(300)]
    found, _, calls = came_to(write(tmp_path, lines, end))
    whole = tmp_path / "whole"
    whole.write_text("\n".join(line for log in lines for line in log))
    alone, _, _ = came_to([str(whole)])
    assert calls == 1
    assert (found.rows, found.lines, found.formats) == (1500, 1500, Counter({"nginx/Apache combined": 1500}))
    for mine, its in zip(found.rollups, alone.rollups, strict=True):
        assert_frame_equal(mine, its)


def test_logs_of_several_formats_are_counted_as_they_are_one_by_one(tmp_path: Path) -> None:
    w3c = [HEADERS, "2026-11-26 10:00:00 203.0.113.7 GET /a 200 Mozilla/5.0"]
    other = [HEADERS.replace("cs-method cs-uri-stem", "cs-uri-stem cs-method"), "2026-11-26 10:00:01 203.0.113.7 /b GET 500 Mozilla/5.0"]
    logs = [
        [combined(1)],
        [combined(2), "no request"],
        [caddy(3)],
        [caddy(4)],
        [combined(5)],
        w3c,
        other,
        [combined(6, 403)],
        [combined(7)],
    ]
    paths = write(tmp_path, logs, "\n")
    with gzip.open(tmp_path / "old.log.gz", "wt") as file:
        file.write(combined(8, 301) + "\n")
    paths.append(str(tmp_path / "old.log.gz"))
    found, _, _ = came_to(paths)
    one_by_one = [came_to([path])[0] for path in paths]
    assert found.rows == sum(one.rows for one in one_by_one) == 10
    assert found.unparsed == sum((one.unparsed for one in one_by_one), Counter())
    assert found.formats == sum((one.formats for one in one_by_one), Counter())
    assert_frame_equal(found.rollups[1], Statuses().merge(one.rollups[1] for one in one_by_one))


def test_each_is_remembered_by_itself(tmp_path: Path) -> None:
    paths = write(tmp_path, [[combined(log)] for log in range(20)], "\n")
    _, positions, _ = came_to(paths, {})
    assert len(positions) == 20
    with Path(paths[7]).open("a") as file:
        file.write(combined(99) + "\n" + combined(100))  # the last line is not finished
    found, positions, _ = came_to(paths, positions)
    assert found.rows == 1
    assert came_to(paths, positions)[0].rows == 0


def test_what_is_no_small_file_is_alone(tmp_path: Path) -> None:
    large = "x" * (CHUNK // PART + 1)
    paths = write(tmp_path, [[combined(1)], [combined(2)], [large], [combined(3)], [HEADERS, "1"], ["\ufeff" + combined(4)], [combined(5)]])
    found = [[one.name for one in batch] for batch in batches(open_sources(paths))]
    assert sorted(name for batch in found for name in batch) == sorted(paths)
    assert all([odd] in found for odd in (paths[2], paths[4], paths[5]))
    assert any(len(batch) > 1 for batch in found)


def test_together_they_are_no_more_than_a_chunk(tmp_path: Path) -> None:
    paths = write(tmp_path, [[combined(log)] * 10 for log in range(50)])
    size = max(Path(path).stat().st_size for path in paths) * PART
    found = list(batches(open_sources(paths), size))
    assert sum(map(len, found)) == 50
    assert 3 <= len(found) <= 5
    assert all(sum(one.total or 0 for one in batch) <= size for batch in found)


SAMPLES = sorted(path for path in (SHARED / "logs" / "formats").rglob("*.log") if path.is_file())


@given(st.sampled_from(SAMPLES), st.integers(0, 200), st.integers(1, FEW), st.sampled_from(sorted(NAMES)))
def test_few_lines_are_read_by_hand_to_the_same(path: Path, start: int, count: int, name: str) -> None:
    lines = path.read_bytes().split(b"\n")
    sample = b"\n".join(lines[start % len(lines) :][:count])
    one = named(name)
    assert _rows(one, sample) == one.parse(sample).rows.height
