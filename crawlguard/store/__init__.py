"""Where rates are counted. One contract (``RateStore``), one test class for every implementation of it."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from ..errors import DataError
from ..paths import private_dir
from ..policy.model import Store
from .memory import MemoryStore
from .shared import SharedStore


class RateStore(Protocol):
    """GCRA state for 64-bit keys.

    Times are whole microseconds of a clock that all users of the store share. ``hit`` counts one request and returns 0 when it is
    admitted, else the wait until the next one would be; ``hold`` > 0 keeps a key out that long once it is over.
    ``peek`` returns the same without counting; without hold a held key counts as fresh. ``seed`` is the secret under which keys are to be hashed.
    """

    name: str
    seed: bytes

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int: ...
    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int: ...
    def close(self) -> None: ...


def open_store(spec: Store, identity: str) -> tuple[RateStore, str]:
    """The store that a policy asks for, and a complaint ("" when all is well).

    ``identity`` sets the sites of one host apart (the policy's path, say). A shared table that cannot be made (a
    read-only or full disk) is replaced by a store in memory: the site stays up, each worker counting alone.
    """
    if spec.kind == "memory":
        return MemoryStore(), ""
    try:
        return SharedStore(spec.path or _default_path(identity), spec.size), ""
    except (OSError, DataError) as error:
        return MemoryStore(), f"rates are counted by each process alone: {error}"


def _default_path(identity: str) -> Path:
    directory = private_dir("rates")
    if directory is None:
        raise DataError("no directory for the shared rate table is writable; set CRAWLGUARD_STATE_DIR to one that is")
    digest = blake2b(identity.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return directory / f"rates-{digest}.bin"


__all__ = ["MemoryStore", "RateStore", "SharedStore", "open_store"]
