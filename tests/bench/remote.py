"""What the store of many hosts costs: a whole decision through five signatures beside one bare script call, on a real server over a unix socket."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from crawlguard import Guard
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Store
from crawlguard.request import RequestView
from crawlguard.store.remote import RemoteStore

from ..valkey_server import serving
from . import traffic
from .signatures import FIVE
from .table import Row

ROUNDS, REQUESTS = 30, 200


def remote_store() -> Iterator[Row]:
    """In turns, wall time, medians of the rounds: the guard, the same calls by the client library alone, and a script that does nothing."""
    import redis

    policy, problems = parse_policy(FIVE)
    if policy is None:
        raise RuntimeError("\n".join(map(str, problems)))
    with tempfile.TemporaryDirectory() as directory, serving(Path(directory)) as server:
        guard = Guard(policy, store=Store("memory", url=server.url, site="bench"))
        store = guard.store
        if not isinstance(store, RemoteStore):
            raise RuntimeError("no store of many hosts")
        store.link.limit = 5.0
        bare: Any = redis.Redis(unix_socket_path=str(server.socket))
        nothing = bare.script_load("return 1")
        commands: list[list[Any]] = []
        send = store.link._command
        took: dict[str, list[float]] = {"guard": [], "bare": [], "nothing": []}
        for number in range(ROUNDS + 3):
            views = [_view(*one) for one in traffic.people(REQUESTS)]
            commands.clear()
            store.link._command = lambda ops, places: commands.append(send(ops, places)) or commands[-1]  # type: ignore[method-assign,assignment,func-returns-value]
            for one in views:
                guard.decide(one)  # writes down what it sends
            if len(commands) != REQUESTS:
                raise RuntimeError(f"{len(commands)} calls for {REQUESTS} requests")
            store.link._command = send  # type: ignore[method-assign]
            found = {
                "guard": _each(guard.decide, views),
                "bare": _each(lambda command: bare.execute_command(*command), commands),
                "nothing": _each(lambda _: bare.evalsha(nothing, 0), commands),
            }
            if number >= 3:
                for name, seconds in found.items():
                    took[name].append(seconds)
        microseconds = int(
            server.cli("info", "commandstats").partition("cmdstat_evalsha:")[2].partition("usec_per_call=")[2].partition(".")[0]
        )
        if store.fallen_back:
            raise RuntimeError(f"{store.fallen_back} requests were decided without the server")
        store.close()
    ratio = median(a / b for a, b in zip(took["guard"], took["bare"], strict=True))
    us = {name: 1e6 * median(seconds) for name, seconds in took.items()}
    yield Row(
        "five signatures on a server, one call, against that EVALSHA alone", ratio, "x", 1.3, None,
        f"{us['guard']:.0f} / {us['bare']:.0f} us; a script that does nothing {us['nothing']:.0f} us; the server is at it {microseconds} us",
    )  # fmt: skip


def _view(user_agent: bytes, address: str) -> RequestView:
    scope = traffic.scopes([(user_agent, address)])[0]
    return RequestView.from_scope(scope)


def _each(work: Callable[[Any], object], things: list[Any]) -> float:
    started = perf_counter()
    for thing in things:
        work(thing)
    return (perf_counter() - started) / len(things)
