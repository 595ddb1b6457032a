"""A chunk of a common, combined or vhost_combined log, read as whole columns; the odd line by ``combined_exact``, to the same.

polars' CSV reader cuts the lines at their quotes: head, request, answer, referrer, blank, User-Agent. What it costs per line (one core of a
small machine): the cut 0.35 us, all the rest 0.65 us. Columns are told apart by fixed places from their ends; nothing is matched twice. Lines
with escapes or 8-bit bytes are found before that by ``oddlines``, where they are few, or in their columns; they and all that fail a check
go to the exact parser as they stood in the file.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import polars as pl

from .combined_exact import BOM, VARIANTS, Line, line_parser
from .oddlines import emptied
from .parsed import Parsed, Reject, reason_of
from .rows import LONGEST, ROWS, empty

_CUT: Final[dict[str, type[pl.DataType]]] = dict.fromkeys(("head", "request", "answer", "referrer", "between", "ua"), pl.String)
_STAMP: Final = len(" [23/Sep/2026:16:13:20 +0200] ")
_SECOND: Final = len(" [23/Sep/2026:16:13:")
_MINUTE: Final = r"^ \[[0-3][0-9]/[A-Z][a-z]{2}/[0-9]{4}:[0-2][0-9]:[0-5][0-9]:$"
_ZONE: Final = r"^ [+-](?:0[0-9]|1[0-4])[0-5][0-9]\] $"
_NOBODY: Final = " - -"
_MOSTLY: Final = 0.9
"""The share of lines without user names from which on the others go to the exact parser."""
_TAIL: Final = len(_NOBODY) + _STAMP
_ANSWER: Final = r"^ [1-9][0-9]{2} (?:[0-9]{1,18}|-) *$", r"^ [1-9][0-9]{2} (?:[0-9]{1,18}|-) $"
"""Status and size at the end of a line, and where more follows."""
_METHODS: Final = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "PROPFIND", "CONNECT")
_PROTOCOLS: Final = ("HTTP/1.1", "HTTP/2.0", "HTTP/1.0", "HTTP/3.0", "HTTP/2", "HTTP/3")


class Tail(NamedTuple):
    """Where behind the User-Agent a number stands that says what the server took: behind so many further quotes, as the first group of a pattern;
    ``unit``: its microseconds.
    """

    quotes: int
    pattern: str
    unit: float


class Combined:
    """The format of one variant. Fields after the User-Agent are passed over, but for the one that ``tail`` tells of; a line that is read by
    hand is without it.

    Raises ValueError for a variant that is none.
    """

    def __init__(self, variant: str = "combined", tail: Tail | None = None) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"{variant!r} is none of {', '.join(VARIANTS)}")
        self.variant: Final = variant
        self.tail: Final = tail
        self._fields = dict(_CUT)
        if tail is not None:
            self._fields |= {f"tail{n}": pl.String for n in range(tail.quotes + 1)}
        self._line = line_parser(variant)

    def parse(self, chunk: bytes | memoryview) -> Parsed:
        """Whole lines, the last one with or without its end."""
        chunk, end = bytes(chunk), b"\r"
        if not chunk:
            return Parsed(empty(), [], 0)
        chunk = chunk.removeprefix(BOM) or b"\n"
        plain = emptied(chunk)
        if plain is None and b"\r" in chunk:  # all lines may end so
            chunk, end = _unix(chunk), b""
            plain = emptied(chunk)
        # The reader drops some carriage returns; as a backslash they send their line to the exact parser, which reads the chunk itself.
        escaped = chunk.replace(b"\r", b"\\") if plain is None else b""
        cut = _cut(escaped if plain is None else plain, self._fields, escaped.isascii())
        del plain
        rows, good = self._columns(cut, escaped)
        odd = (~good).arg_true()
        if not odd.len():
            return Parsed(_completed(rows), [], cut.height)
        lines, rejects, places = [], [], []
        for place, raw in zip(odd.to_list(), self._lines_at(chunk, cut, good, odd), strict=True):
            line = raw.removesuffix(end)
            found = self._line(line)
            if found is None:
                rejects.append(Reject(reason_of(line), line))
            else:
                lines.append(found)
                places.append(place)
        # One gather puts the lines read by hand into their places and leaves the rejects out.
        order = pl.int_range(cut.height, dtype=pl.UInt32, eager=True)
        keep = good.scatter(places, True) if places else good
        order = order.scatter(places, range(cut.height, cut.height + len(lines))).filter(keep)
        by_hand = _completed(pl.DataFrame(lines, schema={name: ROWS[name] for name in Line._fields}, orient="row")).select(rows.columns)
        return Parsed(_completed(pl.concat([rows, by_hand], rechunk=True)[order]), rejects, cut.height)

    def _columns(self, cut: pl.DataFrame, chunk: bytes) -> tuple[pl.DataFrame, pl.Series]:
        """The rows as the cut has them, and whether a line may be read this way; of others a row says nothing. ``chunk``: what the lines may
        hold of what must be undone, b"" for nothing.
        """
        asked, answer, size = pl.col("request").str.splitn(" ", 3).struct, pl.col("answer"), pl.col("size")
        agent = self.variant != "common"
        number, tails = _runs(cut["head"].str.tail(_TAIL))
        names = self._names(cut["head"], tails.str.starts_with(_NOBODY).gather(number))
        # In one thread: the other chunks are for the others.
        first = cut.select_seq(
            asked.field("field_0").alias("method"),
            asked.field("field_1").alias("target"),
            asked.field("field_2").alias("protocol"),
            answer.str.slice(1, 3).cast(pl.Int16, strict=False).alias("status"),
            (answer.str.slice(5).str.head(-1) if agent else answer.str.slice(5).str.strip_chars_end(" ")).alias("size"),
            *(pl.when(pl.col(name) != "-").then(pl.col(name)).otherwise(pl.lit("")).alias(name) for name in ("referrer", "ua") if agent),
            (answer.str.contains(_ANSWER[agent]) & self._plain(chunk)).alias("plain"),
        ).hstack([_epochs(tails.str.tail(_STAMP)).gather(number).alias("time"), names[0].alias("ip"), names[-1].alias("named")])
        good = first.select_seq(
            pl.col("plain")
            & pl.col("named")
            & (pl.col("ip").str.len_bytes() > 0)
            & _one_of("method", _METHODS)
            & _one_of("protocol", _PROTOCOLS)
            & pl.col("time").is_not_null()
        ).to_series()
        rows = first.select_seq(
            "time", "ip", "method", "target", "protocol", "status",
            pl.when(size != "-").then(size.cast(pl.Int64, strict=False)).otherwise(-1).alias("bytes"),
            *(("referrer", "ua") if agent else (pl.lit("").alias("referrer"), pl.lit("").alias("ua"))),
        )  # fmt: skip
        return rows.hstack([*(name.alias("host") for name in names[1:-1]), *self._spent(cut)]), good.fill_null(False)

    def _spent(self, cut: pl.DataFrame) -> list[pl.Series]:
        if self.tail is None:
            return []
        number = pl.col(f"tail{self.tail.quotes}").str.extract(self.tail.pattern).cast(pl.Float64, strict=False) * self.tail.unit
        return [cut.select(number.clip(upper_bound=LONGEST).cast(pl.Int32).fill_null(-1).alias("spent")).to_series()]

    def _names(self, head: pl.Series, nameless: pl.Series) -> tuple[pl.Series, ...]:
        """The addresses, the hosts if there are any, and where they hold. ``nameless``: no user stands between address and time."""
        if self.variant == "vhost_combined":
            names = head.str.splitn(" ", 3).struct
            host, ip = names.field("field_0"), names.field("field_1")
            return ip, host, host.str.len_bytes() > 0
        if nameless.sum() > head.len() * _MOSTLY:
            ips = head.str.head(-_TAIL)
            return ips, nameless & ~ips.str.contains(" ", literal=True)
        ips = head.to_frame().select(pl.col("head").str.head(pl.col("head").str.find(" ", literal=True))).to_series()
        return ips, ips.is_not_null()

    def _plain(self, chunk: bytes) -> pl.Expr:
        """That a line is cut where its fields end, and holds nothing that must be undone."""
        plain = pl.col("between") == " " if self.variant != "common" else pl.lit(True)
        marks = [mark for mark, there in (("\\", b"\\" in chunk), ("\ufffd", not chunk.isascii())) if there]
        for name in ("request", "referrer", "ua")[: 1 if self.variant == "common" else 3] if marks else ():
            plain &= ~pl.col(name).str.contains_any(marks)
        if not chunk.isascii():
            for name in ("head", "request"):
                plain &= pl.col(name).str.len_bytes() == pl.col(name).str.len_chars()
        held = [mark for mark in ("\\", "\0") if mark.encode() in chunk]
        return plain & ~pl.col("head").str.contains_any(held) if held else plain

    def _lines_at(self, chunk: bytes, cut: pl.DataFrame, good: pl.Series, odd: pl.Series) -> list[bytes]:
        """The lines of some rows as they stood.

        Where a good line ends follows from its columns, where an odd one ends is looked up. When that does not come out even, because lines
        have further fields or are cut off, all lines are cut once more.
        """
        fields = list(_CUT)[: 3 if self.variant == "common" else None]
        sizes = pl.sum_horizontal(pl.col(fields).str.len_bytes()) + len(fields) + (self.variant != "common")
        before = cut.select(pl.when(good).then(sizes).otherwise(0).cast(pl.Int64).cum_sum()).to_series()
        found, shift, even = [], 0, True
        for start in before.gather(odd).to_list():
            end = chunk.find(b"\n", start + shift)
            line = chunk[start + shift : end if end >= 0 else len(chunk)]
            even &= not start + shift or chunk[start + shift - 1 : start + shift] == b"\n"
            found.append(line)
            shift += len(line) + 1
        if even and before[-1] + shift == len(chunk) + (not chunk.endswith(b"\n")):
            return found
        lines = chunk.split(b"\n")
        return [lines[place] for place in odd.to_list()]


def _unix(chunk: bytes) -> bytes:
    """Lines that end in CR LF end in LF."""
    chunk = chunk.replace(b"\r\n", b"\n")
    return chunk[:-1] + b"\n" if chunk.endswith(b"\r") else chunk


def _cut(chunk: bytes, fields: dict[str, type[pl.DataType]], ascii: bool) -> pl.DataFrame:
    """One row for each line, the blank ones too; what a line does not have is ""."""
    return pl.read_csv(
        chunk,
        has_header=False,
        separator='"',
        quote_char=None,
        schema=fields,
        encoding="utf8" if ascii else "utf8-lossy",  # the second looks at every field
        infer_schema=False,
        empty_string_is_null=False,
        truncate_ragged_lines=True,
        missing_columns="insert",
        extra_columns="ignore",
    )


def _runs(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Values that follow each other and are equal are a run, of which a log has few: the number of each value's run, and the runs' values."""
    number = values.rle_id()
    return number, values.filter(number.ne_missing(number.shift(1)))


