"""Reads robots.txt as RFC 9309 says, from hostile bytes, in time that grows with their length and no faster; loses no line.

Where the RFC leaves room, what Google's open parser (google/robotstxt, robots.cc) does is done here: it is the reader that sites
are written for. What only that parser does is not: see ``google_token`` and the list of differences in tests/test_robotstxt.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .pattern import Pattern, canonical, compile_pattern

LIMIT = 500 * 1024
"""Bytes that a crawler must read at least (RFC 9309 2.5), and the big ones read at most."""

LINE_LIMIT = 2083 * 8 - 1
"""Bytes of a line that Google's parser looks at (robots.cc, kMaxLineLen)."""

STAR = "*"
_STRICT = {"user-agent": "user-agent", "allow": "allow", "disallow": "disallow", "sitemap": "sitemap"}
# Beginnings of keys that Google's parser takes for a known one (robots.cc, ParsedRobotsKey); protego takes the same misspellings.
_LENIENT = (
    ("user-agent", ("user-agent", "useragent", "user agent")),
    ("allow", ("allow",)),
    ("disallow", ("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw")),
    ("sitemap", ("sitemap", "site-map")),
)
SITE_WIDE = frozenset(("sitemap", "license", "host"))
"""Keys that speak for the whole site wherever they stand, so never belong to a group."""

_GOOGLE_TOKEN = re.compile("[A-Za-z_-]*")
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One line of the file. ``number`` counts from 1.

    ``kind``: "user-agent", "allow", "disallow", "sitemap", "other" (any further key), "comment", "blank", or "junk" (no key in it).
    ``key`` and ``value`` as written, trimmed, without comment; ``text`` is the whole line, without its end. Texts are UTF-8, and
    bytes that are not are kept as surrogates: ``text.encode("utf-8", "surrogateescape")`` gives the bytes back.
    ``lenient``: what readers make of it takes good will (a misspelt key, no colon).
    """

    number: int
    kind: str
    key: str
    value: str
    text: str
    lenient: bool = False


class Flaw(NamedTuple):
    """Something wrong with the bytes of a line: "bom", "cut" (over 500 KiB), "nul", "long-line", "not-utf8"."""

    line: int
    code: str


class Rule(NamedTuple):
    """An Allow or Disallow line. ``pattern`` as written; without one (``Disallow:``) the rule says nothing."""

    line: int
    allow: bool
    pattern: str
    match: Pattern


class AgentLine(NamedTuple):
    """A User-agent line: its number, and its value as written."""

    line: int
    value: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Consecutive User-agent lines and what follows them up to the next group.

    ``lines`` are all its lines as they stand, with the comments and blank lines before it; ``others`` are those inside that
    are no rule (crawl-delay, content-signal, ...). ``ranked``: the rules that say something, the one that wins first.
    """

    number: int
    agents: tuple[AgentLine, ...]
    rules: tuple[Rule, ...]
    others: tuple[Line, ...]
    lines: tuple[Line, ...]
    ranked: tuple[Rule, ...]

    def decides(self, path: str) -> Rule | None:
        """The rule that decides on a ``canonical`` path: the longest, Allow before Disallow among equals; None: none matches."""
        for rule in self.ranked:
            if rule.match.matches(path):
                return rule
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotsFile:
    """A robots.txt. ``outside`` are the lines of no group (site-wide ones, comments, rules before any group), in order;
    ``groups`` and ``outside`` together hold each of ``lines`` once. ``problems`` are flaws of the bytes; ``lint`` knows the others."""

    size: int
    lines: tuple[Line, ...]
    groups: tuple[Group, ...]
    outside: tuple[Line, ...]
    problems: tuple[Flaw, ...]
    _exact: dict[str, tuple[Group, ...]] = field(repr=False, compare=False)
    _cut: dict[str, tuple[Group, ...]] = field(repr=False, compare=False)

    def named(self, token: str, exact: bool = True) -> tuple[Group, ...]:
        """The groups that name a token; all of them are one group to RFC 9309 (2.2.1). ``exact`` as in ``allows``."""
        return (self._exact if exact else self._cut).get(token.lower(), ())

    def groups_of(self, token: str, exact: bool = True) -> tuple[Group, ...]:
        """The groups that bind an agent: those that name it, else those for ``*``, else none."""
        return self.named(token, exact) or self.named(STAR)

    def group_for(self, token: str, exact: bool = True) -> tuple[Rule, ...] | None:
        """The rules of all groups that name a token, as one group, in the file's order; None when no group does."""
        groups = self.named(token, exact)
        return tuple(rule for group in groups for rule in group.rules) if groups else None

    def decides(self, token: str, path: str, exact: bool = True) -> Rule | None:
        """The rule that decides whether an agent may fetch a path; None: nothing speaks of it, so it may."""
        canon = canonical(path)
        if always_allowed(canon):
            return None
        found = [rule for group in self.groups_of(token, exact) if (rule := group.decides(canon)) is not None]
        return max(found, key=strength) if found else None

    def allows(self, token: str, path: str, exact: bool = True) -> bool:
        """Whether an agent may fetch a path (with its query; percent-encoded or not). ``/robots.txt`` itself always may be.

        ``exact`` compares a User-agent line's whole value with the token, without case. Otherwise the line is cut as
        ``google_token`` says, as readers built on Google's parser do: to them ``GPTBot/1.0`` is GPTBot, and ``AI2Bot`` is AI.
        """
        rule = self.decides(token, path, exact)
        return rule is None or rule.allow


