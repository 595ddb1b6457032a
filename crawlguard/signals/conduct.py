"""How a client goes about a site, within one window, in a few numbers: what rates with conditions on the shape look at.

The window tumbles: it begins with the key's first request in it. All of it is arithmetic on values; where they lie is the stores' affair.
"""

from __future__ import annotations

from math import sqrt
from typing import Final, NamedTuple

DOCUMENT, ASSET, ROBOTS = 0, 1, 2
"""Kinds of requests."""

ASSETS: Final = frozenset(
    (
        "css", "js", "mjs", "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "bmp", "woff", "woff2", "ttf", "otf", "eot", "map",
        "mp4", "webm", "mp3", "ogg", "m4a", "wasm",
    )
)  # fmt: skip
"""How the path ends of what a browser loads by itself for a page; the analyzer's list, so that a log and the guard tell the same apart."""

LONGEST: Final = max(map(len, ASSETS))

AHEAD: Final = 60_000_000
"""Microseconds by which another worker's window may end later than ours could: its clock was read later. What is further is no window of ours."""

DOCUMENTS, _ASSETS = 40, 16
_FULL, _FULL_ROBOTS = (1 << 24) - 1, (1 << 16) - 1
_ONE, _SMALL = 1 << DOCUMENTS, (1 << DOCUMENTS) - 1

_new = tuple.__new__  # a third of what Conduct() costs

State = tuple[int, int, int, float, float]
"""until (us), counts (documents << 40 | assets << 16 | robots, each saturating), time of the last document (us), and of the gaps between
documents the mean (us) and the sum of squared differences from it (us^2)."""
FRESH: Final[State] = (0, 0, 0, 0.0, 0.0)


class Conduct(NamedTuple):
    """One key's requests in the running window. Times in us.

    ``requests`` is all of them, ``documents`` those for pages, ``assets`` for what belongs to pages, ``robots`` for /robots.txt. ``distinct``:
    different document paths, to 5% (``sketch``). ``gaps`` between documents, with their ``mean`` and standard ``deviation``. ``left``: until the window ends.
    """

    requests: int
    documents: int
    assets: int
    robots: int
    distinct: int
    gaps: int
    mean: int
    deviation: int
    left: int


def kind_of(path: str) -> int:
    """DOCUMENT, ASSET or ROBOTS, by a decoded path without its query."""
    dot = path.rfind(".", -LONGEST - 1)
    if dot < 0:
        return DOCUMENT
    if path[dot + 1 :].lower() in ASSETS:
        return ASSET
    return ROBOTS if path == "/robots.txt" else DOCUMENT


def weight(counts: int) -> int:
    """How many requests the counts of a state stand for: what has most is the last to be forgotten."""
    return (counts >> DOCUMENTS) + (counts >> _ASSETS & _FULL)


def running(until: int, now: int, within: int) -> bool:
    """Whether a window that ends at ``until`` is one that still counts."""
    return now < until <= now + within + AHEAD


def step(counts: int, last: int, mean: float, spread: float, now: int, kind: int) -> tuple[int, int, float, float]:
    """The rest of a state in a running window, after one more request. The running mean and spread are Welford's (Knuth, TAOCP 4.2.2)."""
    if kind == DOCUMENT:
        documents = counts >> DOCUMENTS
        if documents:
            gap = now - last if now > last else 0
            off = gap - mean
            mean += off / documents
            spread += off * (gap - mean)
        return (counts + _ONE if documents < _FULL else counts), now, mean, spread
    if kind == ASSET:
        if counts >> _ASSETS & _FULL < _FULL:
            counts += 1 << _ASSETS
    elif counts & _FULL_ROBOTS < _FULL_ROBOTS:
        counts += 1
    return counts, last, mean, spread


def conduct_of(state: State, now: int, distinct: int) -> Conduct:
    """What a state says at ``now``."""
    until, counts, _, mean, spread = state
    documents, small = counts >> DOCUMENTS, counts & _SMALL
    assets, robots = small >> _ASSETS, small & _FULL_ROBOTS
    gaps = documents - 1 if documents else 0
    deviation = int(sqrt(spread / gaps)) if gaps and spread > 0 else 0
    return _new(Conduct, (documents + assets + robots, documents, assets, robots, distinct, gaps, int(mean), deviation, until - now))
