"""Whole requests on the store of many hosts: in one call, as the local stores decide them, through each door, with its server there or not."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crawlguard import Guard
from crawlguard.asgi import CrawlGuardMiddleware as AsgiDoor
from crawlguard.decision import Decision
from crawlguard.errors import ConfigError
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Policy, Store
from crawlguard.request import RequestView
from crawlguard.signals.conduct import ASSET, DOCUMENT
from crawlguard.store import MemoryStore
from crawlguard.store import script as op
from crawlguard.store.memory_swarm import MemorySwarm
from crawlguard.store.remote import RemoteStore
from crawlguard.wsgi import CrawlGuardMiddleware as WsgiDoor

from .policy_corpus import view
from .remote import PATIENCE, Clocked
from .test_asgi import run as run_asgi
from .test_asgi import scope_of
from .test_wsgi import environ_of
from .test_wsgi import run as run_wsgi
from .valkey_server import Server, cluster, serving, until

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
FIVE = """version: 1
rules:
  - {id: burst, when: {rate: {per: ip, requests: 60, within: 10h}}, then: throttle}
  - {id: subnet, when: {rate: {per: subnet, documents: 400, within: 20h}}, then: throttle}
  - {id: crawl, when: {rate: {per: ip, distinct_paths: 25, within: 10h}}, then: throttle}
  - {id: family, when: {rate: {per: [ip, path], requests: 40, within: 10h, block_for: [1h, 2h]}}, then: block}
  - {id: swarm, when: {swarm: {clients: 20, within: 10h}}, then: throttle}
"""
THREE = "version: 1\nrules: [{id: three, when: {rate: {per: ip, requests: 3, within: 10h}}, then: throttle}]\n"


def policy_of(text: str) -> Policy:
    policy, problems = parse_policy(text)
    assert policy is not None, problems
    return policy


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def guard_on(request: pytest.FixtureRequest) -> Iterator[Callable[..., Guard]]:
    """Makes guards of a policy's text on a server, each under a name of its own, which has time to answer on a busy machine."""
    made: list[Guard] = []

    def make(text: str, url: str, site: str = "", patience: float = PATIENCE) -> Guard:
        name = site or re.sub(r"\W", "-", request.node.name)[:50] + str(len(made))
        guard = Guard(policy_of(text), store=Store("memory", url=url, site=name))
        store_of(guard).link.limit = patience
        made.append(guard)
        return guard

    yield make
    for guard in made:
        guard.store.close()


def beside(guard: Guard) -> Guard:
    """A guard of the same policy with a store in memory, whose keys have the same hashes: distinct counts collide alike."""
    near = Guard(guard.policy, store="memory")
    store = near.store
    assert isinstance(store, MemoryStore)
    store.seed, store.mark = guard.store.seed, guard.store.mark
    near.swap(guard.policy)
    return near


def store_of(guard: Guard) -> RemoteStore:
    assert isinstance(guard.store, RemoteStore)
    return guard.store


def calls(server: Server) -> int:
    """How often the server has run the script."""
    found = re.search(r"cmdstat_evalsha:calls=(\d+)", server.cli("info", "commandstats"))
    return int(found[1]) if found else 0


def told(decision: Decision) -> tuple[str, str | None]:
    return str(decision.action), decision.rule


@pytest.mark.parametrize("back", [3600, 30 * 86_400])
def test_a_server_whose_clock_is_set_back_keeps_nobody_out(server: Server, back: int) -> None:
    store = Clocked(server.url, MemoryStore(), f"back{back}")
    store.link.limit = PATIENCE
    second, now = 1_000_000, 10**15
    hit, gathered = op.hit(1, second, 3 * second, 0), op.add(2, 3 * second, second, 3 * second, 0, False)
    charge = op.Asked(op.CHARGE, 3, (4 * second, 6 * second))
    owes = op.peek(3, 3 * second, 6 * second, 0)
    assert [store.ask(hit, now)[0] for _ in range(4)] == [0, 0, 0, second]
    assert store.ask(gathered, now)[0] == 3 * second
    store.ask(charge, now)
    assert store.ask(owes, now)[0] == second
    then = now - back * second
    if back > 3600:  # less may still be what a thousand processes admitted
        assert store.ask(gathered, then)[0] == 3 * second
    assert [store.ask(hit, then)[0] for _ in range(4)] == [0, 0, 0, second]
    assert store.ask(owes, then)[0] == 0
    store.ask(charge, then)
    assert store.ask(owes, then)[0] == second
    store.close()