def always_allowed(path: str) -> bool:
    """The file itself may always be fetched (RFC 9309 2.2.2)."""
    return path.partition("?")[0] == "/robots.txt"


def strength(rule: Rule) -> tuple[int, bool]:
    """What decides between rules that match (RFC 9309 2.2.2): the most octets, then Allow."""
    return rule.match.octets, rule.allow


def google_token(value: str) -> str:
    """What Google's parser takes a User-agent line's value for: ``*``, or what stands before the first character that RFC 9309 does
    not allow in a token. "" names nobody."""
    if value[:1] == STAR and (len(value) == 1 or value[1] in " \t\n\v\f\r"):
        return STAR
    return _GOOGLE_TOKEN.match(value)[0]  # type: ignore[index]  # it always matches


# ---- reading


def parse(raw: bytes) -> RobotsFile:
    """Reads any bytes; never raises. What lies beyond 500 KiB is not read, nor is the line that the limit cuts."""
    flaws: list[Flaw] = []
    lines = tuple(_lines(raw, flaws))
    groups, outside = _grouped(lines)
    exact: dict[str, list[Group]] = {}
    cut: dict[str, list[Group]] = {}
    for group in groups:
        for index, names in ((exact, [a.value for a in group.agents]), (cut, [google_token(a.value) for a in group.agents])):
            for name in dict.fromkeys(STAR if google_token(name) == STAR else name.lower() for name in names):
                index.setdefault(name, []).append(group)
    return RobotsFile(
        size=len(raw),
        lines=lines,
        groups=groups,
        outside=outside,
        problems=tuple(flaws),
        _exact={name: tuple(found) for name, found in exact.items() if name},
        _cut={name: tuple(found) for name, found in cut.items() if name},
    )


def _lines(raw: bytes, flaws: list[Flaw]) -> Iterator[Line]:
    start = 0
    while start < 3 and raw[start : start + 1] == _BOM[start : start + 1]:  # a part of one is skipped too (robots.cc, Parse)
        start += 1
    if start:
        flaws.append(Flaw(1, "bom"))
    ends = re.split(rb"\r\n|\r|\n", raw[start:LIMIT])
    if len(raw) > LIMIT:
        flaws.append(Flaw(len(ends), "cut"))
        ends.pop()
    for number, line in enumerate(ends, 1):
        if not line:
            yield Line(number, "blank", "", "", "")
            continue
        if len(line) > LINE_LIMIT:
            flaws.append(Flaw(number, "long-line"))
        if b"\0" in line:
            flaws.append(Flaw(number, "nul"))
        text = line.decode("utf-8", "surrogateescape")
        if not line.isascii() and any("\udc80" <= char <= "\udcff" for char in text):
            flaws.append(Flaw(number, "not-utf8"))
        yield _line(number, line[:LINE_LIMIT].partition(b"\0")[0], text)  # a NUL ends a line (robots.cc reads C strings)


def _line(number: int, line: bytes, text: str) -> Line:
    said, hash_, _ = line.partition(b"#")
    said = said.strip()
    if not said:
        return Line(number, "comment" if hash_ else "blank", "", "", text)
    key, colon, value = said.partition(b":")
    if not colon:  # forgiven when there are two words (robots.cc, GetKeyAndValueFrom)
        words = said.replace(b"\t", b" ").split(b" ", 1)
        if len(words) != 2 or b" " in words[1].lstrip(b" "):
            return Line(number, "junk", "", "", text)
        key, value = words
    key = key.strip()
    if not key:
        return Line(number, "junk", "", "", text)
    name, written = (part.strip().decode("utf-8", "surrogateescape") for part in (key, value))
    low = name.lower()
    kind = _STRICT.get(low, "") if colon else ""
    lenient = not kind
    if lenient:
        kind = next((kind for kind, starts in _LENIENT if low.startswith(starts)), "other")
    return Line(number, kind, name, written, text, lenient and (kind != "other" or not colon))


def _grouped(lines: tuple[Line, ...]) -> tuple[tuple[Group, ...], tuple[Line, ...]]:
    """A User-agent line begins a group when the one before it has a rule, or is none; other lines do not end one (RFC 9309 2.1, 2.2.4)."""
    groups: list[Group] = []
    outside: list[Line] = []
    held: list[Line] = []  # comments and blank lines, until it is known whose they are
    inside: list[Line] = []
    ruled = False
    for line in lines:
        if line.kind in ("blank", "comment"):
            held.append(line)
            continue
        if line.kind == "user-agent" and (ruled or not inside):
            if inside:
                groups.append(_group(len(groups), inside))
            inside, ruled = [], False
        site_wide = line.kind == "sitemap" or line.key.lower() in SITE_WIDE
        target = outside if site_wide or (line.kind != "user-agent" and not inside) else inside
        target += held
        target.append(line)
        held = []
        ruled |= bool(inside) and line.kind in ("allow", "disallow")
    if inside:
        groups.append(_group(len(groups), inside))
    return tuple(groups), (*outside, *held)


def _group(number: int, lines: list[Line]) -> Group:
    rules = tuple(
        Rule(line.number, line.kind == "allow", line.value, compile_pattern(line.value))
        for line in lines
        if line.kind in ("allow", "disallow")
    )
    return Group(
        number=number,
        agents=tuple(AgentLine(line.number, line.value) for line in lines if line.kind == "user-agent"),
        rules=rules,
        others=tuple(line for line in lines if line.kind in ("other", "junk")),
        lines=tuple(lines),
        ranked=tuple(sorted((rule for rule in rules if rule.pattern), key=strength, reverse=True)),
    )
