"""``crawlguard update`` as people and cron see it: what it prints, to whom, and with which exit code."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from crawlguard import datadir
from crawlguard.commands.update import MAX_SHOWN, command

from .tls_site import reply
from .updating import NEW, OLD, Desk, jafar

LONG_AGO = "2020-01-01T00:00:00Z"  # before whatever the clock of this machine says


@pytest.fixture(autouse=True)
def published(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawlguard.update.run.Fetcher", desk.site.fetcher)  # the command's own has no way to loopback
    desk.publish("/bot.json", jafar(NEW, LONG_AGO))


def crawlguard(desk: Desk, *args: str) -> Result:
    return CliRunner().invoke(command, ["--policy", str(desk.policy), *args], catch_exceptions=False)


def test_a_table_and_a_diff(desk: Desk) -> None:
    result = crawlguard(desk)
    assert result.exit_code == 0
    head, bot, other = result.stdout.splitlines()[:3]
    assert head.split() == ["list", "old", "new", "verdict", "reason"]
    assert bot.split() == ["bot", "10", "10", "updated"]
    assert other.split(maxsplit=3)[:3] == ["other", "1", "-"]
    assert "no list    its operator publishes no list that a program can read; this copy is of 2026-09-01" in other
    assert result.stdout.splitlines()[-3:] == ["bot", "  + 9.9.9.0/24", "  - 8.8.0.0/24"]
    assert result.stderr == ""
    again = crawlguard(desk)
    assert (again.exit_code, "unchanged" in again.stdout, "+ 9.9.9.0/24" in again.stdout) == (0, True, False)


def test_a_long_diff_is_cut_for_eyes_and_whole_for_scripts(desk: Desk) -> None:
    many = [f"9.9.{n}.0/24" for n in range(0, 60, 2)]
    desk.publish("/bot.json", jafar([*OLD, *many], LONG_AGO))
    text = crawlguard(desk, "--dry-run").stdout
    assert text.count("  + 9.9.") == MAX_SHOWN
    assert f"+ {30 - MAX_SHOWN} more (--json has them all)" in text
    assert "Nothing was written" in text
    said = json.loads(crawlguard(desk, "--json").stdout)
    assert (said["version"], said["ok"], said["dry_run"]) == (1, True, False)
    bot = next(row for row in said["lists"] if row["name"] == "bot")
    assert bot == {
        "name": "bot",
        "urls": [desk.site.url("/bot.json")],
        "verdict": "updated",
        "old": 10,
        "new": 40,
        "reason": "",
        "added": sorted(many, key=lambda cidr: int(cidr.split(".")[2])),
        "removed": [],
    }


def test_quiet_is_silent_until_somebody_is_needed(desk: Desk) -> None:
    result = crawlguard(desk, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    desk.publish("/bot.json", jafar(OLD[:2], "2020-01-02T00:00:00Z"))
    result = crawlguard(desk, "--quiet")
    assert result.exit_code == 1
    assert [line.split()[:4] for line in result.stdout.splitlines()] == [["list", "old", "new", "verdict"], ["bot", "10", "-", "kept"]]
    assert "shrinks by more than half" in result.stdout
    assert crawlguard(desk, "--quiet", "--accept", "bot").output == ""
    assert desk.cidrs("bot") == set(OLD[:2])


@pytest.mark.parametrize("option", [(), ("--json",), ("--quiet",)])
def test_what_was_kept_is_exit_code_1(desk: Desk, option: tuple[str, ...]) -> None:
    desk.site.answers["/bot.json"] = reply(b"", 500)
    result = crawlguard(desk, *option)
    assert result.exit_code == 1
    assert "the server answers 500" in result.stdout
    assert desk.cidrs("bot") == set(OLD)


def test_called_wrongly_is_exit_code_2(desk: Desk) -> None:
    assert crawlguard(desk, "--accept", "nobody").exit_code == 2
    assert crawlguard(desk, "--nonsense").exit_code == 2
    assert desk.site.seen == []


def test_a_server_cannot_write_to_the_terminal(desk: Desk) -> None:
    desk.site.answers["/bot.json"] = reply(b'{"addresses": ["\\u001b[2J\\u0007"]}')
    said = crawlguard(desk).stdout
    assert "is not an address or CIDR" in said
    assert said.isascii()
    assert not any(ord(c) < 32 for c in said.replace("\n", ""))


def test_nothing_to_do_is_said(desk: Desk) -> None:
    desk.policy.write_text("version: 1\nrules:\n  - {id: a, when: {path: /x}, then: block}\n")
    result = crawlguard(desk)
    assert (result.exit_code, "nothing to fetch" in result.stdout) == (0, True)


def test_one_installations_catalogue_is_anothers_update(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = crawlguard(desk, "--print-catalogue")
    assert printed.exit_code == 0
    assert desk.site.seen == []
    offered = json.loads(printed.stdout)
    offered["agents"][0]["does"] = "Searches."
    offered["date"] = "2026-09-01"
    desk.publish("/catalogue.json", json.dumps(offered).encode(), Content_Type="application/json")
    monkeypatch.setenv("CRAWLGUARD_CATALOGUE_URL", desk.site.url("/catalogue.json"))
    result = crawlguard(desk)
    assert result.exit_code == 0, result.stdout
    assert "  + GoodBot" in result.stdout
    assert (desk.data / datadir.CATALOGUE).exists()
