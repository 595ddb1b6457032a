"""Where rates are counted. One contract (``RateStore``), one test class for every implementation of it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from ..errors import DataError
from ..paths import private_dir
from ..policy.model import Store
from ..signals.conduct import Conduct
from ..signals.swarm import Swarm
from .memory import MemoryStore
from .shared import SharedStore

if TYPE_CHECKING:
    from typing import TypeGuard

    from .remote import RemoteStore


class RateStore(Protocol):
    """State for 64-bit keys: words (GCRA) and profiles (``signals.conduct``).

    Times are whole microseconds of a clock that all users of the store share. ``seed`` is the secret under which keys are to be hashed.
    All of it is bounded by the store's settings alone, whoever comes; what is pushed out, or lost between workers, under-counts.
    Nothing here raises for what a client sends.
    """

    name: str
    seed: bytes

    def hit(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """Count what costs ``interval`` us (0 < interval <= tolerance) and return 0 when it is admitted, else the wait in us until it would be.

        ``hold`` > 0 keeps a key out that long once it is over; asking again does not prolong it. It then has what has been refilled since, and one
        request at least. What is not admitted costs nothing.
        """

    def peek(self, key: int, now: int, interval: int, tolerance: int, hold: int) -> int:
        """What ``hit`` would return, without counting; without hold a held key counts as fresh."""

    def conduct(self, key: int, now: int, within: int, kind: int, mark: int, dry: bool = False, limit: int = 0) -> Conduct:
        """Count one request into the key's profile of the running window, and return the profile with it.

        The window of ``within`` us begins with the key's first request and is then forgotten as a whole. ``kind``: DOCUMENT, ASSET or ROBOTS. ``mark``: the
        keyed hash of a document's path (``mark``), 0 not to count it as a distinct path. ``dry``: the same answer, counting nothing.
        ``limit`` > 0: no more is asked than whether ``distinct`` is above it. While it is not, the answer need tell no more than that, and whether
        there are EVIDENCE documents; the gaps between documents are never asked for.
        """

    def swarm(
        self, key: int, member: int, now: int, within: int, kind: int, mark: int, dry: bool = False, clients: int = 0, times: int = 0
    ) -> Swarm:
        """Count one request of a member (its key) into its group (``key``) and return the group with it, and what is known of the member.

        ``within``, ``kind``, ``mark`` and ``dry`` as for ``conduct``. A member who asks for an ASSET becomes a resident, on the whole host and for long, and is
        taken back from the group's bare clients; documents of residents make their paths known, and so does the asset by which a member who has been
        seen becomes one: its ``mark`` is that of the page which it belongs to. See ``signals.swarm``. ``clients`` > 0 and ``times``: no more is asked
        than whom they make ``strikes`` strike, and a store may say CALM or UNSETTLED of whom they do not.
        """

    def forget(self, key: int) -> None:
        """Let a key begin afresh, as one that was never seen: its word, and its profile."""

    def mark(self, text: str) -> int:
        """The 64-bit hash of a text, keyed by the seed; never 0."""

    def close(self) -> None:
        """Let go of what the store holds."""


def open_store(spec: Store, identity: str, clock: Callable[[], int] = monotonic_ns) -> tuple[RateStore, str]:
    """The store that a policy asks for, and a complaint ("" when all is well).

    ``identity`` sets the sites of one host apart (the policy's path, say). ``clock``: nanoseconds, as of the guard. A shared table that cannot be made (a
    read-only or full disk) is replaced by a store in memory: the site stays up, each worker counting alone.
    """
    if spec.url:
        local, complaint = open_store(spec._replace(url=""), identity)
        return _remote(spec, local, identity, clock), complaint
    if spec.kind == "memory":
        return MemoryStore(), ""
    try:
        return SharedStore(shared_path(spec, identity), spec.size), ""
    except (OSError, DataError) as error:
        return MemoryStore(), f"rates are counted by each process alone: {error}"


def is_remote(store: RateStore) -> TypeGuard[RemoteStore]:
    """Whether a store is on another machine, and whole requests are to be put to it (``RemoteStore.decide``)."""
    return store.name == "valkey"


def _remote(spec: Store, local: RateStore, identity: str, clock: Callable[[], int]) -> RateStore:
    """The store of many hosts. Its keys carry the name of the policy's file: hosts keep the same policy, but not always in the same place."""
    from .batch import BatchStore
    from .remote import RemoteStore

    name, _, counts_as = identity.split("\0", 2)
    site = spec.site or blake2b(f"{Path(name).name}\0{counts_as}".encode("utf-8", "replace"), digest_size=6).hexdigest()
    return BatchStore(spec.url, local, site, spec.batch / 1e6, clock) if spec.batch else RemoteStore(spec.url, local, site)


def shared_path(spec: Store, identity: str) -> Path:
    """Where the shared table of a site is. Raises DataError when there is nowhere to have one."""
    if spec.path:
        return Path(spec.path)
    directory = private_dir("rates")
    if directory is None:
        raise DataError("no directory for the shared rate table is writable; set CRAWLGUARD_STATE_DIR to one that is")
    digest = blake2b(identity.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return directory / f"rates-{digest}.bin"


__all__ = ["MemoryStore", "RateStore", "SharedStore", "is_remote", "open_store", "shared_path"]
