"""Bans of a live guard: those an operator has added act before any rule is asked; those of rules are written down as they begin.

While nothing is banned by hand a request pays for one word: that of the changes. On one host it lies in the mapped file, so that a change is
seen by the very next request of every worker; with a store of many hosts a thread looks for it once a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from .client_ip import format_ip
from .decision import Action, Decision
from .errors import DataError
from .events import Once, Privacy
from .log import own
from .policy.ruleset import Client, UaFacts
from .policy.terms import Hold
from .request import RequestView
from .signals.families import family
from .signals.headers import fingerprint
from .signals.rate import SUBNET_V4, SUBNET_V6
from .store import RateStore, SharedStore, is_remote
from .store.bans import Bans, Record, SharedBans, network_key

if TYPE_CHECKING:
    from .live import Live

BY_HAND = "ban"
"""The rule that decisions of a ban by hand are said to be of."""
MOST = 4096
"""Clients, and keys, that are remembered here; then all of them are forgotten."""


def open_bans(store: RateStore, clock: Callable[[], int]) -> Bans | None:
    """The record beside a shared table, or that of many hosts on their server; None where there is none to be had, which a warning says.

    ``clock``: nanoseconds, as of the guard.
    """
    if is_remote(store):
        from .store.remote_bans import RemoteBans  # only those who have a server load this

        return RemoteBans(store, clock)
    if not isinstance(store, SharedStore):
        return None
    try:
        return SharedBans(store.path.with_name(f"{store.path.name}.bans"), store.seed)
    except (OSError, DataError) as error:
        own.warning("bans are not listed, and none can be added by hand: %s", error)
        return None


class Standing:
    """The bans that stand: what a guard asks of each request, and tells when a rule keeps somebody out.

    ``changes[0] == quiet`` means that nobody is banned by hand, and is all that a request has to look at.
    """

    def __init__(self, record: Bans | None, once: Once) -> None:
        self.record, self._once = record, once
        self.changes: memoryview | list[int] = record.changes if record is not None else [0]
        self.quiet = 0 if record is None else -1
        self._read_at = -1  # the changes that the rest is made of
        self._bans: dict[int, Record] = {}
        self._lengths: dict[int, list[int]] = {}
        self._end = 0
        self._clients: dict[bytes, Record | None] = {}
        self._noted: dict[int, int] = {}

    def refusal(self, live: Live, view: RequestView, client: Client, now: int) -> Decision | None:
        """The decision on a request of a client who is banned by hand, None for others. Policy files are served to everybody."""
        found = self.of(client.packed, now)
        if found is None or view.path in live.ruleset.files:
            return None
        return Decision(action=Action.BLOCK, rule=BY_HAND, reason=found.reason or "this address has been banned by hand")

    def of(self, packed: bytes | None, now: int) -> Record | None:
        """The ban by hand that an address is under at ``now`` (us), None when it is under none."""
        changes = self.changes[0]
        if changes == self.quiet:
            return None
        if changes != self._read_at or now >= self._end:
            self._read(changes, now)
        if packed is None or not self._bans:
            return None
        clients = self._clients
        if packed not in clients:
            if len(clients) >= MOST:
                clients.clear()
            clients[packed] = self._find(packed)
        return clients[packed]

    def _read(self, changes: int, now: int) -> None:
        if self.record is None:
            return
        bans = {r.key: r for r in self.record.all(by_hand=True) if r.until > now}
        lengths: dict[int, set[int]] = {4: set(), 16: set()}
        for one in bans.values():
            lengths.setdefault(one.size, set()).add(one.prefix)
        self._lengths = {size: sorted(prefixes) for size, prefixes in lengths.items()}
        self._end = min((r.until for r in bans.values()), default=now)
        self._clients, self._bans, self._read_at = {}, bans, changes
        self.quiet = -1 if bans else changes

    def _find(self, packed: bytes) -> Record | None:
        if self.record is None:
            return None
        for prefix in self._lengths[len(packed)]:
            found = self._bans.get(network_key(self.record.seed, masked(packed, prefix), prefix))
            if found is not None:
                return found
        return None

    def note(self, live: Live, rule: str, holds: Iterable[Hold], view: RequestView, ua: UaFacts, client: Client, now: int) -> None:
        """Write down whom a rule has just refused, where that is the beginning of a ban. Never raises: the refusal stands."""
        if self.record is None:
            return
        try:
            for hold in holds:
                self._note(live, rule, hold, view, ua, client, now)
        except Exception:
            self._once.warn("bans", "a ban is in force but could not be written down", exc_info=True)

    def _note(self, live: Live, rule: str, hold: Hold, view: RequestView, ua: UaFacts, client: Client, now: int) -> None:
        key = hold.key(view, ua, client, live.store)
        at = key ^ hold.words[0][0]
        if not key or self.record is None:
            return
        if len(self._noted) >= MOST or self._noted.get(0) != self.changes[0]:  # what has been lifted may begin again
            self._noted = {0: self.changes[0]}
        if self._noted.get(at, 0) > now:
            return
        who = describe(hold.per, view, ua, client, live.events.privacy)
        named = client.ip_key if "ip" in hold.per else client.subnet_key if "subnet" in hold.per else 0
        one = Record(key, named, now, now, 0, 0, 0, who, rule, "")
        if is_remote(live.store):
            self._note_later(one, words_of(hold, key), at, now)
            return
        left = held(live.store, hold, key, now)
        if left:
            self._noted[at] = now + left
            self.record.put(one._replace(until=now + left), now)

    def _note_later(self, one: Record, words: list[tuple[int, int, int, int]], at: int, now: int) -> None:
        """As ``_note``, by a thread: no request waits to hear how long it is held."""
        from .store.remote_bans import LOOK_EVERY, Note, RemoteBans

        if isinstance(self.record, RemoteBans):
            noted = self._noted
            noted[at] = now + int(LOOK_EVERY * 1_000_000)
            self.record.later(Note(one, words, partial(noted.__setitem__, at)))


def held(store: RateStore, hold: Hold, key: int, now: int) -> int:
    """The microseconds for which a rule's key is kept out, 0 when it is not."""
    return max(store.peek(word, now, interval, tolerance, term) for word, interval, tolerance, term in words_of(hold, key))


