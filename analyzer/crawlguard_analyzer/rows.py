"""The one shape that every log is read into: a row is a request, whatever wrote the line. This file knows no format."""

from __future__ import annotations

import polars as pl

ROWS: dict[str, type[pl.DataType]] = {
    "time": pl.Int64,
    "ip": pl.String,
    "method": pl.String,
    "target": pl.String,
    "protocol": pl.String,
    "status": pl.Int16,
    "bytes": pl.Int64,
    "referrer": pl.String,
    "ua": pl.String,
    "host": pl.String,
    "action": pl.String,
    "rule": pl.String,
    "spent": pl.Int32,
}
"""Column and type, in order. What a log does not say is "", 0 (status) or -1 (bytes, spent); nothing is null.

``time`` seconds since 1970, UTC; ``ip`` the client's address as logged; ``target`` path and query as in the request line; ``protocol``
such as ``HTTP/1.1``; ``referrer`` and ``ua`` with "-" as ""; ``action`` and ``rule`` only from crawlguard's own decision log; ``spent`` microseconds that the
server took, LONGEST at most. Escapes of the
log are undone; bytes that are no UTF-8 are U+FFFD.
"""

LONGEST = (1 << 31) - 1


def empty() -> pl.DataFrame:
    """No requests."""
    return pl.DataFrame(schema=ROWS)
