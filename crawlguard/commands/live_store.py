"""The store that a policy's running workers share, found from outside and opened: a table is never made, nor changed in size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from ..guard import Guard
    from ..policy.model import Policy, Store


PATIENCE = 5.0
"""Seconds that an operator's call waits for a server; a visitor's is decided without it after 20 ms."""


def open_live(policy: str | Policy, cwd: str = "", counts_as: str = "", table: str = "") -> Guard:
    """A guard on the store of the policy's workers. ``cwd``: the directory they were started in; ``table``: the file itself, or the server's URL.

    Raises DataError when there is no such table or none that another process can see, or the server does not answer.
    """
    from ..guard import Guard
    from ..loader import load_policy
    from ..policy.model import Store
    from ..settings import with_settings
    from ..store import SharedStore
    from ..store.bans import size_of

    loaded = load_policy(policy)
    if "://" in table:
        loaded, table = with_settings(loaded, store=table), ""
    if loaded.store.url and not table:
        return _on_server(policy, loaded.store, counts_as)
    if loaded.store.kind == "memory" and not table:
        raise DataError(
            f"{loaded.name}: says store: memory, which no other process can see; with store: shared its bans can be listed and changed"
        )
    tried = [Path(table)] if table else _paths(loaded, cwd or os.getcwd(), counts_as)
    found = next(((path, size_of(path)) for path in tried if size_of(path)), None)
    if found is None:
        raise DataError(
            f"{tried[0]}: no worker of {loaded.name} has made its table since this machine started. Run this as the user that the workers run "
            "as, with the policy as the application names it, --cwd for the directory it was started in and --counts-as where it sets that; "
            "or name the file, or the server's URL, with --table" + _others(tried[0])
        )
    guard = Guard(policy, store=Store("shared", str(found[0]), found[1]), log="off", watch=False)
    if not isinstance(guard.store, SharedStore) or guard.bans.record is None:
        raise DataError(f"{found[0]}: the table cannot be opened; run this as the user that the workers run as")
    return guard


def _on_server(policy: str | Policy, store: Store, counts_as: str) -> Guard:
    from ..guard import Guard
    from ..store import is_remote

    # Under the names of the site's own hosts; what is counted by this process alone is nobody's.
    guard = Guard(policy, store=store._replace(kind="memory"), log="off", watch=False, counts_as=counts_as)
    found = guard.store
    if not is_remote(found) or not found.joined:
        name = found.link.name if is_remote(found) else "the store"
        guard.store.close()
        raise DataError(f"{name}: does not answer, so that nothing is known of its bans and nothing has been changed")
    found.link.limit = PATIENCE
    return guard


@contextmanager
def answering(guard: Guard) -> Iterator[None]:
    """While this runs, a server that goes away is told of as a DataError."""
    from ..store import is_remote
    from ..store.breaker import Unreachable

    try:
        yield
    except Unreachable as error:
        name = guard.store.link.name if is_remote(guard.store) else "the store"
        cure = f" ({error.cure})" if error.cure else ""
        raise DataError(f"{name}: {error}{cure}; see crawlguard ban list for what has been done, and try again") from None


def _paths(policy: Policy, cwd: str, counts_as: str) -> list[Path]:
    """Where the table may be: applications name one policy in several ways."""
    from ..store import shared_path

    names = [policy.name]
    if not policy.name.startswith("builtin:"):
        whole = os.path.abspath(policy.name)
        names += [whole, os.path.relpath(whole, cwd)]
    return list(dict.fromkeys(shared_path(policy.store, f"{name}\0{cwd}\0{counts_as}") for name in names))


def _others(path: Path) -> str:
    from ..store.bans import size_of

    found = [str(other) for other in sorted(path.parent.glob("rates-*.bin")) if size_of(other)]
    return f" (there are: {', '.join(found[:8])})" if found else ""
