"""Who is kept out of a site, in words, for all of its hosts: two hashes on their server, and what this process has read of them.

No request waits for any of it. A thread of each process asks once a second whether bans by hand have changed, with one small call, and only
then reads them; it also writes down the bans that rules began in that second. While the server is away the bans known last stay. Whatever
else stands in the hashes is not believed, and is the first to go where they are full.
"""

from __future__ import annotations

import json
import re
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from ..log import own
from .bans import LOCK_WAIT, REASON, RULE, WHO, Record, cut
from .breaker import Unreachable

if TYPE_CHECKING:
    from .remote import RemoteStore

LOOK_EVERY = 1.0
"""Seconds between two looks at the version: a ban by hand acts on all hosts that long after it was added, at the latest."""
NOTES = 256
"""Bans of rules that a process writes down in a second; more are in force and not listed, and counted as lost."""
DRIFT = 1_000_000
"""Microseconds by which the clocks of the server and of this host may part before the bans' ends are worked out anew."""
LONGEST = 32 * 86_400_000_000
"""Microseconds; what claims to end later was not written by crawlguard, whose operators may ban for 31 days."""
SPARE = 0.5
"""Seconds that an operator's call may take besides the link's limit, and the thread's too: nobody else waits for them."""

_LOOK = "return {redis.call('GET', KEYS[1]), redis.call('TIME')}"
_VALUE = re.compile(rb"(\d{1,16}) (\d{1,16}) (\d{1,10}) (.*)", re.DOTALL)


class Note(NamedTuple):
    """A ban that a rule may have begun: what to look it up by (see ``RemoteStore.held``), and whom to tell how long it lasts (us)."""

    record: Record
    words: Sequence[tuple[int, int, int, int]]
    tell: Callable[[int], None]


