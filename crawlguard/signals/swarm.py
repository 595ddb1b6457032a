"""Swarms: many addresses, few requests each, one behaviour. What is known of a group in a window, and whom the verdict strikes.

Whoever loads what belongs to pages (CSS, images, a favicon) is a *resident*, and stays one for long. A group is judged by its bare members
alone, those who load none: so a swarm shows among people who share its fingerprint or network, and people in a group make nobody suspect.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .rate import US
from .sketch import estimate

DISTINCT: Final = 0.8
"""The share of different pages among the bare members' documents above which they go through a site together: visitors come by the same few
doors, feed readers ask for one page, and a crawl that is handed out to many addresses asks for hardly any page twice."""
MIXED: Final = 50
"""A group is mixed when it has at least one request by residents for so many bare clients (2%): then a newcomer may be one of them."""
SLOWLY: Final = 64
"""Windows over which the usual number of clients is learnt: at 10 minutes each, half a day. No window teaches more than twice what is usual, so
a swarm that wants to become usual has to come as one for a day or more."""
EVIDENCE: Final = 100
"""Residents that must have been seen before anybody is struck: where assets never reach the guard (a proxy serves them), nobody can be told apart."""
PAUSE: Final = 60 * US
"""The longest that a refused member is asked to wait: whoever turns out to be a person comes back soon."""


class Swarm(NamedTuple):
    """One group in its running window, and what is known of the member who asks.

    ``clients``: different bare members, to 5%; ``documents`` and ``distinct``: what they asked for (but for the page by which each resident came), and
    how many different paths; ``residents``: requests by
    residents, and members who became one. ``usual``: bare clients in a window, as learnt. ``left``: us until the window ends. ``settled``: residents, and paths of
    theirs, that the host has come to know. Of the member:
    ``resident``; ``seen`` before in this window; ``known``: its path is one that residents ask for, or came in by.
    """

    clients: int
    documents: int
    distinct: int
    residents: int
    usual: int
    left: int
    settled: int
    resident: bool
    seen: bool
    known: bool


CALM: Final = Swarm(0, 0, 0, 0, 0, 0, EVIDENCE, False, False, False)
UNSETTLED: Final = CALM._replace(settled=0)
"""What a store may say where nobody is struck: whom the group would be made of does not matter then."""


def learnt(usual: int, ones: int, ended: int, now: int, within: int) -> int:
    """The usual number of clients (in 256ths) after a window with ``ones`` bits set that ended at ``ended``, and the empty ones since."""
    clients = estimate(ones) << 8
    usual += ((min(clients, 2 * usual) if usual else clients) - usual) // SLOWLY
    empty = max(0, now - ended) // within
    return int(usual * (1 - 1 / SLOWLY) ** min(empty, 4096))


def hot(clients: int, documents: int, distinct: int, usual: int, least: int, times: int) -> bool:
    """Whether a group with these counts (see Swarm) is a swarm: ``least`` clients, ``times`` what is usual, and on paths of their own."""
    return clients >= least and clients >= times * usual and distinct > DISTINCT * documents


def strikes(swarm: Swarm, clients: int, times: int) -> int | None:
    """0 for a member who is let through, else the wait in us; None where nobody is known to load assets. To be asked about documents only."""
    if swarm.settled < EVIDENCE:
        return None
    if swarm.resident or not hot(swarm.clients, swarm.documents, swarm.distinct, swarm.usual, clients, times):
        return 0
    if swarm.known and not swarm.seen and swarm.residents * MIXED >= swarm.clients:
        return 0
    return min(swarm.left, PAUSE)
