"""Path patterns of robots.txt as sets of paths: what lies in two of them, and a decision over paths written as allow and disallow lines.

A policy decides by the first rule that holds, robots.txt by the longest pattern that matches (RFC 9309 2.2.2). ``lines_for``
translates one into the other: wherever two patterns overlap and the longest would decide wrongly, the overlap gets a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from ..signals.match import in_order

MOST = 150
"""Overlaps of patterns that are looked at besides one or two for each pattern; what twenty wildcards can do to each other is nobody's
robots.txt."""

UNSURE = "*"

_ANY = "\uffff"
"""Stands for whatever a wildcard matches: a code point that Unicode gives no character, so that no pattern has it and UTF-8 can write it."""
_PLAIN = "/~!$&'()+,;=:@-._"
"""Characters that stand for themselves in a path (RFC 3986 3.3), without the one that means something wherever it stands."""


class Glob(NamedTuple):
    """A pattern, percent-decoded: literal pieces with anything between them, and at the end unless ``anchored``."""

    pieces: tuple[str, ...]
    anchored: bool = False

    @classmethod
    def parse(cls, pattern: str) -> Glob:
        """A pattern as RFC 9309 2.2.3 writes it."""
        anchored = pattern.endswith("$")
        return cls(tuple(map(unquote, (pattern[:-1] if anchored else pattern).split("*"))), anchored).plain()

    def plain(self) -> Glob:
        """Without wildcards that add nothing: two in a row, or one at the end."""
        inner = [p for p in self.pieces[1:-1] if p]
        pieces = [self.pieces[0], *inner, *self.pieces[1:][-1:]]
        anchored = self.anchored
        if not pieces[0] and len(pieces) > 1 and not pieces[1].startswith("/"):
            pieces[0] = "/"  # as every path does
        if anchored and len(pieces) > 1 and not pieces[-1]:
            anchored = False
        if not anchored and len(pieces) > 1 and not pieces[-1]:
            pieces.pop()
        return Glob(tuple(pieces), anchored)

    def matches(self, path: str) -> bool:
        """Whether a decoded path is in the set."""
        first, rest = self.pieces[0], self.pieces[1:]
        if not rest:
            return path == first if self.anchored else path.startswith(first)
        return in_order(path, first, rest[:-1], rest[-1]) if self.anchored else in_order(path, first, rest, None)

    def member(self) -> str:
        """A path in the set that is in as few other sets as possible."""
        path = _ANY.join(self.pieces) + ("" if self.anchored else _ANY)
        return path if path.startswith("/") else "/" + path

    def covers(self, other: Glob) -> bool:
        """Whether every path of the other set is in this one."""
        if not other.pieces[0].startswith(self.pieces[0]) and other.pieces[0]:
            return False
        path = other.member()
        if not self.matches(path) or not (other.anchored or self.matches(path.removesuffix(_ANY))):
            return False
        return bool(other.pieces[0]) or len(other.pieces) == 1 or self.covers(Glob(other.pieces[1:], other.anchored))

    def line(self) -> str:
        """The pattern as robots.txt writes it: percent-encoded as a client's request is."""
        if self == EVERYTHING:
            return "/"
        text = "*".join(quote(p, safe=_PLAIN, errors="replace") for p in self.pieces)
        if self.anchored:
            return text + "$"
        # Clients send a "$" as it is, and not every reader takes %24 for it; with a wildcard behind it it is no end.
        return text + "*" if text.endswith("$") else text

    @property
    def empty(self) -> bool:
        """Whether no path is in it: every path begins with "/"."""
        return bool(self.pieces[0]) and not self.pieces[0].startswith("/")


EVERYTHING = Glob(("",))