class RemoteBans:
    """A record of bans (see ``store.bans.Bans``) beside a RemoteStore. ``clock``: nanoseconds, as of the guard whose bans these are.

    ``all``, ``put`` and ``drop`` wait for the server and raise Unreachable; ``all(by_hand=True)`` and ``later`` wait for nothing.
    """

    def __init__(self, store: RemoteStore, clock: Callable[[], int]) -> None:
        self.changes: memoryview | list[int] = [0]
        self._store, self._clock = store, clock
        self._script = files(__package__).joinpath("bans.lua").read_text()
        tag = f"cg:{{{store.site}}}:bans"
        self._keys = (tag, f"{tag}:rules", f"{tag}:version")
        self._by_hand: list[Record] = []
        self._version, self._apart = b"", 0
        self._notes: deque[Note] = deque()
        self._told = ""
        if store.joined:
            with suppress(Unreachable):
                self.look()
        store.threads.stand("bans", partial(self._keep, weakref.ref(self), store))

    @property
    def seed(self) -> bytes:
        """That of the store: all hosts', once it has been heard of."""
        return self._store.seed

    # ---- what requests use

    def all(self, by_hand: bool = False) -> list[Record]:
        """Every record, or those by hand as this process has read them last; of bans that are over too."""
        if by_hand:
            return self._by_hand
        by_hands, of_rules = self._read()
        return by_hands + of_rules

    def later(self, note: Note) -> None:
        """Write a rule's ban down within a second, if its words are held then."""
        if len(self._notes) >= NOTES:
            self._store.lost += 1
            return
        self._notes.append(note)

    # ---- what operators and the thread use

    def put(self, record: Record, now: int, patience: float = LOCK_WAIT) -> bool:
        """Write a ban; see Bans. Raises Unreachable."""
        self._write([record], now)
        if record.by_hand:
            self.look(anew=True)
        return True

    def drop(self, records: list[Record], patience: float = LOCK_WAIT) -> int:
        """Take records out; see Bans. Raises Unreachable."""
        dropped = self._run("drop", *(_field(one) for one in records))
        self.look(anew=True)
        if not isinstance(dropped, int):
            raise Unreachable("it answers with something that is no answer")
        return dropped

    def look(self, anew: bool = False) -> None:
        """Read the bans by hand where they have changed since they were read, or ``anew``. Raises Unreachable."""
        version, time = _pair(self._store.link.ask(self._keys[2], "EVAL", _LOOK, 1, self._keys[2], patience=self._patience))
        seconds, micro = _pair(time)
        if not isinstance(version, bytes | None) or not _digits(seconds) or not _digits(micro):
            raise Unreachable("it answers with something that is no answer")
        apart = int(seconds) * 1_000_000 + int(micro) - self._now()
        if not anew and (version or b"") == self._version and abs(apart - self._apart) < DRIFT:
            return
        self._by_hand, _ = self._read()
        self._version, self._apart = version or b"", apart
        self.changes[0] = self.changes[0] + 1

    def note_down(self) -> None:
        """Write down the bans of rules that have been given to ``later``. Raises Unreachable; then they are lost, and counted."""
        notes = [self._notes.popleft() for _ in range(len(self._notes))]
        if not notes:
            return
        try:
            held = iter(self._store.held([word for note in notes for word in note.words]))
            begun = [(note, left) for note in notes if (left := max(next(held) for _ in note.words))]
            now = self._now()
            self._write([note.record._replace(until=now + left) for note, left in begun], now)
        except Unreachable:
            self._store.lost += len(notes)
            raise
        for note, left in begun:
            note.tell(now + left)

    @property
    def _patience(self) -> float:
        return self._store.link.limit + SPARE

    def _now(self) -> int:
        return self._clock() // 1000

    def _run(self, *args: str | bytes | int) -> Any:
        return self._store.link.ask(self._keys[0], "EVAL", self._script, 3, *self._keys, *args, patience=self._patience)

    def _write(self, records: Sequence[Record], now: int) -> None:
        args: list[str | bytes | int] = []
        for one in records:
            rest = [one.client, one.size, one.prefix, *(cut(text, most).decode() for text, most in ((one.who, WHO), (one.reason, REASON)))]
            args += [1 if one.by_hand else 2, _field(one), max(1, one.until - now), json.dumps(rest)]
        if args:
            self._run("put", *args)

    def _read(self) -> tuple[list[Record], list[Record]]:
        answer = self._run("all")
        if not isinstance(answer, list) or len(answer) != 3 or not isinstance(answer[0], int):
            raise Unreachable("it answers with something that is no answer")
        server, now = answer[0], self._now()
        by_hand, of_rules = (
            [one for field, value in zip(found[::2], found[1::2], strict=True) if (one := _record(field, value, server, now)) is not None]
            for found in answer[1:]
        )
        return [one for one in by_hand if one.by_hand], [one for one in of_rules if not one.by_hand]

    # ---- the thread

    @staticmethod
    def _keep(bans: weakref.ref[RemoteBans], store: RemoteStore) -> None:
        """Look every second, for as long as somebody else holds the bans and the store is open."""
        while not store.rest(LOOK_EVERY) and (one := bans()) is not None:
            one._once()
            del one

    def _once(self) -> None:
        try:
            if self._store.joined:
                self.look()
                self.note_down()
            self._told = ""
        except Unreachable as error:
            if error.blame and str(error) != self._told:  # an outage is the link's to tell of
                self._told = str(error)
                own.warning(
                    "%s: the bans of all hosts cannot be read or written: %s; those known so far stay", self._store.link.name, error
                )
        except Exception:  # the thread must outlive whatever one look runs into
            own.exception("looking for bans failed")


def _field(one: Record) -> bytes:
    return b"%x %s" % (one.key, cut(one.rule, RULE))


def _pair(answer: Any) -> tuple[Any, Any]:
    if not isinstance(answer, list) or len(answer) != 2:
        raise Unreachable("it answers with something that is no answer")
    return answer[0], answer[1]


def _digits(text: Any) -> bool:
    return isinstance(text, bytes) and len(text) <= 16 and text.isdigit()


def _record(field: bytes, value: bytes, server: int, now: int) -> Record | None:
    """A field of a hash as a record, by this host's clock; None for what is none. ``server``: its clock now, in us."""
    key, _, rule = field.partition(b" ")
    found = _VALUE.fullmatch(value)
    if found is None or not re.fullmatch(rb"[0-9a-f]{1,16}", key) or len(rule) > RULE:
        return None
    until, since, times = (int(number) - base for number, base in zip(found.groups()[:3], (server, server, 0), strict=True))
    try:
        client, size, prefix, who, reason = json.loads(found[4])
        words = [cut(text, most).decode() for text, most in ((who, WHO), (reason, REASON))]
        name = rule.decode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if not all(type(number) is int for number in (client, size, prefix)) or not 0 <= client < 1 << 64:
        return None
    if size not in (0, 4, 16) or not 0 <= prefix <= 8 * size or until > LONGEST or not (words[1].isprintable() and name):
        return None
    return Record(int(key, 16), client, now + since, now + until, times, size, prefix, words[0], name, words[1])
