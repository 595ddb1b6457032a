"""From a ``swarm`` to its test. Only documents are judged; what belongs to pages tells who is a person."""

from __future__ import annotations

from urllib.parse import unquote

from ..request import RequestView
from ..signals.conduct import ASSET, DOCUMENT, kind_of
from ..signals.headers import fingerprint_key
from ..signals.swarm import CALM, UNSETTLED, strikes
from .compile_rates import SIGNATURE, constant, key_reader
from .ruleset import Client, UaFacts
from .swarms import SwarmIs
from .terms import COUNTS, Ask, Dynamic, Rates, Test, Verdict


def page_of(view: RequestView) -> str:
    """The decoded path of the page of this site that a request names as its Referer, "" when it names none.

    A client may name any page: a store believes each but once, as that by which it came in.
    """
    authority, slash, rest = (view.first(b"referer") or b"").partition(b"://")[2].partition(b"/")
    if not slash or authority.lower() != (view.first(b"host") or b"").lower():
        return ""
    path = unquote(b"/" + rest.partition(b"?")[0].partition(b"#")[0])
    return path if kind_of(path) == DOCUMENT else ""


class SwarmTest:
    """One swarm condition of a policy. ``settle`` sees every request first: whoever loads an asset is nobody of a swarm, whatever a rule is about."""

    def __init__(self, when: SwarmIs, rule: str) -> None:
        self._salt, self._key_of = constant(rule, "swarm", *when.per, when.within), key_reader(when.per)
        self._per, self._within, self._clients, self._times = when.per, when.within, when.clients, when.times

    def term(self) -> Dynamic:
        """The condition as it is evaluated."""
        return Dynamic(self._test(), SIGNATURE, COUNTS)

    def ask(self) -> Ask:
        """What the test asks."""
        return Ask("swarm", self._per, self._key_of, self._salt, (self._clients,), documents=True)

    def settle(self, view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        """Note who loads an asset. Decides nothing."""
        if kind_of(view.path) == ASSET:
            key = self._key_of(view, ua, client, rates)
            if key and client.ip_key:
                page = page_of(view)
                mark = rates.mark(page) if page else 0
                rates.swarm(key ^ self._salt, client.ip_key, now, self._within, ASSET, mark, False, self._clients, self._times)
        return None

    def _test(self) -> Test:
        by_fingerprint = self._per == ("fingerprint",)  # the usual one: a call less
        key_of, salt, within, clients, times = self._key_of, self._salt, self._within, self._clients, self._times

        def swarm(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
            """Unknown for an unknown client, and where nobody has been seen to load assets; else the wait of a member who is struck."""
            path, member = view.path, client.ip_key
            if "." in path and kind_of(path) != DOCUMENT:
                return False
            key = fingerprint_key(view) if by_fingerprint else key_of(view, ua, client, rates)
            if not key or not member:
                return None
            found = rates.swarm(key ^ salt, member, now, within, DOCUMENT, rates.mark(path), False, clients, times)
            if found is CALM:  # as of nearly everybody
                return 0
            return None if found is UNSETTLED else strikes(found, clients, times)

        return swarm
