"""What a backtest tells: sums, people at risk, what a log cannot judge, the difference of two policies, and how it looks."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from crawlguard_analyzer import backtest_tally
from crawlguard_analyzer.backtest import Backtest, Diff, RuleOutcome, diff
from crawlguard_analyzer.backtest_view import PEOPLE_UNKNOWN, difference_lines, outcome_lines
from crawlguard_analyzer.cli_backtest import backtest as command
from crawlguard_analyzer.rows import empty

from crawlguard.errors import DataError, PolicyError
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Policy

from .test_analyzer_backtest import policy_of, rows_of, some_rows

PEOPLE = pl.DataFrame({"client": ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "class": ["person", "crawler", "person"]})
HOSTILE = "\x1b[31m<script>\x00\u202e\n" + "x" * 5000


def outcome_of(test: Backtest, rule: str) -> RuleOutcome:
    return next(one for one in test.result().rules if one.rule == rule)


def a_day() -> pl.DataFrame:
    return rows_of(
        {
            "time": [100, 90, 300, 400, 500],
            "ip": ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.4", "a.host"],
            "ua": ["alphabot", "alphabot", "x", "x", "x"],
            "target": ["/a", "/a?q", "/a", "/b", "/a"],
            "bytes": [10, -1, 5, 7, 1],
        }
    )


def test_a_rule_is_told_with_its_clients_agents_times_and_lines() -> None:
    policy = policy_of(
        [{"then": "block", "when": {"path": "/a"}}, {"then": "hide", "mode": "shadow", "when": {"path": "/b"}}, {"then": {"tag": "t"}}]
    )
    test = Backtest(policy, people=PEOPLE)
    test.feed(a_day()[:2], unparsed=3)
    test.feed(a_day()[2:])
    test.feed(empty(), unparsed=1)
    found = test.result()
    assert (found.rows, found.unparsed, found.first, found.last, found.unknown_clients) == (5, 4, 90, 500, 1)
    assert found.actions == {"allow": 1, "block": 4}
    told = outcome_of(test, "r0").told
    assert (told.hits, told.bytes, told.clients, told.first, told.last) == (4, 16, 3, 90, 500)
    assert told.agents == (("Alpha", 2), ("x", 2))
    assert told.people is not None
    assert (told.people.clients, told.people.requests, told.people.examples) == (1, 2, (("10.0.0.1", 2),))
    assert told.samples[0] == {"time": 100, "ip": "10.0.0.1", "method": "GET", "target": "/a", "status": 200, "ua": "alphabot"}
    assert [(rule.rule, rule.action, rule.shadow, rule.told.hits, rule.refuses) for rule in found.rules] == [
        ("r0", "block", False, 4, True), ("r1", "hide", True, 1, True), ("r2", "tag", False, 1, False),
    ]  # fmt: skip
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["lines"] == 9
    assert [(rule["hits"], rule["shadow_hits"]) for rule in plain["rules"]] == [(4, 0), (0, 1), (1, 0)]


def test_without_a_clients_table_people_are_unknown_and_not_none_at_all() -> None:
    test = Backtest(policy_of([{"then": "block"}]))
    test.feed(a_day())
    assert outcome_of(test, "r0").told.people is None
    assert json.loads(json.dumps(test.result().to_dict()))["rules"][0]["people"] is None
    assert PEOPLE_UNKNOWN in "\n".join(outcome_lines(test.result()))


@pytest.mark.parametrize(
    ("when", "why", "never"),
    [
        ({"header": {"name": "accept-language", "missing": True}}, "a log does not have the header accept-language", True),
        ({"any": [{"header": {"name": "x", "is": "y"}}, {"path": "/a"}]}, "a log does not have the header x", False),
        ({"not": {"all": [{"header": {"name": "x", "is": "y"}}, {"path": "/a"}]}}, "a log does not have the header x", False),
        ({"not": {"host": "a.example"}}, "5 of 5 lines do not name the host", False),
        ({"rate": {"per": "fingerprint", "requests": 1, "within": "1s"}}, "fingerprint is the User-Agent alone", False),
    ],
)
def test_what_a_log_cannot_judge_is_said_and_makes_no_rule_act(when: dict[str, Any], why: str, never: bool) -> None:
    test = Backtest(policy_of([{"then": "block", "when": when}]))
    test.feed(a_day())
    [found] = test.result().unjudged
    assert (found.rule, found.never) == ("r0", never)
    assert why in found.why
    if never or "host" in str(when):
        assert test.result().actions == {"allow": 5}
    assert why in "\n".join(outcome_lines(test.result()))


def test_a_rule_without_its_database_is_said_to_be_inactive() -> None:
    policy, problems = parse_policy("version: 1\nmissing_data: inactive\nrules: [{id: far, when: {country: NO}, then: block}]")
    assert policy is not None, problems
    [found] = Backtest(policy).result().unjudged
    assert found == ("far", "the rule is inactive: no country database", True)


def test_a_column_that_the_format_lacks_is_unknown_instead_of_absent() -> None:
    policy = policy_of(
        [
            {"then": "block", "when": {"user_agent": {"missing": True}}},
            {"then": "hide", "when": {"header": {"name": "referer", "missing": True}}},
        ]
    )
    rows = rows_of({"time": [1, 2]})
    blind, seeing = Backtest(policy, without=("ua", "referrer")), Backtest(policy)
    for test in (blind, seeing):
        test.feed(rows)
    assert blind.result().actions == {"allow": 2}
    assert [one.never for one in blind.result().unjudged] == [True, True]
    assert seeing.result().actions == {"block": 2}
    assert seeing.result().unjudged == ()


def test_two_policies_differ_by_the_requests_that_change_hands() -> None:
    rows = a_day()
    old = policy_of([{"then": "block", "when": {"path": "/a"}}])
    new = policy_of([{"id": "named", "then": "block", "when": {"agent": "Alpha"}}, {"id": "b", "then": "throttle", "when": {"path": "/b"}}])
    found = diff(old, new, [rows[:1], rows[1:]], people=PEOPLE)
    assert [(c.old_action, c.old_rule, c.new_action, c.new_rule, c.told.hits) for c in found.changes] == [
        ("block", "r0", "allow", "", 2), ("allow", "", "throttle", "b", 1), ("block", "r0", "block", "named", 2),
    ]  # fmt: skip
    assert [c.told.people.clients for c in found.changes if c.told.people] == [1, 0, 1]
    assert json.loads(json.dumps(found.to_dict()))["changes"][0]["new"] == {"action": "allow", "rule": ""}
    shown = "\n".join(difference_lines(found))
    assert "before: allow 1, block 4" in shown
    assert "block (r0) -> allow (no rule)" in shown
    same = Diff(old, old)
    same.feed(rows)
    assert same.result().changes == ()
    assert "No request would be treated otherwise." in "\n".join(difference_lines(same.result()))


def test_memory_is_bounded_and_what_is_counted_approximately_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_tally, "CLIENTS", 1024)
    monkeypatch.setattr(backtest_tally, "NAMES", 8)
    number = 20_000
    rows = rows_of(
        {
            "time": [1] * number,
            "ip": [f"10.{n >> 8}.{n & 255}.1" for n in range(number)],
            "ua": [f"u{n}" for n in range(number // 2)] + ["many"] * (number // 2),
        }
    )
    test = Backtest(policy_of([{"then": "block"}]))
    for at in range(0, number, 500):
        test.feed(rows[at : at + 500])
    told = outcome_of(test, "r0").told
    assert told.hits == number
    assert abs(told.clients / number - 1) < 0.15  # five standard errors of 1/sqrt(1022)
    assert told.agents[0] == ("many", number // 2)
    tally = test._tallies[0]
    assert len(tally._agents) <= 16
    assert tally._clients.len() == 1024


def test_hostile_text_stays_data_and_never_reaches_a_terminal() -> None:
    test = Backtest(policy_of([{"then": "block"}]))
    test.feed(rows_of({"time": [1], "ip": [HOSTILE], "ua": [HOSTILE], "target": [HOSTILE], "method": [HOSTILE]}))
    told = outcome_of(test, "r0").told
    assert told.samples[0]["target"] == HOSTILE[:2048]
    shown = "\n".join(outcome_lines(test.result()))
    for line in shown.replace("\x1b[1m", "").replace("\x1b[31m", "", 0).split("\n"):
        assert all(char.isprintable() or char == "\x1b" for char in line)
        assert "\x1b[31m<" not in line
        assert "\u202e" not in line
        assert len(line) < 600


# ---- the command


def line(ip: str, ua: str, path: str = "/") -> str:
    return f'{ip} - - [26/Nov/2026:10:00:00 +0000] "GET {path} HTTP/1.1" 200 12 "-" "{ua}"\n'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text(line("203.0.113.1", "GPTBot/1.2") + line("203.0.113.2", "Mozilla/5.0 Firefox/140.0") + "rubbish\n")
    return path


@pytest.fixture
def named(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nrules: [{id: everybody, then: block}]\n")
    return path


def test_the_command_shows_an_outcome(log: Path) -> None:
    done = CliRunner().invoke(command, ["builtin:default", str(log)])
    assert done.exit_code == 0, done.output
    assert "ai-training" in done.output
    assert "1 line could not be read" in done.output
    assert "GPTBot 1" in done.output


def test_the_command_as_json_with_people(log: Path, tmp_path: Path) -> None:
    PEOPLE.with_columns(client=pl.Series(["203.0.113.1", "203.0.113.2", "x"])).write_parquet(tmp_path / "clients.parquet")
    done = CliRunner().invoke(command, ["builtin:default", str(log), "--json", "--clients", str(tmp_path / "clients.parquet")])
    found = json.loads(done.stdout)
    assert (found["version"], found["rows"], found["unparsed"], found["lines"], found["people"]) == (1, 2, 1, 3, 2)
    [rule] = [rule for rule in found["rules"] if rule["hits"]]
    assert rule["people"] == {"clients": 1, "requests": 1, "examples": [["203.0.113.1", 1]]}


def test_the_command_compares_two_policies(log: Path, named: Path) -> None:
    done = CliRunner().invoke(command, ["--diff", "builtin:default", str(named), str(log)])
    assert done.exit_code == 0, done.output
    assert "allow (no rule) -> block (everybody)" in done.output
    assert "block (ai-training) -> block (everybody)" in done.output


def test_an_empty_log_has_nothing_to_say(log: Path, named: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    alone = CliRunner().invoke(command, [str(named), str(tmp_path / "empty.log"), "--json"])
    assert (alone.exit_code, json.loads(alone.stdout)["lines"]) == (0, 0)
    beside = CliRunner().invoke(command, [str(named), str(tmp_path / "empty.log"), str(log), "--json"])
    assert json.loads(beside.stdout)["actions"] == {"block": 2}


def test_a_directory_may_hold_other_things_than_logs(log: Path, named: Path) -> None:
    (log.parent / "notes.txt").write_text("no log at all\n")
    named.rename(log.parent.parent / "policy.yaml")
    done = CliRunner().invoke(command, [str(log.parent.parent / "policy.yaml"), str(log.parent), "--json"])
    assert json.loads(done.stdout)["actions"] == {"block": 2}
    assert "notes.txt: left out" in json.loads(done.stdout)["problems"][0]
    with pytest.raises(DataError, match="the format of its lines is not known"):
        CliRunner().invoke(command, ["builtin:default", str(log.parent / "notes.txt")], catch_exceptions=False)


def test_the_field_with_the_address_can_be_named(tmp_path: Path) -> None:
    path, policy = tmp_path / "access.log", tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrules: [{id: one, when: {ip: 203.0.113.1}, then: block}]\n")
    path.write_text('10.0.0.1 [26/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 12 203.0.113.1\n' * 3)
    form = '$remote_addr [$time_local] "$request" $status $body_bytes_sent $http_x_real_ip'
    done = CliRunner().invoke(command, [str(policy), str(path), "--format", form, "--client-field", "http_x_real_ip", "--json"])
    assert json.loads(done.stdout)["actions"] == {"block": 3}


def test_the_command_says_what_is_wrong(log: Path, named: Path, tmp_path: Path) -> None:
    run = CliRunner()
    assert run.invoke(command, [str(named)]).exit_code == 2
    assert isinstance(run.invoke(command, [str(tmp_path / "none.yaml"), str(log)]).exception, PolicyError)
    assert isinstance(run.invoke(command, [str(named), str(tmp_path / "none.log")]).exception, DataError)
    assert isinstance(run.invoke(command, [str(named), str(log), "--clients", str(log)]).exception, DataError)


def test_a_common_log_has_no_user_agents_rather_than_visitors_without(tmp_path: Path) -> None:
    path = tmp_path / "common.log"
    path.write_text('203.0.113.1 - - [26/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 12\n' * 3)
    found = json.loads(CliRunner().invoke(command, ["builtin:strict", str(path), "--json"]).stdout)
    assert found["actions"] == {"allow": 3}
    assert "page-without-user-agent" in {one["rule"] for one in found["unjudged"]}


def test_what_is_fed_in_any_cut_comes_to_the_same() -> None:
    rng = random.Random(3)
    rows = some_rows(rng, 4000)
    policy: Policy = policy_of(
        [{"then": "throttle", "when": {"rate": {"per": "ip", "requests": 5, "within": "30s"}}}, {"then": "hide", "when": {"path": "/a"}}]
    )
    whole, parts = Backtest(policy, people=PEOPLE), Backtest(policy, people=PEOPLE)
    whole.feed(rows)
    for at in range(0, rows.height, 333):
        parts.feed(rows[at : at + 333])
    assert whole.result() == parts.result()
