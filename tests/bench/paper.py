"""What the README's arithmetic for large sites rests on: what a request costs a server, by itself and in batches, in processor time, bytes and memory."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time
from typing import NamedTuple

from crawlguard import Guard
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Policy, Store
from crawlguard.request import RequestView
from crawlguard.store.batch import BatchStore
from crawlguard.store.remote import RemoteStore

from ..valkey_server import Server, serving
from . import traffic
from .remote import _view
from .signatures import FIVE
from .table import Row

ONE = "version: 1\nrules: [{id: burst, when: {rate: {per: ip, requests: 300, within: 1m}}, then: throttle}]\n"
CALM = FIVE.replace("swarm: true", "swarm: {clients: 5000}")  # nobody here loads an asset: with fewer these people would be a swarm
EVERY = 100_000
"""Microseconds between two flushes, as the README advises."""
REQUESTS, GATHERED = 6000, 100
"""Requests of 2,000 people, and how many of them a process decides between two flushes: 1,000 in a second."""


class Cost(NamedTuple):
    """Of one request: the server's processor us, the guard's, calls, bytes of the network both ways."""

    server: float
    guard: float
    calls: float
    network: float


def on_paper() -> Iterator[Row]:
    """In turns, for one limit and for five signatures; then what is kept of a hundred strangers."""
    for name, text in (("one limit", ONE), ("five signatures", CALM)):
        policy, problems = parse_policy(text)
        if policy is None:
            raise RuntimeError("\n".join(map(str, problems)))
        for way, batch in (("a call each", 0), ("in batches", EVERY)):
            found = _cost(policy, batch)
            note = f"guard {found.guard:.0f} us, {found.calls:.3f} calls, {found.network:.0f} bytes"
            yield Row(f"{name} on a server, {way}: the server's time", found.server, "us", note=note)
        if text is CALM:
            yield from _kept(policy)


def _cost(policy: Policy, batch: int) -> Cost:
    with tempfile.TemporaryDirectory() as directory, serving(Path(directory)) as server:
        guard = Guard(policy, store=Store("memory", url=server.url, site="paper", batch=batch))
        store = guard.store
        if not isinstance(store, RemoteStore):
            raise RuntimeError("no store of many hosts")
        store.link.limit = 5.0
        if isinstance(store, BatchStore):
            store._running = True  # flushed by hand, after so many requests and not after so long
        _decide(guard, _views(2000))
        views = _views(REQUESTS)
        server.cli("config", "resetstat")
        before, mine = _busy(server), process_time()
        _decide(guard, views)
        mine = process_time() - mine
        busy, calls = _busy(server) - before, _number(server, "commandstats", "cmdstat_evalsha:calls")
        network = sum(_number(server, "stats", f"total_net_{way}_bytes") for way in ("input", "output"))
        if store.fallen_back or store.lost:
            raise RuntimeError(f"{store.fallen_back} requests were decided without the server, {store.lost} operations were lost")
        store.close()
    return Cost(1e6 * busy / REQUESTS, 1e6 * mine / REQUESTS, calls / REQUESTS, network / REQUESTS)


def _kept(policy: Policy) -> Iterator[Row]:
    """Bytes that the server keeps of a client for the windows' time, with its own index of them."""
    with tempfile.TemporaryDirectory() as directory, serving(Path(directory)) as server:
        guard = Guard(policy, store=Store("memory", url=server.url, site="paper"))
        if not isinstance(guard.store, RemoteStore):
            raise RuntimeError("no store of many hosts")
        guard.store.link.limit = 5.0
        for name, some in (("with a common browser", traffic.people), ("with a User-Agent of its own", traffic.strangers)):
            server.cli("flushall")
            views = [_view(*one) for one in some(1000)]
            before = _number(server, "memory", "used_memory")
            for view in views:
                guard.decide(view)
            clients = len({view.peer for view in views})
            kept = (_number(server, "memory", "used_memory") - before) / clients
            yield Row(f"five signatures on a server: kept of a client {name}", kept, "B", note="for its windows, here 10 minutes")
        guard.store.close()


def _views(number: int) -> list[RequestView]:
    return [_view(*one) for one in traffic.people(number)]


def _decide(guard: Guard, views: Sequence[RequestView]) -> None:
    for start in range(0, len(views), GATHERED):
        for view in views[start : start + GATHERED]:
            guard.decide(view)
        if isinstance(guard.store, BatchStore):
            guard.store.flush()


def _busy(server: Server) -> float:
    return sum(_number(server, "cpu", f"used_cpu_{mode}") for mode in ("user", "sys"))


def _number(server: Server, section: str, name: str) -> float:
    found = re.search(rf"^{name}[:=]([\d.]+)", server.cli("info", section), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the server does not tell {name}")
    return float(found[1])
