"""What the headers say besides the User-Agent. So far: the fingerprint by which look-alikes are counted together."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from ..request import RequestView


def fingerprint(view: RequestView) -> str:
    """16 hex digits: a stable hash of User-Agent, Accept-Language and Accept-Encoding, the same on every host and day.

    Each part is cut at 512 bytes and absent differs from empty, so that no two different triples run into each other.
    """
    ua, language, encoding = view.first(b"user-agent"), view.first(b"accept-language"), view.first(b"accept-encoding")
    return _digest(ua and ua[:512], language and language[:512], encoding and encoding[:512])


@lru_cache(maxsize=4096)  # of cut values only: at most 6 MiB, whoever comes
def _digest(*parts: bytes | None) -> str:
    packed = b"".join(b"\0" if p is None else b"\1%d:" % len(p) + p for p in parts)
    return blake2b(packed, digest_size=8).hexdigest()