def test_a_request_through_five_signatures_is_one_call(server: Server, guard_on: Callable[..., Guard]) -> None:
    guard = guard_on(FIVE, server.url)
    guard.decide(view("/a", ua=BROWSER))
    server.cli("config", "resetstat")
    for number in range(10):
        assert guard.decide(view(f"/shop/{number % 3}", ua=BROWSER)).allowed
    assert calls(server) == 10
    assert store_of(guard).fallen_back == 0


def test_a_request_that_no_rate_is_asked_about_is_no_call(server: Server, guard_on: Callable[..., Guard]) -> None:
    guard = guard_on(FIVE.replace("rules:\n", "rules:\n  - {id: no, when: {path: /no}, then: block}\n"), server.url)
    server.cli("config", "resetstat")
    assert told(guard.decide(view("/no", ua=BROWSER))) == ("block", "no")
    assert calls(server) == 0


def traffic(seed: int, number: int) -> Iterator[RequestView]:
    """Crawlers, people with assets, and a swarm, from few addresses."""
    rng = random.Random(seed)
    for _ in range(number):
        kind = rng.random()
        if kind < 0.4:
            yield view(f"/shop/{rng.randrange(400)}", ua=BROWSER, ip=f"203.0.113.{rng.randrange(4)}")
        elif kind < 0.7:
            path = rng.choice(["/", "/about", "/shop/1", "/style.css", "/logo.png", "/robots.txt"])
            yield view(path, ua=BROWSER + " people", ip=f"198.51.{rng.randrange(120)}.7")
        else:
            yield view(f"/far/{rng.randrange(9999)}", ua="Mozilla/5.0 swarm", ip=f"192.0.{rng.randrange(200)}.9")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_decisions_are_those_of_the_store_in_memory(server: Server, guard_on: Callable[..., Guard], seed: int) -> None:
    guard = guard_on(FIVE, server.url)
    near = beside(guard)
    seen = set()
    for one in traffic(seed, 1200):
        far = told(guard.decide(one))
        assert far == told(near.decide(one))
        seen.add(far)
    assert {rule for _, rule in seen} >= {"burst", "crawl"}
    assert store_of(guard).fallen_back == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_swarms_are_those_of_the_store_in_memory(server: Server, guard_on: Callable[..., Guard], seed: int) -> None:
    store, memory, rng = store_of(guard_on(FIVE, server.url)), MemorySwarm(), random.Random(seed)
    members, marks = ([rng.getrandbits(64) for _ in range(20)] for _ in range(2))
    for _ in range(500):
        kind = rng.choice((DOCUMENT, DOCUMENT, ASSET))
        asked = rng.randrange(3), rng.choice(members), 10**15, 36_000_000_000, kind, rng.choice([0, *marks]), rng.random() < 0.2
        assert store.swarm(*asked)._replace(left=0) == memory.swarm(*asked)._replace(left=0)
    assert store.fallen_back == 0


def test_what_is_refused_uses_up_nothing_further_on(server: Server, guard_on: Callable[..., Guard]) -> None:
    text = """version: 1
rules:
  - {id: one, when: {rate: {per: ip, requests: 1, within: 10h}}, then: throttle}
  - {id: all, when: {rate: {per: fingerprint, requests: 3, within: 10h}}, then: throttle}
"""
    guard = guard_on(text, server.url)
    assert guard.decide(view(ua=BROWSER, ip="203.0.113.1")).allowed
    for _ in range(10):
        assert guard.decide(view(ua=BROWSER, ip="203.0.113.1")).rule == "one"
    assert [guard.decide(view(ua=BROWSER, ip=f"203.0.113.{n}")).rule for n in range(2, 6)] == [None, None, "all", "all"]


def test_a_rule_in_shadow_does_not_end_the_request(server: Server, guard_on: Callable[..., Guard]) -> None:
    text = """version: 1
rules:
  - {id: watched, mode: shadow, when: {rate: {per: ip, requests: 1, within: 10h}}, then: block}
  - {id: real, when: {rate: {per: ip, requests: 3, within: 10h}}, then: throttle}
"""
    guard = guard_on(text, server.url)
    found = [guard.decide(view(ua=BROWSER)) for _ in range(5)]
    assert [one.rule for one in found] == [None, None, None, "real", "real"]
    assert [len(one.shadow) for one in found] == [0, 1, 1, 1, 1]


