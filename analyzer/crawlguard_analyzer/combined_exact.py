"""One line of a combined log, read by hand: slow and exact. What is refused here is no request.

A line is ``[host] ip anything [time] "request" status bytes ["referrer" "user agent" anything]``. Servers write no bare quote into a
field (nginx writes ``\\x22``, Apache ``\\"``), so the first quote opens the request, whatever a user's name holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import NamedTuple


class Line(NamedTuple):
    """What a line says, as in ``rows.ROWS``."""

    time: int
    ip: str
    method: str
    target: str
    protocol: str
    status: int
    bytes: int
    referrer: str
    ua: str
    host: str


VARIANTS = ("common", "combined", "vhost_combined")
BOM = b"\xef\xbb\xbf"
MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}

_TIME = re.compile(
    rb"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60) ([+-])([01][0-9]|2[0-3])([0-5][0-9])"
)
_STAMP = len(" [23/Sep/2026:16:13:20 +0200] ")
_EMPTY_USER = b'" ['
_QUOTED = re.compile(rb'((?:[^"\\]|\\.)*)"', re.DOTALL)
_ANSWER = re.compile(rb" ([0-9]{3}|-) ([0-9]{1,18}|-)(?![^ ])")
_METHOD = re.compile(rb"[A-Za-z][A-Za-z0-9_-]*")
_PROTOCOL = re.compile(rb"[A-Z]+/[0-9][0-9.]*")
_ESCAPE = re.compile(rb'\\(?:x([0-9A-Fa-f]{2})|([\\"bnrtvf]))')
_NAMED = {b"\\": b"\\", b'"': b'"', b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"f": b"\f"}


def line_parser(variant: str) -> Callable[[bytes], Line | None]:
    """The parser of one of VARIANTS. It takes a line without its end, and gives None for what is no request."""
    with_host, with_agent = variant == "vhost_combined", variant != "common"

    def parse(line: bytes) -> Line | None:
        found = _head_of(line.removeprefix(BOM).lstrip(b"\0"))
        if found is None:
            return None
        names, time, rest = found
        host, _, names = names.partition(b" ") if with_host else (b"", b"", names)
        ip = names.partition(b" ")[0]
        request = _QUOTED.match(rest)
        answer = request and _ANSWER.match(rest, request.end())
        if not ip or b"\0" in ip or b"\0" in host or (with_host and not host) or not request or not answer:
            return None
        asked = _request(request[1])
        quoted = _agent(rest, answer.end()) if with_agent else (b"-", b"-")
        if asked is None or quoted is None:
            return None
        status, size = (int(number) if number != b"-" else None for number in answer.groups())
        referrer, ua = ("" if value == b"-" else text(value) for value in quoted)
        method, target, protocol = map(text, asked)
        return Line(time, _decoded(ip), method, target, protocol, status or 0, -1 if size is None else size, referrer, ua, _decoded(host))

    return parse


def _head_of(line: bytes) -> tuple[bytes, int, bytes] | None:
    """What stands before the time, the time, and what follows the request's opening quote."""
    head, _, rest = line.partition(b'"')
    if rest.startswith(_EMPTY_USER):  # Apache: a user with an empty name
        more, _, rest = rest[1:].partition(b'"')
        head += more
    if head[-_STAMP : 2 - _STAMP] != b" [" or head[-2:] != b"] ":
        return None
    time = epoch(head[2 - _STAMP : -2])
    return None if time is None else (head[:-_STAMP], time, rest)


@lru_cache(maxsize=4096)
def epoch(stamp: bytes) -> int | None:
    """Seconds since 1970 of ``23/Sep/2026:16:13:20 +0200``, or None."""
    found = _TIME.fullmatch(stamp)
    if not found or found[2] not in MONTHS:
        return None
    try:
        days = date(int(found[3]), MONTHS[found[2]], int(found[1])).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    zone = (int(found[8]) * 60 + int(found[9])) * 60
    return days * 86_400 + int(found[4]) * 3600 + int(found[5]) * 60 + int(found[6]) - (zone if found[7] == b"+" else -zone)


def _request(request: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Method, target, protocol. A connection that asked for nothing has none; what begins with no letter of ASCII is no HTTP."""
    if request in (b"", b"-"):
        return b"", b"", b""
    if not 0x20 < request[0] < 0x7F or request[:1] == b"\\":
        return None
    method, blank, rest = request.partition(b" ")
    if not blank or not _METHOD.fullmatch(method):
        method, rest = b"", request
    target, _, protocol = rest.rpartition(b" ")
    return (method, target, protocol) if _PROTOCOL.fullmatch(protocol) else (method, rest, b"")


def _agent(rest: bytes, at: int) -> tuple[bytes, bytes] | None:
    """Referrer and User-Agent. A line that is cut off in the User-Agent still tells of a request."""
    referrer = _QUOTED.match(rest, at + 2) if rest[at : at + 2] == b' "' else None
    if referrer is None:
        return None
    left = rest[referrer.end() :]
    if left[:2] not in (b" ", b' "'):
        return None
    ua = _QUOTED.match(left, 2)
    return referrer[1], ua[1] if ua else left[2:]


def text(value: bytes) -> str:
    """A field with its escapes undone."""
    if b"\\" in value:
        value = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else _NAMED[found[2]], value)
    return _decoded(value)


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "replace")
