"""An update from end to end: fetched from a real server, judged, written, in force; and whatever is doubtful stays as it was."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from crawlguard import catalogue, datadir
from crawlguard.errors import ConfigError, DataError, PolicyError
from crawlguard.loader import load_policy
from crawlguard.policy.model import Network, Policy
from crawlguard.update.fetch import Answer, Fetcher
from crawlguard.update.run import run
from crawlguard.update.staleness import stale

from .tls_site import Behaviour, Site, head, redirect, reply, reset
from .updating import NEW, NOW, OLD, Desk, jafar


def asked(site: Site) -> list[str]:
    return [path for path, _ in site.seen]


# ---- what is well


def test_a_new_list_is_put_in_force(desk: Desk) -> None:
    assert desk.cidrs("bot") == set(OLD)
    desk.publish("/bot.json", jafar(NEW), Content_Type="application/json", ETag='"2"')
    found = desk.run()["bot"]
    assert (found.verdict, found.old, found.new, found.reason) == ("updated", 10, 10, "")
    assert (found.added, found.removed) == (("9.9.9.0/24",), ("8.8.0.0/24",))
    assert desk.cidrs("bot") == set(NEW)
    assert catalogue.networks()["bot"].date == "2026-11-22"
    assert set(load_policy(str(desk.policy)).networks["bot"].cidrs) == set(NEW)


def test_only_what_the_policy_names_is_fetched_and_the_shared_exits_that_the_judge_needs(desk: Desk) -> None:
    found = desk.run()
    assert asked(desk.site) == ["/bot.json", "/relay.csv"]
    assert {name: o.verdict for name, o in found.items()} == {"bot": "unchanged", "relay": "unchanged", "other": "no list"}
    assert found["other"].reason == "its operator publishes no list that a program can read; this copy is of 2026-09-01"


def test_all_is_every_list_of_the_catalogue(desk: Desk) -> None:
    found = desk.run(every=True)
    assert sorted(asked(desk.site)) == ["/bot.json", "/meta", "/relay.csv", "/v4.txt", "/v6.txt"]
    assert {name: o.verdict for name, o in found.items()} == {
        **dict.fromkeys(("bot", "hooks", "relay", "two"), "unchanged"),
        "other": "no list",
    }


def test_a_policy_that_needs_no_list_fetches_none(desk: Desk) -> None:
    desk.policy.write_text("version: 1\nrules:\n  - {id: a, when: {path: /x}, then: block}\n")
    assert desk.run() == {}
    assert asked(desk.site) == []


def test_what_has_not_changed_is_asked_for_by_its_mark_and_written_once_a_day(desk: Desk) -> None:
    desk.publish("/bot.json", jafar(NEW), ETag='"2"', Last_Modified="Fri, 20 Nov 2026 00:00:00 GMT")
    desk.run()
    before = (desk.data / datadir.RANGES).stat().st_mtime_ns
    desk.site.answers["/bot.json"] = reply(b"", 304)
    assert desk.run()["bot"].verdict == "unchanged"
    _, headers = [seen for seen in desk.site.seen if seen[0] == "/bot.json"][-1]
    assert (headers["if-none-match"], headers["if-modified-since"]) == ('"2"', "Fri, 20 Nov 2026 00:00:00 GMT")
    assert (desk.data / datadir.RANGES).stat().st_mtime_ns == before, "a change of the file makes every guard reload"
    assert desk.run(now=NOW + timedelta(days=1))["bot"].verdict == "unchanged"
    assert desk.cidrs("bot") == set(NEW)
    assert catalogue.networks()["bot"].date == "2026-11-23"


def test_a_list_of_several_parts_is_their_sum_whichever_of_them_changed(desk: Desk) -> None:
    desk.publish("/v4.txt", b"5.5.5.5\n5.5.6.0/24\n", ETag='"a"')
    desk.publish("/v6.txt", b"2600:5::/48\n", ETag='"b"')
    assert desk.run(every=True)["two"].added == ("5.5.6.0/24",)
    desk.site.answers["/v4.txt"] = reply(b"", 304)
    desk.publish("/v6.txt", b"2600:5::/48\n2600:7::/48\n", ETag='"c"')
    found = desk.run(every=True)["two"]
    assert (found.added, found.removed, found.new) == (("2600:7::/48",), (), 4)
    assert desk.cidrs("two") == {"5.5.5.5/32", "5.5.6.0/24", "2600:5::/48", "2600:7::/48"}


def test_the_part_that_a_fragment_names_is_all_that_counts(desk: Desk) -> None:
    desk.publish("/meta", b'{"hooks": ["6.6.6.0/24", "6.6.7.0/24"], "actions": ["20.0.0.0/12"]}')
    assert desk.run(every=True)["hooks"].new == 1  # neighbours are one
    assert desk.cidrs("hooks") == {"6.6.6.0/23"}


def test_another_policys_lists_stay(desk: Desk) -> None:
    desk.publish("/v4.txt", b"5.5.5.5\n5.5.6.0/24\n")
    desk.run(every=True)
    desk.publish("/bot.json", jafar(NEW))
    desk.run()
    assert desk.cidrs("two") == {"5.5.5.5/32", "5.5.6.0/24", "2600:5::/48"}
    assert desk.cidrs("bot") == set(NEW)


def test_a_newer_release_counts_for_more_than_older_data(desk: Desk) -> None:
    desk.publish("/bot.json", jafar(NEW))
    desk.run()
    assert desk.cidrs("bot") == set(NEW)
    desk.bundle(**{"2026-09-01": "2026-11-23"})
    (desk.data / datadir.RANGES).touch()  # a process reads its release once, and again when an update has been
    assert desk.cidrs("bot") == set(OLD)


def test_a_dry_run_writes_nothing(desk: Desk) -> None:
    desk.publish("/bot.json", jafar(NEW))
    assert desk.run(dry=True)["bot"].verdict == "updated"
    assert not desk.data.exists()
    assert desk.cidrs("bot") == set(OLD)


# ---- what is doubtful

BIG = jafar([f"8.8.{n}.0/24" for n in range(256)] + [f"9.{n}.0.0/16" for n in range(2)])
DOUBTFUL: dict[str, tuple[Behaviour, str]] = {
    "shrunk": (reply(jafar(OLD[:4])), "shrinks by more than half, from 10 to 4 entries"),
    "grown": (reply(BIG), "grows from 2,560 to"),
    "into a shared exit": (reply(jafar([*OLD, "17.0.0.5/32"])), "17.0.0.5/32 reaches into people's shared exit relay"),
    "into another operator's": (reply(jafar([*OLD, "20.0.0.0/23"])), "20.0.0.0/23 reaches into the list of Other Inc., other"),
    "from the future": (reply(jafar(NEW, "2031-01-01T00:00:00Z")), "which is to come"),
}
FAULTY: dict[str, tuple[Behaviour, str]] = {
    "an invalid CIDR": (reply(jafar([*OLD, "8.8.8.0/33"])), "'8.8.8.0/33' is not an address or CIDR"),
    "host bits": (reply(jafar([*OLD, "8.8.1.7/24"])), "'8.8.1.7/24' is not an address or CIDR"),
    "everybody": (reply(jafar([*OLD, "0.0.0.0/0"])), "0.0.0.0/0 is wider than anything"),
    "everybody in IPv6": (reply(jafar([*OLD, "::/0"])), "::/0 is wider than anything"),
    "everybody in two halves": (reply(jafar([*OLD, "0.0.0.0/1", "128.0.0.0/1"])), "0.0.0.0/0 is wider than anything"),
    "private": (reply(jafar([*OLD, "192.168.1.0/24"])), "192.168.1.0/24 is not on the public Internet"),
    "empty": (reply(jafar([])), "the list is empty"),
    "a web page": (reply(b"<html>", Content_Type="text/html"), "web page"),
    "a page that is called a list": (reply(b"<!doctype html>", Content_Type="application/json"), "web page"),
    "an image": (reply(jafar(NEW), Content_Type="image/png"), "is called 'image/png'"),
    "half of it": (reply(jafar(NEW)[:-20]), "not JSON"),
    "not found": (reply(b"gone", 404), "answers 404"),
    "broken": (reply(b"oops", 500), "answers 500"),
    "reset": (reset(), "connection failed"),
    "moved elsewhere": (redirect("https://evil.test/bot.json"), "another site"),
}


@pytest.mark.parametrize("name", [*DOUBTFUL, *FAULTY])
def test_on_any_doubt_the_old_list_stays_and_the_others_go_on(desk: Desk, name: str) -> None:
    desk.site.answers["/bot.json"], reason = {**DOUBTFUL, **FAULTY}[name]
    desk.publish("/relay.csv", b"17.0.0.0/24,,,,\n17.0.2.0/24,,,,\n")
    found = desk.run()
    assert found["bot"].verdict == "kept"
    assert reason in found["bot"].reason
    assert desk.cidrs("bot") == set(OLD)
    assert found["relay"].verdict == "updated"
    assert desk.cidrs("relay") == {"17.0.0.0/24", "17.0.2.0/24"}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_person_may_accept_what_is_only_surprising(desk: Desk, name: str) -> None:
    desk.site.answers["/bot.json"], _ = DOUBTFUL[name]
    assert desk.run(accept=("bot",))["bot"].verdict == "updated"
    assert desk.cidrs("bot") != set(OLD)


@pytest.mark.parametrize("name", FAULTY)
def test_nobody_can_accept_what_no_list_can_mean(desk: Desk, name: str) -> None:
    desk.site.answers["/bot.json"], _ = FAULTY[name]
    assert desk.run(accept=("bot",))["bot"].verdict == "kept"
    assert desk.cidrs("bot") == set(OLD)


def test_an_older_edition_does_not_come_back(desk: Desk) -> None:
    desk.publish("/bot.json", jafar(NEW, "2026-11-20T00:00:00Z"))
    assert desk.run()["bot"].verdict == "updated"
    desk.publish("/bot.json", jafar(OLD, "2026-11-19T23:59:59Z"))
    found = desk.run()["bot"]
    assert found.verdict == "kept"
    assert "made at 2026-11-19T23:59:59+00:00, before the one in force" in found.reason
    assert desk.cidrs("bot") == set(NEW)


def test_one_part_that_fails_keeps_the_whole_list(desk: Desk) -> None:
    desk.publish("/v4.txt", b"5.5.5.5\n5.5.6.0/24\n")
    desk.site.answers["/v6.txt"] = reply(b"", 500)
    assert desk.run(every=True)["two"].verdict == "kept"
    assert desk.cidrs("two") == {"5.5.5.5/32", "2600:5::/48"}


def test_a_304_that_nobody_asked_for_is_no_list(desk: Desk) -> None:
    desk.site.answers["/bot.json"] = lambda connection, headers: connection.sendall(head(304))
    assert "answers 304" in desk.run()["bot"].reason


def test_two_lists_that_take_the_same_new_address_are_not_both_believed(desk: Desk) -> None:
    desk.publish("/bot.json", jafar([*OLD, "40.0.0.0/24"]))
    desk.publish("/meta", b'{"hooks": ["6.6.6.0/24", "40.0.0.0/25"]}')
    found = desk.run(every=True)
    assert (found["bot"].verdict, found["hooks"].verdict) == ("updated", "kept")
    assert "the list of Bot Inc., bot" in found["hooks"].reason


# ---- what goes wrong around it


class Interrupted(Fetcher):
    """Ctrl-C while the second list is being fetched."""

    count = 0

    def get(self, url: str, etag: str = "", modified: str = "") -> Answer:
        self.count += 1
        if self.count == 2:
            raise KeyboardInterrupt
        return Answer(True, jafar(NEW))


def test_an_update_that_is_interrupted_leaves_everything_as_it_was(desk: Desk) -> None:
    desk.run()
    before = {p.name: p.read_bytes() for p in desk.data.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        run(str(desk.policy), fetcher=Interrupted(), now=NOW)
    assert {p.name: p.read_bytes() for p in desk.data.iterdir()} == before
    assert desk.cidrs("bot") == set(OLD)


def test_damaged_data_are_ignored_and_mended_by_the_next_update(desk: Desk) -> None:
    desk.publish("/bot.json", jafar(NEW))
    desk.run()
    path = desk.data / datadir.RANGES
    path.write_bytes(path.read_bytes()[:100])
    assert desk.cidrs("bot") == set(OLD)
    assert desk.run()["bot"].verdict == "updated"
    assert desk.cidrs("bot") == set(NEW)


def test_a_list_to_accept_must_be_one_that_is_fetched(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="--accept bott: this update fetches no list of that name"):
        desk.run(accept=("bott",))
    assert asked(desk.site) == []


def test_a_broken_policy_is_told_before_anything_is_fetched(desk: Desk) -> None:
    desk.policy.write_text("version: 1\nrules:\n  - {id: a, when: {network: {name: nobody}}, then: block}\n")
    with pytest.raises(PolicyError):
        desk.run()
    assert asked(desk.site) == []


def test_a_data_directory_that_others_write_to_is_refused(desk: Desk) -> None:
    desk.data.mkdir()
    desk.data.chmod(0o777)
    with pytest.raises(DataError, match="chmod go-w"):
        desk.run()
    assert asked(desk.site) == []


# ---- what has grown old

TODAY = date(2026, 11, 30)  # 90 days after the bundled lists


def _policy(desk: Desk) -> Policy:
    return load_policy(str(desk.policy))


def test_a_snapshot_is_stale_after_ninety_days(desk: Desk) -> None:
    assert stale(_policy(desk), TODAY) == []
    found = stale(_policy(desk), TODAY + timedelta(days=1))
    assert [(p.id, p.severity, p.file) for p in found] == [("CG104", "warning", str(desk.policy))] * 2
    assert found[0].message == "a list of addresses is older than 90 days: bot (2026-09-01)"
    assert "crawlguard update" in found[0].advice
    assert found[1].message == "a list of addresses is older than 90 days: other (2026-09-01)"
    assert "newest crawlguard" in found[1].advice


def test_an_update_makes_it_fresh(desk: Desk) -> None:
    desk.run()
    assert [p.message for p in stale(_policy(desk), TODAY + timedelta(days=1))] == [
        "a list of addresses is older than 90 days: other (2026-09-01)"
    ]


def test_what_no_rule_uses_and_what_says_no_date_is_nobodys_worry(desk: Desk) -> None:
    policy = _policy(desk)
    policy.networks["bot"] = policy.networks["bot"]._replace(date="")
    policy.networks["other"] = policy.networks["other"]._replace(date="yesterday")
    assert stale(policy, TODAY + timedelta(days=999)) == []
    policy.networks["bot"] = Network(policy.networks["bot"].place, "bot", asns=(64496,), date="2020-01-01")
    assert stale(policy, TODAY) == []
