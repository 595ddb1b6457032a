"""Counts that wait to be joined with others hold their rollups as Parquet in memory: a third of their size, for a thirtieth of the time that
counting them took.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar, cast

import polars as pl

SMALL: Final = 1 << 22
"""Bytes of a rollup that is kept as it is."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Packed(Generic[T]):
    """A count without its rollups, and these: Parquet, or the small ones as they are."""

    rest: T
    rollups: tuple[bytes | pl.DataFrame, ...]


def packed(found: T) -> T | Packed[T]:
    """A dataclass with large ``rollups``, for ``unpacked`` to give it back; all else as it is."""
    rollups: tuple[pl.DataFrame, ...] = getattr(found, "rollups", ())
    if all(rollup.estimated_size() <= SMALL for rollup in rollups):
        return found
    return Packed(cast(T, replace(cast(Any, found), rollups=())), tuple(map(_written, rollups)))


def unpacked(found: T | Packed[T]) -> T:
    """What was packed, or what was not."""
    if not isinstance(found, Packed):
        return found
    rollups = tuple(pl.read_parquet(io.BytesIO(one)) if isinstance(one, bytes) else one for one in found.rollups)
    return cast(T, replace(cast(Any, found.rest), rollups=rollups))


def _written(rollup: pl.DataFrame) -> bytes | pl.DataFrame:
    if rollup.estimated_size() <= SMALL:
        return rollup
    file = io.BytesIO()
    rollup.write_parquet(file, compression="zstd", compression_level=1, statistics=False)
    return file.getvalue()
