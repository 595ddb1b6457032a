"""Bans on the store of many hosts, on real servers: two hosts and one word on who is kept out, the command, foreign hands, and a server that is away."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from crawlguard import Guard, strict
from crawlguard.lifting import Lifted, lift, standing
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Store
from crawlguard.store.breaker import OPEN, Unreachable
from crawlguard.store.remote import RemoteStore
from crawlguard.store.remote_bans import NOTES, Note, RemoteBans

from .policy_corpus import view
from .remote import PATIENCE
from .test_bans import PLAIN, TERMS, by_hand, of_rule
from .test_cli import as_json, run
from .test_store_remote import calls
from .valkey_server import Server, cluster, serving, until

SITE = "bans"
KEY = f"cg:{{{SITE}}}:bans"


class Hosts:
    """Two hosts of one site: guards with stores of their own on one server."""

    def __init__(self, url: str, *rules: dict[str, Any], **top: Any) -> None:
        policy, problems = parse_policy(json.dumps({"version": 1, **top, "rules": list(rules or (TERMS, PLAIN))}))
        assert policy is not None, problems
        self.guards = [Guard(policy, store=Store("memory", url=url, site=SITE)) for _ in range(2)]
        for guard in self.guards:
            store_of(guard).link.limit = PATIENCE
        until(lambda: all(store_of(guard).joined for guard in self.guards))
        self.record = record_of(self.guards[0])

    @property
    def now(self) -> int:
        return self.guards[0]._clock() // 1000

    def ask(self, path: str = "/", ip: str = "203.0.113.7", host: int = 0) -> Any:
        return self.guards[host].decide(view(path, ip=ip))

    def ban(self, network: str, seconds: int = 600, reason: str = "") -> None:
        assert self.record.put(by_hand(self.record.seed, network, self.now, seconds, reason, network), self.now)

    def lift(self, target: str | None, forget: bool = False) -> list[Lifted]:
        guard = self.guards[1]
        return lift(record_of(guard), guard.live, guard.store, None if target is None else ip_network(target), self.now, forget)

    def listed(self) -> list[tuple[str, str]]:
        guard = self.guards[1]
        return [(r.who, r.rule) for r in standing(record_of(guard), guard.live, guard.store, self.now)]

    def close(self) -> None:
        for guard in self.guards:
            guard.store.close()


def store_of(guard: Guard) -> RemoteStore:
    assert isinstance(guard.store, RemoteStore)
    return guard.store


def record_of(guard: Guard) -> RemoteBans:
    assert isinstance(guard.bans.record, RemoteBans)
    return guard.bans.record


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def server(running: Server) -> Server:
    running.cli("flushall")
    return running


@pytest.fixture
def hosts_on() -> Iterator[Callable[..., Hosts]]:
    made: list[Hosts] = []

    def make(url: str, *rules: dict[str, Any], **top: Any) -> Hosts:
        made.append(Hosts(url, *rules, **top))
        return made[-1]

    yield make
    for one in made:
        one.close()


# ---- by hand


def test_a_ban_by_hand_acts_on_the_other_host_within_a_second_and_is_lifted_there(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts = hosts_on(server.url, PLAIN)
    assert [hosts.ask(host=host).allowed for host in (0, 1)] == [True, True]
    hosts.ban("203.0.113.0/24", reason="too much")
    found = hosts.ask()
    assert (found.rule, found.reason, found.status) == ("ban", "too much", 403)
    until(lambda: hosts.ask(host=1).rule == "ban", 5)
    assert hosts.ask("/robots.txt", host=1).allowed
    assert hosts.ask(ip="198.51.100.7", host=1).allowed
    assert hosts.listed() == [("203.0.113.0/24", "ban")]
    assert hosts.lift("203.0.113.0/24") == [("203.0.113.0/24", "ban")]
    assert hosts.ask(host=1).allowed
    until(lambda: hosts.ask().allowed, 5)
    assert hosts.listed() == []


def test_a_host_that_starts_later_knows_the_bans_with_its_first_request(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts_on(server.url).ban("203.0.113.7/32")
    assert hosts_on(server.url).ask().rule == "ban"


def test_a_ban_ends_by_itself_and_its_place_on_the_server_too(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts = hosts_on(server.url)
    hosts.ban("203.0.113.7/32", seconds=1)
    assert not hosts.ask().allowed
    until(lambda: hosts.ask().allowed, 5)
    hosts.ban("203.0.113.7/32", seconds=31 * 86_400)
    assert int(server.cli("ttl", KEY)) > 31 * 86_400
    hosts.ban("198.51.100.7/32", seconds=1)
    assert int(server.cli("ttl", KEY)) > 31 * 86_400, "a short ban cuts no long one"
    assert int(server.cli("ttl", f"{KEY}:version")) > 32 * 86_400


def test_bans_that_have_not_changed_cost_no_request_a_call_and_are_not_read_again(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts = hosts_on(server.url, {"id": "x", "when": {"path": "/x"}, "then": "block"})
    hosts.ban("198.51.100.0/24")
    record = hosts.record
    record.look()
    assert hosts.ask().allowed
    changes = record.changes[0]
    read = []
    record._read = lambda: read.append(1) or ([], [])  # type: ignore[method-assign, func-returns-value]
    for _ in range(50):
        record.look()
        assert not hosts.ask(ip="198.51.100.7").allowed
    assert (record.changes[0], read) == (changes, [])


def test_a_forked_worker_looks_too(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts = hosts_on(server.url)
    hosts.ask()
    out, into = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(into, b"r")
            until(lambda: hosts.ask(ip="198.51.100.7", host=1).rule == "ban", 15)
            os.write(into, b"banned")
        finally:
            os._exit(0)
    os.close(into)
    assert os.read(out, 1) == b"r"
    hosts.ban("198.51.100.0/24")
    os.waitpid(child, 0)
    assert os.read(out, 9) == b"banned"
    os.close(out)


# ---- by rules


def test_a_rule_s_ban_is_written_down_once_by_a_thread_and_seen_from_the_other_host(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts = hosts_on(server.url)
    for n in range(8):
        hosts.ask(host=n % 2)
    until(lambda: hosts.listed() == [("203.0.113.7", "hot")], 5)
    for host in (0, 1):  # the other one notes it as well, and changes nothing
        hosts.ask(host=host)
        record_of(hosts.guards[host]).note_down()
    (found,) = hosts.record.all()
    assert found.times == 1
    assert 500_000_000 < found.until - hosts.now <= 600_000_000


def test_refused_requests_wait_for_nothing_but_their_decision(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts = hosts_on(server.url)
    guard, here = hosts.guards[0], threading.get_ident()
    used: list[str] = []
    run, ask = store_of(guard).link.run, store_of(guard).link.ask

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **more: Any) -> Any:
            if threading.get_ident() == here:
                used.append(name)
            return call(*args, **more)

        return inner

    async def requests() -> list[bool]:
        return [(await guard.adecide(view("/p", ip=f"203.0.113.{n}"))).allowed for n in range(12)]

    for name, call in (("run", run), ("ask", ask)):
        setattr(store_of(guard).link, name, noted(name, call))
    assert asyncio.run(requests()) == [True] * 2 + [False] * 10
    assert used == []
    server.cli("config", "resetstat")
    for _ in range(10):
        assert not hosts.ask("/p").allowed
    assert calls(server) <= 10 + 2, "one for each, and perhaps the thread's own"


def test_lifting_clears_a_rule_s_hold_on_the_server_and_with_forget_its_offences(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts = hosts_on(server.url)
    for term in (600, 3600):
        assert [hosts.ask().retry_after for _ in range(4)][-1] == term
        until(lambda: not hosts.ask().allowed and ("203.0.113.7", "hot") in hosts.listed(), 5)
        assert hosts.lift("203.0.113.7") == [("203.0.113.7", "hot")]
    assert [hosts.ask(host=1).retry_after for _ in range(4)] == [None, None, None, 3600]
    assert [one.rule for one in hosts.lift("203.0.113.7", forget=True)] == ["hot"]
    assert [hosts.ask().retry_after for _ in range(4)] == [None, None, None, 600]


def test_who_has_had_every_term_is_held_for_the_last_one(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    terms = [f"{n}h" for n in range(1, 9)]
    hot = {"id": "hot", "when": {"rate": {"per": "ip", "requests": 1, "within": "1h", "block_for": terms}}, "then": "throttle"}
    hosts = hosts_on(server.url, hot)
    for term in (*range(1, 9), 8):
        assert [hosts.ask().retry_after for _ in range(2)] == [None, term * 3600]
        server.cli("config", "resetstat")
        assert not hosts.ask().allowed
        assert calls(server) <= 2, "held: one call, and perhaps one of the thread's"
        hosts.lift("203.0.113.7")


def test_what_a_signature_has_counted_is_forgotten_with_the_ban_and_without_a_record(
    server: Server, hosts_on: Callable[..., Hosts]
) -> None:
    rate = {"per": "ip", "distinct_paths": 5, "within": "1h", "block_for": ["10m", "1h"]}
    hosts = hosts_on(server.url, {"id": "many", "when": {"rate": rate}, "then": "throttle"})
    assert [hosts.ask(f"/{n}").allowed for n in range(7)] == [True] * 5 + [False] * 2
    hosts.record.drop(hosts.record.all())
    assert hosts.lift("203.0.113.0/24") == [("203.0.113.0/24", "many")]
    assert [hosts.ask(f"/again/{n}").allowed for n in range(6)] == [True] * 5 + [False]


def test_however_many_bans_begin_the_record_is_bounded_and_those_by_hand_stay(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts = hosts_on(server.url)
    record, now = hosts.record, hosts.now
    hosts.ban("203.0.113.7/32", seconds=5)
    for start in range(0, 9000, 500):
        record._write([of_rule(n + 1, now, 100 + n) for n in range(start, start + 500)], now)
    kept = record.all()
    assert 3000 < len(kept) <= 4097
    assert {r.key for r in kept if not r.by_hand} >= set(range(6001, 9001)), "those that end last stay"
    assert [r.who for r in kept if r.by_hand] == ["203.0.113.7/32"]
    note = Note(of_rule(1, now, 100), [(1, 1, 1, 1)], lambda until: None)
    for _ in range(20 * NOTES):  # far more than the thread can have taken meanwhile
        record.later(note)
        assert len(record._notes) <= NOTES
    assert store_of(hosts.guards[0]).lost > NOTES


def test_a_full_record_of_bans_by_hand_makes_room_for_one_where_a_ban_ends_first(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    hosts = hosts_on(server.url)
    record, now = hosts.record, hosts.now
    record._write([by_hand(record.seed, f"10.{n >> 8}.{n & 255}.0/24", now, 100 + n) for n in range(4095)], now)
    server.cli("hset", KEY, "foreign", "x")
    hosts.ban("203.0.113.7/32", seconds=9000)
    assert len(record.all(by_hand=True)) == 4096, "what is no ban goes first"
    hosts.ban("203.0.113.8/32", seconds=9000)
    kept = {r.who for r in record.all(by_hand=True)}
    assert len(kept) == 4096
    assert "10.0.0.0/24" not in kept
    assert {"10.0.1.0/24", "203.0.113.7/32", "203.0.113.8/32"} <= kept


# ---- foreign hands


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("", ""),
        ("zz ban", "1"),
        ("1 ban", "9" * 400),
        ("1 ban", "-1 2 3 []"),
        ("1 ban", "1 2 3 " + "[" * 900),
        ("1 ban", '9999999999999999 1 1 [0, 4, 32, "for ever", ""]'),
        ("1 ban", '1 1 1 [0, 4, 99, "x", ""]'),
        ("1 ban", '1 1 1 [0, 7, 32, "x", ""]'),
        ("1 ban", '1 1 1 [-1, 4, 32, "x", ""]'),
        ("1 ban", '1 1 1 [true, 4, 32, "x", ""]'),
        ("1 ban", '1 1 1 [0, 4, 32, 5, ""]'),
        ("1 ban", '1 1 1 [0, 4, 32, "x", "a\\r\\nSet-Cookie: x"]'),
        ("1 ban", '1 1 1 {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}'),
        ("1" * 17 + " ban", '1 1 1 [0, 4, 32, "x", ""]'),
        ("1 " + "r" * 65, '1 1 1 [0, 4, 32, "x", ""]'),
        ("1 ", '1 1 1 [0, 4, 32, "x", ""]'),
        ("x" * 2000, "1"),
    ],
)
def test_what_somebody_else_writes_is_not_believed_and_the_bans_stand(
    server: Server, hosts_on: Callable[..., Hosts], field: str, value: str
) -> None:
    hosts = hosts_on(server.url)
    hosts.ban("203.0.113.7/32")
    for key in (KEY, f"{KEY}:rules"):
        server.cli("hset", key, field, value)
    hosts.record.look(anew=True)
    assert not hosts.ask().allowed
    assert hosts.ask(ip="198.51.100.7").allowed
    assert hosts.listed() == [("203.0.113.7/32", "ban")]
    assert len(hosts.record.all()) == 1
    hosts.ban("203.0.113.8/32")
    assert len(hosts.lift(None)) == 2


@pytest.mark.parametrize("damage", ["hash is a text", "version is a hash", "a flood of fields"])
def test_where_the_record_cannot_be_read_the_bans_known_last_stay_and_it_is_said_once(
    server: Server, hosts_on: Callable[..., Hosts], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = hosts_on(server.url)
    hosts.ban("203.0.113.7/32")
    if damage == "version is a hash":
        server.cli("del", f"{KEY}:version")
        server.cli("hset", f"{KEY}:version", "a", "b")
    elif damage == "hash is a text":
        server.cli("set", KEY, "x")
        server.cli("set", f"{KEY}:version", "\n?")
    else:
        server.cli("eval", "for n = 1, 9000 do redis.call('HSET', KEYS[1], n, n) end", "1", KEY)
        server.cli("set", f"{KEY}:version", "5")
    for _ in range(3):
        hosts.record._once()
    assert not hosts.ask().allowed
    assert caplog.text.count("cannot be read or written") >= 1
    if damage != "version is a hash":  # which the next change of a ban heals
        with pytest.raises(Unreachable):
            hosts.ban("198.51.100.7")
    server.cli("flushall")
    hosts.record.look(anew=True)
    assert hosts.ask().allowed


# ---- a server that is away


def test_while_the_server_is_away_the_bans_known_last_stay_and_nothing_asks(tmp_path: Path, hosts_on: Callable[..., Hosts]) -> None:
    with serving(tmp_path / "server") as server:
        hosts = hosts_on(server.url, PLAIN)
        hosts.ban("203.0.113.0/24")
        until(lambda: not hosts.ask(host=1).allowed, 5)
        server.kill()
        for host in (0, 1):
            hosts.ask(ip="198.51.100.1", host=host)
        until(lambda: all(store_of(guard).link.breaker.state is OPEN for guard in hosts.guards))
        assert [hosts.ask(host=host).rule for host in (0, 1)] == ["ban", "ban"]
        with pytest.raises(Unreachable):
            hosts.ban("198.51.100.0/24")
        with pytest.raises(Unreachable):
            hosts.lift(None)
        server.start()
        until(lambda: all(hosts.ask(host=host).allowed for host in (0, 1)), 20)  # it has come back empty
        hosts.ban("198.51.100.0/24")
        until(lambda: not hosts.ask(ip="198.51.100.7", host=1).allowed, 10)


@pytest.mark.alone
def test_on_a_cluster(tmp_path: Path, hosts_on: Callable[..., Hosts]) -> None:
    with cluster(tmp_path) as servers:
        hosts = hosts_on("valkey+cluster://" + ",".join(f"127.0.0.1:{one.port}" for one in servers))
        hosts.ban("198.51.100.0/24")
        until(lambda: record_of(hosts.guards[1]).all(by_hand=True), 5)
        assert hosts.ask(ip="198.51.100.7", host=1).rule == "ban"
        for n in range(20):
            for _ in range(4):
                hosts.ask(ip=f"203.0.113.{n}")
        wanted = [("198.51.100.0/24", "ban"), *((f"203.0.113.{n}", "hot") for n in range(20))]
        until(lambda: sorted(hosts.listed()) == sorted(wanted), 5)
        assert sorted(hosts.lift("203.0.113.0/24")) == sorted(wanted[1:])
        assert all(hosts.ask(ip=f"203.0.113.{n}", host=n % 2).allowed for n in range(20))
        assert hosts.lift(None) == [("198.51.100.0/24", "ban")]


# ---- the command


def policy_in(directory: Path, url: str) -> None:
    rules = "rules: [{id: hot, when: {rate: {per: ip, requests: 3, within: 1m, block_for: [10m, 1h]}}, then: throttle}]\n"
    (directory / "crawlguard.yaml").write_text(f"version: 1\nstore: {{url: '{url}', site: {SITE}}}\n{rules}")


def test_the_command_lists_adds_lifts_and_explains(server: Server, tmp_path: Path) -> None:
    policy_in(tmp_path, server.url)
    guard = Guard(str(tmp_path / "crawlguard.yaml"), watch=False)
    store_of(guard).link.limit = PATIENCE
    try:
        banned = as_json("ban", "add", "203.0.113.7", "--for", "10m", "--reason", "too much", cwd=tmp_path)["ban"]
        assert (banned["who"], banned["by_hand"], banned["left"], banned["times"]) == ("203.0.113.7", True, 600, 1)
        until(lambda: record_of(guard).all(by_hand=True), 5)
        assert guard.decide(view()).rule == "ban"
        for _ in range(4):
            guard.decide(view(ip="198.51.100.7"))
        until(lambda: len(as_json("ban", "list", cwd=tmp_path)["bans"]) == 2)
        (found,) = as_json("explain", "--ip", "198.51.100.7", cwd=tmp_path)["bans"]
        assert (found["who"], found["rule"], 0 < found["left"] <= 600) == ("198.51.100.7", "hot", True)
        assert as_json("explain", "--ip", "203.0.113.7", cwd=tmp_path)["bans"][0]["reason"] == "too much"
        done = run("ban", "lift", "198.51.100.7", "--forget", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "lifted 198.51.100.7 (hot)\n")
        assert guard.decide(view(ip="198.51.100.7")).allowed
        assert len(as_json("ban", "lift", "--all", cwd=tmp_path)["lifted"]) == 1
        until(lambda: guard.decide(view()).allowed, 5)
        again = run("ban", "lift", "203.0.113.7", cwd=tmp_path)
        assert (again.returncode, "no ban keeps it out" in again.stderr) == (1, True)
    finally:
        guard.store.close()


def test_the_server_may_be_named_on_the_command_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "crawlguard.yaml").write_text("version: 1\nrules: []\n")
    assert run("ban", "add", "203.0.113.7", "--table", server.url, cwd=tmp_path).returncode == 0
    guard = Guard(str(tmp_path / "crawlguard.yaml"), watch=False, store=server.url)
    try:
        assert guard.decide(view()).rule == "ban"
    finally:
        guard.store.close()


def test_a_server_that_is_away_is_told_of(tmp_path: Path) -> None:
    policy_in(tmp_path, f"unix://{tmp_path / 'nobody'}")
    for args in (["add", "203.0.113.7"], ["list"], ["lift", "--all"]):
        done = run("ban", *args, cwd=tmp_path)
        assert done.returncode == 1
        assert "does not answer, so that nothing is known of its bans and nothing has been changed" in done.stderr
        assert "Traceback" not in done.stderr
    done = run("explain", "--ip", "203.0.113.7", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["bans"]) == (0, [])
    assert "bans are not known" in done.stderr


# ---- a second opinion


def test_the_guard_of_a_strict_view_asks_the_server_once_and_forgets_no_charge(server: Server, hosts_on: Callable[..., Hosts]) -> None:
    rules = [
        {"id": f"r{n}", "when": {"rate": {"per": "ip", what: 5, "within": "1h"}}, "then": "throttle"}
        for n, what in enumerate(("requests", "documents", "distinct_paths", "misses"))
    ]
    site = hosts_on(server.url, {"id": "bad", "when": {"rate": {"per": "ip", "errors": 3, "within": "1h"}}, "then": "block"})
    own = hosts_on(server.url, *rules).guards[0]
    page = strict(own)(lambda request: None)
    guard = site.guards[0]
    guard.decide(view(), lambda: page)
    server.cli("config", "resetstat")
    asked = view()
    assert guard.decide(asked, lambda: page).allowed
    assert calls(server) == 2
    assert [charge.what for charge, *_ in asked.owed] == ["errors", "misses"]
    again = view()
    assert asyncio.run(guard.adecide(again, lambda: page)).allowed
    assert [charge.what for charge, *_ in again.owed] == ["errors", "misses"]
    assert [guard.decide(view(), lambda: page).allowed for _ in range(3)] == [True, True, False]
