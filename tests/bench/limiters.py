"""``python -m tests.bench.limiters``: one fixed job in memory for crawlguard and for rate limiters: 1,200 requests a minute, 1,000 clients.

Runs in the environment of the other guards. A limiter that is not installed there is left out, and said so.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from statistics import median
from time import monotonic_ns, process_time_ns
from typing import Any

from .table import Row, budgets

CLIENTS, ROUNDS, LIMIT = 1000, 15, 1200
Ask = Callable[[str], object]


def crawlguard() -> Ask:
    """The address as text to a keyed hash, the clock, and a hit: all that a request's limit needs."""
    from crawlguard.client_ip import parse_ip
    from crawlguard.signals.rate import Keyer, Window
    from crawlguard.store import MemoryStore

    store, window = MemoryStore(), Window.of(LIMIT, 60_000_000)
    key_of, hit = Keyer(store.seed).address, store.hit

    def ask(client: str) -> bool:
        packed = parse_ip(client)
        if packed is None:
            raise ValueError(client)
        return hit(key_of(packed)[0], monotonic_ns() // 1000, window.interval, window.tolerance, 0) == 0

    return ask


def limits() -> Ask:
    """The quickest of its strategies."""
    package: Any = importlib.import_module("limits")
    storage = importlib.import_module("limits.storage").MemoryStorage()
    strategy = importlib.import_module("limits.strategies").FixedWindowRateLimiter(storage)
    item = package.RateLimitItemPerMinute(LIMIT)
    return lambda client: strategy.hit(item, client)


def throttled() -> Ask:
    """By GCRA, as here."""
    package: Any = importlib.import_module("throttled")
    throttle = package.Throttled(using="gcra", quota=package.per_min(LIMIT, burst=LIMIT), store=package.MemoryStore())
    ask: Ask = throttle.limit
    return ask


def pyrate() -> Ask:
    """One bucket for each client."""
    package: Any = importlib.import_module("pyrate_limiter")
    rate = package.Rate(LIMIT, package.Duration.MINUTE)
    buckets: dict[str, Any] = {}

    def ask(client: str) -> object:
        limiter = buckets.get(client)
        if limiter is None:
            limiter = buckets[client] = package.Limiter(package.InMemoryBucket([rate]))
        return limiter.try_acquire(client, blocking=False)

    return ask


OTHERS: dict[str, Callable[[], Ask]] = {"limits": limits, "throttled-py": throttled, "pyrate-limiter": pyrate}


def _round(ask: Ask, clients: list[str]) -> float:
    started = process_time_ns()
    for client in clients:
        ask(client)
    return (process_time_ns() - started) / len(clients)


def limiters() -> Iterator[Row]:
    """A row for each: how many times its cost ours is, in turns."""
    asks: dict[str, Ask] = {"crawlguard": crawlguard()}
    for name, make in OTHERS.items():
        try:
            asks[name] = make()
        except ImportError:
            print(f"{name} is not installed here", file=sys.stderr)
    clients = [f"10.{n >> 8}.{n & 255}.7" for n in range(CLIENTS)]
    took: dict[str, list[float]] = {name: [] for name in asks}
    for number in range(ROUNDS + 2):
        for name in list(asks) if number % 2 else list(reversed(asks)):
            took[name].append(_round(asks[name], clients))
    ours = median(took["crawlguard"][2:])
    for name in list(asks)[1:]:
        theirs = median(took[name][2:])
        yield Row(f"one limit in memory, against {name}", ours / theirs, "x", 1, note=f"{theirs / 1e3:.2f} -> {ours / 1e3:.2f} us")


def main() -> int:
    rows = list(limiters())
    print(budgets(rows))
    return int(any(row.verdict == "MISSED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
