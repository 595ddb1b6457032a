"""Attackers who vary what they send, each in one run with people: they gain no memory, no work beyond an honest request's, nobody else's ban.

Work is counted as calls (of Python and of C), not as time. The limits of the policy are low enough for the attackers to meet them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pytest

from crawlguard import Guard, RequestView
from crawlguard.live import GENERATION
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Store
from crawlguard.signals import headers
from crawlguard.signals.headers import fingerprint_key

from .policy_corpus import Clock

POLICY = """version: 1
rules:
  - {id: burst, when: {rate: {per: ip, requests: 60, within: 10s, block_for: [10m, 1h]}}, then: throttle}
  - {id: crawl, when: {rate: {per: subnet, distinct_paths: 100, within: 1h, assets: under 2%}}, then: throttle}
  - {id: family, when: {rate: {per: [ip, path], requests: 200, within: 1m}}, then: throttle}
  - {id: alike, when: {rate: {per: [fingerprint, subnet], documents: 300, within: 1h}}, then: throttle}
  - {id: prints, when: {rate: {per: fingerprint, requests: 100000, within: 1h}}, then: throttle}
  - {id: swarm, when: {swarm: true}, then: throttle}
"""
CHROME = b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/157.0.0.0 Safari/537.36"
BROWSER = [(b"user-agent", CHROME), (b"accept", b"text/html"), (b"accept-language", b"de,en;q=0.8"), (b"accept-encoding", b"gzip, br")]
PEOPLE, ATTACKS = 150, 2000
SIZE = 1 << 16
"""Bytes of the table: 4,096 words, 256 profiles, 16 groups. Far too small for the attacker's every name."""
TIMES = 2.0
"""An attacker's request may cost that many times the calls of an honest one: whoever is new is looked for in more places."""


class Told(NamedTuple):
    """What came of a run: how many of the attacker's requests were refused, and the calls that each of them, and of the people's, took."""

    refused: int
    attack: list[int]
    honest: list[int]


@pytest.fixture
def clock() -> Clock:
    return Clock(100_000)


@pytest.fixture
def guard(tmp_path: Path, clock: Clock) -> Iterator[Guard]:
    policy, problems = parse_policy(POLICY)
    assert policy is not None, problems
    policy.store = Store("shared", str(tmp_path / "rates"), SIZE)
    made = Guard(policy, clock=clock, watch=False)
    yield made
    made.store.close()


def calls_of(guard: Guard, view: RequestView) -> tuple[bool, int]:
    """Whether a request is let through, and the calls that the decision took."""
    calls = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        allowed = guard.decide(view).allowed
    finally:
        sys.setprofile(before)
    return allowed, calls


