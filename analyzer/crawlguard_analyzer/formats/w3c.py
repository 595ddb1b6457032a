"""W3C extended logs: IIS, CloudFront. The columns are those of the last ``#Fields:`` line before, so each chunk is read by what came before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

import polars as pl

from ..parsed import Parsed, Reject, reason_of
from ..rows import empty
from .base import Format, Tabular
from .fields import Row, Ways

HEADER: Final = "header"
"""The reason of a directive's line among the rejects."""
_MARK: Final = b"#Fields:"
NAMES: Final = {
    "date": "date", "time": "clock", "c-ip": "ip", "x-forwarded-for": "forwarded", "cs-method": "method", "cs-uri-stem": "target", "cs-uri": "target",
    "cs-uri-query": "query", "cs-version": "protocol", "cs-protocol-version": "protocol", "sc-status": "status", "sc-bytes": "bytes",
    "cs(referer)": "referrer", "cs(referrer)": "referrer", "cs(user-agent)": "ua", "cs(host)": "host", "cs-host": "host", "x-host-header": "host",
    "date-local": "date", "time-local": "clock", "time-taken": "spent",
}  # fmt: skip
"""Columns and the fields that they are, in lower case (W3C WD-logfile; IIS; CloudFront's standard logs)."""
_SECONDS: Final = "x-edge-location"
"""The column by which CloudFront is known: its ``time-taken`` is in seconds, that of IIS in milliseconds."""
_LATER: Final = ("x-host-header", "date-local", "time-local")
"""Columns that count only where the usual one is missing."""


class W3c:
    """``names``: the columns in force at the beginning of the next chunk, () before the first ``#Fields:`` line."""

    name = "W3C extended (IIS, CloudFront)"

    def __init__(self, names: tuple[str, ...] = (), client: str = "") -> None:
        self.names, self.client = names, client

    def describe(self) -> str:
        table = _Table(self.names, self.client)
        told = ", ".join(f"{field} from {name}" for name, field in zip(self.names, table.fields, strict=True) if field)
        return f"{self.name}: {told or 'no columns named yet'}; times are UTC"

    def after(self, chunk: bytes) -> Format:
        at = chunk.rfind(b"\n" + _MARK) + 1
        if not at and not chunk.startswith(_MARK):
            return self
        names = _named(chunk[at : chunk.find(b"\n", at) % (len(chunk) + 1)])
        return self if names == self.names else W3c(names, self.client)

    def parse(self, chunk: bytes | memoryview) -> Parsed:
        chunk = bytes(chunk)
        parts = [_Table(names, self.client).parse(part) for names, part in self._parts(chunk)]
        if len(parts) == 1:
            return parts[0]
        rejects = [reject for part in parts for reject in part.rejects]
        return Parsed(pl.concat([empty(), *(part.rows for part in parts)]), rejects, sum(part.lines for part in parts))

    def exact(self, line: bytes) -> Row | None:
        """The row of a line, slowly."""
        return _Table(self.names, self.client).exact(line)

    def _parts(self, chunk: bytes) -> Iterator[tuple[tuple[str, ...], bytes]]:
        """Stretches of lines that have the same columns."""
        names, start, at = self.names, 0, 0 if chunk.startswith(_MARK) else chunk.find(b"\n" + _MARK) + 1
        while at or chunk.startswith(_MARK, at):
            fresh = _named(chunk[at : chunk.find(b"\n", at) % (len(chunk) + 1)])
            if fresh != names:
                if at > start:
                    yield names, chunk[start:at]
                names, start = fresh, at
            at = chunk.find(b"\n" + _MARK, at) + 1
            if not at:
                break
        if start < len(chunk):
            yield names, chunk[start:]


def _named(line: bytes) -> tuple[str, ...]:
    return tuple(line.removeprefix(_MARK).decode("utf-8", "replace").split())


