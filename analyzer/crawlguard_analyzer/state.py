"""What earlier runs have seen, in one directory: rollups as Parquet parts, and a manifest that names them and how far each log was read.

Beside the rollup of clients, which grows by parts, there are small tables, each one file that a run writes anew, and a few counts.

The manifest is the one commit: a part that it does not name never happened. So a run that dies leaves the state as it was, and what a
run has counted is counted once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from crawlguard.errors import DataError

from .spilling import Rollup, in_memory, together
from .stored import Stored, write
from .whole import whole

try:
    import fcntl
except ImportError:  # Windows: two runs at once are the operator's to prevent
    fcntl = None  # type: ignore[assignment]

VERSION = 1
MANIFEST = "state.json"
MOST_PARTS = 24
"""Parts from which on they are made into one."""
HASH_CHECK = int(pl.Series(["crawlguard"]).hash(seed=1)[0])
"""Sketches hold hashes of polars, which may change with its version; those of another one must not be mixed."""


class State:
    """A state directory; made when it is not there. Raises DataError when it is not usable."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.directory}: cannot be made ({error.strerror}); name another --state directory") from None
        self._load()

    def _load(self) -> None:
        found = self._manifest()
        self.positions: dict[str, Any] = found["positions"]
        self.parts: list[str] = found["parts"]
        self.tables: dict[str, str] = found.get("tables", {})
        self.counts: dict[str, Any] = found.get("counts", {})

    @staticmethod
    def there(directory: str | os.PathLike[str]) -> bool:
        """Whether an earlier run has left a state in a directory."""
        try:
            (Path(directory) / MANIFEST).stat()
        except OSError as error:
            return isinstance(error, PermissionError)  # something is there
        return True

    def _manifest(self) -> dict[str, Any]:
        path = self.directory / MANIFEST
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {"positions": {}, "parts": []}
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); restore it, or start afresh with another --state directory") from None
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise DataError(f"{path}: not a state of this version ({VERSION}); start afresh with another --state directory")
        if found.get("hash") != HASH_CHECK:
            raise DataError(f"{path}: made by another version of polars, whose hashes differ; start afresh with another --state directory")
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out. Raises DataError when one is at work."""
        with self._lock() as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise DataError(f"{self.directory}: another run is at work on this state; wait for it") from None
            self._load()  # another run may have ended since
            yield

    def _lock(self) -> BinaryIO:
        path = self.directory / "lock"
        try:
            try:
                return path.open("ab")
            except PermissionError:
                return path.open("rb")  # who may look at a state but not change it can lock it, too
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror}); run as the user whose state it is") from None

    def read(self) -> pl.DataFrame:
        """All that is known, one row per client and day."""
        return in_memory(together(self.held()))

    def held(self) -> list[Stored]:
        """The same as it lies there, before it is merged."""
        return [Stored(str(self.directory / name), told=partial(self._told, name)) for name in self.parts]

    def table(self, name: str) -> pl.DataFrame | None:
        """A small table as the last run left it, None when there is none."""
        return self._parquet(self.tables[name]) if name in self.tables else None

    def _parquet(self, name: str) -> pl.DataFrame:
        with self._told(name):
            return pl.read_parquet(self.directory / name)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        path, cure = self.directory / name, "start afresh with another --state directory"
        try:
            yield
        except pl.exceptions.ColumnNotFoundError as error:
            raise DataError(f"{path}: lacks what this version needs ({error}); {cure}") from None
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{path}: cannot be read ({error}); restore it, or {cure}") from None

    def commit(
        self,
        fresh: Rollup,
        positions: dict[str, Any],
        tables: Mapping[str, pl.DataFrame] | None = None,
        counts: Mapping[str, Any] | None = None,
    ) -> None:
        """Add what a run has counted, and how far it has read. ``tables`` and ``counts`` (plain data) replace those that are there."""
        parts = list(self.parts)
        if fresh.height:
            if len(parts) >= MOST_PARTS:
                fresh, parts = together([*self.held(), fresh]), []
            number = 1 + max((int(name[5:-8]) for name in self.parts), default=0)
            name = f"part-{number:06}.parquet"
            self._write(name, lambda path: write(fresh, path, compression="zstd"))
            parts.append(name)
        named = self._tables(tables) if tables is not None else self.tables
        told = {
            "version": VERSION, "hash": HASH_CHECK, "parts": parts, "tables": named, "positions": positions,
            "counts": self.counts if counts is None else counts,
        }  # fmt: skip
        self._write(MANIFEST, lambda path: path.write_text(json.dumps(told, indent=1)))
        self.parts, self.positions, self.tables, self.counts = parts, positions, named, dict(told["counts"])  # type: ignore[call-overload]
        for path in self.directory.glob("*-*.parquet"):
            if path.name not in parts and path.name not in named.values():
                path.unlink(missing_ok=True)

    def _tables(self, tables: Mapping[str, pl.DataFrame]) -> dict[str, str]:
        """Each written under a name that the manifest in force does not know."""
        named = {}
        for name, table in tables.items():
            before = self.tables.get(name, f"{name}-000000.parquet")
            named[name] = f"{name}-{int(before[len(name) + 1 : -8]) + 1:06}.parquet"
            self._write(named[name], partial(table.write_parquet, compression="zstd"))
        return named

    def _write(self, name: str, write: Any) -> None:
        whole(self.directory / name, write, "free some space, or run as the user whose state it is")
