"""Conditions as they are evaluated: three-valued, and specialised ahead of time for what is known of a client.

A result is False, None (unknown: the address is not known, the database has no record), True, or a number above one: "yes,
and the rate that tripped admits the next request in so many microseconds". Unknown stays unknown under ``not``, so a
rule never fires on ignorance.

What depends on the User-Agent or the address alone is a bit in a mask, so most rules fall away (or become certain) before
any request is looked at: ``specialise(term, mask)`` does that once per distinct mask. ``reduce`` gives what is left as a term,
for those that ask it of many requests at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from ..request import RequestView
from ..signals.conduct import Conduct
from ..signals.rate import Window
from ..signals.swarm import Swarm

if TYPE_CHECKING:
    from .ruleset import Client, UaFacts

Verdict = bool | int | None


class Rates(Protocol):
    """What a rate condition needs of a store. Keys are 64-bit numbers, times microseconds; a result of 0 admits."""

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int: ...
    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int: ...
    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct: ...
    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm: ...
    def mark(self, text: str) -> int: ...
    def forget(self, key: int) -> None: ...


Test = Callable[[RequestView, "UaFacts", "Client", Rates, int, int], Verdict]
"""(view, user agent facts, client, rates, now in us, score so far) -> verdict."""

LOOKS, COUNTS = 1, 2
"""Ranks of tests: one that looks at the request, and one that counts it, which comes last."""

UNKNOWN_ADDRESS, UNKNOWN_ASN, UNKNOWN_COUNTRY = 1, 2, 4
FIRST_BIT = 8


class Ask(NamedTuple):
    """What a test asks of a store, where that is all that it does: for a store that can be asked several at once (``store.together``).

    ``what``: "hit" (``numbers``: interval, tolerance, hold), "paths" (within, limit) or "swarm" (clients); under the key of ``per``, which
    ``key`` reads, and ``salt``. ``documents``: it holds of documents alone.
    """

    what: str
    per: tuple[str, ...]
    key: Callable[[RequestView, UaFacts, Client, Rates], int]
    salt: int
    numbers: tuple[int, ...]
    documents: bool = False


class Static(NamedTuple):
    """Holds when the mask has ``bit``; is unknown when it has any of ``unknown``."""

    bit: int
    unknown: int = 0
    rank: int = 0


class Counts(NamedTuple):
    """What a rate counts: the parts of its key, its windows with the salt that each puts on the key, and ``hold`` in us."""

    per: tuple[str, ...]
    windows: tuple[tuple[int, Window], ...]
    hold: int


class Hold(NamedTuple):
    """Where a rate that keeps its keys out for a time (``block_for``) has them: what lists and lifts bans reads this.

    A request's ``key`` is of the parts ``per``. ``words`` are those that may be held: the salt that each puts on the key, and what to
    ``peek`` it with (interval, tolerance, hold). ``counts``: the salts of all that it counts. ``offences``: the salt of the word whose
    key's offences are remembered, 0 where terms do not grow.
    """

    per: tuple[str, ...]
    key: Callable[[RequestView, UaFacts, Client, Rates], int]
    words: tuple[tuple[int, int, int, int], ...]
    counts: tuple[int, ...] = ()
    offences: int = 0


class Charge(NamedTuple):
    """What responses cost: ``limit`` of errors, misses or bytes (``what``) in ``within`` us.

    A key's debt is at most two windows' worth, so that whoever has taken far too much waits for one window and not for ever.
    """

    what: str
    limit: int
    within: int

    def pay(self, rates: Rates, key: int, now: int, status: int, size: int) -> None:
        """Charge a response to a key: its status, and the bytes of its body."""
        number = size if self.what == "bytes" else int(status == 404 if self.what == "misses" else 400 <= status < 600)
        if number <= 0:
            return
        # Rounded by chance, up as often as the fraction is large: bytes may be far cheaper than a microsecond each.
        cost = min((number * self.within + now * 0x9E3779B1 % self.limit) // self.limit, 2 * self.within)
        if cost:
            over = rates.hit(key, now, cost, 2 * self.within, 0)
            if cost > over > 0:
                rates.hit(key, now, cost - over, 2 * self.within, 0)


class Dynamic(NamedTuple):
    """Asked of each request. ``reads`` is all that its answer depends on: "path", "host", "method", "score", "header NAME", or a rate."""

    test: Test
    reads: str | Counts
    rank: int = LOOKS


class Group(NamedTuple):
    """An AND (``every``) or an OR of terms, cheap ones first. ``unknown``: and of one more, whose truth nobody knows."""

    every: bool
    terms: tuple[Term, ...]
    rank: int
    unknown: bool = False


class Negated(NamedTuple):
    """The opposite of a term."""

    term: Term
    rank: int


Term = Static | Dynamic | Group | Negated


def group(every: bool, terms: list[Term]) -> Term:
    """An AND or OR whose counting terms stand last: only requests that match the rest are counted."""
    if len(terms) == 1:
        return terms[0]
    ordered = tuple(sorted(terms, key=lambda t: t.rank))
    return Group(every, ordered, max((t.rank for t in ordered), default=0))


def reduce(term: Term, mask: int) -> bool | Term | None:
    """The term under a mask: a constant (True, False, None), or what remains, in which nothing is static."""
    if isinstance(term, Static):
        return None if mask & term.unknown else bool(mask & term.bit)
    if isinstance(term, Dynamic):
        return term
    if isinstance(term, Negated):
        inner = reduce(term.term, mask)
        return Negated(inner, term.rank) if isinstance(inner, tuple) else None if inner is None else not inner
    parts = [reduce(t, mask) for t in term.terms]
    deciding = not term.every
    if any(p is deciding for p in parts):
        return deciding
    unknown = term.unknown or any(p is None for p in parts)
    # What is unknown already cannot come to hold any more, so nothing in it may count the request.
    left = tuple(
        p._replace(rank=t.rank)
        for p, t in zip(parts, term.terms, strict=True)
        if isinstance(p, tuple) and not (t.rank == COUNTS and unknown and term.every)
    )
    if not left:
        return None if unknown else term.every
    return left[0] if len(left) == 1 and not unknown else Group(term.every, left, term.rank, unknown)


def specialise(term: Term, mask: int) -> Verdict | Test:
    """The same as a constant, or the test that remains."""
    left = reduce(term, mask)
    return _test(left) if isinstance(left, tuple) else left


def _test(term: Term) -> Test:
    """The test of a term in which nothing is static."""
    if isinstance(term, Dynamic):
        return term.test
    if isinstance(term, Negated):
        return _negated(_test(term.term))
    parts = cast(Group, term)
    tests = tuple((_test(t), t.rank == COUNTS) for t in parts.terms)
    return _every(tests, parts.unknown) if parts.every else _some(tuple(test for test, _ in tests), parts.unknown)


def _negated(test: Test) -> Test:
    def negated(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        result = test(view, ua, client, rates, now, score)
        return None if result is None else not result

    return negated


def _every(tests: tuple[tuple[Test, bool], ...], unknown: bool) -> Test:
    def every(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        longest: bool | int = True
        open_question = unknown
        for test, counts in tests:
            if counts and open_question:
                continue
            result = test(view, ua, client, rates, now, score)
            if result is None:
                open_question = True
            elif not result:
                return False
            elif result is not True and (longest is True or result > longest):
                longest = result
        return None if open_question else longest

    return every


def _some(tests: tuple[Test, ...], unknown: bool) -> Test:
    def some(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        open_question = unknown
        for test in tests:
            result = test(view, ua, client, rates, now, score)
            if result:
                return result
            open_question = open_question or result is None
        return None if open_question else False

    return some