def _one_of(name: str, texts: tuple[str, ...]) -> pl.Expr:
    """For short texts: each comparison takes a tenth of a look-up."""
    return pl.any_horizontal(pl.col(name) == text for text in texts)


def _epochs(stamps: pl.Series) -> pl.Series:
    """Seconds since 1970, null for what is no time."""
    parts = stamps.to_frame("stamp").select_seq(
        pl.col("stamp").str.head(_SECOND).alias("minute"),
        pl.col("stamp").str.slice(_SECOND, 2).alias("second"),
        pl.col("stamp").str.slice(_SECOND + 2).alias("zone"),
    )
    minute, minutes = _runs(parts["minute"])
    zone, zones = _runs(parts["zone"])
    second = pl.col("second").cast(pl.Int64, strict=False)
    times = parts.select_seq(
        pl.when((pl.col("second") >= "0") & (second < 60))  # no sign
        .then(pl.lit(_minutes(minutes).gather(minute)) + second - pl.lit(_zones(zones).gather(zone)))
        .alias("time")
    )
    return times.to_series()


def _minutes(stamps: pl.Series) -> pl.Series:
    times = stamps.str.slice(2, 17).str.to_datetime("%d/%b/%Y:%H:%M", time_unit="ms", strict=False).dt.epoch("s")
    return times.set(~stamps.str.contains(_MINUTE), None)


def _zones(stamps: pl.Series) -> pl.Series:
    hours, minutes = (stamps.str.slice(at, 2).cast(pl.Int64, strict=False) for at in (2, 4))
    seconds = (hours * 3600 + minutes * 60) * (1 - 2 * stamps.str.starts_with(" -").cast(pl.Int64))
    return seconds.set(~stamps.str.contains(_ZONE), None)


def _completed(rows: pl.DataFrame) -> pl.DataFrame:
    """All columns of ROWS, in order."""
    missing = [
        pl.repeat("" if kind is pl.String else -1, rows.height, dtype=kind).alias(name)
        for name, kind in ROWS.items()
        if name not in rows.columns
    ]
    return rows.with_columns(missing).select(*ROWS)
