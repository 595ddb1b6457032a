"""A format that the user names, and of which no line of the log is: an error that shows the first line."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from crawlguard_analyzer.cli_analyze import analyze
from crawlguard_analyzer.cli_backtest import backtest

from crawlguard.errors import DataError

REQUEST = '203.0.113.7 - - [26/Nov/2026:10:00:{:02} +0000] "GET / HTTP/1.1" 200 512 "-" "Mozilla/5.0"\n'
GARBAGE = '203.0.113.7 - - [26/Nov/2026:10:00:01 +0000] "\\x16\\x03\\x01" 400 0 "-" "-"\n'
SAYS = (
    "{}: no line of it is of the format combined; the first one is\n    hello \\x1b[31m world\n"
    "Leave --format away, to have the format told from the lines, or give the log_format (nginx) or LogFormat (Apache) string of the server"
)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd.log"
    path.write_text("hello \x1b[31m world\n" * 3)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.log"
    path.write_text(REQUEST.format(1) + REQUEST.format(2))
    return path


def run(command: click.Command, *args: str | Path) -> Result:
    return CliRunner().invoke(command, [*map(str, args), "--format", "combined"])


@pytest.mark.parametrize(("command", "before"), [(analyze, ()), (backtest, ("builtin:default",))], ids=["analyze", "backtest"])
def test_no_line_of_the_format_is_an_error(command: click.Command, before: tuple[str, ...], odd: Path) -> None:
    done = run(command, *before, odd)
    assert done.exit_code == 1
    assert isinstance(done.exception, DataError)
    assert str(done.exception) == SAYS.format(odd)


def test_nothing_is_kept_of_such_a_run(odd: Path, tmp_path: Path) -> None:
    assert run(analyze, odd, "--state", tmp_path / "state", "--rejects", tmp_path / "rejects").exit_code == 1
    assert {path.name for path in tmp_path.rglob("*")} == {"odd.log", "state", "lock"}


@pytest.mark.parametrize(("command", "before"), [(analyze, ()), (backtest, ("builtin:default",))], ids=["analyze", "backtest"])
def test_where_another_log_is_of_the_format_it_is_a_note(command: click.Command, before: tuple[str, ...], odd: Path, good: Path) -> None:
    done = run(command, *before, odd, good, "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert f"{odd}: left out: no line of it is of the format combined" in (said.get("notes") or said["problems"])


def test_broken_requests_are_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text(GARBAGE)
    assert run(analyze, path, "--quiet").exit_code == 0
    assert run(backtest, "builtin:default", path).exit_code == 0


def test_a_log_that_had_requests_may_end_with_other_lines(good: Path, odd: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert run(analyze, good, "--state", state, "--quiet").exit_code == 0
    with good.open("a") as file:
        file.write(odd.read_text())
    done = run(analyze, good, "--state", state, "--json")
    totals = json.loads(done.stdout)["totals"]
    assert (done.exit_code, totals["rows"], sum(totals["unparsed"].values())) == (0, 2, 3)
