"""All that one request asks of a store on another machine, in one call: record, call, replay.

Rules ask one after another, and what comes next depends on the answers. For nearly every request these are calm: nothing is over its
limit. So a decision is worked out once on calm answers while what it asks is written down (``Script``), all of that goes to the store in
one call, which ends after the first operation that strikes somebody, and the decision is worked out again on the true answers. Where it then
asks for something else (somebody is over a limit and another rule has to be asked, or a penalty begins), that goes out in a second call.
What the other nodes of a cluster counted meanwhile is given back, so that what is refused uses up nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ..signals.conduct import Conduct
from ..signals.sketch import LOW, estimate
from ..signals.swarm import CALM, Swarm
from .ops import Op

HIT, PEEK, CONDUCT, SWARM, REFUND, CHARGE, CLOCK, FORGET, HELD, ADD = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
CALLS: Final = 16
"""Calls for one request at most; what is still asked then counts as calm. Nearly all take one; the one that begins the last of 8 growing terms
(``policy.rates.MAX_TERMS``) takes 11: each term that an offender has had strikes. All of them share the link's limit."""

Answer = Sequence[int]


class Asked(NamedTuple):
    """One operation: its code, the key that decides where its state lies, and the numbers that the server gets."""

    code: int
    key: int
    numbers: tuple[int, ...]


def hit(key: int, interval: int, tolerance: int, hold: int) -> Asked:
    """See RateStore; so with the others."""
    return Asked(HIT, key, (interval, tolerance, hold))


def peek(key: int, interval: int, tolerance: int, hold: int) -> Asked:
    return Asked(PEEK, key, (interval, tolerance, hold))


def conduct(key: int, within: int, kind: int, mark: int, dry: bool, limit: int = 0) -> Asked:
    return Asked(CONDUCT, key, (within, kind, mark & LOW if mark else -1, int(dry), limit))


def swarm(key: int, member: int, within: int, kind: int, mark: int, dry: bool, clients: int = 0, times: int = 0) -> Asked:
    return Asked(SWARM, key, (within, kind, member & LOW, mark & LOW if mark else -1, int(dry), member, mark, clients, times))


def add(key: int, cost: int, interval: int, tolerance: int, hold: int, struck: bool) -> Asked:
    """What a process has admitted of a key by itself: its cost in us, and whether it has begun to keep the key out."""
    return Asked(ADD, key, (cost, tolerance, hold, int(struck), interval))


_PLACES = {HIT: "w", PEEK: "w", CONDUCT: "c", SWARM: "g", REFUND: "w", CHARGE: "w", CLOCK: "w", FORGET: "w", HELD: "w", ADD: "w"}


def sent(site: str, parts: int, asked: Sequence[Asked]) -> list[Op]:
    """Operations as the server gets them. ``parts``: hash tags over which a site's keys are spread, 1 where there is but one server.

    A swarm's residents are known within its part.
    """
    if parts == 1:
        return [(f"cg:{{{site}}}:{_PLACES[code]}{key:x}", (code, *numbers)) for code, key, numbers in asked]
    return [(f"cg:{{{site}.{key % parts}}}:{_PLACES[code]}{key:x}", (code, *numbers)) for code, key, numbers in asked]


UNHEARD: Final = Conduct(0, 0, 0, 0, 0, 0, 0, 0, 0)
"""A profile of which nothing has been heard."""


class Script:
    """Rates that answer what is known, and calmly what is not, writing it down in ``asked``.

    ``mark``: the store's hash of texts. Times are the server's: ``now`` is left alone.
    """

    def __init__(self, mark: Callable[[str], int]) -> None:
        self.mark = mark
        self.asked: list[Asked] = []
        self._told: list[tuple[Asked, Answer]] = []
        self._spilt: list[tuple[Asked, Answer]] = []
        self._at = 0

    def again(self) -> None:
        """Begin another run."""
        self._at, self.asked = 0, []

    @property
    def told(self) -> bool:
        """Whether the store has answered anything."""
        return bool(self._told)

    def learn(self, answers: Sequence[Answer]) -> None:
        """What the store said to the first of what was asked; to the others it said nothing."""
        known = self._at - len(self.asked)
        self._spilt += self._told[known:]
        said = list(zip(self.asked, answers, strict=False))
        done = next((n for n, (_, answer) in enumerate(said) if not answer), len(said))  # a node of a cluster ended its part early
        self._spilt += [pair for pair in said[done:] if pair[1]]
        self._told = [*self._told[:known], *said[:done]]

    def unused(self) -> list[Asked]:
        """Refunds of what was counted and then not asked for, as an earlier rule had decided."""
        unheard = [*self._spilt, *self._told[self._at - len(self.asked) :]]
        return [Asked(REFUND, op.key, op.numbers[:1]) for op, answer in unheard if op.code == HIT and not answer[0]]

    def _answer(self, op: Asked) -> Answer | None:
        at = self._at
        self._at += 1
        if not self.asked and at < len(self._told):
            asked, answer = self._told[at]
            if asked == op:
                return answer
        self.asked.append(op)
        return None

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """See RateStore."""
        answer = self._answer(hit(key, interval, tolerance, hold))
        return answer[0] if answer else 0

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """See RateStore."""
        answer = self._answer(peek(key, interval, tolerance, hold))
        return answer[0] if answer else 0

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """See RateStore."""
        answer = self._answer(conduct(key, within, kind, mark, dry, limit))
        return conduct_of(answer) if answer else UNHEARD

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        """See RateStore."""
        answer = self._answer(swarm(key, member, within, kind, mark, dry, clients, times))
        return swarm_of(answer) if answer else CALM

    def forget(self, key: int) -> None:
        """See RateStore."""
        self._answer(Asked(FORGET, key, ()))


def conduct_of(answer: Answer) -> Conduct:
    """What the server says of a profile."""
    documents, assets, robots, ones, few, gaps, mean, deviation, left = answer
    return Conduct(
        documents + assets + robots, documents, assets, robots, estimate(ones) if ones >= 0 else few, gaps, mean, deviation, left
    )


def swarm_of(answer: Answer) -> Swarm:
    """What the server says of a group and of a member."""
    clients, documents, paths, residents, usual, left, ever, resident, seen, known = answer
    return Swarm(estimate(clients), documents, estimate(paths), residents, usual, left, ever, bool(resident), bool(seen), bool(known))
