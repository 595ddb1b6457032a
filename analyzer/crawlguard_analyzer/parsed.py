"""What a format makes of a chunk: rows and rejects. Every line is one or the other, so ``lines == rows.height + len(rejects)`` always."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl


class Reject(NamedTuple):
    """A line that is no request, as it stood (without its line end), and the class of it: see REASONS."""

    reason: str
    line: bytes


class Parsed(NamedTuple):
    """One chunk, read: ``rows`` by ``rows.ROWS`` in the order of the file, the rest, and how many lines there were in all."""

    rows: pl.DataFrame
    rejects: list[Reject]
    lines: int


REASONS = {
    "blank": "empty lines",
    "tls": "TLS handshakes sent to a plain HTTP port",
    "binary": "bytes that are no HTTP request",
    "truncated": "lines cut off",
    "other": "lines of another format",
}
"""What ``reason_of`` tells apart, in words for people. Formats add their own (a header line, say)."""

_TLS = (b"\\x16\\x03", b"\x16\x03")
"""A TLS record of a handshake (RFC 8446, 5.1), as servers escape it in their logs, and as it is."""
_CONTROL = bytes({*range(32), 127} - {*b"\t\r\n"})


def reason_of(line: bytes) -> str:
    """The class of a line that no parser took."""
    if not line.strip():
        return "blank"
    if any(mark in line for mark in _TLS):
        return "tls"
    if b'"\\x' in line or len(line.translate(None, _CONTROL)) < len(line):
        return "binary"
    quotes = line.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
    if quotes % 2 or (line[:1] == b"{") != (line.rstrip()[-1:] == b"}") or line.count(b"[") > line.count(b"]"):
        return "truncated"
    return "other"
