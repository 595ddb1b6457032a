"""From many subnets to few CIDRs: neighbours are joined where they are dense, and never over a subnet that must stay out.

A CIDR is looked at as a number here, so that a hundred thousand of them are a matter of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from crawlguard.client_ip import format_ip, parse_ip

WIDEST = {4: 16, 16: 32}
"""The shortest prefixes that are made, by the bytes of an address: what one customer of a registry usually holds (a /16, or a /32 of IPv6).
Wider is a whole provider."""
DENSE = 0.5
"""The least share of a joined prefix that must have been seen: half of it, so that a rule reaches at most twice what was seen."""


def joined(subnets: Iterable[str], out: Collection[str] = (), dense: float = DENSE) -> dict[str, str]:
    """For each subnet (CIDRs of one length per family, such as /24 and /48) the prefix that it is joined into, itself where none.

    A prefix is made when both its halves and at least ``dense`` of it were seen, and it holds none of ``out`` (subnets of the same lengths).
    Results never overlap. What is no CIDR is left out.
    """
    seen = {text: cidr for text in subnets if (cidr := _parsed(text))}
    barred = [cidr for text in out if (cidr := _parsed(text))]
    found: dict[str, str] = {}
    for size, widest in WIDEST.items():
        mine = {text: (number, length) for text, (bytes_, number, length) in seen.items() if bytes_ == size}
        if mine:
            length = next(iter(mine.values()))[1]
            numbers = {number for number, _ in mine.values()}
            made = _made(numbers, {number for bytes_, number, _ in barred if bytes_ == size}, length - widest, dense)
            for text, (number, _) in mine.items():
                wide = next((k for k in range(len(made) - 1, 0, -1) if number >> k in made[k]), 0)
                found[text] = _text(size, number >> wide, length - wide) if wide else text
    return found


def _made(numbers: set[int], out: set[int], levels: int, dense: float) -> list[set[int]]:
    """The prefixes that hold, by how many bits they are shorter (the first entry is empty)."""
    made: list[set[int]] = [set()]
    counts = Counter(dict.fromkeys(numbers, 1))
    for k in range(1, levels + 1):
        halves = Counter(number >> 1 for number in counts)
        above: Counter[int] = Counter()
        for number, count in counts.items():
            above[number >> 1] += count
        out = {number >> 1 for number in out}
        made.append({n for n, count in above.items() if halves[n] == 2 and count >= dense * 2**k and n not in out})
        counts = above
    return made


def holders(subnets: Iterable[str], prefixes: Iterable[str]) -> dict[str, str]:
    """For each subnet the one of some prefixes (which do not overlap) that it lies in; subnets in none are left out."""
    wide = {cidr: text for text in prefixes if (cidr := _parsed(text))}
    lengths = {(size, length) for size, _, length in wide}
    found: dict[str, str] = {}
    for text in subnets:
        if cidr := _parsed(text):
            size, number, length = cidr
            for bytes_, shorter in lengths:
                if bytes_ == size and shorter <= length and (key := (size, number >> length - shorter, shorter)) in wide:
                    found[text] = wide[key]
    return found


def _parsed(text: str) -> tuple[int, int, int] | None:
    """Bytes of the address, its leading bits as a number, and how many these are."""
    address, slash, length = text.partition("/")
    packed = parse_ip(address) if slash and length.isdecimal() else None
    if packed is None or not 0 <= int(length) <= len(packed) * 8:
        return None
    return len(packed), int.from_bytes(packed, "big") >> len(packed) * 8 - int(length), int(length)


def _text(size: int, number: int, length: int) -> str:
    return f"{format_ip((number << size * 8 - length).to_bytes(size, 'big'))}/{length}"
