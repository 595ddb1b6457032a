"""Lifting bans: whose words in the store keep a client or a network out, found from its address, and cleared.

What is lifted begins afresh, as at the end of its term: what a rule has counted of it is forgotten too, or it would be out again at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, NamedTuple

from .bans import Standing, words_of
from .policy.ruleset import Client
from .policy.terms import Hold
from .signals.rate import mix
from .store import RateStore, is_remote
from .store.bans import Bans, Record, network_key

if TYPE_CHECKING:
    from .live import Live

Network = IPv4Network | IPv6Network
MOST_CLIENTS = 256
"""Clients of a network whose keys are made one by one (a /24); of larger ones what the record names is lifted."""


class Lifted(NamedTuple):
    """One ban that has been lifted: whose, and by which rule."""

    who: str
    rule: str


def standing(record: Bans, live: Live, store: RateStore, now: int) -> list[Record]:
    """The bans in force, the latest first: a rule's only while the store still keeps the key out. Raises Unreachable."""
    running = [r for r in record.all() if r.until > now]
    kept = _kept(store, [(hold, r.key) for r in running for hold in _holds(live, r)], now)
    return sorted((r for r in running if r.by_hand or _stands(live, r, kept)), key=lambda r: -r.since)


def _holds(live: Live, record: Record) -> tuple[Hold, ...]:
    """Where the rule of a ban keeps its key out."""
    return () if record.by_hand else live.ruleset.holds.get(record.rule, ())


def _stands(live: Live, record: Record, kept: set[tuple[int, int]]) -> bool:
    return any((hold.words[0][0], record.key) in kept for hold in _holds(live, record))


def _kept(store: RateStore, asked: Iterable[tuple[Hold, int]], now: int) -> set[tuple[int, int]]:
    """Those of a rule's keys that are kept out, each with the salt that tells the rule. Raises Unreachable."""
    words = [(word, (hold.words[0][0], key)) for hold, key in asked for word in words_of(hold, key)]
    if is_remote(store):
        left = store.held([word for word, _ in words])
    else:
        left = [store.peek(word[0], now, *word[1:]) for word, _ in words]
    return {name for (_, name), wait in zip(words, left, strict=True) if wait}


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


def lift(record: Bans, live: Live, store: RateStore, target: Network | str | None, now: int, forget: bool = False) -> list[Lifted]:
    """Lift the bans of a network, those with these words for whom they keep out ("AS64500"), or with None all of them.

    ``forget``: their earlier offences too, so that growing terms start with the first. Raises DataError when the record is busy,
    Unreachable when a store on another machine is away; then all of it may be asked for again.
    """
    clients = list(_clients(live, target)) if isinstance(target, IPv4Network | IPv6Network) else []
    known = {key for client in clients for key in (client.ip_key, client.subnet_key) if key}
    wanted = [one for one in record.all() if _wanted(one, target, record.seed, known)]
    noted = [(hold, one.key) for one in wanted for hold in _holds(live, one)]
    # Those too whose record has made room for another.
    others = [
        (rule, hold, key)
        for rule, holds in live.ruleset.holds.items()
        for hold in holds
        for client in clients
        if (key := _key(hold, client))
    ]
    kept = _kept(store, [*noted, *((hold, key) for _, hold, key in others)], now)
    lifted = {(one.who, one.rule): None for one in wanted if one.until > now and (one.by_hand or _stands(live, one, kept))}
    named = {(hold.words[0][0], key) for hold, key in noted}
    for rule, hold, key in others:
        name = hold.words[0][0], key
        if name in kept and name not in named:
            lifted[str(target), rule] = None
        if name in kept or forget:
            noted.append((hold, key))
    _clear(store, noted, forget)
    record.drop(wanted)
    return [Lifted(*pair) for pair in lifted]


def _wanted(record: Record, target: Network | str | None, seed: bytes, known: set[int]) -> bool:
    """Whether a ban is to be lifted. ``known``: the keys of the clients of the network that is named."""
    if isinstance(target, IPv4Network | IPv6Network):
        return touching(record, target, seed) or (not record.by_hand and record.client in known)
    return target is None or record.who == target


def _clear(store: RateStore, found: Iterable[tuple[Hold, int]], forget: bool) -> None:
    """Let keys of rules begin afresh. Raises Unreachable."""
    keys = dict.fromkeys(key ^ salt for hold, key in found for salt in (*(word[0] for word in hold.words), *hold.counts))
    if forget:
        keys |= dict.fromkeys(mix((key ^ hold.offences, 1)) for hold, key in found if hold.offences)
    if is_remote(store):
        store.forget_all(list(keys))
        return
    for key in keys:
        store.forget(key)


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


def keeps_out(bans: Standing, live: Live, store: RateStore, packed: bytes, now: int) -> list[Record]:
    """The bans that an address is under, by hand and by rules that count addresses and neighbourhoods. Raises Unreachable."""
    record = bans.record
    by_hand, client = bans.of(packed, now), live.facts(packed)
    keys = {key for key in (client.ip_key, client.subnet_key) if key}
    rules = standing(record, live, store, now) if record is not None else []
    return [*([by_hand] if by_hand else []), *(r for r in rules if not r.by_hand and r.client in keys)]
