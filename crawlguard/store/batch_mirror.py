"""What one process knows of a store that it asks only now and then: the answers heard last, and what it has counted itself since.

Words are exact but for what other processes admitted since a key was heard of last. Profiles and groups are as they were heard last, and calm
until then. Knows no network: ``take`` gives away what is to be told to the server, ``hear`` takes what it said.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..signals import penalty
from ..signals.conduct import ASSET, Conduct
from ..signals.rate import Keyer, mix2
from ..signals.swarm import CALM, EVIDENCE, UNSETTLED, Swarm, hot, strikes
from . import script as op
from .memory import MemoryStore
from .memory_swarm import _Generations as Generations
from .script import Answer, Asked, conduct_of, swarm_of

WORDS, PROFILES, GROUPS, MEMBERS = 65_536, 16_384, 512, 65_536
"""Entries in a generation, two of which are kept: about 100, 250 and 250 bytes each, and 70 a member; 30 MB at most."""
HELD = 16_384
"""Operations and words that are gathered between two flushes at most; more are lost, and counted."""


class Word:
    """What a process did to a word: the cost (us) that it admitted, and whether it began to keep the key out."""

    __slots__ = ("cost", "hold", "interval", "struck", "tolerance")

    def __init__(self, interval: int, tolerance: int, hold: int) -> None:
        self.cost, self.struck, self.interval, self.tolerance, self.hold = 0, False, interval, tolerance, hold


class Told(NamedTuple):
    """An operation that the server is to be told, and the time (us) at which a request asked for it."""

    asked: Asked
    now: int


class Heard:
    """A dict in two generations: what is in use survives when strangers flood it."""

    def __init__(self, generation: int) -> None:
        self._generation = generation
        self._new: dict[int, tuple[int, NamedTuple]] = {}
        self._old: dict[int, tuple[int, NamedTuple]] = {}

    def get(self, key: int) -> tuple[int, NamedTuple] | None:
        """What was heard of a key: the time (us) until which it holds, and the answer."""
        return self._new.get(key) or self._old.get(key)

    def put(self, key: int, until: int, answer: NamedTuple) -> None:
        """Remember an answer."""
        if key not in self._new and len(self._new) >= self._generation:
            self._old, self._new = self._new, {}
        self._new[key] = until, answer

    def drop(self, key: int) -> None:
        """Forget a key."""
        self._new.pop(key, None)
        self._old.pop(key, None)


class Mirror(MemoryStore):
    """Rates (see RateStore) that answer at once, and gather what the server is to be told.

    ``suspects``: the time (us) until which some group is a swarm, as far as has been heard. ``lost``: what was not
    gathered for want of room.
    """

    def __init__(self, seed: bytes, clock: Callable[[], int]) -> None:
        """``clock``: nanoseconds, as of the guard."""
        super().__init__(WORDS)
        self.seed, self.mark, self._clock = seed, Keyer(seed).text, clock
        self.lost = self.suspects = 0
        self._heard, self._swarmed = Heard(PROFILES), Heard(GROUPS)
        self._residents, self._bare = Generations(MEMBERS), Generations(MEMBERS)
        self.renew()

    def renew(self) -> None:
        """In a process that has just been forked: what was gathered is the parent's to tell."""
        self._lock = threading.Lock()
        self._words: dict[int, Word] = {}
        self._told: list[Told] = []

    # ---- what requests use

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """See RateStore."""
        with self._lock:
            wait = MemoryStore.hit(self, key, now, interval, tolerance, hold)
            word = self._words.get(key) or self._word(key, interval, tolerance, hold)
            if not wait:
                word.cost += interval
            elif wait == hold:  # who is kept out already waits for less
                word.struck, word.interval, word.tolerance, word.hold = True, interval, tolerance, hold
        return wait

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """See RateStore. The server is asked about the key with the next flush."""
        with self._lock:
            if key not in self._words:
                self._word(key, interval, tolerance, hold)
            return MemoryStore.peek(self, key, now, interval, tolerance, hold)

    def _word(self, key: int, interval: int, tolerance: int, hold: int) -> Word:
        word = Word(interval, tolerance, hold)
        if len(self._words) < HELD:
            self._words[key] = word
        else:
            self.lost += 1
        return word

    def _tell(self, asked: Asked, now: int) -> None:
        if len(self._told) < HELD:
            self._told.append(Told(asked, now))
        else:
            self.lost += 1

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """See RateStore."""
        with self._lock:
            self._tell(op.conduct(key, within, kind, mark, dry), now)
            found = self._heard.get(key)
        if found is None or found[0] <= now:
            return op.UNHEARD
        until, profile = found
        return profile._replace(left=until - now)  # type: ignore[return-value]

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        """See RateStore. Nobody is struck of whom the server has not said that he is no resident: see ``doubts``."""
        with self._lock:
            self._tell(op.swarm(key, member, within, kind, mark, dry, clients, times), now)
            if kind == ASSET:
                if not dry:
                    self._residents.add(member)
                return CALM
            found = self._swarmed.get(key)
            if found is None or found[0] <= now:
                return UNSETTLED
            until, group = found
            resident = self._residents.has(member)
            bare = not resident and self._bare.has(_once(key, member, until))
        if not (resident or bare):
            return CALM if group.settled >= EVIDENCE else UNSETTLED  # type: ignore[attr-defined]
        return group._replace(left=until - now, resident=resident, seen=bare, known=False)  # type: ignore[return-value]

    def doubts(self, key: int, member: int, now: int, kind: int, clients: int, times: int) -> bool:
        """Whether a group is a swarm, and nothing has been heard of a member, or he has just loaded an asset. Never where nobody is known
        to load assets: there nobody is struck.
        """
        found = self._swarmed.get(key)
        if found is None or found[0] <= now or not _suspect(found[1], clients, times):  # type: ignore[arg-type]
            return False
        return not self._residents.has(member) and (kind == ASSET or not self._bare.has(_once(key, member, found[0])))

    def forget(self, key: int) -> None:
        """See RateStore."""
        with self._lock:
            self._let_go(key)
            self._tell(Asked(op.FORGET, key, ()), 0)

    def let_go(self, keys: Sequence[int]) -> None:
        """Forget keys that the server has forgotten already."""
        with self._lock:
            for key in keys:
                self._let_go(key)

    def _let_go(self, key: int) -> None:
        MemoryStore.forget(self, key)
        self._heard.drop(key)
        self._words.pop(key, None)

    # ---- what the flush uses

    def take(self) -> list[Asked]:
        """All that has been gathered: one operation for each word, the others in their order, by the time that has passed since."""
        with self._lock:
            words, self._words = self._words, {}
            told, self._told = self._told, []
        now = self._now()
        if self.suspects <= now:
            self.suspects = 0
        asked = [_aged(one, now) for one in told]
        asked += [op.add(key, word.cost, word.interval, word.tolerance, word.hold, word.struck) for key, word in words.items()]
        return asked

    def hear(self, asked: Sequence[Asked], answers: Sequence[Answer]) -> None:
        """What the server said; nothing to those whose answer is empty or missing."""
        now = self._now()
        with self._lock:
            for one, answer in zip(asked, answers, strict=False):
                if not answer:
                    continue
                if one.code == op.ADD:
                    self._hear_word(one.key, answer[0], now)
                    if answer[0] < 0 and one.numbers[1] == 1:
                        self._hear_penalty(one, -answer[0])
                elif one.code == op.CONDUCT:
                    self._heard.put(one.key, now + answer[8], conduct_of(answer))
                elif one.code == op.SWARM:
                    self.hear_swarm(one, swarm_of(answer), now)

    def _hear_word(self, key: int, state: int, now: int) -> None:
        since = self._words.get(key)
        if since is not None and since.struck:
            return
        tat = now + state + (since.cost if since is not None else 0) if state >= 0 else state - now
        if key not in self._new and len(self._new) >= self._generation:
            self._old, self._new = self._new, {}
        self._new[key] = tat

    def _hear_penalty(self, asked: Asked, left: int) -> None:
        """Of one offence that several processes saw, all but the first take back what they told; and whoever hears that a key is held asks for its
        offences, to know the next term.
        """
        offences, hold, struck = penalty.offences_of(asked.key), *asked.numbers[2:4]
        if struck and left != hold:
            self._tell(Asked(op.REFUND, offences, (penalty.DAY,)), 0)
        if offences not in self._words:
            self._word(offences, penalty.DAY, penalty.DAY, 0)

    def hear_swarm(self, asked: Asked, group: Swarm, now: int) -> None:
        """What the server said of a group and of the member who asked."""
        member, clients, times = asked.numbers[5], asked.numbers[7], asked.numbers[8]
        known, until = self._swarmed.get(asked.key), now + group.left
        if known is not None and abs(known[0] - until) < NEAR:
            until = known[0]  # it names the window, under which members are remembered
        self._swarmed.put(asked.key, until, group)
        if group.resident or (asked.numbers[1] == ASSET and not asked.numbers[4]):
            self._residents.add(member)
        elif strikes(
            group, clients, times
        ):  # who is let through is asked about again: he may load an asset next, of which another process hears
            self._bare.add(_once(asked.key, member, until))
        if _suspect(group, clients, times):
            self.suspects = max(self.suspects, until)

    def _now(self) -> int:
        return self._clock() // 1000


NEAR = 1_000_000
"""Microseconds within which two answers speak of one window: its end is told relative to the server's clock, and calls take their time."""


def _suspect(group: Swarm, clients: int, times: int) -> bool:
    return group.settled >= EVIDENCE and hot(group.clients, group.documents, group.distinct, group.usual, clients, times)


def _once(key: int, member: int, until: int) -> int:
    return mix2(mix2(key, member), until)


def _aged(told: Told, now: int) -> Asked:
    """An operation with the time that has passed since the request, where that matters."""
    code, key, numbers = told.asked
    if code == op.CONDUCT:
        return Asked(code, key, (*numbers, max(0, now - told.now)))
    return told.asked
