"""How long the server took: from the lines of a log to what a report shows and a rule would save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from crawlguard_analyzer.cli_analyze import analyze
from crawlguard_analyzer.cli_propose import propose
from crawlguard_analyzer.cli_report import report
from crawlguard_analyzer.report.words import duration

TIMED = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_time'
BOT = "sitegrab/2.1 (linux)"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text(
        "".join(
            f'198.51.100.{n % 2 + 7} - - [26/Nov/2026:10:{n // 60:02}:{n % 60:02} +0000] "GET /p{n} HTTP/1.1" 200 500 "-" "{BOT}" 0.250\n'
            for n in range(400)
        )
    )
    return path


def told(command: Any, *args: str | Path) -> dict[str, Any]:
    done = CliRunner().invoke(command, [*map(str, args), "--json"])
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def test_the_sum_of_each_client_and_class(log: Path, tmp_path: Path) -> None:
    found = told(analyze, log, "--format", TIMED, "--clients", tmp_path / "clients.parquet")
    assert found["totals"]["spent"] == 100_000_000
    assert sum(one["spent"] for one in found["classes"]) == 100_000_000
    assert pl.read_parquet(tmp_path / "clients.parquet")["spent"].to_list() == [50_000_000, 50_000_000]
    assert told(analyze, log)["totals"]["spent"] == 0


def test_runs_that_remember_add_up(log: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert told(analyze, log, "--format", TIMED, "--state", tmp_path / "state")["totals"]["spent"] == 100_000_000


def test_the_report_shows_it_or_says_how_to_have_it(log: Path, tmp_path: Path) -> None:
    for how, there, absent in ((("--format", TIMED), "100 s", "n/a"), ((), "n/a", "100 s")):
        shown = CliRunner().invoke(report, [str(log), *how]).output
        CliRunner().invoke(report, [str(log), *how, "--html", str(tmp_path / "page.html")])
        for text in (shown, (tmp_path / "page.html").read_text()):
            assert there in text
            assert absent not in text
    assert "$request_time" in shown


def test_what_a_rule_would_save(log: Path, tmp_path: Path) -> None:
    (one,) = told(propose, log, "--format", TIMED)["proposals"]
    assert one["savings"] == {"requests": 400, "bytes": 200_000, "cpu_seconds": 100.0}
    assert "at most 100 s of CPU" in one["yaml"]
    (one,) = told(propose, log)["proposals"]
    assert one["savings"] == {"requests": 400, "bytes": 200_000, "cpu_seconds": None}
    assert "CPU n/a" in one["yaml"]
    CliRunner().invoke(analyze, [str(log), "--format", TIMED, "--clients", str(tmp_path / "clients.parquet"), "-q"])
    (one,) = told(propose, "--clients", tmp_path / "clients.parquet")["proposals"]
    assert one["savings"]["cpu_seconds"] == 100.0


@pytest.mark.parametrize(
    ("micros", "words"), [(0, "0 ms"), (1500, "1.5 ms"), (999_000, "999 ms"), (100e6, "100 s"), (3600e6, "60 min"), (36e11, "1,000.0 h")]
)
def test_words(micros: float, words: str) -> None:
    assert duration(micros) == words
