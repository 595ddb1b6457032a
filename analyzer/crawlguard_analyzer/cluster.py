"""The same counting on many machines: a dask cluster counts the shards and joins what they gave, and the result is the local one to the byte.

A task is pure: it opens its shard itself and gives back what it counted. So one that is lost with its worker is simply done again, and
nothing is counted twice. Joins happen on the workers, a few partial counts at a time; only the last result comes to this process.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import polars as pl

from crawlguard import __version__
from crawlguard.errors import ConfigError, CrawlGuardError, DataError

from .shards import Shard, tree
from .state import HASH_CHECK

TIMEOUT = 10
"""Seconds to reach the scheduler, and then to see a first worker."""
RETRIES = 2
"""Times that a shard which could not be read is tried again, maybe by another worker. What was lost with a worker is done again in any case,
until it was lost more often than the scheduler's ``allowed-failures`` (3) says."""

_ADDRESS = re.compile(r"dask(?P<tls>\+tls)?://(?P<place>(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5})/?", re.ASCII)

T = TypeVar("T")
Client = Any
Future = Any
"""Of distributed, which is imported only when it is used, and is not typed throughout."""
Key = tuple[str, int]
Progress = Callable[[int, int], None]
"""Is told how many shards are counted, and how many there are."""


class Facts(NamedTuple):
    """What must be the same everywhere for counts to be joined."""

    crawlguard: str
    polars: str
    hashes: int
    """See ``state.HASH_CHECK``; another kind of CPU may hash otherwise."""


def facts() -> Facts:
    """Those of the process that is asked."""
    return Facts(__version__, pl.__version__, HASH_CHECK)


def run(
    address: str,
    work: Sequence[Sequence[Shard]],
    count: Callable[[Shard], T],
    join: Callable[[list[T]], T],
    *,
    progress: Progress | None = None,
) -> T | None:
    """``shards.tree(work, count, join)``, on the cluster at ``dask://HOST:PORT`` (``dask+tls://``: with the certificates of dask's own settings).

    ``count`` and ``join`` are functions of modules that the workers have, or objects that can be pickled. None if there is no work.

    Raises ConfigError when dask is not installed, the address is none, there is no scheduler or no worker within TIMEOUT, or a worker has
    other versions; DataError when a shard cannot be counted or the cluster is lost. After an error, KeyboardInterrupt too, what is left is cancelled.
    """
    with _client(address) as client:
        _same_everywhere(client)
        tasks = _Tasks(client, sum(map(len, work)), progress)
        try:
            return tasks.result(work, count, join)
        finally:
            tasks.cancel()


class _Tasks:
    """The tasks of one run. What a join joins is held on the workers until the join is done, and no longer."""

    def __init__(self, client: Client, total: int, progress: Progress | None) -> None:
        self._client, self._total, self._progress = client, total, progress
        self._run = uuid4().hex
        self._tasks: dict[Key, Future] = {}
        self._parts: dict[Key, list[Future]] = {}

    def result(self, work: Sequence[Sequence[Shard]], count: Callable[[Shard], T], join: Callable[[list[T]], T]) -> T | None:
        # The functions are results too, so that each worker is sent them once and not with every task.
        shared = [self._task("share", [], _same, function) for function in (_Checked(facts(), count), join)]
        root = tree(
            work,
            lambda shard: self._task("count", [], _call, shared[0], shard),
            lambda parts: self._task("join", parts, _call, shared[1], parts),
        )
        done = 0
        for future in _dask().as_completed(list(self._tasks.values()), loop=self._client.loop):
            _raise(future)
            for part in self._parts.pop(future.key):
                self._tasks.pop(part.key)
            if future.key[0] == f"count-{self._run}":
                done += 1
                if self._progress:
                    self._progress(done, self._total)
        found: T | None = root and root.result()
        return found

    def _task(self, kind: str, parts: list[Future], function: Callable[..., object], *args: object) -> Future:
        """Joins go first, so that few partial counts wait in the workers' memory."""
        key = (f"{kind}-{self._run}", len(self._parts))
        task = self._client.submit(function, *args, key=key, retries=RETRIES, priority=len(parts))
        self._tasks[key], self._parts[key] = task, parts
        return task

    def cancel(self) -> None:
        self._client.cancel(list(self._tasks.values()), force=True)


