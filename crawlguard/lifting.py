"""Lifting bans: whose words in the store keep a client or a network out, found from its address, and cleared.

What is lifted begins afresh, as at the end of its term: what a rule has counted of it is forgotten too, or it would be out again at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, NamedTuple

from .bans import Standing, held
from .policy.ruleset import Client
from .policy.terms import Hold
from .signals.rate import mix
from .store.bans import Bans, Record, network_key

if TYPE_CHECKING:
    from .live import Live
    from .store import SharedStore

Network = IPv4Network | IPv6Network
MOST_CLIENTS = 256
"""Clients of a network whose keys are made one by one (a /24); of larger ones what the record names is lifted."""


class Lifted(NamedTuple):
    """One ban that has been lifted: whose, and by which rule."""

    who: str
    rule: str


def standing(record: Bans, live: Live, store: SharedStore, now: int) -> list[Record]:
    """The bans in force, the latest first: a rule's only while the store still keeps the key out."""
    found = (r for r in record.all() if r.until > now and (r.by_hand or _left(live, store, r, now)))
    return sorted(found, key=lambda r: -r.since)


def _left(live: Live, store: SharedStore, record: Record, now: int) -> int:
    return max((held(store, hold, record.key, now) for hold in live.ruleset.holds.get(record.rule, ())), default=0)


def touching(record: Record, target: Network, seed: bytes) -> bool:
    """Whether a ban is of nobody outside a network, as far as its record says."""
    packed = target.network_address.packed
    if record.by_hand and record.key == network_key(seed, packed, target.prefixlen):
        return True
    network = network_of(record.who)
    return isinstance(network, type(target)) and network.subnet_of(target)  # type: ignore[arg-type]


def network_of(who: str) -> Network | None:
    """The network that the words for a ban name, None when they name none."""
    try:
        return ip_network(who.partition(" + ")[0])
    except ValueError:
        return None


def lift(record: Bans, live: Live, store: SharedStore, target: Network | str | None, now: int, forget: bool = False) -> list[Lifted]:
    """Lift the bans of a network, those with these words for whom they keep out ("AS64500"), or with None all of them.

    ``forget``: their earlier offences too, so that growing terms start with the first. Raises DataError when the record is busy.
    """
    clients = list(_clients(live, target)) if isinstance(target, IPv4Network | IPv6Network) else []
    known = {key for client in clients for key in (client.ip_key, client.subnet_key) if key}
    lifted: dict[tuple[str, str], None] = {}
    dropped = []
    for one in record.all():
        if isinstance(target, IPv4Network | IPv6Network):
            wanted = touching(one, target, record.seed) or (not one.by_hand and one.client in known)
        else:
            wanted = target is None or one.who == target
        if not wanted:
            continue
        dropped.append(one)
        stands = one.until > now and (one.by_hand or _left(live, store, one, now) > 0)
        for hold in () if one.by_hand else live.ruleset.holds.get(one.rule, ()):
            clear(store, hold, one.key, forget)
        if stands:
            lifted[one.who, one.rule] = None
    for rule, holds in live.ruleset.holds.items():  # those whose record has made room for another
        for hold in holds:
            for client in clients:
                key = _key(hold, client)
                if key and (held(store, hold, key, now) or forget):
                    if held(store, hold, key, now):
                        lifted[str(target), rule] = None
                    clear(store, hold, key, forget)
    record.drop(dropped)
    return [Lifted(*pair) for pair in lifted]


def clear(store: SharedStore, hold: Hold, key: int, forget: bool) -> None:
    """Let a key of a rule begin afresh."""
    for salt in (*(word[0] for word in hold.words), *hold.counts):
        store.forget(key ^ salt)
    if forget and hold.offences:
        store.forget(mix((key ^ hold.offences, 1)))


def _clients(live: Live, target: Network) -> Iterator[Client]:
    """The clients of a network, where they are few; else its first, which stands for the neighbourhood when it is one."""
    one = 32 if target.version == 4 else 64
    size = 1 << max(0, one - target.prefixlen)
    first, step = int(target.network_address), 1 << (target.max_prefixlen - one)
    length = target.max_prefixlen // 8
    for number in range(size if size <= MOST_CLIENTS else 0):
        yield live.facts((first + number * step).to_bytes(length, "big"))
    if size > MOST_CLIENTS and target.prefixlen >= 48 and target.version == 6:
        yield live.facts(target.network_address.packed)


def _key(hold: Hold, client: Client) -> int:
    """The key under which a rule counts an address, 0 when that takes more than the address."""
    keys = {"ip": client.ip_key, "subnet": client.subnet_key}
    parts = [keys.get(part, 0) for part in hold.per]
    return 0 if not all(parts) else parts[0] if len(parts) == 1 else mix(parts)


def keeps_out(bans: Standing, live: Live, store: SharedStore, packed: bytes, now: int) -> list[Record]:
    """The bans that an address is under, by hand and by rules that count addresses and neighbourhoods."""
    record = bans.record
    by_hand, client = bans.of(packed, now), live.facts(packed)
    keys = {key for key in (client.ip_key, client.subnet_key) if key}
    rules = standing(record, live, store, now) if record is not None else []
    return [*([by_hand] if by_hand else []), *(r for r in rules if not r.by_hand and r.client in keys)]
