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

DOCUMENTS, _ASSETS, _ROBOTS = 42, 20, 14
"""Counts are one word: documents << 42 | assets << 20 | robots << 14, each saturating; the lowest bits are the stores' own."""
ONE: Final = 1 << DOCUMENTS
FULL: Final = (1 << 22) - 1 << DOCUMENTS
_MANY, _MANY_ROBOTS = (1 << 22) - 1, (1 << 6) - 1

EVIDENCE: Final = 20
"""Documents before a shape is judged: a visitor who opens fewer pages shows none, and a share of fewer is chance."""

_new = tuple.__new__  # a third of what Conduct() costs

Paces = tuple[int, int, float, float]
"""Documents whose times were noted, the time of the last one (us), and of the gaps between them the mean (us) and the sum of squared differences
from it (us^2)."""
NONE_PACED: Final[Paces] = (0, 0, 0.0, 0.0)


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
    return (counts >> DOCUMENTS) + (counts >> _ASSETS & _MANY)


def running(until: int, now: int, within: int) -> bool:
    """Whether a window that ends at ``until`` is one that still counts."""
    return now < until <= now + within + AHEAD


def counted(counts: int, kind: int) -> int:
    """The counts after one more request."""
    if kind == DOCUMENT:
        return counts + ONE if counts < FULL else counts
    if kind == ASSET:
        return counts + (1 << _ASSETS) if counts >> _ASSETS & _MANY < _MANY else counts
    return counts + (1 << _ROBOTS) if counts >> _ROBOTS & _MANY_ROBOTS < _MANY_ROBOTS else counts


def paced(paces: Paces, now: int) -> Paces:
    """The paces after one more document. The running mean and spread are Welford's (Knuth, TAOCP 4.2.2)."""
    noted, last, mean, spread = paces
    if noted:
        gap = now - last if now > last else 0
        off = gap - mean
        mean += off / noted
        spread += off * (gap - mean)
    return min(noted + 1, _MANY), now, mean, spread


def conduct_of(counts: int, paces: Paces, distinct: int, left: int) -> Conduct:
    """What has been counted in a window that ends in ``left`` us."""
    documents, assets, robots = counts >> DOCUMENTS, counts >> _ASSETS & _MANY, counts >> _ROBOTS & _MANY_ROBOTS
    noted, _, mean, spread = paces
    gaps = noted - 1 if noted else 0
    deviation = int(sqrt(spread / gaps)) if gaps and spread > 0 else 0
    return _new(Conduct, (documents + assets + robots, documents, assets, robots, distinct, gaps, int(mean), deviation, left))


UNDER: Final = (Conduct(0, 0, 0, 0, 0, 0, 0, 0, 0), Conduct(EVIDENCE, EVIDENCE, 0, 0, 0, 0, 0, 0, 0))
"""What a store may say of a key that is not over its limit of distinct paths: while there are fewer documents than EVIDENCE, and then."""
