"""The tests of several rules in one function, made for them and for one shared store.

A request that runs five signatures calls a dozen functions, each of which fetches its constants and the table's views again: a fifth of the
time. So the ways that nearly every request takes through ``SharedStore.hit``, ``SharedConduct.conduct`` and ``SharedSwarm.swarm`` are written
out here, one behind the other, with all that a policy fixes as constants. Where a request leaves its way, nothing of that test has been
written yet, and it is asked as ever. Numbers are all that goes into the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final

from ..policy.terms import Ask, Test
from ..signals import headers
from ..signals.conduct import AHEAD, DOCUMENT, FULL, ONE, kind_of
from ..signals.families import Families
from ..signals.headers import fingerprint_key
from ..signals.rate import LONG, _word
from ..signals.sketch import BITS, LOW, estimate
from ..signals.swarm import EVIDENCE
from . import shared_conduct, shared_swarm
from .filters import EVER, MASK
from .shared_conduct import SharedConduct
from .shared_swarm import SharedSwarm

if TYPE_CHECKING:
    from .shared import SharedStore

_BITS: Final = tuple(1 << n for n in range(8))
_BEGIN: Final = """\
def together(view, ua, client, rates, now, score):
    ip, subnet, path, writer = client.ip_key, client.subnet_key, view.path, store._writer
    if rates is not store or not ip:
        return True
    document = "." not in path or kind_of(path) == {document}
"""
_MARK: Final = """\
    if document:
        try:
            hashed = texts.copy()
            hashed.update(path.encode() if len(path) <= {long} else path[:{long}].encode())
            mark = word(hashed.digest())[0] or 1
        except UnicodeEncodeError:
            mark = rates.mark(path)
        low, bit = (mark & {low}) >> 3, bits[mark & 7]
"""
_ALONE: Final = """\
\\1if found := test{n}(view, ua, client, rates, now, score):
\\1    return {n}, found
\\1break"""
"""In place of a ``break``: who leaves the way is asked as ever."""
_HIT: Final = """\
at = key >> 16 & {slots}
if keys[at] != key:
    break
state, own = states[at], key & 0x1FF
if state & 0xC1FF != own:
    break
due = state >> 16
if due > now:
    due += {interval}
    if due - now > {tolerance}:
        break
else:
    due = now + {interval}
due = (due << 16) + (writer | own)
if states[at] == state:
    states[at] = due
else:
    due = -1
if states[at] != due and (found := careful(2 * at + 1, key, now, {interval}, {tolerance}, {hold})):
    return {n}, found
"""
_PATHS: Final = """\
at = (key ^ key >> 32) * {odd} >> {shift} & {mask}
head = slots[at + 3]
if not document or not 0 < head < {listed}:
    break
until, counts = slots[at + 1], slots[at + 2]
own = key ^ until
if not now < until <= now + {longest} or slots[head] != own or (counts ^ own) & {owner} or counts >= {full}:
    break
ones, place = slots[head + 2], (head + {before} << 3) + low
eight = sketches[place]
if not eight & bit:
    ones += 1
    if ones > {most} or not ones & 63:
        break
    sketches[place], slots[head + 2] = eight | bit, ones
elif ones > {most}:
    break
slots[at + 2] = counts + {one}
"""
_SWARM: Final = """\
at, since, until, start, salt = windows.get(key, never)
if not since <= now < until or groups[at + 1] != until or groups[at] != key:
    break
ever = swarms._ever
if ever < {evidence}:
    swarms._ever = ever = groups[{ever}]
if ever:
    slot, pattern = {first} + (ip >> {shift} << 1), patterns[ip & {mask}]
if ever and (groups[slot] & pattern == pattern or groups[slot + 1] & pattern == pattern):
    groups[at + 5] += 1
    note(mark ^ {all})
else:
    place, its, one = start + ((ip & {low}) >> 3), start + {width} + low, bits[ip & 7]
    eight, documents = maps[place], groups[at + 2] + 1
    new = not eight & one
    if not documents & 63 or (ever >= {evidence} and groups[at + 3] + new >= {crowd}):
        break
    if new:
        maps[place] = eight | one
        groups[at + 3] += 1
        seen(ip ^ salt)
    groups[at + 2], eight = documents, maps[its]
    if not eight & bit:
        maps[its] = eight | bit
        groups[at + 4] += 1
