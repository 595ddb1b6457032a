"""The rows that are measured inside this process: the doors, long lists, many patterns."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

from crawlguard import Guard, Policy, load_policy
from crawlguard.asgi import CrawlGuardMiddleware as AsgiGuard
from crawlguard.catalogue import policy_names
from crawlguard.export.robots import robots_txt
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Store
from crawlguard.signals.match import has_regex
from crawlguard.wsgi import CrawlGuardMiddleware as WsgiGuard

from . import traffic
from .table import Row
from .timing import Asgi, NoOpAsgi, NoOpWsgi, Site, Wsgi, take_turns, time_asgi, time_wsgi


def _shared(directory: str) -> Store:
    return Store("shared", str(Path(directory) / "rates.bin"))


def doors() -> Iterator[Row]:
    """The bundled default policy behind both doors and with both stores."""
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as directory:
        site, policy = Site(), load_policy()
        shared, memory = (AsgiGuard(site.asgi, Guard(policy, store=store)) for store in (_shared(directory), "memory"))
        sides: dict[str, Asgi] = {"no-op": NoOpAsgi(site.asgi), "shared": shared, "memory": memory}
        asgi = {name: partial(time_asgi, app) for name, app in sides.items()}
        before = site.served
        known = take_turns(asgi, traffic.people)
        _all_served(site.served - before, len(asgi))
        attack = take_turns(asgi, traffic.strangers)
        wordy = take_turns(asgi, traffic.wordy_strangers)
        wsgi_sides: dict[str, Wsgi] = {
            "no-op": NoOpWsgi(site.wsgi),
            "shared": WsgiGuard(site.wsgi, Guard(policy, store=_shared(directory))),
        }
        wsgi = take_turns({name: partial(time_wsgi, app) for name, app in wsgi_sides.items()}, traffic.people)
        itself = median(time_asgi(NoOpAsgi(site.asgi), traffic.people(1000)) for _ in range(9))
        yield Row(
            "ASGI, default policy, shared store, known browser",
            known["shared"] / 1e3,
            "us",
            6,
            4,
            f"a no-op request: {itself / 1e3:.2f} us",
        )
        yield Row("ASGI, the same, new random UA and address each time", attack["shared"] / 1e3, "us", 12, 9)
        yield Row("ASGI, the same, the UA's words are random too", wordy["shared"] / 1e3, "us")
        yield Row("WSGI, default policy, shared store, known browser", wsgi["shared"] / 1e3, "us", 6, 4)
        yield Row("ASGI, memory store, known browser", known["memory"] / 1e3, "us", 4.5, 3)


def _all_served(served: int, sides: int) -> None:
    from .timing import REQUESTS, ROUNDS

    if served != sides * REQUESTS * (ROUNDS + 2):
        raise RuntimeError(f"{served} of {sides * REQUESTS * (ROUNDS + 2)} visitors were served: the bench would measure refusals")


def _memory_disk() -> str | None:
    """Where the shared table lies by default."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _policy(rules: str) -> Policy:
    policy, problems = parse_policy(f"version: 1\nstore: memory\nrules:\n{rules}")
    if policy is None:
        raise RuntimeError("\n".join(map(str, problems)))
    return policy


def _cidrs(number: int) -> str:
    rng = random.Random(number)
    found: set[str] = set()
    while len(found) < number:
        if rng.random() < 0.8:
            found.add(f"{rng.randrange(101, 224)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(16) * 16}/28")
        else:
            found.add(f"2c{rng.randrange(16):02x}:{rng.randrange(1, 65536):x}:{rng.randrange(1, 65536):x}::/48")
    return ", ".join(sorted(found))


def _compared(small: Policy, large: Policy, requests: str) -> tuple[float, float, float]:
    """Added ns of the small and the large policy, and their ratio."""
    site = Site()
    sides: dict[str, Asgi] = {
        "no-op": NoOpAsgi(site.asgi),
        "small": AsgiGuard(site.asgi, Guard(small)),
        "large": AsgiGuard(site.asgi, Guard(large)),
    }
    found = take_turns({name: partial(time_asgi, app) for name, app in sides.items()}, getattr(traffic, requests))
    return found["small"], found["large"], found["large"] / found["small"]


def long_lists() -> Iterator[Row]:
    """100,000 CIDRs against 10, for addresses that are new each time."""
    small, large = (_policy(f"  - {{id: list, when: {{ip: [{_cidrs(number)}]}}, then: block}}") for number in (10, 100_000))
    few, many, ratio = _compared(small, large, "strangers")
    yield Row("100,000 extra CIDRs against 10, new clients", ratio, "x", 1.3, 1.1, f"{few / 1e3:.2f} -> {many / 1e3:.2f} us")


def _patterns(kind: str, number: int) -> Policy:
    rng = random.Random(kind)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(5, 12))) for _ in range(number)]
    if kind == "regex":
        words = [rf"'\b{word}(bot|spider|crawler)?/[0-9.]+'" for word in words]
    else:
        words = [f"{word}bot" for word in words]
    return _policy(f"  - {{id: names, when: {{user_agent: {{{kind}: [{', '.join(words)}]}}}}, then: block}}")


def many_patterns() -> Iterator[Row]:
    """1,000 UA patterns against 10, for User-Agents that are new each time."""
    for kind, name in (("contains", "literals"), ("regex", "regexes (RE2)")):
        what = f"1,000 extra UA patterns against 10, new UA: {name}"
        if kind == "regex" and not has_regex():
            yield Row(what, 0.0, "x", note="google-re2 is not installed")
            continue
        few, many, ratio = _compared(_patterns(kind, 10), _patterns(kind, 1000), "strangers")
        yield Row(what, ratio, "x", 3, 1.5, f"{few / 1e3:.2f} -> {many / 1e3:.2f} us")


def robots() -> Iterator[Row]:
    """robots.txt for the whole catalogue, by the stance that has most to say."""
    spent = {}
    for name in policy_names():
        policy = load_policy(f"builtin:{name}")
        robots_txt(policy)
        spent[name] = median(_seconds(partial(robots_txt, policy)) for _ in range(9))
    worst = max(spent, key=lambda name: spent[name])
    yield Row("robots.txt for the full catalogue, after start-up", spent[worst] * 1e3, "ms", 50, note=f"builtin:{worst}, the slowest")


def _seconds(work: Callable[[], object]) -> float:
    started = process_time()
    work()
    return process_time() - started
