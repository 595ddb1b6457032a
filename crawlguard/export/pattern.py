"""Path patterns as robots.txt writes them, held against paths as RFC 9309 2.2.2 and 2.2.3 say: linear, never a regex of anybody's making.

Unlike ``signals.match.path_test``, which sees paths that a server has decoded, this sees URLs as they travel: an encoded ``/`` is
not a ``/``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..signals.match import in_order

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")  # RFC 3986 2.3: unreserved
# An escape, or what stands in no URL as it is (neither unreserved nor reserved, RFC 3986 2.2)
_ESCAPED = re.compile(rb"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]")


class Pattern(NamedTuple):
    """A path pattern, ready to match: ``head``, then ``pieces`` that follow each other anywhere, then ``tail`` at the end if not None;
    ``whole``: ``head`` is all of the path. ``octets`` is what the longest match is measured by: the length in canonical form.
    """

    octets: int
    head: str
    pieces: tuple[str, ...]
    tail: str | None
    whole: bool

    def matches(self, path: str) -> bool:
        """Whether it matches a path in ``canonical`` form."""
        if self.whole:
            return path == self.head
        return in_order(path, self.head, self.pieces, self.tail)


def canonical(path: str) -> str:
    """A path with query in the form in which paths and patterns are compared (RFC 9309 2.2.2), from ``/`` on, without fragment."""
    path = path.partition("#")[0]
    return encoded(path if path.startswith("/") else "/" + path)


def encoded(text: str) -> str:
    """A part of a path in canonical form: percent-encoded is what no URL may hold as it is; plain are the unreserved characters, and ``*`` and ``$`` (RFC 9309 2.2.3)."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, of a caller's own making
        raw = text.encode("utf-8", "replace")
    return _ESCAPED.sub(_octet, raw).decode("ascii")


def _octet(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if len(text) == 1:
        return b"%%%02X" % text[0]
    octet = int(text[1:], 16)
    return bytes((octet,)) if octet in _PLAIN or octet in b"*$" else text.upper()


def compile_pattern(text: str) -> Pattern:
    """A pattern as written in a rule: a prefix, ``*`` for anything, ``$`` at its end for the end."""
    anchored = text.endswith("$")
    head, *pieces = map(encoded, (text[:-1] if anchored else text).split("*"))
    octets = len(head) + sum(map(len, pieces)) + len(pieces) + anchored
    tail = pieces.pop() if anchored and pieces else None
    return Pattern(octets, head, tuple(filter(None, pieces)), tail, anchored and tail is None)