class _Table(Tabular):
    """Lines of known columns. Blanks part them, or tabs where a line has some (CloudFront)."""

    def __init__(self, names: tuple[str, ...], client: str) -> None:
        self.names = names
        self.fields = _fields(names, client)
        self.ways = Ways(chain=bool(client), unit=1e6 if _SECONDS in names else 1e3)
        have = set(self.fields)
        self.usable = {"date", "clock", "ip", "target"} <= have

    def describe(self) -> str:
        return W3c.name

    def reason(self, line: bytes) -> str:
        return HEADER if line.startswith(b"#") else reason_of(line)

    def parse(self, chunk: bytes | memoryview) -> Parsed:
        if self.usable:
            return super().parse(chunk)
        raw = bytes(chunk).removesuffix(b"\n").split(b"\n") if chunk else []
        rejects = [Reject(self.reason(line), line) for line in (one.removesuffix(b"\r") for one in raw)]
        return Parsed(empty(), rejects, len(rejects))

    def columns(self, lines: pl.Series) -> tuple[pl.DataFrame, pl.Series | None]:
        tabs = lines.str.contains("\t", literal=True)
        if tabs.any():
            if tabs.all() or (tabs | lines.str.starts_with("#")).all():
                return self._cut(lines, "\t")
            return self._cut(pl.Series([""] * lines.len()), " ")  # both in one log: read exactly
        return self._cut(lines, " ")

    def _cut(self, lines: pl.Series, by: str) -> tuple[pl.DataFrame, pl.Series]:
        count = len(self.names)
        parts = lines.str.splitn(by, count + 1).struct.unnest()
        sure = parts[f"field_{count - 1}"].is_not_null() & parts[f"field_{count}"].is_null()
        sure &= ~lines.str.contains('"', literal=True) & ~lines.str.starts_with("#") & ~lines.str.ends_with(by)
        if by == " ":
            sure &= ~lines.str.contains("  ", literal=True) & ~lines.str.starts_with(" ")
        found = {field: parts[f"field_{place}"] for place, field in enumerate(self.fields) if field}
        date, clock = found.pop("date"), found.pop("clock")
        found["time"] = pl.select(pl.concat_str(date, pl.lit(" "), clock)).to_series()
        for field in ("ua", "referrer"):
            if field in found:
                found[field] = _each(found[field], by)
        return pl.DataFrame(found), sure

    def line(self, line: bytes) -> dict[str, str | None] | None:
        if line.startswith(b"#"):
            return None
        text = line.decode("utf-8", "replace")
        by = "\t" if "\t" in text else " "
        words = _words(text, by)
        if words is None or len(words) != len(self.names):
            return None
        found: dict[str, str | None] = {}
        for field, (word, quoted) in zip(self.fields, words, strict=True):
            if field:
                found[field] = word if quoted or field not in ("ua", "referrer") else _plain(word, by)
        found["time"] = f"{found.pop('date')} {found.pop('clock')}"
        return found


def _fields(names: tuple[str, ...], client: str) -> list[str]:
    """The field of each column, "" for what no row needs; none twice."""
    lower = [name.lower() for name in names]
    wanted = dict(NAMES)
    if client:
        wanted = {name: field for name, field in wanted.items() if field != "ip"} | {client.lower(): "ip"}
    found = [wanted.get(name, "") for name in lower]
    for place, field in enumerate(found):
        others = [other for other in range(len(found)) if found[other] == field and other != place]
        if field == "forwarded" or (others and (lower[place] in _LATER or (min(others) < place and lower[min(others)] not in _LATER))):
            found[place] = ""
    return found


def _words(text: str, by: str) -> list[tuple[str, bool]] | None:
    """The words of a line, and whether each stood in quotes; None when a quote is not closed. Each character is looked at once."""
    if by == "\t":
        return [(word, False) for word in text.split("\t")]
    found, at = [], 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        quoted = text[at] == '"'
        end = _closing(text, at + 1) if quoted else text.find(" ", at) % (len(text) + 1)
        if end is None:
            return None
        found.append((text[at + 1 : end].replace('""', '"') if quoted else text[at:end], quoted))
        at = end + quoted
    return found


def _closing(text: str, at: int) -> int | None:
    """Where the quote that is open is closed: a blank or the end follows it. A doubled one stands for itself."""
    while (at := text.find('"', at)) >= 0:
        if at + 1 == len(text) or text[at + 1] == " ":
            return at
        if text[at + 1] != '"':
            return None
        at += 2
    return None


def _plain(text: str, by: str) -> str:
    """What a header was: IIS writes + for a blank, CloudFront %20 and the like (in some fields twice)."""
    if by == " ":
        return text.replace("+", " ")
    return unquote(unquote(text)) if "%" in text else text


def _each(values: pl.Series, by: str) -> pl.Series:
    if by == " ":
        return values.str.replace_all("+", " ", literal=True)
    distinct = values.drop_nulls().unique()
    return values.replace_strict(distinct, pl.Series([_plain(one, by) for one in distinct.to_list()], dtype=pl.String), default=None)
