"""Several rules in one test that is made for them: it decides, and writes, what they decide and write one by one."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crawlguard import Guard
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Store
from crawlguard.policy.ruleset import Run
from crawlguard.request import RequestView
from crawlguard.store import SharedStore, shared, together

from .policy_corpus import Clock, view

SIZE = 1 << 16
"""Bytes of the table of words: 4,096 slots, 256 profiles, 16 bitmaps, 16 groups, so that keys push each other out."""

BURST = {"id": "burst", "when": {"rate": {"per": "ip", "requests": 16, "within": "20s"}}, "then": "throttle"}
HELD = {"id": "held", "when": {"rate": {"per": "ip", "requests": 18, "within": "20s"}}, "then": {"block": {"block_for": "40s"}}}
SUBNET = {"id": "subnet", "when": {"rate": {"per": "subnet", "documents": 60, "within": "1m"}}, "then": "throttle"}
CRAWL = {"id": "crawl", "when": {"rate": {"per": "ip", "distinct_paths": 40, "within": "2m", "assets": "under 40%"}}, "then": "block"}
PATHS = {"id": "paths", "when": {"rate": {"per": "subnet", "distinct_paths": 60, "within": "2m"}}, "then": "block"}
FAMILY = {"id": "family", "when": {"rate": {"per": ["ip", "path"], "requests": 9, "within": "1m"}}, "then": "throttle"}
AGENT = {"id": "agent", "when": {"rate": {"per": "agent", "requests": 14, "within": "10s"}}, "then": "throttle"}
EVERYBODY = {"id": "everybody", "when": {"rate": {"per": "global", "documents": 450, "within": "1m"}}, "then": "throttle"}
MIXED = {"id": "mixed", "when": {"rate": {"per": ["ip", "fingerprint"], "requests": 16, "within": "1m"}}, "then": "throttle"}
SWARM = {"id": "swarm", "when": {"swarm": {"clients": 10, "within": "3m", "times": 2}}, "then": "throttle"}
NETWORKS = {"id": "networks", "when": {"swarm": {"per": "subnet", "clients": 10, "within": "1m"}}, "then": "hide"}
WATCHED = {**BURST, "id": "watched", "mode": "shadow", "when": {"rate": {"per": "ip", "requests": 10, "within": "10s"}}}
WEIGHED = {"id": "weighed", "when": {"rate": {"per": "ip", "requests": 12, "within": "10s"}}, "then": {"weigh": 3, "tag": "busy"}}
ELSEWHERE = {"id": "elsewhere", "when": {"path": "/p/7"}, "then": {"tag": "seven"}}

POLICIES: dict[str, list[dict[str, Any]]] = {
    "five signatures": [BURST, SUBNET, CRAWL, FAMILY, SWARM],
    "all kinds of keys": [NETWORKS, EVERYBODY, MIXED, AGENT, PATHS],
    "penalties, shadow rules, tags": [WATCHED, WEIGHED, HELD, CRAWL, SWARM],
    "runs with another rule between": [BURST, SUBNET, FAMILY, ELSEWHERE, CRAWL, SWARM, PATHS],
}
AGENTS = ["GPTBot/1.2", "curl/8.5.0", *(f"Mozilla/5.0 (X11; Linux x86_64) Firefox/{n}.0" for n in range(130, 134))]
FILES = ("", ".conduct", ".swarm")


def guard_on(path: Path, rules: list[dict[str, Any]], clock: Clock) -> Guard:
    policy, problems = parse_policy(json.dumps({"version": 1, "rules": rules}))
    assert policy is not None, problems
    return Guard(policy, store=Store("shared", str(path), SIZE), clock=clock)


@pytest.fixture
def twins(tmp_path: Path) -> Any:
    """Makes two guards with one policy and one seed, each with tables of its own: the second asks its rules one by one."""
    clock = Clock()

    def made(rules: list[dict[str, Any]]) -> tuple[Guard, Guard, Clock]:
        SharedStore(tmp_path / "a", SIZE).close()
        shutil.copy(tmp_path / "a", tmp_path / "b")
        one, other = (guard_on(tmp_path / name, rules, clock) for name in "ab")
        other.ruleset.together = None
        return one, other, clock

    return made


def traffic(rng: random.Random, number: int) -> Iterator[tuple[float, dict[str, Any]]]:
    """Visitors with and without assets, crawlers, whole neighbourhoods, unknown clients; seconds pass, and sometimes minutes."""
    at = 0.0
    for _ in range(number):
        at += rng.choice((0, 0, 0, 0.001, 0.05, 0.4)) if rng.random() < 0.998 else rng.randrange(400)
        kind = rng.random()
        ip = f"203.0.{rng.randrange(40)}.{rng.randrange(4)}" if kind < 0.6 else f"198.51.100.{rng.randrange(3 if kind < 0.8 else 90)}"
        if kind > 0.9:
            ip = rng.choice((f"2001:db8:{rng.randrange(30):x}::{rng.randrange(9)}", "", "unix", "10.0.0.1"))
        number_of = rng.randrange(8) if rng.random() < 0.5 else rng.randrange(3000)
        path = rng.choice((f"/p/{number_of}", f"/q/{number_of}", f"/{number_of}", f"/p/{number_of}.html"))
        if rng.random() < 0.15:
            path = rng.choice(("/a.css", "/p/x.js", "/robots.txt", "/favicon.ico"))
        agent = rng.choice(AGENTS) if rng.random() < 0.95 else None
        yield at, {"path": path, "ip": ip, "ua": agent, "headers": {"Accept-Language": rng.choice(("de", "en"))}}


def tables(guard: Guard) -> list[bytes]:
    """What the files hold, but for the page with the seed."""
    store = guard.store
    assert isinstance(store, SharedStore)
    paths = [store.path.with_name(store.path.name + ending) for ending in FILES]
    return [path.read_bytes()[4096:] for path in paths if path.exists()]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", POLICIES)
def test_it_decides_and_writes_what_its_rules_do_one_by_one(twins: Any, name: str, seed: int) -> None:
    one, other, clock = twins(POLICIES[name])
    rng = random.Random(f"{name} {seed}")
    said: dict[str, int] = {}
    for n, (at, request) in enumerate(traffic(rng, 6000)):
        clock.at(at)
        found, expected = (guard.decide(view(**request)) for guard in (one, other))
        assert found.as_dict() == expected.as_dict(), (n, request)
        for rule in (found.rule, *(shadow.rule for shadow in found.shadow), *found.tags):
            said[str(rule)] = said.get(str(rule), 0) + 1
        if n % 500 == 0:
            assert tables(one) == tables(other), n
    assert tables(one) == tables(other)
    assert one.counters.errors == other.counters.errors == 0
    assert any(isinstance(rule, Run) for plan in one.ruleset._plans.values() for _, rule in plan)
    assert not any(isinstance(rule, Run) for plan in other.ruleset._plans.values() for _, rule in plan)
    assert len({rule["id"] for rule in POLICIES[name]} & set(said)) >= 3, "hardly a rule has ever held"


def test_another_store_is_asked_one_by_one(twins: Any) -> None:
    """An explanation only looks, a second opinion may come from elsewhere: what one guard counts is its own."""
    one, other, clock = twins(POLICIES["five signatures"])
    request: dict[str, Any] = {"path": "/p/1", "ip": "203.0.113.9", "ua": AGENTS[2]}
    for guard in (one, other):
        for _ in range(5):
            assert guard.decide(view(**request)).rule is None
    live, now = one.live, clock() // 1000
    facts = live.ruleset.user_agent(AGENTS[2].encode()), live.facts(bytes([203, 0, 113, 9]))
    before = tables(one)
    elsewhere = live.ruleset.evaluate(view(**request), *facts, other.store, now)
    assert tables(one) == before
    assert elsewhere.rule == one.decide(view(**request)).rule


class Racing:
    """A table's states, in which another worker writes right after us, once."""

    def __init__(self, states: memoryview, theirs: int) -> None:
        self.states, self.theirs, self.met = states, theirs, False

    def __getitem__(self, at: int) -> int:
        return int(self.states[at])

    def __setitem__(self, at: int, state: int) -> None:
        self.states[at] = state
        if not self.met:
            self.met = True
            self.states[at] = (state & ~0x3E00) | self.theirs << 9


