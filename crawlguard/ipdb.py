"""The address table: every CIDR set, ASN and country that a policy asks for, flattened into sorted ranges.

A small table is built in memory at start. A large one (a database, a long block list) is built once, written to the cache
directory under the hash of what went into it, and mapped by every worker: its memory is shared.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

from .errors import DataError
from .mmdb import Interval, intervals
from .paths import private_dir
from .policy.ruleset import AddressSet
from .policy.terms import UNKNOWN_ASN, UNKNOWN_COUNTRY
from .signals.ip import RangeTable

_MAGIC = b"CGADDR01"
_PARTS = (("v4", "I"), ("v4_ids", "I"), ("v4_index", "I"), ("v6_ids", "I"), ("v6_high", "Q"), ("v6_low", "Q"))
_FACTS = (("masks", "I"), ("asns", "I"), ("countries", "H"))
WORTH_CACHING = 20_000
"""Ranges from which on a table goes to the cache; fewer are built faster than they are looked for."""
READY = 4096
"""Combinations of facts that are kept as tuples; a database has some 80,000."""

Facts = tuple[int, int, str]  # mask, asn, country


class AddressTable:
    """From a packed address to (mask, ASN, country)."""

    __slots__ = ("_asns", "_countries", "_facts", "_kept", "_made_of", "_masks", "_sets", "number", "ranges")

    def __init__(self, header: dict[str, Any], parts: dict[str, Sequence[int]], kept: object = None) -> None:
        self.ranges = RangeTable(*(parts[n] for n in ("v4", "v4_ids", "v4_index", "v6_high", "v6_low", "v6_ids")))
        self.number = self.ranges.lookup
        self._masks: list[int] = [int(m, 16) for m in header["masks"]]
        self._sets, self._asns, self._countries = parts["masks"], parts["asns"], parts["countries"]
        self._kept = kept
        self._made_of = header, parts
        # The facts as they are handed out: the first (of an address in no range) and, without a database, all the others.
        self._facts: list[Facts] = [self.fact(number) for number in range(min(READY, len(self._sets)))]

    def lookup(self, packed: bytes) -> Facts:
        """The mask of the address sets that hold the address, its ASN (0: unknown) and its country ("": unknown)."""
        number = self.number(packed)
        return self._facts[number] if number < READY else self.fact(number)

    def __reduce__(self) -> tuple[Any, ...]:
        """By content: another machine has no such file to map."""
        header, parts = self._made_of
        return AddressTable, (header, {name: array(kind, parts[name]) for name, kind in _PARTS + _FACTS})

    def fact(self, number: int) -> Facts:
        """What holds of all addresses whose ``number`` this is."""
        code = self._countries[number]
        return self._masks[self._sets[number]], self._asns[number], chr(code >> 8) + chr(code & 255) if code else ""


def build_table(sets: Sequence[AddressSet], asn: str | None, country: str | None) -> AddressTable:
    """The table for a Ruleset's address sets. ``asn`` and ``country``: mmdb files to take, None for those not needed.

    Raises DataError when a database cannot be used.
    """
    ranges = sum(len(s.cidrs) for s in sets)
    if ranges < WORTH_CACHING and not asn and not country:
        header, parts = _build(sets, asn, country)
        return AddressTable(header, parts)
    directory = private_dir("cache")
    path = directory / f"addresses-{_digest(sets, asn, country)}.bin" if directory else None
    if path is not None:
        table = _mapped(path)
        if table is not None:
            return table
    header, parts = _build(sets, asn, country)
    if path is None or not _write(path, header, parts):
        return AddressTable(header, parts)
    return _mapped(path) or AddressTable(header, parts)


def _digest(sets: Sequence[AddressSet], asn: str | None, country: str | None) -> str:
    state = blake2b(_MAGIC + sys.byteorder.encode(), digest_size=16)
    for one in sets:
        state.update(repr((one.bit, sorted(one.asns), sorted(one.countries))).encode())
        state.update("\n".join(one.cidrs).encode())
    for file in (asn, country):
        if file:
            try:
                found = os.stat(file)
            except OSError as error:
                raise DataError(f"{file}: cannot be read ({error.strerror}); check the name, or remove it from data:") from None
            state.update(repr((os.path.abspath(file), found.st_size, found.st_mtime_ns)).encode())
    return state.hexdigest()


# ---- building


def _build(sets: Sequence[AddressSet], asn: str | None, country: str | None) -> tuple[dict[str, Any], dict[str, Sequence[int]]]:
    by_asn = _bits_by((s.bit, s.asns) for s in sets)
    by_country = _bits_by((s.bit, s.countries) for s in sets)
    layers: dict[int, list[list[Interval]]] = {4: [], 6: []}
    for one in sets:
        for version, pairs in _intervals(one.cidrs).items():
            layers[version].append([(low, high, one.bit) for low, high in pairs])
    empty = (UNKNOWN_ASN if asn else 0) | (UNKNOWN_COUNTRY if country else 0)
    facts: dict[Facts, int] = {(empty, 0, ""): 0}
    asns = intervals(asn, "asn") if asn else {4: [], 6: []}
    countries = intervals(country, "country") if country else {4: [], 6: []}

    def number(mask: int, as_number: int, code: int) -> int:
        text = chr(code >> 8) + chr(code & 255) if code else ""
        mask |= by_asn.get(as_number, 0) | by_country.get(text, 0)
        mask |= UNKNOWN_ASN if asn and not as_number else 0
        mask |= UNKNOWN_COUNTRY if country and not code else 0
        return facts.setdefault((mask, as_number, text), len(facts))

    v4 = _flatten(layers[4], asns[4], countries[4], number)
    v6 = _flatten(layers[6], asns[6], countries[6], number)
    return _pack(v4, v6, list(facts))


def _bits_by(pairs: Iterable[tuple[int, Iterable[Any]]]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for bit, values in pairs:
        for value in values:
            found[value] = found.get(value, 0) | bit
    return found


def _intervals(cidrs: Iterable[str]) -> dict[int, list[tuple[int, int]]]:
    """Each version's CIDRs as disjoint, sorted intervals."""
    found: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
    for cidr in cidrs:
        version, low, length = parse_cidr(cidr)
        found[version].append((low, low + (1 << (32 if version == 4 else 128) - length)))
    return {version: _merged(sorted(pairs)) for version, pairs in found.items()}


