"""From a ``rate`` to its test. A plain limit on requests is one word of the store; the rest adds profiles, responses and penalties.

A request counts in all windows or in none, as long as words are concerned: what is refused uses up nothing. Profiles see every request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

from ..request import RequestView
from ..signals import penalty
from ..signals.conduct import DOCUMENT, EVIDENCE, ROBOTS, UNDER, Conduct, kind_of
from ..signals.families import Families
from ..signals.headers import fingerprint_key
from ..signals.rate import Window, mix
from ..signals.shape import ANY, Limits, judge
from .check import window_key
from .rates import RESPONSES, Bound, RateOver, Shape, WindowIs
from .ruleset import Client, UaFacts
from .terms import COUNTS, Ask, Charge, Counts, Dynamic, Hold, Rates, Test, Verdict

SIGNATURE = "counts of a signature"
"""What a signature reads, for those who judge logs."""

PLAIN_KEYS = frozenset(("ip", "subnet", "asn", "agent", "fingerprint"))


def constant(*parts: object) -> int:
    """A fixed 64-bit number for a name; the secret part of a key comes from the client's own hash."""
    return int.from_bytes(blake2b("\0".join(map(str, parts)).encode("utf-8", "replace"), digest_size=8).digest(), "little")


class Compiled(NamedTuple):
    """A rate's term; what it does when its key fetches /robots.txt; whether it wants to hear of responses; whom it keeps out; what it asks."""

    term: Dynamic
    watch: Test | None = None
    responses: bool = False
    hold: Hold | None = None
    ask: Ask | None = None


def compile_rate(when: RateOver, rule: str, hold: int | None, seen: Counter[tuple[str, ...]]) -> Compiled:
    """``hold``: that of the rule's action. ``seen``: what the policy's rates so far are kept under; the same again counts for itself."""
    salts = []
    for window in when.windows:
        kept = (rule, *when.per, window_key(window))
        seen[kept] += 1
        salts.append(constant(*kept, *([seen[kept] - 1] if seen[kept] > 1 else [])))
    terms = when.block_for or ((hold,) if hold else ())
    if when.shape is None and len(terms) < 2 and PLAIN_KEYS.issuperset(when.per) and all(w.what == "requests" for w in when.windows):
        windows = tuple((salt, Window.of(w.requests, w.within)) for salt, w in zip(salts, when.windows, strict=True))
        words = tuple((salt, w.interval, w.tolerance, terms[0]) for salt, w in windows) if terms else ()
        key, term = key_reader(when.per), terms[0] if terms else 0
        salt, one = windows[0]
        ask = Ask("hit", when.per, key, salt, (one.interval, one.tolerance, term)) if len(windows) == 1 else None
        return Compiled(_plain(when.per, windows, term), hold=Hold(when.per, key, words) if words else None, ask=ask)
    signature = _Signature(when, salts, terms)
    responses = any(w.what in RESPONSES for w in when.windows)
    watch = signature.fetched if when.shape is not None and when.shape.robots_fetched is not None else None
    held = signature.hold(when.per) if terms else None
    return Compiled(Dynamic(signature.test(), SIGNATURE, COUNTS), watch, responses, held, signature.ask())


# ---- keys

KeyOf = Callable[[RequestView, UaFacts, Client], int]


def _key_of(per: tuple[str, ...]) -> KeyOf:
    """The key of a request by what is counted; 0 when that is not known, and the rate then does not match."""
    parts = [_KEYS[p] for p in per]
    if len(parts) == 1:
        return parts[0]

    def several(view: RequestView, ua: UaFacts, client: Client) -> int:
        keys = [part(view, ua, client) for part in parts]
        return mix(keys) if all(keys) else 0

    return several


