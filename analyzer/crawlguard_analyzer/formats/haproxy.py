"""HAProxy's HTTP log (``option httplog``), with the User-Agent and referrer among the captured request headers, where there are some."""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from .base import Tabular
from .fields import Ways
from .template import Piece, Template

_LINE: Final = [
    Piece("ip", " ["), Piece("time", "] "), Piece("", " "), Piece("", " "), Piece("timers", " "), Piece("status", " "), Piece("bytes", " "),
    Piece("captured", ' "'), Piece("request", '"'),
]  # fmt: skip
"""docs.haproxy.org/3.0/configuration.html, 8.2.3: client, accept date, frontend, backend/server, timers, status, bytes, the rest, request.
HAProxy writes quotes, braces and bars in what it captures as #XX."""
_AGENT: Final = r"(?:[{|])((?:Mozilla|[A-Za-z][A-Za-z0-9._+-]*)/[0-9][^|{}]*)[|}]"
_REFERRER: Final = r"[{|](https?://[^|{}]*)[|}]"
_TIMERS: Final = r"^(?:[^/]*/){3}([0-9]+)/"
"""The fourth is what the server took to answer, in milliseconds; -1 where it did not."""
_IS_TIMERS = re.compile(_TIMERS, re.ASCII)
_IS_AGENT, _IS_REFERRER = re.compile(_AGENT, re.ASCII), re.compile(_REFERRER)


class HaProxy(Tabular):
    """Which captured header is which is told by what it looks like, as the configuration is not known."""

    name = "HAProxy HTTP"
    ways = Ways(port=True, unit=1e3)

    def __init__(self) -> None:
        self._template = Template(self.name, "", _LINE, self.ways)

    def describe(self) -> str:
        return f"{self.name}; its times have no zone and are taken for UTC; User-Agent and referrer from the captured headers, if any"

    def columns(self, lines: pl.Series) -> tuple[pl.DataFrame, pl.Series | None]:
        found, sure = self._template.columns(lines)
        captured = pl.col("captured")
        told = found.with_columns(
            captured.str.extract(_AGENT).alias("ua"),
            captured.str.extract(_REFERRER).alias("referrer"),
            pl.col("timers").str.extract(_TIMERS).alias("spent"),
        )
        return told, sure

    def line(self, line: bytes) -> dict[str, str | None] | None:
        found = self._template.line(line)
        if found is not None:
            captured = found.pop("captured") or ""
            timers = found.pop("timers") or ""
            for field, pattern, part in (
                ("ua", _IS_AGENT, captured),
                ("referrer", _IS_REFERRER, captured),
                ("spent", _IS_TIMERS, timers),
            ):
                match = pattern.search(part)
                found[field] = match[1] if match else None
        return found