def words_of(hold: Hold, key: int) -> list[tuple[int, int, int, int]]:
    """The words that may keep a rule's key out, and what to ``peek`` them with: interval, tolerance, hold."""
    return [(key ^ salt, interval, tolerance, term) for salt, interval, tolerance, term in hold.words]


def masked(packed: bytes, prefix: int) -> bytes:
    """The first address of the network of so many bits that an address is in."""
    spare = len(packed) * 8 - prefix
    return (int.from_bytes(packed, "big") >> spare << spare).to_bytes(len(packed), "big")


def describe(per: Iterable[str], view: RequestView, ua: UaFacts, client: Client, privacy: Privacy) -> str:
    """Whom a rule keeps out, in words for an operator: the parts of the key that it counts."""
    return " + ".join(_PARTS[part](view, ua, client, privacy) for part in per)


def _network(packed: bytes | None, v4: int, v6: int, privacy: Privacy) -> str:
    """An address or a neighbourhood, no closer than the policy's privacy allows."""
    if packed is None:
        return "unknown"
    if privacy.addresses != "full":
        return privacy.show(packed) or ""
    size, whole = (v4 if len(packed) == 4 else v6), len(packed)
    return format_ip(masked(packed, size * 8)) + (f"/{size * 8}" if size < whole else "")


_Part = Callable[[RequestView, UaFacts, Client, Privacy], str]
_PARTS: dict[str, _Part] = {
    "ip": lambda view, ua, client, privacy: _network(client.packed, 4, 8, privacy),
    "subnet": lambda view, ua, client, privacy: _network(client.packed, SUBNET_V4, SUBNET_V6, privacy),
    "asn": lambda view, ua, client, privacy: f"AS{client.asn}",
    "country": lambda view, ua, client, privacy: f"country {client.country}",
    "agent": lambda view, ua, client, privacy: f"agent {ua.agent.name if ua.agent else 'unknown'}",
    "fingerprint": lambda view, ua, client, privacy: f"fingerprint {fingerprint(view)}",
    "path": lambda view, ua, client, privacy: f"path {family(view.path)}",
    "global": lambda view, ua, client, privacy: "everybody",
}