def run(guard: Guard, clock: Clock, directory: Path, attack: Callable[[int], RequestView]) -> Told:
    """People who open a page and its assets now and then, and between them the attacker; nobody of the people is refused, and nothing grows."""
    refused = 0
    attacks: list[int] = []
    honest: list[int] = []
    files: dict[Path, int] = {}

    def visit(person: int) -> None:
        for path in (f"/door/{person % 30}", "/site.css"):
            allowed, calls = calls_of(guard, RequestView("GET", path, BROWSER, f"10.{person}.7.9"))
            assert allowed, (person, path)
            honest.append(calls)

    clock.at(-60)
    for person in range(PEOPLE):
        visit(person)
    honest.clear()
    for n in range(ATTACKS):
        clock.at(n * 0.01)
        allowed, calls = calls_of(guard, attack(n))
        refused += not allowed
        attacks.append(calls)
        if n % 10 == 0:
            visit(n // 10 % PEOPLE)
        files = files or {file: file.stat().st_size for file in directory.iterdir()}
    assert guard.counters.errors == 0
    assert {file: file.stat().st_size for file in directory.iterdir()} == files
    live, known = guard._live, headers._KNOWN
    assert max(len(live.uas), len(live.old_uas), len(live.clients), len(live.old_clients)) <= GENERATION
    assert max(len(known._young), len(known._old)) <= headers.GENERATION
    kept = [sent for sent in known._young if isinstance(sent, tuple) and isinstance(sent[0], bytes)]
    assert kept
    assert max(sum(len(value or b"") for value in sent) for sent in kept) <= headers.CUT
    return Told(refused, attacks, honest)


def within_budget(told: Told) -> bool:
    return fmean(told.attack) <= TIMES * fmean(told.honest) and max(told.attack) <= 2 * TIMES * max(told.honest)


def test_random_user_agents(guard: Guard, clock: Clock, tmp_path: Path) -> None:
    rng = random.Random(1)

    def attack(n: int) -> RequestView:
        ua = CHROME.replace(b"157", b"%d" % rng.getrandbits(64)) + rng.randbytes(rng.randrange(400)).replace(b"\0", b"x")
        return RequestView("GET", f"/item/{n}", [(b"user-agent", ua), *BROWSER[1:]], f"198.51.100.{n % 200}")

    told = run(guard, clock, tmp_path, attack)
    assert within_budget(told)
    assert told.refused > ATTACKS * 0.9, "what an address or a network does is counted, whatever it calls itself"


def test_random_paths(guard: Guard, clock: Clock, tmp_path: Path) -> None:
    rng = random.Random(2)

    def attack(n: int) -> RequestView:
        path = f"/{rng.getrandbits(64):x}/" + rng.choice(("", "x" * 3000, "\ud800", "/" * 2000, "a.b" * 900)) + str(n)
        return RequestView("GET", path, BROWSER, f"198.51.100.{n % 200}")

    told = run(guard, clock, tmp_path, attack)
    assert within_budget(told)
    assert told.refused > ATTACKS * 0.9


def test_an_address_for_each_request(guard: Guard, clock: Clock, tmp_path: Path) -> None:
    rng = random.Random(3)

    def attack(n: int) -> RequestView:  # a /64 of a /32 for each
        return RequestView("GET", f"/item/{n}", BROWSER, f"2001:db8:{rng.getrandbits(16):x}:{rng.getrandbits(16):x}::{n:x}")

    told = run(guard, clock, tmp_path, attack)
    assert within_budget(told)
    assert told.refused > ATTACKS * 0.9, "one behaviour from many addresses is a swarm"


def test_another_order_of_headers_for_each_request(guard: Guard, clock: Clock, tmp_path: Path) -> None:
    rng = random.Random(4)

    def attack(n: int) -> RequestView:
        sent = [*BROWSER, *((b"x-%d" % rng.getrandbits(32), b"1") for _ in range(rng.randrange(9)))]
        rng.shuffle(sent)
        return RequestView("GET", f"/item/{n}", sent, f"2001:db8:{n >> 8:x}:{n & 255:x}::1")

    told = run(guard, clock, tmp_path, attack)
    assert within_budget(told)
    assert told.refused > ATTACKS * 0.9, "the order is no part of a fingerprint"


def aimed(number: int) -> list[bytes]:
    """User-Agents whose fingerprints, which are no secret, agree in the bits by which the table finds a key with a browser's."""
    found: list[bytes] = []
    place, n = fingerprint_key(RequestView(headers=BROWSER)) >> 16 & SIZE // 16 - 1, 0
    rest = b"".join(b"\1%d:" % len(value) + value for _, value in BROWSER[2:])
    while len(found) < number:
        ua, n = b"Mozilla/5.0 (%d)" % n, n + 1
        packed = b"\1%d:" % len(ua) + ua + rest
        if int.from_bytes(blake2b(packed, digest_size=8).digest()) >> 16 & SIZE // 16 - 1 == place:
            found.append(ua)
    return found


def test_chosen_collisions(guard: Guard, clock: Clock, tmp_path: Path) -> None:
    rng, names = random.Random(5), aimed(40)
    assert len({fingerprint_key(RequestView(headers=[(b"user-agent", ua), *BROWSER[1:]])) for ua in names}) == 40

    def attack(n: int) -> RequestView:
        sent = [(b"user-agent", names[n % 40]), *BROWSER[1:]]
        return RequestView("GET", f"/item/{n}", sent, f"2001:db8:{rng.getrandbits(16):x}:{rng.getrandbits(16):x}::1")

    told = run(guard, clock, tmp_path, attack)
    assert within_budget(told)