def test_who_meets_another_worker_takes_the_lock(tmp_path: Path) -> None:
    guard = guard_on(tmp_path / "a", POLICIES["five signatures"], Clock())
    request: dict[str, Any] = {"path": "/p/1", "ip": "203.0.113.9", "ua": AGENTS[2]}
    for _ in range(3):
        guard.decide(view(**request))
    [(test, rule)] = next(iter(guard.ruleset._plans.values()))
    assert isinstance(rule, Run)
    store: Any = guard.store
    racing = Racing(store._states, (os.getpid() & 31) ^ 1)
    test.__globals__["states"] = racing
    contended = sum(bool(state & 0x4000) for state in store._states)
    guard.decide(view(**request))
    assert racing.met
    assert (contended, sum(bool(state & 0x4000) for state in store._states)) == (0, 1)
    # Five requests of ours and one of theirs: the lost one was counted again, under the lock.
    admitted = sum(guard.decide(view(path=f"/{n}", ip="203.0.113.9", ua=AGENTS[2])).rule != "burst" for n in range(40))
    assert admitted == 16 - 3 - 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_processes_that_fight_for_a_limit_are_admitted_it(tmp_path: Path) -> None:
    rules = [{**BURST, "when": {"rate": {"per": "ip", "requests": 100, "within": "10m"}}}, SUBNET, SWARM]
    rules[1] = {**SUBNET, "when": {"rate": {"per": "subnet", "documents": 10_000, "within": "1m"}}}
    guard = guard_on(tmp_path / "a", rules, Clock())
    guard.decide(view("/", ip="203.0.113.9", ua=AGENTS[2]))
    pids = []
    for n in range(4):
        pid = os.fork()
        if not pid:
            admitted = sum(guard.decide(view(f"/{n}", ip="203.0.113.9", ua=AGENTS[2])).allowed for n in range(300))
            (tmp_path / f"admitted{n}").write_text(str(admitted))
            os._exit(0)
        pids.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
    assert 98 <= 1 + sum(int((tmp_path / f"admitted{n}").read_text()) for n in range(4)) <= 102


