"""What several hosts or runs have counted becomes one rollup, wherever it lies: local paths and object stores, read by polars alone.

A location is a state directory (its manifest says which parts count; one that is not named never happened) or one rollup file that
``write_rollup`` made; both may be globs. What was made with other hashes is refused. Two states that have read the same log count it twice:
nothing in a rollup tells.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from crawlguard.errors import DataError

from .remote import is_remote
from .rollup import SCHEMA
from .spilling import Rollup, in_memory, together
from .state import HASH_CHECK, MANIFEST, VERSION
from .stored import Stored, write
from .whole import whole

SUFFIX = ".parquet"
"""How the name of a rollup file ends; what ends otherwise is a state directory."""
MARK = {"crawlguard.version": str(VERSION), "crawlguard.hash": str(HASH_CHECK)}
"""What a rollup file says of itself in its Parquet metadata, as a state's manifest does."""

Options = dict[str, str]
"""Settings of an object store, by the names that polars knows; what is not said here comes from the environment."""


def merge_states(locations: Iterable[str], storage_options: Options | None = None) -> pl.DataFrame:
    """All that the states and rollup files at these locations hold, one row per client and day, by ``rollup.SCHEMA``, sorted.

    A location: a path, or a URL of a kind in ``remote.SCHEMES``; named twice, also through a link or a glob, it counts once. The order of
    the locations does not matter. Raises DataError for what is not there, not readable, or made by another version.
    """
    return in_memory(together(located(locations, storage_options)))


def located(locations: Iterable[str], storage_options: Options | None = None) -> Iterator[Stored]:
    """The same before it is merged, each part where it lies."""
    parts: dict[str, None] = {}
    for location in locations:
        found = _files if location.endswith(SUFFIX) else _states
        parts.update(dict.fromkeys(map(_place, found(_place(location), storage_options))))
    for part in parts:
        yield Stored(part, storage_options, partial(_told, part, "if its state is just being copied, copy the manifest last"))


def write_rollup(rollup: Rollup, location: str, storage_options: Options | None = None) -> None:
    """One Parquet file (a path or a URL that ends with SUFFIX) that ``merge_states`` takes. Raises DataError."""
    if not location.endswith(SUFFIX):
        raise DataError(f"{location}: a rollup file's name ends with {SUFFIX}; name it so")
    table = rollup.select(*SCHEMA).rechunk() if isinstance(rollup, pl.DataFrame) else rollup
    if is_remote(location):
        with _told(location, "see whether there is space and the credentials are in the environment"):
            write(table, location, compression="zstd", metadata=dict(MARK), storage_options=storage_options)
    else:
        whole(
            Path(location),
            lambda path: write(table, path, compression="zstd", metadata=dict(MARK)),
            "free some space, or name another file",
        )


def _place(location: str) -> str:
    return location if is_remote(location) else os.path.realpath(location)


def _states(directory: str, options: Options | None) -> Iterator[str]:
    """The parts that the manifest of a state names, or of all states that a glob finds."""
    place = f"{directory.rstrip('/')}/{MANIFEST}"
    with _told(place, "name a directory that `crawlguard analyze --state` has made"):
        lines = pl.scan_csv(
            place, has_header=False, separator="\n", quote_char=None, schema={"line": pl.String}, encoding="utf8-lossy",
            include_file_paths="file", storage_options=options,
        ).collect()  # fmt: skip
    if not lines.height:
        raise DataError(f"{place}: no such state, or an empty one; name a directory that `crawlguard analyze --state` has made")
    for (manifest,), text in lines.group_by("file", maintain_order=True):
        top = str(manifest).removesuffix(MANIFEST)
        yield from (top + name for name in _named(str(manifest), "\n".join(text["line"].fill_null(""))))


def _named(manifest: str, text: str) -> list[str]:
    try:
        found: Any = json.loads(text)
        _check(manifest, found["version"], found["hash"])
        parts: list[str] = found["parts"]
        if not all(isinstance(name, str) and "/" not in name and name.endswith(SUFFIX) for name in parts):
            raise ValueError("a part that is no file beside it")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{manifest}: no manifest of a state ({error!r}); copy the state again, its manifest last") from None
    return parts


def _files(location: str, options: Options | None) -> Iterator[str]:
    """The rollup file itself, or all that a glob finds."""
    with _told(location, "name a file that `write_rollup` has made"):
        scan = pl.scan_parquet(location, include_file_paths="file", storage_options=options)
        names = scan.select(pl.col("file").unique(maintain_order=True)).collect()["file"].to_list() or [location]
        for name in names:
            told = pl.read_parquet_metadata(name, storage_options=options)
            _check(name, *map(told.get, MARK))
    yield from names


def _check(place: str, version: object, hashes: object) -> None:
    if str(version) != str(VERSION):
        raise DataError(f"{place}: not made by this version of crawlguard (state {VERSION}); use the same version on all hosts")
    if str(hashes) != str(HASH_CHECK):
        raise DataError(
            f"{place}: made where polars hashes otherwise (another version of it, or another kind of CPU); use the same on all hosts"
        )


@contextmanager
def _told(place: str, cure: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        words = " ".join(str(error).split())[:300]
        raise DataError(f"{place}: cannot be used ({words}); {cure}") from None
