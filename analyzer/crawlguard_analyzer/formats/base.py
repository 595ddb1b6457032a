"""What a format is, and the frame of those that are read as columns: lines, columns of fields, rows; the odd line exactly, to the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol, Self

import polars as pl

from ..parsed import Parsed, Reject, reason_of
from ..rows import ROWS, empty
from . import fields
from .fields import Row, Ways


class Format(Protocol):
    """How lines of a log are read. Formats do not change, and may parse in several threads."""

    @property
    def name(self) -> str:
        """Short, for people: "nginx/Apache combined"."""

    def describe(self) -> str:
        """What the log was taken for, in a sentence: which fields were found where, and what had to be assumed."""

    def parse(self, chunk: bytes | memoryview) -> Parsed:
        """Whole lines, the last one with or without its end. Every line is a row or a reject."""

    def after(self, chunk: bytes) -> Format:
        """The format of what follows this chunk: another one where a chunk's header lines rename the columns, else the same.

        Chunks of one file are taken in order: ``parse`` of each by the format after the one before. Cheap.
        """


class Tabular(ABC):
    """A format whose lines stand alone. It says how fields (of ``fields.FIELDS``) are found: in a column of lines, and in one line exactly."""

    name = ""
    ways = Ways()

    @abstractmethod
    def describe(self) -> str: ...

    @abstractmethod
    def columns(self, lines: pl.Series) -> tuple[pl.DataFrame, pl.Series | None]:
        """Columns of fields, null where there is none, and which lines they may be relied on for (None: all).

        ``lines`` is without line ends; what is no UTF-8 is U+FFFD.
        """

    @abstractmethod
    def line(self, line: bytes) -> dict[str, str | None] | None:
        """The fields of a line, or None when it is of another format."""

    def reason(self, line: bytes) -> str:
        """Why a line is no row."""
        return reason_of(line)

    def after(self, chunk: bytes) -> Self:
        return self

    def exact(self, line: bytes) -> Row | None:
        """The row of a line, slowly."""
        found = self.line(line)
        return None if found is None else fields.row(found, self.ways)

    def parse(self, chunk: bytes | memoryview) -> Parsed:
        """See ``Format``."""
        chunk = bytes(chunk)
        lines = lines_of(chunk)
        if not lines.len():
            return Parsed(empty(), [], 0)
        found, sure = self.columns(lines)
        rows, good = fields.columns(found, self.ways)
        if sure is not None:
            good &= sure.fill_null(False)
        if not chunk.isascii():  # decoders may differ in how many U+FFFD a broken sequence is
            good &= ~lines.str.contains("\ufffd", literal=True)
        return assemble(lines, rows, good, chunk, self)


_UNPACKED = (b"\x1f\x8b", b"x\x01", b"x^", b"x\x9c", b"x\xda", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf")
"""What polars takes for gzip, zlib, zstd or a byte order mark at the beginning of what it reads; here it is a line's."""


def lines_of(chunk: bytes) -> pl.Series:
    """The lines of a chunk without their ends, "" for blank ones.

    A separator that is the line end itself is never met: so each line is one field, whatever bytes it holds.
    """
    if not chunk:
        return pl.Series("line", [], pl.String)
    shift = chunk.startswith(_UNPACKED)
    read = pl.read_csv(
        b"\n" + chunk if shift else chunk,
        has_header=False,
        separator="\n",
        quote_char=None,
        schema={"line": pl.String},
        encoding="utf8-lossy",
        infer_schema=False,
    )
    return read["line"].slice(1 if shift else 0).fill_null("")


def assemble(lines: pl.Series, rows: pl.DataFrame, good: pl.Series, chunk: bytes, how: Tabular) -> Parsed:
    """Good rows as they are; the lines of the others are read exactly, and put into their places or rejected."""
    odd = (~good).arg_true().to_list()
    if not odd:
        return Parsed(rows, [], rows.height)
    found: list[Row] = []
    rejects: list[Reject] = []
    places: list[int] = []
    for place, line in zip(odd, _raw(lines, odd, chunk), strict=True):
        one = how.exact(line)
        if one is None:
            rejects.append(Reject(how.reason(line), line))
        else:
            found.append(one)
            places.append(place)
    if not found:
        return Parsed(rows.filter(good), rejects, rows.height)
    exact = pl.DataFrame(found, schema=ROWS, orient="row")
    order = pl.int_range(rows.height, dtype=pl.UInt32, eager=True).scatter(places, range(rows.height, rows.height + len(found)))
    return Parsed(pl.concat([rows, exact])[order.filter(good.scatter(places, True))], rejects, rows.height)


def _raw(lines: pl.Series, places: list[int], chunk: bytes) -> Iterator[bytes]:
    """Some lines as they stood. Where columns have lost nothing their lengths tell where; else all lines are cut once more."""
    before = lines.str.len_bytes().cast(pl.Int64).cum_sum()
    if b"\r" in chunk or before[-1] + lines.len() - (not chunk.endswith(b"\n")) != len(chunk) or not chunk.isascii():
        raw = chunk.split(b"\n")
        yield from (raw[place].removesuffix(b"\r") for place in places)
        return
    for place, end in zip(places, before.gather(places).to_list(), strict=True):
        yield chunk[end + place - len(lines[place]) : end + place]