@pytest.mark.parametrize("table", ["SharedConduct", "SharedSwarm"])
def test_threads_that_begin_together_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """Both find no table and make one: there is one all the same, and what counts in it is not let go."""
    meeting = threading.Barrier(2, timeout=20)
    real = getattr(shared, table)

    class Met(real):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any) -> None:
            meeting.wait()
            super().__init__(*args)

    monkeypatch.setattr(shared, table, Met)
    monkeypatch.setattr(together, table, Met)
    guard = guard_on(
        tmp_path / "a", [BURST, {**CRAWL, "when": {"rate": {"per": "ip", "distinct_paths": 30, "within": "2m"}}}, SWARM], Clock()
    )
    threads = [threading.Thread(target=guard.decide, args=(view("/0", ip="203.0.113.9", ua=AGENTS[2]),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    said = [guard.decide(view(f"/{n}", ip=f"203.0.113.{n % 3}", ua=AGENTS[n % 3 + 2])).rule for n in range(48)]
    assert guard.counters.errors == 0
    assert set(said) == {None}
    store: Any = guard.store
    assert (store.profiles(), store.swarms()) == (store.conduct.__self__, store.swarm.__self__)


def test_requests_as_servers_hand_them_over(twins: Any) -> None:
    """Header values that are no bytes, and views that nobody has looked into, are counted like any."""
    one, other, _ = twins(POLICIES["five signatures"])
    for n in range(70):
        for value in (b"de", bytearray(b"de"), memoryview(b"de")):
            sent: Any = [(b"user-agent", AGENTS[3].encode()), (b"accept-language", value)]
            found, expected = (guard.decide(RequestView("GET", f"/{n}", sent, "203.0.113.9")) for guard in (one, other))
            assert found.as_dict() == expected.as_dict()
    assert one.counters.errors == other.counters.errors == 0
    assert tables(one) == tables(other)