_KEYS: dict[str, KeyOf] = {
    "ip": lambda view, ua, client: client.ip_key,
    "subnet": lambda view, ua, client: client.subnet_key,
    "asn": lambda view, ua, client: mix((1, client.asn)) if client.asn else 0,
    "country": lambda view, ua, client: mix((2, int.from_bytes(client.country.encode(), "big"))) if client.country else 0,
    "agent": lambda view, ua, client: ua.key,
    "fingerprint": lambda view, ua, client: fingerprint_key(view),
    "global": lambda view, ua, client: 1,
}


KeyReader = Callable[[RequestView, UaFacts, Client, Rates], int]


def key_reader(per: tuple[str, ...]) -> KeyReader:
    """Like the keys of plain limits, but of families of paths too, which the store's own hash keeps apart."""
    parts, mark_of = tuple(None if part == "path" else _KEYS[part] for part in per), Families().mark
    if per == ("fingerprint",):
        return lambda view, ua, client, rates: fingerprint_key(view)
    if per == ("path",):
        return lambda view, ua, client, rates: mark_of(view.path, rates.mark)
    if len(parts) == 1 and parts[0] is not None:
        only = parts[0]
        return lambda view, ua, client, rates: only(view, ua, client)
    if per == ("ip", "path"):  # the usual one of those that mix

        def by_address_and_family(view: RequestView, ua: UaFacts, client: Client, rates: Rates) -> int:
            key = client.ip_key
            return key ^ mark_of(view.path, rates.mark) if key else 0  # both are keyed hashes: they need no more mixing

        return by_address_and_family

    def key(view: RequestView, ua: UaFacts, client: Client, rates: Rates) -> int:
        keys = [part(view, ua, client) if part else mark_of(view.path, rates.mark) for part in parts]
        return mix(keys) if all(keys) else 0

    return key


# ---- limits on requests

_BY_ADDRESS, _BY_SUBNET = _KEYS["ip"], _KEYS["subnet"]
_PLACES: dict[tuple[str, ...], int] = {("ip",): Client._fields.index("ip_key"), ("subnet",): Client._fields.index("subnet_key")}
"""Keys that lie ready in a Client."""


def _plain(per: tuple[str, ...], windows: tuple[tuple[int, Window], ...], hold: int) -> Dynamic:
    key_of = _key_of(per)
    test = _one_window(key_of, *windows[0], hold) if len(windows) == 1 else _windows(key_of, windows, hold)
    return Dynamic(test, Counts(per, windows, hold), COUNTS)


