"""Lines that something has put its own words before: syslog, a container's runtime. They are taken off, and the rest is read as it is."""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from ..parsed import Parsed
from .base import Format, lines_of

WRAPS: Final = {
    "syslog": r"^(?:<[0-9]{1,3}>)?[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [^ ]+ [^ ]+: ",
    "syslog with ISO times": r"^(?:<[0-9]{1,3}>[0-9]? ?)?[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+ [^ ]+ [^ ]+: ",
    "syslog (RFC 5424)": r"^<[0-9]{1,3}>1 [^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ (?:-|\[[^\]]*\]) ",
    "a container runtime (CRI)": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+ std(?:out|err) [FP] ",
    "docker compose": r"^[a-zA-Z0-9_.-]+ +\| ",
}
"""What it is, and what it puts before a line (RFC 3164, RFC 5424; kubernetes.io/docs/concepts/cluster-administration/logging)."""


class Wrapped:
    """``inner`` behind one of WRAPS. Lines without it are read as they are."""

    def __init__(self, inner: Format, wrap: str) -> None:
        self.inner, self.wrap = inner, wrap
        self.name = f"{inner.name} in {wrap}"

    def describe(self) -> str:
        return f"{self.inner.describe()}; behind the prefix of {self.wrap}"

    def parse(self, chunk: bytes | memoryview) -> Parsed:
        return self.inner.parse(bare(bytes(chunk), self.wrap))

    def after(self, chunk: bytes) -> Format:
        inner = self.inner.after(bare(chunk, self.wrap)) if b"#Fields:" in chunk else self.inner
        return self if inner is self.inner else Wrapped(inner, self.wrap)


def bare(chunk: bytes, wrap: str) -> bytes:
    """The lines of a chunk less what one of WRAPS has put before them."""
    if not chunk.isascii():  # columns would change what is no UTF-8
        pattern = re.compile(WRAPS[wrap].encode())
        return b"\n".join(pattern.sub(b"", line, count=1) for line in chunk.split(b"\n"))
    stripped = pl.select(lines_of(chunk).str.replace(WRAPS[wrap], "").str.join("\n")).item()
    return str(stripped).encode() + (b"\n" if chunk.endswith(b"\n") else b"")


def wrap_of(sample: bytes) -> str:
    """Which of WRAPS most of the first lines begin with, "" for none."""
    lines = [line for line in sample.split(b"\n")[:200] if line.strip()]
    for wrap, pattern in WRAPS.items():
        if sum(re.match(pattern.encode(), line) is not None for line in lines) * 2 > len(lines):
            return wrap
    return ""