"""
_FINGERPRINT: Final = """\
try:
    key = fingerprints._young.get(view.sent) or fingerprint_key(view)
except (AttributeError, TypeError):
    key = fingerprint_key(view)
key ^= {salt}
"""
_FAMILY: Final = 'key = ip ^ (families.known.get(path[: path.find("/", 1) + 1]) or families.mark(path, rates.mark)) ^ {salt}\n'
_KEYS: Final[dict[tuple[str, ...], str]] = {
    ("ip",): "key = ip ^ {salt}\n", ("subnet",): "key = subnet ^ {salt}\n", ("fingerprint",): _FINGERPRINT, ("ip", "path"): _FAMILY,
}  # fmt: skip
"""How the usual keys are read, which a request with an address always has."""
_KEY: Final = "key = key_of{n}(view, ua, client, rates)\nif not key:\n    break\nkey ^= {salt}\n"


def together(store: SharedStore, asked: Sequence[tuple[Test, Ask]]) -> Test | None:
    """One test instead of several. It says 0 when none of them holds, else the place of the first that does, from 1 on, with its verdict; True
    where all are to be asked one by one. None where a table is missing that they need.
    """
    named: dict[str, Any] = {
        "store": store, "keys": store._keys, "states": store._states, "careful": store._careful, "families": Families(),
        "texts": store._keyer._texts, "word": _word, "bits": _BITS,
        "kind_of": kind_of, "fingerprints": headers._KNOWN, "fingerprint_key": fingerprint_key,
    }  # fmt: skip
    text, marked = [_BEGIN.format(document=DOCUMENT)], False
    for n, (test, ask) in enumerate(asked, 1):
        way = _WAYS[ask.what](store, ask, named, n)
        if way is None:
            return None
        if ask.what != "hit" and not marked:
            text.append(_MARK.format(low=LOW, long=LONG))
            marked = True
        named |= {f"test{n}": test, f"key_of{n}": ask.key}
        way = _KEYS.get(ask.per, _KEY).format(n=n, salt=ask.salt) + way
        way = re.sub("^( *)break$", _ALONE.format(n=n), way, flags=re.MULTILINE)
        text.append(f"    while {'document' if ask.documents else True}:\n" + indent(way + "break\n", " " * 8))
    exec("".join([*text, "    return 0\n"]), named)  # noqa: S102 - templates of ours, with numbers in them
    made: Test = named["together"]
    return made


def _hit(store: SharedStore, ask: Ask, named: dict[str, Any], n: int) -> str | None:
    interval, tolerance, hold = ask.numbers
    return _HIT.format(n=n, slots=store._slot_mask, interval=interval, tolerance=tolerance, hold=hold)


def _paths(store: SharedStore, ask: Ask, named: dict[str, Any], n: int) -> str | None:
    table, (within, limit) = store.profiles(), ask.numbers
    if not isinstance(table, SharedConduct):
        return None
    named |= {"profiles": table, "slots": table._words, "sketches": table._bytes}  # the views are good as long as their table lives
    most = bisect_right(range(BITS + 1), limit, key=estimate) - 1
    return _PATHS.format(
        odd=table._odd, shift=table._shift, mask=table._mask, listed=shared_conduct._LISTED, longest=within + AHEAD,
        owner=shared_conduct._OWNER, full=FULL, before=shared_conduct._HEAD, most=most, one=ONE,
    )  # fmt: skip


def _swarm(store: SharedStore, ask: Ask, named: dict[str, Any], n: int) -> str | None:
    table, (clients,) = store.swarms(), ask.numbers
    if not isinstance(table, SharedSwarm):
        return None
    people = table._people
    named |= {
        "swarms": table, "windows": table._windows, "never": shared_swarm._OVER, "groups": table._words, "maps": table._bytes,
        "patterns": people.patterns, "note": people.note, "seen": table._seen.note,
    }  # fmt: skip
    crowd = bisect_left(range(BITS + 1), clients, key=estimate)
    return _SWARM.format(
        evidence=EVIDENCE, ever=EVER, first=people.first, shift=people.shift, mask=MASK, all=shared_swarm._ALL, low=LOW, width=shared_swarm._WIDTH, crowd=crowd,
    )  # fmt: skip


_WAYS: Final[dict[str, Callable[[SharedStore, Ask, dict[str, Any], int], str | None]]] = {"hit": _hit, "paths": _paths, "swarm": _swarm}
