"""From a ``swarm`` to its test. Only documents are judged; what belongs to pages tells who is a person."""

from __future__ import annotations

from ..request import RequestView
from ..signals.conduct import ASSET, DOCUMENT, kind_of
from ..signals.swarm import strikes
from .compile_rates import SIGNATURE, constant, key_reader
from .ruleset import Client, UaFacts
from .swarms import SwarmIs
from .terms import COUNTS, Dynamic, Rates, Verdict


class SwarmTest:
    """One swarm condition of a policy. ``settle`` sees every request first: whoever loads an asset is nobody of a swarm, whatever a rule is about."""

    def __init__(self, when: SwarmIs, rule: str) -> None:
        self._salt, self._key_of = constant(rule, "swarm", *when.per, when.within), key_reader(when.per)
        self._within, self._clients, self._times = when.within, when.clients, when.times

    def term(self) -> Dynamic:
        """The condition as it is evaluated."""
        return Dynamic(self.verdict, SIGNATURE, COUNTS)

    def settle(self, view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        """Note who loads an asset. Decides nothing."""
        if kind_of(view.path) == ASSET:
            key = self._key_of(view, ua, client, rates)
            if key and client.ip_key:
                rates.swarm(key ^ self._salt, client.ip_key, now, self._within, ASSET, 0)
        return None

    def verdict(self, view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        """Unknown for an unknown client, and where nobody has been seen to load assets; else the wait of a member who is struck."""
        if kind_of(view.path) != DOCUMENT:
            return False
        key, member = self._key_of(view, ua, client, rates), client.ip_key
        if not key or not member:
            return None
        return strikes(
            rates.swarm(key ^ self._salt, member, now, self._within, DOCUMENT, rates.mark(view.path)), self._clients, self._times
        )
