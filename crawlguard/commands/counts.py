"""What the running site has counted of one client so far, beside the limits of the policy. Only looks: nothing is counted by it."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from ..policy.check import walk
from ..policy.rates import RESPONSES, RateOver, WindowIs
from ..policy.terms import specialise
from ..signals.conduct import ASSET, Conduct
from ..signals.rate import US, Window
from ..signals.swarm import CALM, Swarm
from ..store import SharedStore

if TYPE_CHECKING:
    from ..guard import Guard
    from ..policy.terms import Rates
    from ..request import RequestView


class Noting:
    """Rates that find nobody over a limit, and note what a rule asks: how much of each bucket is used up (us), and the profiles."""

    def __init__(self, rates: Rates) -> None:
        self.used: dict[tuple[int, int], int] = {}
        self.profiles: dict[int, Conduct] = {}
        self._rates = rates
        self.mark, self.swarm = rates.mark, _calm

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """See RateStore; by interval and tolerance."""
        self.used[interval, tolerance] = self._rates.peek(key, now, tolerance, tolerance, 0)  # the wait for a whole burst
        return 0

    peek = hit

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """See RateStore; by the time within. What is asked for now is left out: an asset changes neither documents nor paths."""
        rates = self._rates
        if isinstance(rates, SharedStore) and not rates.path.with_name(f"{rates.path.name}.conduct").exists():
            return Conduct(0, 0, 0, 0, 0, 0, 0, 0, 0)  # no worker has made it
        found = self.profiles[within] = rates.conduct(key, now, within, ASSET, 0, True)
        return found

    def forget(self, key: int) -> None:
        """See RateStore: not from here."""


def _calm(*_: object) -> Swarm:
    return CALM


def counts_of(guard: Guard, view: RequestView, packed: bytes) -> list[dict[str, Any]]:
    """What stands against each limit of the rules that are about this request: ``rule``, ``per``, ``counts``, ``used``, ``limit``, ``within`` (s).

    ``guard``: one on the store of the running site. Limits that do not apply, or count by what is not known of the client, are left out.
    """
    live, now = guard.live, monotonic_ns() // 1000
    ua, client = live.ruleset.user_agent(view.first(b"user-agent")), guard.client_facts(packed)
    rules = {rule.id: rule for rule in guard.policy.rules}
    found: list[dict[str, Any]] = []
    for compiled in live.ruleset.rules:
        test = False if compiled.inactive else specialise(compiled.term, ua.mask | client.mask)
        if not callable(test):
            continue
        noting = Noting(guard.store)
        test(view, ua, client, noting, now, 0)
        for when in walk(rules[compiled.id].when):
            if isinstance(when, RateOver):
                found += [
                    {
                        "rule": compiled.id,
                        "per": list(when.per),
                        "counts": w.what,
                        "used": used,
                        "limit": w.requests,
                        "within": w.within / US,
                    }
                    for w, used in _windows(when, noting)
                ]
    return found


def _windows(when: RateOver, noting: Noting) -> Iterator[tuple[WindowIs, int]]:
    for window in when.windows:
        if window.what == "distinct_paths":
            if window.within in noting.profiles:
                yield window, noting.profiles[window.within].distinct
        elif window.what in RESPONSES:  # see Charge
            ahead = noting.used.get((window.within, 2 * window.within))
            if ahead is not None:
                yield window, round(ahead * window.requests / window.within)
        else:
            as_counted = Window.of(window.requests, window.within)
            ahead = noting.used.get((as_counted.interval, as_counted.tolerance))
            if ahead is not None:
                yield window, -(-ahead // as_counted.interval)