def parse_cidr(cidr: str) -> tuple[int, int, int]:
    """Version, first address and prefix length of a CIDR that ``check`` has found good: ten times as fast as ``ipaddress``, which a table of thousands notices."""
    text, _, length = cidr.partition("/")
    version, family, bits = (6, AF_INET6, 128) if ":" in text else (4, AF_INET, 32)
    return version, int.from_bytes(inet_pton(family, text), "big"), int(length or bits)


def _merged(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for low, high in pairs:
        if out and low <= out[-1][1]:
            if high > out[-1][1]:
                out[-1] = (out[-1][0], high)
        else:
            out.append((low, high))
    return out


def _flatten(layers: list[list[Interval]], asns: list[Interval], countries: list[Interval], number: Any) -> tuple[list[int], list[int]]:
    """One sweep over all layers: where a new combination of facts begins, and its number.

    Bits toggle (each layer is disjoint in itself); an ASN or country is set at its start and cleared at its end.
    """
    events: list[tuple[int, int, int, int]] = []  # position, ends before starts, which layer, value
    for layer in layers:
        for low, high, bit in layer:
            events += ((high, 0, 0, bit), (low, 1, 0, bit))
    for which, layer in ((1, asns), (2, countries)):
        for low, high, value in layer:
            events += ((high, 0, which, 0), (low, 1, which, value))
    events.sort()
    state, starts, numbers, last = [0, 0, 0], [], [], 0
    at, total = 0, len(events)
    while at < total:
        position = events[at][0]
        while at < total and events[at][0] == position:
            _, _, which, value = events[at]
            state[which] = state[0] ^ value if which == 0 else value
            at += 1
        current = number(*state)
        if current != last:
            starts.append(position)
            numbers.append(current)
            last = current
    return starts, numbers


def _pack(
    v4: tuple[list[int], list[int]], v6: tuple[list[int], list[int]], facts: list[Facts]
) -> tuple[dict[str, Any], dict[str, Sequence[int]]]:
    # A range that ends with the address space has its "end" one past the last address: nothing can be looked up there.
    starts4 = [(s, n) for s, n in zip(*v4, strict=True) if s < 1 << 32]
    starts6 = [(s, n) for s, n in zip(*v6, strict=True) if s < 1 << 128]
    index = array("I")  # for each /16, how many ranges begin below it
    for at, (start, _) in enumerate(starts4):
        if (blocks := (start >> 16) + 1 - len(index)) > 0:
            index.extend(array("I", [at]) * blocks)
    index.extend(array("I", [len(starts4)]) * (65_537 - len(index)))
    masks = list(dict.fromkeys(mask for mask, _, _ in facts))
    where = {mask: i for i, mask in enumerate(masks)}
    low = (1 << 64) - 1
    parts: dict[str, Sequence[int]] = {
        "v4": array("I", (s for s, _ in starts4)),
        "v4_ids": array("I", (n for _, n in starts4)),
        "v4_index": index,
        "v6_ids": array("I", (n for _, n in starts6)),
        "v6_high": array("Q", (s >> 64 for s, _ in starts6)),
        "v6_low": array("Q", (s & low for s, _ in starts6)),
        "masks": array("I", (where[mask] for mask, _, _ in facts)),
        "asns": array("I", (number for _, number, _ in facts)),
        "countries": array("H", (ord(c[0]) << 8 | ord(c[1]) if c else 0 for _, _, c in facts)),
    }
    return {"masks": [f"{m:x}" for m in masks]}, parts


# ---- the file


def _write(path: Path, header: dict[str, Any], parts: dict[str, Sequence[int]]) -> bool:
    """The table as a file, put in place whole; False when the disk does not let us."""
    described = {**header, "order": sys.byteorder, "lengths": {n: len(parts[n]) for n, _ in _PARTS + _FACTS}}
    text = json.dumps(described).encode()
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            file.write(_MAGIC + len(text).to_bytes(8, "little") + text + bytes(-(16 + len(text)) % 8))
            for name, kind in _PARTS + _FACTS:
                data = array(kind, parts[name]).tobytes()
                file.write(data + bytes(-len(data) % 8))
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        return False
    return True


def _mapped(path: Path) -> AddressTable | None:
    """The table in a file, None when there is none or it is not whole."""
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        view = memoryview(mapped)
        length = int.from_bytes(view[8:16], "little")
        if bytes(view[:8]) != _MAGIC or length > len(view):
            return None
        header = json.loads(bytes(view[16 : 16 + length]))
        at, parts = 16 + length + -(16 + length) % 8, {}
        for name, kind in _PARTS + _FACTS:
            size = header["lengths"][name] * array(kind).itemsize
            parts[name] = view[at : at + size].cast(kind)  # type: ignore[call-overload]
            at += size + -size % 8
        if at != len(view) or header["order"] != sys.byteorder or len(parts["v4_index"]) != 65_537:
            return None  # cut short, or another machine's
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return AddressTable(header, parts, mapped)
