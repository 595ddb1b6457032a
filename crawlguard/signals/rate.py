"""Rates: the arithmetic of GCRA and the keys under which clients are counted. Times are whole microseconds.

GCRA (ITU-T I.371) keeps one number for each key: the *theoretical arrival time* (TAT) at which the bucket would be full
again. ``requests: N, within: T`` is a burst of N, refilled evenly over T.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

US = 1_000_000
"""Microseconds in a second."""

SUBNET_V4, SUBNET_V6 = 3, 6
"""Bytes of a neighbourhood, /24 and /48: the longest prefixes that are routed on their own. One client is an IPv4 address, or
an IPv6 /64 (RFC 6177: the least that one customer gets)."""

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio (Knuth, TAOCP 6.4)
_THREE, _word = Struct("<3Q"), Struct("<Q").unpack


class Window(NamedTuple):
    """One limit in GCRA's terms: a request every ``interval`` us, with ``tolerance`` us of burst in hand."""

    requests: int
    within: int
    interval: int
    tolerance: int

    @classmethod
    def of(cls, requests: int, within_us: int) -> Window:
        """``requests`` in ``within_us`` microseconds. The interval is at least 1 us."""
        interval = max(1, within_us // requests)
        return cls(requests, within_us, interval, interval * requests)


def gcra(tat: int, now: int, window: Window) -> tuple[int, int]:
    """One request at ``now`` under a TAT: (the new TAT, the wait in us). Wait 0 admits; else the TAT stays as it was."""
    due = (max(now, tat)) + window.interval
    wait = due - now - window.tolerance
    return (due, 0) if wait <= 0 else (tat, wait)


def refilled(end: int, now: int, interval: int, tolerance: int, hold: int) -> int:
    """The TAT of a key that was kept out for ``hold`` us until ``end``: it was at its limit when that began, and has been refilled since, by one
    request at least.

    So whoever comes back when told to is served, and a limit that also keeps out admits no more than the limit alone (but for that one request
    where a hold is shorter than an interval). Without a hold, or before ``end``, a key counts as fresh.
    """
    return end + tolerance - max(hold, interval) if hold and end <= now else now


LONG = 2048
"""Characters of a text that count."""


class Keyer:
    """Keyed 64-bit hashes of what is counted, so that nobody outside can choose keys that collide.

    ``seed``: at least 16 secret bytes, the same for all workers that share a store.
    """

    __slots__ = ("_base", "_last", "_texts")

    def __init__(self, seed: bytes) -> None:
        self._base = blake2b(key=seed[:64], digest_size=24)
        # The secret is where the hash begins, as in NMAC (Bellare, Canetti and Krawczyk, CRYPTO 1996): a key would be a block more for each text.
        secret = blake2b(key=seed[:64], digest_size=32, person=b"text").digest()
        self._texts = blake2b(digest_size=8, salt=secret[:16], person=secret[16:])
        self._last: tuple[str | None, int] = None, 0

    def text(self, text: str) -> int:
        """The key of a path or another text, of which the first LONG characters count. Never 0."""
        last, key = self._last
        if text is not last:  # the rules of a policy ask one after another about one request
            state = self._texts.copy()
            try:
                state.update((text if len(text) <= LONG else text[:LONG]).encode())
            except UnicodeEncodeError:  # a lone surrogate
                state.update(text[:LONG].encode("utf-8", "surrogatepass"))
            key = _word(state.digest())[0] or 1
            self._last = text, key
        return key

    def address(self, packed: bytes) -> tuple[int, int]:
        """The keys of a packed address: as one client, and as a part of its neighbourhood. Never 0.

        One hash serves both. The neighbourhood's digest gives its key, and a start and an odd step by which the clients
        inside it are numbered: they differ from each other for certain, and from all others as hashes do.
        """
        size = len(packed)
        state = self._base.copy()
        if size == 4:
            state.update(packed[:SUBNET_V4])
            rest = packed[3]
        else:
            state.update(packed[:SUBNET_V6])
            rest = packed[6] << 8 | packed[7]
        subnet, start, step = _THREE.unpack(state.digest())
        return start + rest * (step | 1) & _MASK or 1, subnet or 1


def mix(parts: Sequence[int]) -> int:
    """One key of several: order matters, so (ip, agent) never meets (agent, ip)."""
    key = 0
    for part in parts:
        key = (key * _GOLDEN + part) & _MASK
    return key


def mix2(first: int, second: int) -> int:
    """``mix`` of two 64-bit numbers."""
    return (first * _GOLDEN + second) & _MASK
