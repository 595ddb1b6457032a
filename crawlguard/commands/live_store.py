"""The rate table that a policy's running workers share, found from outside and opened: never made, never changed in size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from ..guard import Guard
    from ..policy.model import Policy


def open_live(policy: str, cwd: str = "", counts_as: str = "", table: str = "") -> Guard:
    """A guard on the table of the policy's workers. ``cwd``: the directory they were started in; ``table``: the file itself.

    Raises DataError when there is no such table, or none that another process can see.
    """
    from ..guard import Guard
    from ..loader import load_policy
    from ..policy.model import Store
    from ..store import SharedStore
    from ..store.bans import size_of

    loaded = load_policy(policy)
    if loaded.store.kind == "memory" and not table:
        raise DataError(
            f"{loaded.name}: says store: memory, which no other process can see; with store: shared its bans can be listed and changed"
        )
    if loaded.store.kind not in ("shared", "memory"):
        raise DataError(
            f"{loaded.name}: keeps its rates in {loaded.store.kind}, and bans are listed and changed in a shared table only so far"
        )
    tried = [Path(table)] if table else _paths(loaded, cwd or os.getcwd(), counts_as)
    found = next(((path, size_of(path)) for path in tried if size_of(path)), None)
    if found is None:
        raise DataError(
            f"{tried[0]}: no worker of {loaded.name} has made its table since this machine started. Run this as the user that the workers run "
            "as, with the policy as the application names it, --cwd for the directory it was started in and --counts-as where it sets that; "
            "or name the file with --table" + _others(tried[0])
        )
    guard = Guard(policy, store=Store("shared", str(found[0]), found[1]), log="off", watch=False)
    if not isinstance(guard.store, SharedStore) or guard.bans.record is None:
        raise DataError(f"{found[0]}: the table cannot be opened; run this as the user that the workers run as")
    return guard


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
