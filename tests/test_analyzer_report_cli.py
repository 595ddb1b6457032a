"""``crawlguard report``: what is asked for is printed or written, and what goes wrong is said."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from crawlguard_analyzer import cli_report
from crawlguard_analyzer.analyze import analyse

from .analyzer_report_sample import analysis


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """The calls into the chain, which gives the sample instead."""
    calls: list[tuple[tuple[str, ...], dict[str, Any]]] = []
    found = analysis()

    def chain(logs: tuple[str, ...], **options: Any) -> object:
        calls.append((logs, options))
        return found

    monkeypatch.setattr(cli_report, "analyse", chain)
    return calls


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli_report.report, arguments, prog_name="report")


def test_the_terminal_report_is_what_is_printed_by_default(asked: list[Any]) -> None:
    done = run("access.log", "access.log.1")
    assert done.exit_code == 0
    assert "Who visits this site" in done.stdout
    assert "Next: crawlguard propose access.log access.log.1" in done.stdout
    assert "\x1b" not in done.stdout, "no colour where there is no terminal"
    assert asked[0][0] == ("access.log", "access.log.1")


def test_options_reach_the_chain(asked: list[Any]) -> None:
    run("--state", "DIR", "--policy", "p.yaml", "--asn", "a.mmdb", "--country", "c.mmdb", "--format", "combined", "--quiet")
    told = {"state": "DIR", "policy": "p.yaml", "asn": "a.mmdb", "country": "c.mmdb", "log_format": "combined", "quiet": True}
    assert asked == [((), {**told, "robots_file": None, "trap": (), "client_field": ""})]
    assert asked[0][1].keys() <= signature(analyse).parameters.keys()


def test_json_is_one_object(asked: list[Any]) -> None:
    told = json.loads(run("access.log", "--json").stdout)
    assert told["version"] == 1
    assert told["agents"][0]["agent"] == "GPTBot"


def test_the_mail_names_the_state_it_comes_from(asked: list[Any]) -> None:
    done = run("--state", "/var/lib/crawlguard", "--mail")
    assert done.stdout.startswith("crawlguard: ")
    assert done.stdout.endswith("Next: crawlguard propose --state /var/lib/crawlguard\n")


def test_files_are_written_and_named(asked: list[Any], tmp_path: Path) -> None:
    done = run("a.log", "--html", str(tmp_path / "r" / "page.html"), "--csv", str(tmp_path / "csv"), "--parquet", str(tmp_path / "parquet"))
    assert done.exit_code == 0
    assert done.stdout == ""
    assert (tmp_path / "r" / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "csv" / "days.csv").exists()
    assert (tmp_path / "parquet" / "clients.parquet").exists()
    assert done.stderr.count("written ") == 1 + 11 + 11


def test_quiet_prints_nothing_and_json_goes_with_files(asked: list[Any], tmp_path: Path) -> None:
    done = run("a.log", "--quiet", "--html", str(tmp_path / "page.html"))
    assert done.output == ""
    assert (tmp_path / "page.html").exists()
    assert run("a.log", "--quiet").output == ""
    assert json.loads(run("a.log", "--json", "--csv", str(tmp_path / "csv")).stdout)


def test_the_page_can_go_to_stdout(asked: list[Any]) -> None:
    done = run("a.log", "--html", "-")
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.endswith("</html>\n")


def test_privacy_reaches_what_is_shown(asked: list[Any]) -> None:
    assert "45.148.10.1 " in run("a.log").stdout
    hidden = run("a.log", "--privacy", "subnet").stdout
    assert "45.148.10.1 " not in hidden
    assert "45.148.10.0/24" in hidden


@pytest.mark.parametrize(
    "arguments", [(), ("a", "--json", "--mail"), ("a", "--json", "--html", "-"), ("a", "--mail", "--html", "-"), ("a", "--privacy", "none")]
)
def test_wrong_calls_are_exit_code_2(arguments: tuple[str, ...], asked: list[Any]) -> None:
    assert run(*arguments).exit_code == 2
    assert asked == []


def test_a_terminal_without_blocks_gets_ascii(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner(charset="latin-1").invoke(cli_report.report, ["a.log"])
    assert done.exit_code == 0
    assert done.stdout.isascii()
    assert "\u2588" in run("a.log").stdout


def test_a_real_log_is_reported(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    line = '198.51.100.7 - - [10/Oct/2026:13:55:{:02} +0000] "GET /{} HTTP/1.1" 200 2326 "-" "Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)"\n'
    log.write_text("".join(line.format(second, second) for second in range(60)) + "\x16\x03\x01\n")
    done = run(str(log), "--json")
    told = json.loads(done.stdout)
    assert (told["totals"]["lines"], told["totals"]["rows"]) == (61, 60)
    assert told["agents"][0]["agent"] == "GPTBot"
    assert run(str(log), "--html", str(tmp_path / "page.html")).exit_code == 0
    assert "GPTBot" in (tmp_path / "page.html").read_text()