@dataclass(frozen=True, slots=True)
class _Checked:
    """``count``, by none but those who have the same versions: a worker may come later than the others."""

    here: Facts
    count: Callable[[Shard], Any]

    def __call__(self, shard: Shard) -> Any:
        if facts() != self.here:
            raise ConfigError(_differs("a worker", facts(), self.here))
        return self.count(shard)


def _same(function: T) -> T:
    return function


def _call(function: Callable[[Any], T], argument: Any) -> T:
    return function(argument)


def _raise(future: Future) -> None:
    """What went wrong on a worker, said here."""
    if future.status == "cancelled":
        raise DataError("the cluster's scheduler has gone away, and with it what was counted; see its log, and start again")
    error = future.exception() if future.status == "error" else None
    if isinstance(error, CrawlGuardError):
        raise error from None
    if isinstance(error, _dask().KilledWorker):
        raise DataError(
            f"workers died over the same task ({error.task}), most likely out of memory: see their logs, give them more"
        ) from None
    if error is not None:
        raise DataError(f"a worker failed ({type(error).__name__}: {' '.join(str(error).split())[:300]}); see its log") from None


def _dask() -> Any:
    if find_spec("distributed") is None:
        raise ConfigError("--cluster needs dask.distributed: pip install 'crawlguard[cluster]', here and on every worker")
    return import_module("distributed")


async def _hello(place: str) -> None:
    """That a scheduler is there. ``Client`` alone would wait for ever for a port that is open and says nothing."""
    comm = await import_module("distributed.comm").connect(place, timeout=TIMEOUT, **_dask().Security().get_connection_args("client"))
    comm.abort()


@contextmanager
def _client(address: str) -> Iterator[Client]:
    import asyncio  # 30 ms, for those who have a cluster

    dask = _dask()
    parsed = _ADDRESS.fullmatch(address)
    if parsed is None:
        raise ConfigError(f"{address}: no address of a cluster; write dask://HOST:PORT, the scheduler's (its usual port is 8786)")
    place = f"{'tls' if parsed['tls'] else 'tcp'}://{parsed['place']}"
    try:
        asyncio.run(asyncio.wait_for(_hello(place), TIMEOUT))
        client = dask.Client(place, timeout=TIMEOUT, set_as_default=False)
    except TypeError:  # dask's word for TLS without certificates
        raise ConfigError(
            f"{address}: TLS needs certificates: name them in dask's settings, distributed.comm.tls.ca-file, .client.cert and .client.key "
            "(https://distributed.dask.org/en/stable/tls.html)"
        ) from None
    except (OSError, ValueError) as error:
        words = " ".join(str(error).split())[:300]
        if not words or "imed out" in words:
            words = _silence(parsed["place"])
        raise ConfigError(
            f"{address}: no scheduler answers ({words}); see whether `dask scheduler` runs there and the port is open"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=TIMEOUT)
        except TimeoutError:
            raise ConfigError(f"{address}: the scheduler has no workers; start some: dask worker HOST:PORT") from None
        yield client


def _silence(place: str) -> str:
    """Why nothing was heard of a scheduler for TIMEOUT: a refused connection is tried again until then, as it may be just starting."""
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1):
            return f"something listens there and says nothing for {TIMEOUT} s"
    except OSError as error:
        return str(error.strerror or error).lower()


def _same_everywhere(client: Client) -> None:
    here = facts()
    for worker, there in client.run(facts, on_error="return").items():
        if isinstance(there, Exception):
            raise ConfigError(f"worker {worker} cannot count ({there}); pip install 'crawlguard[cluster]=={__version__}' there")
        if there != here:
            raise ConfigError(_differs(f"worker {worker}", there, here))


def _differs(worker: str, there: Facts, here: Facts) -> str:
    named = ", ".join(f"{name} {a} (here {b})" for name, a, b in zip(Facts._fields, there, here, strict=True) if a != b)
    return f"{worker} has {named}; its counts would not be the same: install the same versions on the same kind of CPU"
