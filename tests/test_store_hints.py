"""What guards tell their stores of what they ask (``limit``, ``clients`` and ``times``) saves work and changes no decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crawlguard import Guard
from crawlguard.decision import Decision
from crawlguard.loader import parse_policy
from crawlguard.policy.model import Store
from crawlguard.signals.conduct import DOCUMENT
from crawlguard.signals.sketch import LOW
from crawlguard.signals.swarm import CALM, EVIDENCE
from crawlguard.store import MemoryStore, SharedStore

from .policy_corpus import Clock, view

POLICY = """version: 1
rules:
  - {id: crawl, when: {rate: {per: ip, distinct_paths: 30, within: 10m}}, then: throttle}
  - {id: bare, when: {rate: {per: ip, distinct_paths: 6, within: 10m, assets: under 20%}}, then: throttle}
  - {id: varied, when: {rate: {per: subnet, distinct_paths: 12, within: 10m, distinct_ratio: over 0.8}}, then: throttle}
  - {id: judged, when: {not: {rate: {per: ip, distinct_paths: 4, within: 10m, assets: under 50%}}, path: /judged}, then: {tag: shaped}}
  - {id: swarm, when: {swarm: {clients: 10, within: 1m, times: 2}}, then: throttle}
  - {id: told, when: {not: {swarm: {clients: 12, within: 30s, times: 1}}}, then: {tag: calm}}
"""
MEMBERS, RESIDENTS = 30, EVIDENCE + 20


def told(decision: Decision) -> tuple[object, ...]:
    return decision.action, decision.rule, decision.retry_after, decision.tags


def without_hints(store: MemoryStore | SharedStore) -> None:
    """Make a store hear nothing of what is asked of it."""
    conduct, swarm = store.conduct, store.swarm
    if isinstance(store, SharedStore):
        conduct, swarm = store.profiles().conduct, store.swarms().swarm

    def all_of_it(ask: Callable[..., Any], plain: int) -> Callable[..., Any]:
        return lambda *asked, **_: ask(*asked[:plain])

    # key, now, within, kind, mark, dry; key, member, now, within, kind, mark, dry
    store.conduct = all_of_it(conduct, 6)  # type: ignore[method-assign]
    store.swarm = all_of_it(swarm, 7)  # type: ignore[method-assign]


class Sites:
    """One policy on four stores that hash alike: in memory and shared, each with and without hints. All of them meet the same visitors."""

    def __init__(self, directory: Any) -> None:
        policy, problems = parse_policy(POLICY)
        assert policy is not None, problems
        self.clock, self.policy, self.numbers = Clock(100_000), policy, count(1)
        shared = self._guard(Store("shared", str(directory / "rates"), 4 << 20))
        self.guards = {"shared": shared}
        for name in ("shared, exact", "memory", "memory, exact"):
            path = directory / name
            if name.startswith("shared"):  # a table of the same seed, which has counted nothing yet
                path.write_bytes((directory / "rates").read_bytes())
            self.guards[name] = self._guard(Store("shared", str(path), 4 << 20) if name.startswith("shared") else Store("memory"))
            store = self.guards[name].store
            assert isinstance(store, MemoryStore | SharedStore)
            store.seed, store.mark = shared.store.seed, shared.store.mark
            if name.endswith("exact"):
                without_hints(store)
            self.guards[name].swap(policy)
        for number in range(RESIDENTS):
            self.ask(view("/a.css", ip=f"198.51.{number}.7", ua="Settled/1"))

    def _guard(self, store: Store) -> Guard:
        return Guard(self.policy, clock=self.clock, store=store)

    def newcomers(self) -> list[str]:
        """Addresses that have not been here, four of a subnet, an hour later; none shares its bit with another, so that who was seen is told to the last of them."""
        self.clock.now += 3600 * 10**9
        found: dict[int, str] = {}
        while len(found) < MEMBERS:
            packed = (0x0A000000 + 64 * next(self.numbers)).to_bytes(4, "big")
            found.setdefault(self.guards["memory"].client_facts(packed).ip_key & LOW, ".".join(map(str, packed)))
        return list(found.values())

    def ask(self, *request: Any) -> dict[str, tuple[object, ...]]:
        return {name: told(guard.decide(*request)) for name, guard in self.guards.items()}

    def close(self) -> None:
        for guard in self.guards.values():
            guard.store.close()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    made = Sites(tmp_path_factory.mktemp("hints"))
    yield made
    made.close()


visits = st.lists(
    st.tuples(
        st.integers(0, MEMBERS - 1) | st.sampled_from((0, 5)),  # two of them ask for much
        st.sampled_from((*["page"] * 8, "door", "judged", "asset", "asset of a page")),
        st.integers(0, 400),
        st.sampled_from((*[0] * 8, 1, 10)),
    ),
    min_size=60,
    max_size=140,
)


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    max_examples=50,
)
@given(visits)
def test_decisions_are_the_same_with_hints_and_without(sites: Sites, visits: list[tuple[int, str, int, int]]) -> None:
    members = sites.newcomers()
    agent = f"Visitor of {members[0]}"  # another fingerprint, so another group
    for member, what, number, gap in visits:
        sites.clock.now += gap * 10**9
        path = {"page": f"/page/{number}", "door": f"/door/{number % 3}", "judged": "/judged"}.get(what, "/a.css")
        headers = {"host": "shop.example", "referer": f"https://shop.example/page/{number}"} if what.endswith("of a page") else None
        found = sites.ask(view(path, ip=members[member], ua=agent, headers=headers))
        assert len(set(found.values())) == 1, found


def test_a_swarm_among_them_is_struck_by_all(sites: Sites) -> None:
    """That the property is not about guards that let everybody through."""
    found = [sites.ask(view(f"/page/{number}", ip=address, ua="Swarm/1")) for number, address in enumerate(2 * sites.newcomers())]
    assert [{rule for _, rule, _, _ in one.values()} for one in found] == [{None}] * 9 + [{"swarm"}] * (2 * MEMBERS - 9)


def test_a_store_says_little_of_whom_nobody_strikes(sites: Sites) -> None:
    store = sites.guards["shared"].store
    now = sites.clock.now // 1000
    assert store.swarm(3, 5, now, 60_000_000, DOCUMENT, 1, False, 10, 2) is CALM
    assert store.swarm(3, 5, now, 60_000_000, DOCUMENT, 1).documents == 2
