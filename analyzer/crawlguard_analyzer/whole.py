"""A file that is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import polars as pl

from crawlguard.errors import DataError


def whole(path: Path, write: Callable[[Path], object], cure: str) -> None:
    """Let ``write`` make a file under a name for the time being, then give it its own. Raises DataError that ends with the cure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, pl.exceptions.PolarsError) as error:  # polars tells a full disk as an error of its own
        raise DataError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); {cure}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
