"""The whole story: real visitors, the log they leave, the cron job that reads it, and its proposals in force at their next visit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from crawlguard.loader import load_policy

from .story import Story, met
from .story.visitors import ALL, CHROMIUMS, CRAWLER, DECLARED, FEED, FIREFOXES, MONITOR, PERSON, SWARM, TOOL, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.alone]

SCRIPT = Path(__file__).resolve().parents[1] / "deploy" / "crawlguard-report"
UNWANTED = (DECLARED, CRAWLER, TOOL, SWARM)
BEHIND_NGINX = "version: 1\nclient_ip: {trusted_proxies: [unix], header: x-forwarded-for}\n"
WITHIN = 60

MAY_BE = {
    DECLARED: {"declared"},
    CRAWLER: {"crawler"},
    SWARM: {"swarm"},
    TOOL: {"tool"},
    FEED: {"feed", "unknown"},
    MONITOR: {"monitor"},
    PERSON: {"person", "unknown"},
}
"""What the analyzer may take a visitor for. Of somebody who looks at three pages without pictures it may be unsure."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the cron job gave."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Told:
    """All that happened. ``first`` and ``second``: what visitors met before and after the proposals were in force."""

    home: Path
    first: dict[Visitor, Counter[str]]
    second: dict[Visitor, Counter[str]]
    runs: tuple[Run, Run]
    decisions: Path
    lines: int

    @property
    def proposed(self) -> str:
        """The file of proposals."""
        return (self.home / "reports" / "crawlguard-proposed.yaml").read_text()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    home = tmp_path_factory.mktemp("story")
    with Story(home) as story:
        return _told(home, story)


def _told(home: Path, story: Story) -> Told:
    (home / "reports").mkdir()
    policy = home / "crawlguard.yaml"
    policy.write_text(BEHIND_NGINX)
    log = story.unguarded()
    first, lines = met(log), len(log.read_bytes().splitlines())
    monday = _cron(home, log, "--mail")
    assert monday.code == 0, monday.err
    # What the tutorial tells an operator to do after some days in shadow.
    proposed = (home / "reports" / "crawlguard-proposed.yaml").read_text()
    (home / "reviewed.yaml").write_text(proposed.replace("mode: shadow", "mode: enforce"))
    policy.write_text(BEHIND_NGINX + "include: [reviewed.yaml]\n")
    log.rename(log.with_name("access.log.1"))
    log, decisions = story.guarded(policy)
    lines += len(log.read_bytes().splitlines())
    return Told(home, first, met(log), (monday, _cron(home, log)), decisions, lines)


def _cron(home: Path, log: Path, *arguments: str) -> Run:
    """The script of deploy/, as cron runs it."""
    env = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "CRAWLGUARD_LOGS": f"{log}*",
        "CRAWLGUARD_POLICY": str(home / "crawlguard.yaml"),
        "CRAWLGUARD_REPORT_DIR": str(home / "reports"),
        "CRAWLGUARD_DATA_DIR": os.environ["CRAWLGUARD_DATA_DIR"],
    }
    done = subprocess.run([SCRIPT, *arguments], env=env, check=False, capture_output=True, text=True, timeout=WITHIN)
    return Run(done.returncode, done.stdout, done.stderr)


def _crawlguard(home: Path, *arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "crawlguard"), *arguments]
    return subprocess.run(command, cwd=home / "reports", check=True, capture_output=True, text=True, timeout=WITHIN).stdout


def test_at_first_everybody_is_served(told: Told) -> None:
    assert {visitor.name: met for visitor, met in told.first.items() if met["refused"] or not met["served"]} == {}


def test_everybody_is_known_for_what_they_are(told: Told) -> None:
    log = told.home / "nginx" / "access.log.1"
    _crawlguard(told.home, "analyze", str(log), "--clients", "clients.parquet", "--quiet")
    found = dict(pl.read_parquet(told.home / "reports" / "clients.parquet").select("client", "class").iter_rows())
    wrong = {(v.name, address): found[address] for v in ALL for address in v.addresses if found[address] not in MAY_BE[v.kind]}
    assert wrong == {}
    assert {found[visitor.addresses[0]] for visitor in (*CHROMIUMS, *FIREFOXES)} == {"person"}


def test_the_mail_tells_of_the_week_and_of_the_proposals(told: Told) -> None:
    mail = told.runs[0]
    assert mail.err == ""
    week, _, proposals = mail.out.partition("\nNext: crawlguard propose --state")
    assert "GPTBot" in week
    assert all(len(line) <= 78 for line in week.splitlines())
    assert "+  - id: proposed-" in proposals


def test_the_proposals_are_in_shadow_and_tell_of_no_person_at_risk(told: Told) -> None:
    rules = load_policy(str(told.home / "reports" / "crawlguard-proposed.yaml")).rules
    assert rules
    assert all(rule.mode == "shadow" for rule in rules)
    assert told.proposed.count("people: none hit") == len(rules)


def test_in_force_they_stop_the_crawlers(told: Told) -> None:
    """A block lets nothing through, a limit a burst: of some hundred pages in a second a few dozen."""
    still = {v.name: told.second[v] for v in ALL if v.kind in UNWANTED and told.second[v]["served"] > told.first[v]["served"] / 5}
    assert still == {}


def test_and_nobody_else(told: Told) -> None:
    met = {visitor: told.second[visitor] for visitor in ALL if visitor.kind not in UNWANTED}
    assert {visitor.name: counts for visitor, counts in met.items() if counts["refused"] or not counts["served"]} == {}


def test_the_decision_log_names_those_who_were_stopped(told: Told) -> None:
    lines = [json.loads(line) for line in told.decisions.read_text().splitlines()]
    stopped = {line["client"] for line in lines if line["action"] in ("block", "throttle") and not line["shadow"]}
    assert stopped == {address for visitor in ALL if visitor.kind in UNWANTED for address in visitor.addresses}


def test_the_next_run_counts_each_line_once_though_the_log_was_rotated(told: Told) -> None:
    report = json.loads(_crawlguard(told.home, "report", "--state", "state", "--json"))
    assert report["totals"]["lines"] == told.lines


def test_and_is_quiet_as_all_is_well(told: Told) -> None:
    assert told.runs[1] == Run(0, "", "")


def test_the_report_is_for_the_group_alone(told: Told) -> None:
    page = told.home / "reports" / "report.html"
    assert "GPTBot" in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o640
