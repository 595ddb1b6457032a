"""TLS, Clusters and Sentinels, with real servers; and the URLs that name them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crawlguard.policy.urls import LinkSpec, parse_url
from crawlguard.store.breaker import CLOSED, OPEN
from crawlguard.store.links import Link, open_link
from crawlguard.store.ops import Op
from crawlguard.store.topology import key_slot

from .test_store_outage import SCRIPT, Watcher, said
from .valkey_server import Server, certify, cluster, serving, until, watched

MANY: list[Op] = [(f"{{{n % 13}}}{n}", (n,)) for n in range(1, 40)]


@pytest.fixture
def opened() -> Iterator[Callable[..., Link]]:
    links: list[Link] = []

    def opening(url: str, script: str = SCRIPT, **settings: float | str) -> Link:
        links.append(open_link(url, script, **{"first": 0.01, "most": 0.1, **settings}))  # type: ignore[arg-type]
        return links[-1]

    yield opening
    for link in links:
        link.close()


@pytest.fixture(autouse=True)
def logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crawlguard")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Server]]:
    with cluster(tmp_path, "cluster-require-full-coverage no") as servers:
        yield list(servers)


def address(nodes: list[Server]) -> str:
    return "valkey+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


def test_slots_are_those_of_the_server(nodes: list[Server]) -> None:
    for key in ("a", "{user1000}.following", "foo{}{bar}", "foo{{bar}}zap", "foo{bar}{zap}", "{", "}{", "é"):
        assert str(key_slot(key)) == nodes[0].cli("cluster", "keyslot", key)


def test_a_cluster_answers_in_the_order_of_the_operations(nodes: list[Server], opened: Callable[..., Link]) -> None:
    link = opened(address(nodes[:1]), limit=2.0, probe="site:{tag}:probe")
    until(lambda: link.breaker.state is CLOSED)
    numbers = [[n] for n in range(1, 40)]
    assert link.run(MANY) == numbers
    assert asyncio.run(link.arun(MANY)) == [[2 * n] for n in range(1, 40)]
    for node in nodes:
        assert int(node.cli("dbsize")) > 1  # each had its part
    assert link.set_once("seed", b"one") == link.set_once("seed", b"two") == b"one"
    for node in nodes:
        node.cli("script", "flush")
    assert link.run(MANY) == [[3 * n] for n in range(1, 40)]


def test_a_stop_ends_its_own_group_only(nodes: list[Server], opened: Callable[..., Link]) -> None:
    stopping = "local out = {} for i, key in ipairs(KEYS) do out[i] = {#KEYS} if ARGV[2 * i] == '0' then return out end end return out"
    link = opened(address(nodes), stopping, limit=2.0)
    until(lambda: link.breaker.state is CLOSED)
    assert link.run([("{a}1", (1,)), ("{b}1", (0,)), ("{a}2", (1,)), ("{b}2", (1,)), ("{c}1", (1,))]) == [[2], [2], [2], [], [1]]
    assert link.run([("{a}1", (0,)), ("{a}2", (1,))]) == [[2]]


def test_slots_that_move_are_found_without_an_outage(
    nodes: list[Server], opened: Callable[..., Link], caplog: pytest.LogCaptureFixture
) -> None:
    link = opened(address(nodes), limit=1.0)
    watcher = Watcher(link, lambda: link.run(MANY))
    until(watcher)
    slot = key_slot("{1}")
    ids = [node.cli("cluster", "myid") for node in nodes]
    source = next(n for n, node in enumerate(nodes) if node.cli("cluster", "countkeysinslot", str(slot)) != "0")
    target = (source + 1) % 3
    nodes[target].cli("cluster", "setslot", str(slot), "importing", ids[source])
    nodes[source].cli("cluster", "setslot", str(slot), "migrating", ids[target])
    for key in nodes[source].cli("cluster", "getkeysinslot", str(slot), "100").split():
        nodes[source].cli("migrate", "127.0.0.1", str(nodes[target].port), key, "0", "5000")
    for node in (nodes[target], nodes[source]):
        node.cli("cluster", "setslot", str(slot), "node", ids[target])
    before = watcher.worked
    until(lambda: watcher() and watcher.worked > before + 20)
    assert watcher.strangers == 0
    assert said(caplog) == []


def test_a_cluster_with_a_node_killed(nodes: list[Server], opened: Callable[..., Link], caplog: pytest.LogCaptureFixture) -> None:
    link = opened(address(nodes))
    watcher = Watcher(link, lambda: link.run(MANY[:6]))
    until(watcher)
    watcher.took = []
    nodes[1].kill()
    until(lambda: not watcher() and link.breaker.state is OPEN)
    for _ in range(200):
        watcher()
    nodes[1].start()
    until(watcher)
    watcher.held()
    assert len(said(caplog)) == 2
    assert (link.breaker.opened, link.breaker.closed) == (1, 1)


def test_a_replica_that_takes_over_is_found(tmp_path: Path, opened: Callable[..., Link], caplog: pytest.LogCaptureFixture) -> None:
    with watched(tmp_path) as (master, replica, sentinel):
        link = opened(f"valkey+sentinel://127.0.0.1:{sentinel.port}/limits/1")
        watcher = Watcher(link, lambda: link.run(MANY[:3]))
        until(watcher)
        watcher.took = []
        assert master.cli("-n", "1", "get", "{1}1") == "1"
        master.kill()
        until(lambda: not watcher())
        until(watcher, 60)
        watcher.held()
        assert replica.role() == "master"
        assert len(said(caplog)) == 2


def test_a_master_that_becomes_a_replica_is_left(tmp_path: Path, opened: Callable[..., Link], caplog: pytest.LogCaptureFixture) -> None:
    with watched(tmp_path) as (master, replica, sentinel):
        link = opened(f"valkey+sentinel://127.0.0.1:{sentinel.port}/limits")
        watcher = Watcher(link, lambda: link.run(MANY[:3]))
        until(watcher)
        watcher.took = []

        def over() -> bool:
            if replica.role() == "slave":
                sentinel.cli("sentinel", "failover", "limits")  # again, where the Sentinel was not ready
            return (replica.role(), master.role()) == ("master", "slave") and watcher()

        until(over, 60)
        watcher.held()
        assert int(replica.cli("get", "{1}1")) >= 1
        assert len(said(caplog)) in {0, 2}


def test_tls_with_and_without_the_authority(
    authority: Path, tmp_path: Path, opened: Callable[..., Link], caplog: pytest.LogCaptureFixture
) -> None:
    certify(authority)
    with serving(tmp_path / "tls", tls=authority) as server:
        good = opened(f"valkeys://127.0.0.1:{server.port}?ca={authority / 'ca.pem'}", limit=1.0)
        until(Watcher(good, lambda: good.run(MANY)))
        assert len(asyncio.run(good.arun(MANY))) == len(MANY)
        assert said(caplog) == []
        bad = opened(f"valkeys://127.0.0.1:{server.port}")
        watcher = Watcher(bad, lambda: bad.run(MANY))
        until(lambda: said(caplog))
        assert not watcher()
        assert "certificate is not accepted" in said(caplog)[0]
        assert "?ca=FILE" in said(caplog)[0]
        watcher.held()


GOOD = {
    "valkey://host": LinkSpec(nodes=(("host", 6379),)),
    "redis://me:p%40ss@[::1]:7000/3": LinkSpec(nodes=(("::1", 7000),), user="me", password="p@ss", db=3),
    "rediss://h?ca=/etc/ca.pem&password_env=PW": LinkSpec(nodes=(("h", 6379),), tls=True, ca="/etc/ca.pem", password_env="PW"),
    "unix://me@/run/v%20k.sock?db=2": LinkSpec(nodes=(("/run/v k.sock", 0),), user="me", db=2),
    "valkeys+cluster://a:1,b": LinkSpec(kind="cluster", tls=True, nodes=(("a", 1), ("b", 6379))),
    "redis+sentinel://a,b:5/main/4?password_file=/run/pw": LinkSpec(
        kind="sentinel", nodes=(("a", 26379), ("b", 5)), service="main", db=4, password_file="/run/pw"
    ),
}


@pytest.mark.parametrize("text", GOOD)
def test_urls(text: str) -> None:
    assert parse_url(text) == GOOD[text]


BAD = {
    "http://host": "scheme",
    "valkey+tls://host": "scheme",
    "valkey://": "host",
    "valkey://me:secret@host:port": "host",
    "valkey://me:secret@host:0": "port",
    "valkey://secret@a,b": "several hosts",
    "valkey://host/zero": "database",
    "valkey://host/0?db=1": "database",
    "valkey://host?pasword_env=secret": "option",
    "valkey://host?db=": "empty",
    "valkey://host?password_env=se-cret": "environment variable",
    "valkey://:secret@host?password_env=PW": "password",
    "valkey://host?password_env=A&password_file=/b": "password_file",
    "valkey://host?ca=/x": "TLS",
    "valkey://host?sentinel_password_env=A": "sentinel",
    "unix://tmp/secret.sock": "three slashes",
    "valkey+cluster://a/1": "database 0",
    "valkey+sentinel://a": "service",
    "valkey://ho st": "blank",
}


@pytest.mark.parametrize("text", BAD)
def test_urls_that_are_none(text: str) -> None:
    problem = parse_url(text)
    assert isinstance(problem, str)
    assert BAD[text] in problem
    assert "secret" not in problem


def test_no_password_in_what_is_shown() -> None:
    spec = parse_url("valkeys+sentinel://me:secret@h/main/2")
    assert isinstance(spec, LinkSpec)
    assert spec.name == "valkeys+sentinel://h:26379/main/2"
    assert "secret" not in repr(spec) + str(spec) + spec.name
    assert parse_url(spec.name) == LinkSpec(kind="sentinel", tls=True, nodes=(("h", 26379),), service="main", db=2)
