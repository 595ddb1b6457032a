"""What the headers say besides the User-Agent. So far: the fingerprint by which look-alikes are counted together."""

from __future__ import annotations

from hashlib import blake2b

from ..request import RequestView


def fingerprint(view: RequestView) -> str:
    """16 hex digits: a stable hash of User-Agent, Accept-Language and Accept-Encoding, the same on every host and day.

    Each part is cut at 512 bytes and absent differs from empty, so that no two different triples run into each other.
    """
    parts = (view.first(b"user-agent"), view.first(b"accept-language"), view.first(b"accept-encoding"))
    packed = b"".join(b"\0" if p is None else b"\1%d:" % len(p[:512]) + p[:512] for p in parts)
    return blake2b(packed, digest_size=8).hexdigest()
