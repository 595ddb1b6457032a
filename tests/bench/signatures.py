"""The rows of rate signatures: words, profiles and swarms of the shared store, five signatures at once, and a million strangers."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time_ns

from crawlguard import Guard
from crawlguard.asgi import CrawlGuardMiddleware as AsgiGuard
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Store
from crawlguard.request import RequestView
from crawlguard.signals.conduct import DOCUMENT
from crawlguard.signals.rate import Keyer, Window
from crawlguard.store import MemoryStore, RateStore, SharedStore

from . import traffic
from .table import Row
from .timing import Asgi, Site, take_turns, time_asgi

STRANGERS, HEAVY = 1_000_000, 1000
MINUTE = 60_000_000
NOW = 10**12

FIVE = """version: 1
rules:
  - {id: burst, when: {rate: {per: ip, requests: 100000, within: 10s}}, then: throttle}
  - {id: subnet, when: {rate: {per: subnet, documents: 1000000, within: 1m}}, then: throttle}
  - {id: crawl, when: {rate: {per: ip, distinct_paths: 30000, within: 10m, assets: under 2%}}, then: throttle}
  - {id: family, when: {rate: {per: [ip, path], requests: 1000000, within: 1m}}, then: throttle}
  - {id: swarm, when: {swarm: true}, then: throttle}
"""


def _memory_disk() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _each(work: Callable[[int], object], keys: list[int]) -> float:
    """Nanoseconds of CPU of one call."""
    started = process_time_ns()
    for key in keys:
        work(key)
    return (process_time_ns() - started) / len(keys)


def store_calls() -> Iterator[Row]:
    """One hit, one profile and one swarm, in turns with the store in memory: 1,000 clients, medians of 60 rounds."""
    rng, window = random.Random(1), Window.of(10_000_000, 600 * MINUTE)
    keys = [rng.getrandbits(64) for _ in range(1000)]
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as directory:
        stores: dict[str, RateStore] = {"memory": MemoryStore(), "shared": SharedStore(Path(directory) / "rates")}
        found: dict[tuple[str, str], list[float]] = {}
        for number in range(62):
            now, mark = NOW + number * 1_000_000, rng.getrandbits(64)
            for name, store in stores.items():
                calls = {
                    "hit": partial(_hit, store.hit, now, window),
                    "conduct": partial(_count, store.conduct, now, mark),
                    "swarm": partial(_member, store.swarm, now, mark),
                }
                for what, call in calls.items():
                    found.setdefault((name, what), []).append(_each(call, keys))
        took = {pair: median(values[2:]) for pair, values in found.items()}
        stores["shared"].close()
    for what, must in (("hit", 3.0), ("conduct", None), ("swarm", None)):
        memory, shared = took["memory", what], took["shared", what]
        yield Row(
            f"shared store against memory, one {what}", shared / memory, "x", must, note=f"{memory / 1e3:.2f} -> {shared / 1e3:.2f} us"
        )
    yield Row("shared store, one hit", took["shared", "hit"] / 1e3, "us", 1.2, 0.6)


def _hit(hit: Callable[..., int], now: int, window: Window, key: int) -> None:
    hit(key, now, window.interval, window.tolerance, 0)


def _count(conduct: Callable[..., object], now: int, mark: int, key: int) -> None:
    conduct(key, now, 10 * MINUTE, DOCUMENT, mark)


def _member(swarm: Callable[..., object], now: int, mark: int, key: int) -> None:
    swarm(5, key, now, 10 * MINUTE, DOCUMENT, mark)


def five_signatures() -> Iterator[Row]:
    """What five signatures add to a guard without rules: distinct paths, families and a swarm among them, with the shared store."""
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as directory:
        site = Site()
        sides: dict[str, Asgi] = {}
        for name, text in (("none", "version: 1\nrules: []\n"), ("five", FIVE), ("loads", FIVE)):
            policy, problems = parse_policy(text)
            if policy is None:
                raise RuntimeError("\n".join(map(str, problems)))
            policy.store = Store("shared", str(Path(directory) / name))
            sides[name] = AsgiGuard(site.asgi, Guard(policy))
        for address in traffic.PEOPLE:
            sides["loads"].guard.decide(RequestView(path="/style.css", peer=address, headers=traffic.HEADERS))  # type: ignore[attr-defined]
        added = take_turns({name: partial(time_asgi, app) for name, app in sides.items()}, traffic.people)
    yield Row("five signatures, shared store, known browser", added["five"] / 1e3, "us", 10, 6, "nobody loads assets")
    yield Row("five signatures, shared store, known browser", added["loads"] / 1e3, "us", 10, 6, "everybody has loaded an asset")


def million() -> Iterator[Row]:
    """A million random IPv6 clients of one request each, and heavy hitters among them: who is still counted, and in how much room."""
    rng = random.Random(6)
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as directory:
        store = SharedStore(Path(directory) / "rates")
        keyer, window = Keyer(store.seed), Window.of(100, 10 * MINUTE)
        heavy = [keyer.address(rng.randbytes(16))[0] for _ in range(HEAVY)]
        store.conduct(heavy[0], NOW, 10 * MINUTE, DOCUMENT, 1)
        before = _bytes(directory)
        now, caught, crawled = NOW, set(), set()
        for number in range(STRANGERS):
            now += 100
            key, mark = keyer.address(rng.randbytes(16))[0], rng.getrandbits(64)
            store.hit(key, now, window.interval, window.tolerance, 0)
            store.conduct(key, now, 10 * MINUTE, DOCUMENT, mark)
            if number % 5 == 0:  # each heavy hitter asks 200 times
                key = heavy[number // 5 % HEAVY]
                if store.hit(key, now, window.interval, window.tolerance, 0):
                    caught.add(key)
                if store.conduct(key, now, 10 * MINUTE, DOCUMENT, mark).distinct > 100:
                    crawled.add(key)
        grown = _bytes(directory) - before
        store.close()
    room = f"{before / (1 << 20):.1f} MiB, grown by {grown} bytes"
    yield Row("heavy hitters missed among 1 M strangers, by requests", 100 * (1 - len(caught) / HEAVY), "%", 1, 0)
    yield Row("heavy hitters missed among 1 M strangers, by distinct paths", 100 * (1 - len(crawled) / HEAVY), "%", 1, 0)
    yield Row("growth of the shared store by 1 M strangers", float(grown), "B", 0, 0, room)


def _bytes(directory: str) -> int:
    return sum(os.stat(entry.path).st_blocks * 512 for entry in os.scandir(directory))
