"""A fetched catalogue: believed when all of it holds, refused as a whole for one bad entry."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from crawlguard import catalogue, datadir
from crawlguard.loader import load_policy
from crawlguard.update.newcatalogue import _value, document
from crawlguard.update.outcome import Outcome
from crawlguard.update.people import PEOPLE

from .tls_site import redirect, reply
from .updating import NOW, Desk, jafar

Doc = dict[str, Any]


NEWBOT = {
    "name": "NewBot",
    "operator": "New Inc.",
    "category": "training",
    "user_agent": ["NewBot", {"token": "newb", "at": "start", "after": ["/"], "case": "exact", "with": ["+http"], "without": ["x"]}],
    "robots": ["NewBot"],
    "samples": ["Mozilla/5.0 (compatible; NewBot/2.0)", "newb/1 (+http://new.test)"],
    "near_misses": ["NewBotany/1.0", "newbie/1.0 (+http://new.test)"],
}


def offer(desk: Desk, change: Callable[[Doc], object] = lambda doc: None, *, accept: bool = False, dry: bool = False) -> Outcome:
    """Publish this catalogue with one more agent and whatever ``change`` does to it, and update from there."""
    offered = document(NOW.date())
    offered["agents"].append(json.loads(json.dumps(NEWBOT)))
    change(offered)
    desk.publish("/catalogue.json", json.dumps(offered).encode(), Content_Type="application/json", ETag='"c"')
    return desk.run(url=desk.site.url("/catalogue.json"), accept=("catalogue",) if accept else (), dry=dry)["catalogue"]


def known(user_agent: str) -> str | None:
    catalogue.agents()  # as a process does that loads a policy
    agent = catalogue.identify(user_agent)
    return agent.name if agent else None


# ---- what is well


def test_the_bundled_catalogue_passes_its_own_examination() -> None:
    raw = json.dumps(document(date(2026, 11, 22))).encode()
    assert len(raw) < 8 << 20
    rows = _value(raw, NOW, accepted=False)
    assert rows == {"date": "2026-11-22", **catalogue.compiled(catalogue.read_agents(), catalogue.read_networks())}


def test_no_pattern_of_the_catalogue_hits_a_person() -> None:
    assert len(PEOPLE) == len(set(PEOPLE)) > 40
    assert [(text, catalogue.identify(text)) for text in PEOPLE if catalogue.identify(text)] == []


def test_a_new_catalogue_is_put_in_force(desk: Desk) -> None:
    assert known("NewBot/2.0") is None
    found = offer(
        desk, lambda doc: doc["networks"].append({"name": "new", "operator": "New Inc.", "cidrs": ["40.0.0.0/24"], "date": "2026-11-22"})
    )
    assert (found.verdict, found.old, found.new, found.added) == ("updated", 7, 9, ("NewBot", "new"))
    assert known("NewBot/2.0") == "NewBot"
    assert known("newb/2 (+http://new.test)") == "NewBot"
    assert known("Newb/2 (+http://new.test)") is None
    assert desk.cidrs("new") == {"40.0.0.0/24"}
    assert "NewBot" in {agent.name for agent in load_policy(str(desk.policy)).agents}


def test_what_has_not_changed_is_not_sent_again(desk: Desk) -> None:
    offer(desk)
    desk.site.answers["/catalogue.json"] = reply(b"", 304)
    assert desk.run(url=desk.site.url("/catalogue.json"))["catalogue"].verdict == "unchanged"
    assert desk.site.seen[-3][1]["if-none-match"] == '"c"'
    assert known("NewBot/2.0") == "NewBot"


def test_a_dry_run_judges_the_lists_by_the_new_catalogue_and_keeps_the_old_one(desk: Desk) -> None:
    desk.policy.write_text(desk.policy.read_text().replace("name: [bot, other]", "tag: webhook"))
    desk.publish("/new.json", jafar(["40.0.0.0/24"]))
    row = {"name": "new", "tags": ["webhook"], "ranges": [desk.site.url("/new.json")], "cidrs": ["40.0.0.0/25"], "date": "2026-11-01"}
    assert offer(desk, lambda doc: doc["networks"].append(row), dry=True).verdict == "updated"
    assert "/new.json" in [path for path, _ in desk.site.seen]
    assert (known("NewBot/2.0"), "new" in catalogue.networks(), desk.data.exists()) == (None, False, False)


def test_what_a_new_catalogue_leaves_out_stays(desk: Desk) -> None:
    def leave(doc: Doc) -> None:
        del doc["agents"][0]
        doc["networks"] = doc["networks"][:2]

    assert offer(desk, leave).verdict == "updated"
    assert known("GoodBot/1.0") == "GoodBot"
    assert desk.cidrs("other") == {"20.0.0.0/24"}


def test_a_newer_release_counts_for_more(desk: Desk) -> None:
    offer(desk)
    assert known("NewBot/2.0") == "NewBot"
    desk.bundle(**{"2026-09-01": "2026-11-23"})
    (desk.data / datadir.CATALOGUE).touch()
    assert known("NewBot/2.0") is None


# ---- what is refused


def agent(**changed: Any) -> Callable[[Doc], object]:
    return lambda doc: doc["agents"][-1].update(changed)


def network(**changed: Any) -> Callable[[Doc], object]:
    return lambda doc: doc["networks"][0].update(changed)


BAD: dict[str, tuple[Callable[[Doc], object], str]] = {
    "an unknown key": (agent(colour="red"), "has no key 'colour'"),
    "an unknown category": (agent(category="nice"), "nice"),
    "no name": (lambda doc: doc["agents"][-1].pop("name"), "name"),
    "a number for a pattern": (agent(user_agent=[{"token": ["x"]}]), "token"),
    "no agents": (lambda doc: doc.update(agents=[]), "empty"),
    "another version": (lambda doc: doc.update(version=2), "2"),
    "an unknown part": (lambda doc: doc.update(rules=[]), "has no key 'rules'"),
    "no date": (lambda doc: doc.update(date="today"), "is not one"),
    "a bare short token": (agent(user_agent=["Nb"], samples=["Nb/1"]), "'Nb', which says too little"),
    "a token without a letter": (agent(user_agent=["5.0"], samples=["x 5.0"]), "says too little"),
    "a browser": (agent(user_agent=["Chrome"], samples=["Chrome/1"]), "takes a person's browser for itself"),
    "every browser": (agent(user_agent=[{"token": "Mozilla", "at": "start"}], samples=["Mozilla/1"]), "takes a person's browser"),
    "a text browser": (agent(user_agent=["Lynx"], samples=["Lynx/1"]), "takes a person's browser"),
    "a pattern without proof": (agent(samples=[]), "no sample that proves"),
    "a sample that is not found": (agent(samples=["Other/1.0"]), "found as 'nobody'"),
    "a sample of another": (agent(samples=["GoodBot/1.0"]), "found as 'GoodBot'"),
    "a near miss that hits": (agent(near_misses=["NewBot/1.0"]), "near miss of 'NewBot'"),
    "an agent twice": (lambda doc: doc["agents"].append(doc["agents"][-1]), "'newbot' stands twice"),
    "a network twice": (lambda doc: doc["networks"].append(doc["networks"][0]), "stands twice"),
    "a network without a name": (lambda doc: doc["networks"][0].pop("name"), "has no name"),
    "a network from a file": (network(file="/etc/passwd"), "names a file"),
    "host bits": (network(cidrs=["8.8.8.8/24"]), "host bits"),
    "everybody": (network(cidrs=["0.0.0.0/0"]), "wider than anything"),
    "private": (network(cidrs=["10.0.0.0/24"]), "not on the public Internet"),
    "a list over http": (network(ranges=["http://bot.test/"]), "is not the URL of a list"),
}
ODD: dict[str, tuple[Callable[[Doc], object], str]] = {
    "older": (lambda doc: doc.update(date="2026-08-01"), "older than the catalogue in force"),
    "to come": (lambda doc: doc.update(date="2026-11-25"), "which is to come"),
    "a search engine made an AI": (lambda doc: doc["agents"][0].update(category="training"), "taken for the AI agent 'GoodBot'"),
    "a search engine shadowed by an AI": (
        agent(user_agent=["GoodBot/9", "GoodBot"], samples=["GoodBot/9"]),
        "'GoodBot', which is no AI agent, would in part be taken for the AI agent 'NewBot'",
    ),
    "an operator that is gone": (lambda doc: doc["agents"][0].update(operator="Else Inc."), "operator 'bot inc.' is gone"),
    "a tag that is gone": (network(tags=["published"]), "network tag 'search-engine' is gone"),
    "a network that shrinks": (network(cidrs=["8.8.0.0/24"]), "shrinks by more than half"),
    "a network in a shared exit": (
        network(cidrs=["17.0.0.0/24", *(f"8.8.{n}.0/24" for n in range(0, 20, 2))]),
        "people's shared exit relay",
    ),
}


@pytest.mark.parametrize("name", [*BAD, *ODD])
def test_one_bad_entry_refuses_the_whole(desk: Desk, name: str) -> None:
    change, reason = {**BAD, **ODD}[name]
    found = offer(desk, change)
    assert found.verdict == "kept"
    assert reason in found.reason
    assert not (desk.data / datadir.CATALOGUE).exists()
    assert known("NewBot/2.0") is None


@pytest.mark.parametrize("name", BAD)
def test_nobody_can_accept_what_is_wrong(desk: Desk, name: str) -> None:
    assert offer(desk, BAD[name][0], accept=True).verdict == "kept"
    assert known("NewBot/2.0") is None


def test_a_person_may_accept_what_is_only_odd(desk: Desk) -> None:
    assert offer(desk, ODD["a network that shrinks"][0], accept=True).verdict == "updated"
    assert known("NewBot/2.0") == "NewBot"


def test_a_catalogue_that_breaks_the_policy_is_refused(desk: Desk) -> None:
    desk.policy.write_text("version: 1\nrules:\n  - {id: a, when: {agent: {operator: Bot Inc., category: search-engine}}, then: block}\n")
    found = offer(desk, lambda doc: doc["agents"][0].update(operator="Else Inc."), accept=True)
    assert found.verdict == "kept"
    assert "no agent is run by 'Bot Inc.'" in found.reason
    assert load_policy(str(desk.policy)).rules


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"", "application/json", "not a catalogue"),
        (b"<html>", "text/html", "not JSON"),
        (b"[]", "application/json", "expected a catalogue"),
        (b'{"version": 1, "version": 1}', "application/json", "a key stands twice"),
        (b"[" * 100_000, "application/json", "not a catalogue"),
        (b'{"version": 1', "application/json", "not a catalogue"),
        (b"\xff\xfe\x00", "application/json", "not a catalogue"),
    ],
)
def test_what_is_no_catalogue_is_refused(desk: Desk, body: bytes, kind: str, reason: str) -> None:
    desk.publish("/catalogue.json", body, Content_Type=kind)
    found = desk.run(url=desk.site.url("/catalogue.json"))["catalogue"]
    assert found.verdict == "kept"
    assert reason in found.reason


def test_a_catalogue_from_elsewhere_is_refused(desk: Desk) -> None:
    desk.site.answers["/catalogue.json"] = redirect("https://evil.test/catalogue.json")
    assert "another site" in desk.run(url=desk.site.url("/catalogue.json"))["catalogue"].reason
    assert "not an https URL" in desk.run(url="http://lists.test/catalogue.json")["catalogue"].reason


def test_the_next_catalogue_must_not_be_older_than_the_last(desk: Desk) -> None:
    assert offer(desk).verdict == "updated"
    found = offer(desk, lambda doc: doc.update(date=(NOW.date() - timedelta(days=1)).isoformat()))
    assert found.verdict == "kept"
    assert "older than the catalogue in force (2026-11-22)" in found.reason
    assert known("NewBot/2.0") == "NewBot"