def test_responses_are_charged_without_anybody_waiting(server: Server, guard_on: Callable[..., Guard]) -> None:
    text = "version: 1\nrules: [{id: misses, when: {rate: {per: ip, misses: 2, within: 10h}}, then: throttle}]\n"
    guard = guard_on(text, server.url)

    async def nothing_here(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    door = AsgiDoor(nothing_here, guard)
    server.cli("config", "resetstat")
    assert run_asgi(door, scope_of())[0]["status"] == 404
    assert calls(server) <= 2
    until(lambda: run_asgi(door, scope_of())[0]["status"] == 429)


@pytest.mark.parametrize("door", ["asgi", "wsgi"])
def test_every_door_counts_there(server: Server, guard_on: Callable[..., Guard], door: str) -> None:
    guard = guard_on(THREE, server.url)

    async def site(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    def plain(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b"hello"]

    def ask() -> int:
        if door == "asgi":
            return int(run_asgi(AsgiDoor(site, guard), scope_of())[0]["status"])
        return int(run_wsgi(WsgiDoor(plain, guard), environ_of())[0])

    assert [ask() for _ in range(5)] == [200, 200, 200, 429, 429]
    assert (store_of(guard).fallen_back, guard.counters.errors) == (0, 0)


def test_many_tasks_of_one_loop_are_counted_exactly(server: Server, guard_on: Callable[..., Guard]) -> None:
    guard = guard_on(THREE, server.url)

    async def main() -> list[Decision]:
        return await asyncio.gather(*(guard.adecide(view(ua=BROWSER)) for _ in range(40)))

    assert sum(one.allowed for one in asyncio.run(main())) == 3
    assert store_of(guard).fallen_back == 0


WORKER = """
import sys, json
from crawlguard import Guard
from tests.policy_corpus import view
from tests.test_store_remote import THREE, policy_of
from crawlguard.policy.model import Store
guard = Guard(policy_of(THREE), store=Store("memory", url=sys.argv[1], site="processes"))
guard.store.link.limit = 5
print(json.dumps([guard.decide(view(ua="x", ip="203.0.113.50")).allowed for _ in range(10)]), guard.store.fallen_back)
"""


def test_processes_count_together(server: Server) -> None:
    command = [sys.executable, "-c", WORKER, server.url]
    root = Path(__file__).parents[1]
    crowd = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [worker.communicate(timeout=120)[0].rpartition(" ") for worker in crowd]
    assert [alone.strip() for _, _, alone in said] == ["0", "0", "0"]
    assert sum(sum(json.loads(admitted)) for admitted, _, _ in said) == 3


def test_explain_asks_without_counting_twice(server: Server, guard_on: Callable[..., Guard]) -> None:
    guard = guard_on(THREE, server.url)
    decision, verdicts, _, _ = guard.explain(view(ua=BROWSER))
    assert decision.allowed
    assert [one.verdict for one in verdicts] == ["not matched"]
    assert [guard.decide(view(ua=BROWSER)).allowed for _ in range(3)] == [True, True, False]


def test_a_site_starts_without_its_server_and_joins_the_others_later(tmp_path: Path, guard_on: Callable[..., Guard]) -> None:
    server = Server(tmp_path / "late")
    try:
        guard = guard_on(THREE, server.url, site="late")
        assert [guard.decide(view(ua=BROWSER)).allowed for _ in range(4)] == [True, True, True, False]
        store = store_of(guard)
        assert (store.joined, store.fallen_back) == (False, 4)
        seed = store.seed
        server.start()
        until(lambda: store.joined)
        assert store.seed != seed
        assert [guard.decide(view(ua=BROWSER)).allowed for _ in range(4)] == [True, True, True, False]
        assert store.fallen_back == 4
        other = guard_on(THREE, server.url, site="late")
        assert store_of(other).seed == store.seed
        assert not other.decide(view(ua=BROWSER)).allowed
    finally:
        server.end()


def test_every_request_is_decided_while_the_server_is_away(tmp_path: Path, guard_on: Callable[..., Guard]) -> None:
    with serving(tmp_path / "shaky") as server:
        guard = guard_on(THREE, server.url)
        store = store_of(guard)
        assert [guard.decide(view(ua=BROWSER)).allowed for _ in range(4)] == [True, True, True, False]
        server.kill()
        assert [guard.decide(view(ua=BROWSER)).allowed for _ in range(4)] == [True, True, True, False]  # by the local store
        assert (store.fallen_back, guard.counters.errors) == (4, 0)
        server.start()

        def back() -> bool:
            before = store.fallen_back
            guard.decide(view(ua=BROWSER))
            return store.fallen_back == before

        until(back)
        assert [guard.decide(view(ua=BROWSER, ip="203.0.113.9")).allowed for _ in range(4)] == [True, True, True, False]


def test_a_cluster_decides_as_one_server_does(tmp_path: Path, guard_on: Callable[..., Guard]) -> None:
    with cluster(tmp_path) as servers:
        url = f"valkey+cluster://127.0.0.1:{servers[0].port}"
        guard = guard_on(FIVE, url)
        store = store_of(guard)
        until(lambda: store.joined)
        guard.decide(view("/robots.txt", ua=BROWSER))  # takes over the common seed
        near = beside(guard)
        for one in traffic(4, 800):
            far = guard.decide(one)
            store.flush()  # what other nodes counted of a refused request is given back
            assert told(far) == told(near.decide(one))
        assert store.fallen_back == 0


@pytest.mark.parametrize("url", ["http://x", "valkey://:secret@:6379"])
def test_a_url_that_names_no_server_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Guard(policy_of(THREE), store=Store("memory", url=url))
    assert "secret" not in str(caught.value)


def test_what_the_server_evicts_does_not_count_again(server: Server, guard_on: Callable[..., Guard]) -> None:
    text = """version: 1
rules:
  - {id: crawl, when: {rate: {per: ip, distinct_paths: 60, within: 10h}}, then: throttle}
  - {id: swarm, when: {swarm: {clients: 60, within: 10h}}, then: throttle}
"""
    guard = guard_on(text, server.url, site="evicted")
    store = store_of(guard)
    for _ in range(3):
        for number in range(50):
            assert guard.decide(view(f"/{number}", ua=BROWSER)).allowed
        for name in server.cli("keys", "cg:{evicted}:c*:p").split():
            server.cli("del", name)
    for _ in range(3):
        for member in range(1, 51):
            found = store.swarm(7, member, 0, 36_000_000_000, 0, member)
        assert (found.clients, found.distinct) == (50, 50)
        server.cli("del", "cg:{evicted}:g7:m", "cg:{evicted}:g7:d")


def test_a_request_of_several_calls_waits_for_one_limit(tmp_path: Path, guard_on: Callable[..., Guard]) -> None:
    text = "version: 1\nrules:\n" + "".join(
        f"  - {{id: r{n}, mode: shadow, when: {{rate: {{per: ip, requests: 1, within: {n + 1}h}}}}, then: block}}\n" for n in range(4)
    )
    with serving(tmp_path / "server") as server:
        guard = guard_on(text, server.url)
        store = store_of(guard)
        guard.decide(view(ua=BROWSER))
        asked: list[float] = []
        run = store.link.run

        def slowly(ops: Any, until: float) -> Any:
            asked.append(until)
            return run(ops, until)

        store.link.run = slowly  # type: ignore[method-assign,assignment]
        assert len(guard.decide(view(ua=BROWSER)).shadow) == 4
    assert len(asked) > 1
    assert len(set(asked)) == 1


def test_after_its_term_a_client_begins_afresh(server: Server, guard_on: Callable[..., Guard]) -> None:
    text = (
        "version: 1\nrules: [{id: pages, when: {rate: {per: ip, distinct_paths: 3, within: 10h, block_for: [1s, 1h]}}, then: throttle}]\n"
    )
    guard = guard_on(text, server.url)
    assert [guard.decide(view(f"/{n}", ua=BROWSER)).allowed for n in range(4)] == [True, True, True, False]
    until(lambda: guard.decide(view("/9", ua=BROWSER)).allowed)
    assert [guard.decide(view(f"/{n}", ua=BROWSER)).allowed for n in range(10, 13)] == [True, True, False]
    assert guard.decide(view("/9", ua=BROWSER)).retry_after == 3600


def test_what_is_usual_is_remembered_of_groups_and_not_of_lone_clients(server: Server, guard_on: Callable[..., Guard]) -> None:
    guard = guard_on("version: 1\nrules: [{id: swarm, when: {swarm: {clients: 20, within: 10m}}, then: throttle}]\n", server.url)
    guard.decide(view("/", ua="Mozilla/5.0 alone", ip="192.0.2.1"))
    for number in range(3):
        guard.decide(view("/", ua="Mozilla/5.0 several", ip=f"198.51.100.{number}"))
    groups = re.findall(rf"^\S*{store_of(guard)._site}\S*:g[0-9a-f]+$", server.cli("--scan"), re.MULTILINE)
    lone, several = sorted(int(server.cli("pttl", name)) for name in groups)
    assert lone <= 600_000 < several
