"""The tables as files: one CSV or Parquet file each, in a directory. A file is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl

from crawlguard.errors import DataError

from ..analysis import Analysis
from ..whole import whole

FORMULA = r"^[=+\-@\t\r\n]"
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection)."""

CONTROLS = {chr(code): f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
"""What a terminal obeys, and what ends a line, as it is written instead."""


def tables(analysis: Analysis) -> dict[str, pl.DataFrame]:
    """All tables by their names, that of all clients too; ``unparsed`` has the lines that could not be read, by reason."""
    totals = analysis.totals
    unparsed = pl.DataFrame(
        {"reason": list(totals.unparsed), "lines": list(totals.unparsed.values())}, {"reason": pl.String, "lines": pl.Int64}
    )
    found = {
        "clients": analysis.clients,
        "classes": analysis.classes(),
        "days": analysis.days,
        "agents": analysis.agents,
        "undeclared": analysis.undeclared,
        "swarms": analysis.swarms,
        "networks": analysis.networks,
        "trends": analysis.trends,
        "curve": analysis.curve,
        "unparsed": unparsed,
    }
    return found if analysis.actions is None else {**found, "actions": analysis.actions}


def to_csv(analysis: Analysis, directory: str | os.PathLike[str]) -> list[Path]:
    """One CSV file for each table, one line a row. Texts that a spreadsheet would calculate get an apostrophe before them; control
    characters are written as escapes; lists become one text.

    Raises DataError when the directory or a file cannot be written.
    """
    return _write(analysis, directory, "csv", lambda table, path: _flat(table).write_csv(path))


def to_parquet(analysis: Analysis, directory: str | os.PathLike[str]) -> list[Path]:
    """One Parquet file for each table, its values as they are. Raises DataError when the directory or a file cannot be written."""
    return _write(analysis, directory, "parquet", lambda table, path: table.write_parquet(path, compression="zstd"))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """A file of text, whole or not at all. Raises DataError when it cannot be written."""
    _whole(Path(path), lambda partial: partial.write_text(text, encoding="utf-8"))


def _flat(table: pl.DataFrame) -> pl.DataFrame:
    joined = table.with_columns(pl.col(pl.List).cast(pl.List(pl.String)).list.join("; ", ignore_nulls=True))
    text = pl.col(pl.String).str.replace_many(CONTROLS)
    return joined.with_columns(pl.when(text.str.contains(FORMULA)).then(pl.lit("'") + text).otherwise(text).name.keep())


def _write(analysis: Analysis, directory: str | os.PathLike[str], ending: str, write: Callable[[pl.DataFrame, Path], object]) -> list[Path]:
    written = []
    for name, table in tables(analysis).items():
        path = Path(directory) / f"{name}.{ending}"
        _whole(path, lambda partial, table=table: write(table, partial))  # type: ignore[misc]
        written.append(path)
    return written


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); name another place") from None
    whole(path, write, "free some space, or name another place")