def _one_window(key_of: KeyOf, salt: int, window: Window, hold: int) -> Test:
    interval, tolerance = window.interval, window.tolerance
    if key_of is _BY_ADDRESS:  # the two that nearly every policy has: a call less for each request

        def by_address(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
            key = client.ip_key
            return rates.hit(key ^ salt, now, interval, tolerance, hold) if key else None

        return by_address
    if key_of is _BY_SUBNET:

        def by_subnet(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
            key = client.subnet_key
            return rates.hit(key ^ salt, now, interval, tolerance, hold) if key else None

        return by_subnet

    def rate(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        key = key_of(view, ua, client)
        return rates.hit(key ^ salt, now, interval, tolerance, hold) if key else None

    return rate


def _windows(key_of: KeyOf, windows: tuple[tuple[int, Window], ...], hold: int) -> Test:
    def rates_over(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        key = key_of(view, ua, client)
        if not key:
            return None
        waits = [rates.peek(key ^ salt, now, w.interval, w.tolerance, hold) for salt, w in windows]
        if not any(waits):  # admitted by every window: only then does it count in any
            return max(rates.hit(key ^ salt, now, w.interval, w.tolerance, hold) for salt, w in windows)
        if hold:  # the windows that tripped start their penalty
            waits = [
                rates.hit(key ^ salt, now, w.interval, w.tolerance, hold) if wait else 0
                for wait, (salt, w) in zip(waits, windows, strict=True)
            ]
        return max(waits)

    return rates_over


# ---- signatures


class _Signature:
    """Everything else: each part is prepared once, and ``verdict`` runs those that are there."""

    def __init__(self, when: RateOver, salts: list[int], terms: tuple[int, ...]) -> None:
        self.per, self.terms = when.per, terms
        self.key = key_reader(when.per)
        named = tuple(zip(salts, when.windows, strict=True))
        self.words = tuple(
            (salt, w.what == "documents", Window.of(w.requests, w.within)) for salt, w in named if w.what in ("requests", "documents")
        )
        self.charges = tuple((salt, _charge(w)) for salt, w in named if w.what in RESPONSES)
        self.penalty = constant("penalty", *salts)
        longest = max(w.within for w in when.windows)
        # Windows of distinct paths, and the shape, that look at one time look at one profile.
        spans = {w.within for w in when.windows if w.what == "distinct_paths"} | ({longest} if when.shape else set())
        limits = {w.within: w.requests for _, w in sorted(named, key=lambda pair: -pair[1].requests) if w.what == "distinct_paths"}
        paths = when.shape is not None and when.shape.distinct_ratio is not None
        self.profiles = tuple(
            (constant("profile", *salts, span), span, limits.get(span), span in limits or paths, span == longest and when.shape is not None)
            for span in sorted(spans)
        )
        self.shape = _shape_test(when.shape) if when.shape else None
        self.timed = when.shape is not None and when.shape.regular is not None
        self.buckets = (
            *((salt, w.interval, w.tolerance) for salt, _, w in self.words),
            *((salt, charge.within, 2 * charge.within) for salt, charge in self.charges),
        )

    def hold(self, per: tuple[str, ...]) -> Hold:
        """Where it keeps keys out; what it has counted would have them out again at once."""
        counts = (*(b[0] for b in self.buckets), *(p[0] for p in self.profiles))
        return Hold(per, self.key, ((self.penalty, 1, 1, self.terms[-1]),), counts, self.penalty)

    def test(self) -> Test:
        """What is asked of each request: with one word or one profile and nothing else, that alone."""
        if not (self.charges or self.terms):
            if len(self.words) == 1 and not self.profiles:
                return self._word(*self.words[0])
            if len(self.profiles) == 1 and not self.words:
                return self._profile(*self.profiles[0])
        return self.verdict

    def ask(self) -> Ask | None:
        """What ``_word`` or ``_profile`` asks."""
        if self.charges or self.terms or self.timed or len(self.words) + len(self.profiles) != 1:
            return None
        for salt, documents, window in self.words:
            return Ask("hit", self.per, self.key, salt, (window.interval, window.tolerance, 0), documents)
        salt, within, limit, *_ = self.profiles[0]
        return Ask("paths", self.per, self.key, salt, (within, limit)) if limit else None

    def _word(self, salt: int, documents: bool, window: Window) -> Test:
        key_of, interval, tolerance = self.key, window.interval, window.tolerance
        place = _PLACES.get(self.per, 0)

        def word(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
            key: Any = client[place] if place else key_of(view, ua, client, rates)
            if not key:
                return None
            if documents and "." in view.path and kind_of(view.path) != DOCUMENT:
                return False
            return rates.hit(key ^ salt, now, interval, tolerance, 0)

        return word

    def _profile(self, salt: int, within: int, limit: int | None, *_: bool) -> Test:
        key_of, shape, most = self.key, self.shape, limit or 0  # there is one: no words, so distinct paths are what is limited
        asked, calm = 0 if self.timed else most, UNDER[1]
        place = _PLACES.get(self.per, 0)

        def profile(view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
            key: Any = client[place] if place else key_of(view, ua, client, rates)
            if not key:
                return None
            path = view.path
            if "." in path and (kind := kind_of(path)) != DOCUMENT:
                found = rates.conduct(key ^ salt, now, within, kind, 0, False, asked)
            else:
                found = rates.conduct(key ^ salt, now, within, DOCUMENT, rates.mark(path), False, asked)
                if found is calm:  # as of nearly everybody
                    return False
                if found.distinct > most:
                    shown = shape is None or shape(found)
                    return found.left if shown else shown
            # No limit is over, so of the shape no more is asked than whether it can be judged.
            return None if shape is not None and found.documents < EVIDENCE else False

        return profile

    def verdict(self, view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        """Unknown without a key or with too little evidence of a shape; else the longest wait of all limits that are over."""
        key = self.key(view, ua, client, rates)
        if not key:
            return None
        terms = self.terms
        if terms:
            held = penalty.left(rates, key ^ self.penalty, now, terms[-1])
            if held:
                return held
        kind = kind_of(view.path)
        wait, shape = 0, True if self.shape is None else None
        for salt, within, limit, paths, shapes in self.profiles:
            mark = rates.mark(view.path) if paths and kind == DOCUMENT else 0
            found = rates.conduct(key ^ salt, now, within, kind, mark, False, 0 if shapes else limit or 0)
            if limit is not None and found.distinct > limit and kind == DOCUMENT:
                wait = max(wait, found.left)
            if shapes and self.shape is not None:
                shape = self.shape(found)
        if self.charges:
            wait = max(wait, self._owes(view, rates, key, now))
        if self.words:
            wait = max(wait, self._count(rates, key, now, kind, wait))
        if shape is None:
            return None
        if not shape or not wait:
            return False
        if not terms:
            return wait
        term = penalty.begin(rates, key ^ self.penalty, now, terms)
        if term < wait:
            self._ease(rates, key, now, term)
        return term

    def _ease(self, rates: Rates, key: int, now: int, term: int) -> None:
        """Who comes back at the end of a term, as he is told to, is served: by then one request has been refilled in each limit, and paths, which
        are not refilled, are counted anew.
        """
        for salt, interval, tolerance in self.buckets:
            if rates.peek(key ^ salt, now, interval, tolerance, 0) > term:
                rates.forget(key ^ salt)
                rates.hit(key ^ salt, now, tolerance + term - interval, tolerance, 0)
        for salt, _, limit, *_ in self.profiles:
            if limit is not None:
                rates.forget(key ^ salt)

    def _count(self, rates: Rates, key: int, now: int, kind: int, wait: int) -> int:
        """Count the request in its words unless any limit is over; the longest of their waits."""
        words = [(key ^ salt, w) for salt, documents, w in self.words if kind == DOCUMENT or not documents]
        if len(words) == 1 and not wait:
            at, window = words[0]
            return rates.hit(at, now, window.interval, window.tolerance, 0)
        waits = [rates.peek(at, now, w.interval, w.tolerance, 0) for at, w in words]
        if not wait and not any(waits):
            waits = [rates.hit(at, now, w.interval, w.tolerance, 0) for at, w in words]
        return max(waits, default=0)

    def _owes(self, view: RequestView, rates: Rates, key: int, now: int) -> int:
        """The wait until what earlier responses cost is paid off; this request's response will be charged."""
        owed = getattr(view, "owed", None)
        if owed is None:
            owed = view.owed = []
        wait = 0
        for salt, charge in self.charges:
            wait = max(wait, rates.peek(key ^ salt, now, charge.within, 2 * charge.within, 0))
            owed.append((charge, key ^ salt, rates, now))
        return wait

    def fetched(self, view: RequestView, ua: UaFacts, client: Client, rates: Rates, now: int, score: int) -> Verdict:
        """Note that the key has fetched /robots.txt."""
        key = self.key(view, ua, client, rates)
        for salt, within, _, _, shapes in self.profiles:
            if key and shapes:
                rates.conduct(key ^ salt, now, within, ROBOTS, 0)
        return None


def _charge(window: WindowIs) -> Charge:
    return Charge(window.what, window.requests, window.within)


def _limits(bound: Bound | None) -> Limits:
    if bound is None:
        return ANY
    return (bound.share, ANY[1]) if bound.over else (ANY[0], bound.share)


def _shape_test(shape: Shape) -> Callable[[Conduct], bool | None]:
    return partial(
        judge,
        assets=_limits(shape.assets),
        distinct=_limits(shape.distinct_ratio),
        robots=shape.robots_fetched,
        regular=shape.regular,
    )
