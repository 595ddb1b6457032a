"""What the headers say besides the User-Agent. So far: the fingerprint by which look-alikes are counted together."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from ..request import EnvironView, RequestView

NAMES: Final = (b"user-agent", b"accept-language", b"accept-encoding")
"""What a fingerprint is made of."""
CUT: Final = 512
"""Bytes of each that count."""
GENERATION: Final = 2048
"""Fingerprints in a generation of the cache; two are kept, of headers of CUT bytes together at most: 4 MiB, whoever comes."""

_ENVIRON = ("HTTP_USER_AGENT", "HTTP_ACCEPT_LANGUAGE", "HTTP_ACCEPT_ENCODING")


def fingerprint(view: RequestView) -> str:
    """16 hex digits: a stable hash of User-Agent, Accept-Language and Accept-Encoding, the same on every host and day.

    Each part is cut at 512 bytes and absent differs from empty, so that no two different triples run into each other.
    """
    return f"{fingerprint_key(view):016x}"


def fingerprint_key(view: RequestView) -> int:
    """The same as a number."""
    if type(view) is EnvironView:
        return _KNOWN.of_environ(view, view.environ)
    try:
        sent = view.sent
    except AttributeError:  # nobody has looked for the User-Agent by ``agent``
        view.agent()
        sent = view.sent
    try:
        number = _KNOWN._young.get(sent)
    except TypeError:  # a server whose values are no bytes
        sent, number = tuple([None if value is None else bytes(value) for value in sent]), None
    return _KNOWN.of_values(sent) if number is None else number


class _Known:
    """Two generations of fingerprints by what they were made of, as it was sent: strangers push out each other."""

    def __init__(self) -> None:
        self._young: dict[object, int] = {}
        self._old: dict[object, int] = {}

    def of_values(self, sent: tuple[bytes | None, ...]) -> int:
        number = self._young.get(sent)
        return self._made(sent, sent, sum(len(value or b"") for value in sent)) if number is None else number

    def of_environ(self, view: EnvironView, environ: Mapping[str, Any]) -> int:
        sent = tuple([environ.get(name) for name in _ENVIRON])
        number = self._young.get(sent)
        if number is None:
            number = self._made(sent, tuple(view.first(name) for name in NAMES), sum(len(value or "") for value in sent))
        return number

    def _made(self, sent: object, parts: tuple[bytes | None, ...], size: int) -> int:
        number = self._old.get(sent)
        if number is None:
            cut = [part and part[:CUT] for part in parts]
            packed = b"".join(b"\0" if part is None else b"\1%d:" % len(part) + part for part in cut)
            number = int.from_bytes(blake2b(packed, digest_size=8).digest())
        if size <= CUT:
            if len(self._young) >= GENERATION:
                self._old, self._young = self._young, {}
            self._young[sent] = number
        return number


_KNOWN = _Known()