def overlap(one: Glob, other: Glob) -> set[Glob]:
    """Patterns that together match what both match. Raises OverflowError when there are too many."""
    found: set[tuple[str, ...]] = set()
    done: set[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = set()
    todo = [((), _symbols(one), _symbols(other))]  # type: list[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]
    while todo:
        begun, a, b = state = todo.pop()
        if state in done:
            continue
        done.add(state)
        if len(done) > 60 * MOST:
            raise OverflowError
        if not a or not b:
            if (not a and not b) or not [s for s in a or b if s != _ANY]:
                found.add(begun)
            continue
        if a[0] == b[0] != _ANY:
            todo.append(((*begun, a[0]), a[1:], b[1:]))
        elif a[0] == b[0]:
            more = begun if begun[-1:] == (_ANY,) else (*begun, _ANY)
            todo += ((more, a[1:], b), (more, a, b[1:]))
        elif a[0] == _ANY:
            todo += ((begun, a[1:], b), ((*begun, b[0]), a, b[1:]))
        elif b[0] == _ANY:
            todo += ((begun, a, b[1:]), ((*begun, a[0]), a[1:], b))
    globs = {_glob(symbols) for symbols in found}
    return {g for g in globs if not any(o != g and o.covers(g) for o in globs)}


def _symbols(glob: Glob) -> tuple[str, ...]:
    return tuple(_ANY.join(glob.pieces) + ("" if glob.anchored else _ANY))


def _glob(symbols: tuple[str, ...]) -> Glob:
    text = "".join(symbols)
    anchored = not text.endswith(_ANY)
    return Glob(tuple((text if anchored else text[:-1]).split(_ANY)), anchored).plain()


class Line(NamedTuple):
    """One allow or disallow line; ``glob`` is what it means, ``pattern`` how it is written."""

    allow: bool
    pattern: str
    glob: Glob


def decide(lines: Iterable[Line], path: str) -> bool:
    """What robots.txt says about a decoded path: the longest pattern that matches, an allow among equals, else allowed."""
    found = [(len(line.pattern), line.allow) for line in lines if line.glob.matches(path)]
    return max(found)[1] if found else True


_SPELT = re.compile(r"%..|[^A-Za-z0-9_.~/=*-]")
"""What Protego measures as the three octets of its escape."""


@lru_cache(maxsize=4096)
def _weights(pattern: str) -> tuple[int, ...]:
    """How long readers take a pattern to be: RFC 9309 as it is written (Google, robots-parser), robotspy decoded, Protego with
    more of it escaped, and that once more for the line that stands for a query (see ``_twins``): it ends with "?" for "$".
    """
    body = pattern.removesuffix("$")
    escaped = sum(3 if part[0] != "=" else 1 for part in _SPELT.findall(body)) + len(_SPELT.sub("", body))
    end = len(pattern) - len(body)
    return len(pattern), len(unquote(pattern)), escaped + end, escaped + 3 * end


def _right(lines: Iterable[Line], path: str, allow: bool) -> bool:
    """Whether the lines say so by every reader's measure."""
    found = [(_weights(line.pattern), line.allow) for line in lines if line.glob.matches(path)]
    if not found:
        return allow
    return all(max((weights[reader], allows) for weights, allows in found)[1] is allow for reader in range(len(found[0][0])))


def lines_for(globs: Sequence[Glob], verdict: Callable[[str], bool]) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """Lines that say of every path what ``verdict`` says, and examples of paths for which they cannot (UNSURE: there may be more).

    ``verdict`` may look at a path only through ``globs``: two paths that are in the same ones are judged alike. Longest lines first,
    so that a reader that stops at the first match reads them right too.
    """
    every, complete = _closure([EVERYTHING, *(EVERYTHING if g == Glob(("/",)) else g for g in globs if not g.empty)])
    members = [(g, g.member()) for g in every]
    wanted = {path: verdict(path) for _, path in members}
    lines: list[Line] = []
    for glob, path in sorted(members, key=lambda m: (sum(g.covers(m[0]) for g in every), len(m[0].line()), m[0])):
        if not _right(lines, path, wanted[path]):
            lines.append(_settling(glob, path, members, wanted, lines))
    needed = _without_idle(lines, wanted)
    wrong = [path for path, allow in wanted.items() if not _right(needed, path, allow)]
    if not complete:
        wrong.append(UNSURE)
    written = [twin for line in needed for twin in _twins(line)]
    return tuple(sorted(written, key=lambda one: (-len(one.pattern), not one.allow, one.pattern))), tuple(
        w.replace(_ANY, "...") for w in wrong
    )


def _closure(globs: Iterable[Glob]) -> tuple[list[Glob], bool]:
    """The sets and their overlaps, so that each combination of sets that some path is in has a pattern; False when they are too many."""
    atoms = list(dict.fromkeys(globs))
    every, at, most = list(atoms), 0, MOST + 3 * len(atoms)
    known = set(every)
    while at < len(every):
        one = every[at]
        at += 1
        for atom in atoms:
            if not atom.pieces[0].startswith(one.pieces[0]) and not one.pieces[0].startswith(atom.pieces[0]):
                continue  # nothing begins both ways
            if atom.covers(one) or one.covers(atom):
                continue
            try:
                fresh = overlap(one, atom) - known
            except OverflowError:
                return every, False
            known |= fresh
            every += sorted(fresh)
            if len(every) > most:
                return every[:most], False
    return every, True


def _settling(glob: Glob, path: str, members: Sequence[tuple[Glob, str]], wanted: dict[str, bool], lines: Sequence[Line]) -> Line:
    """The line that makes the verdict on a path right. A pattern without a wildcard cannot be made longer than it is; a wider one, of
    which all is judged alike, may do instead. Where none does it is the pattern's own.
    """
    allow = wanted[path]
    own = _longer(Line(allow, glob.line(), glob), lines, path)
    if _right([*lines, own], path, allow):
        return own
    for wide, _ in members:
        if wide.covers(glob) and all(wanted[p] == allow for g, p in members if wide.covers(g)):
            line = _longer(Line(allow, wide.line(), wide), lines, path)
            if _right([*lines, line], path, allow):
                return line
    return own


def _longer(line: Line, lines: Sequence[Line], path: str) -> Line:
    """The line, with wildcards that add nothing but length until it outweighs the others that match the path."""
    own = _weights(line.pattern)
    rivals = [_weights(o.pattern) for o in lines if o.allow != line.allow and o.glob.matches(path)]
    missing = max((theirs - ours + (not line.allow) for rival in rivals for theirs, ours in zip(rival, own, strict=True)), default=0)
    if missing <= 0:
        return line
    # A wildcard at the end of a pattern, or beside another one, changes nothing but its length.
    star = line.pattern.rfind("*") if line.glob.anchored else len(line.pattern)
    pattern = line.pattern[:star] + "*" * missing + line.pattern[star:] if star >= 0 else line.pattern
    return line._replace(pattern=pattern)


def _without_idle(lines: Sequence[Line], wanted: dict[str, bool]) -> list[Line]:
    """The lines without those that change no verdict."""
    kept = list(lines)
    for line in sorted(lines, key=lambda one: -len(one.pattern)):
        rest = [one for one in kept if one is not line]
        if all(_right(rest, path, allow) for path, allow in wanted.items() if line.glob.matches(path)):
            kept = rest
    return kept


def _twins(line: Line) -> Iterator[Line]:
    """A policy's path ends before the "?", that of robots.txt does not: an anchored pattern takes a second line for queries."""
    yield line
    if line.glob.anchored:
        yield line._replace(pattern=line.pattern[:-1] + "?")
