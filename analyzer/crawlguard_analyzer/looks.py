"""What the beginning of a file tells: whether it is text at all, and when it begins."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import datetime
from typing import NamedTuple

from crawlguard.errors import DataError


class Kind(NamedTuple):
    magic: bytes
    words: str


_KINDS = (
    Kind(b"PK\x03\x04", "a ZIP archive; unpack it first"),
    Kind(b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    Kind(b"PAR1", "a Parquet file; name the logs it was made from"),
    Kind(b"SQLite format 3\0", "an SQLite database"),
    Kind(b"LPKSHHRH", "a systemd journal; pipe it: `journalctl -o cat -u nginx | crawlguard analyze -`"),
    Kind(b"\x7fELF", "a program"),
    Kind(b"%PDF", "a PDF document"),
    Kind(b"\x89PNG", "an image"),
    Kind(b"\xff\xd8\xff", "an image"),
    Kind(b"\xff\xfe", "text in UTF-16; convert it first: `iconv -f UTF-16 -t UTF-8 FILE | crawlguard analyze -`"),
)
_CONTROL = bytes({*range(32)} - {*b"\t\r\n\x1b"})


def binary(start: bytes) -> str:
    """What a file is that is no text, "" for text. A log may hold some bytes of any kind, but no fifth of it."""
    for kind in _KINDS:
        if start.startswith(kind.magic):
            return kind.words
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it, or pipe it: `tar -xOf FILE | crawlguard analyze -`"
    odd = len(start) - len(start.translate(None, _CONTROL))
    return "binary data" if odd * 5 > len(start) else ""


def refuse(name: str, start: bytes) -> None:
    if what := binary(start):
        raise DataError(f"{name}: no log but {what}")


_TIMES = (
    (re.compile(rb"\b(\d{2}/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d)"), "%d/%b/%Y:%H:%M:%S"),
    (re.compile(rb"\b(\d{4}-\d\d-\d\d[T\t ]\d\d:\d\d:\d\d)"), "%Y-%m-%d %H:%M:%S"),
)
_EPOCH = re.compile(rb"(?:^|[\"\[: ])(1\d{9})(?:\.\d+|\d{3})?[\", \]]")


def first_time(start: bytes) -> int | None:
    """The first point in time that is written in a log's first lines, as seconds since 1970, zones aside."""
    for pattern, form in _TIMES:
        if found := pattern.search(start):
            try:
                return timegm(datetime.strptime(found[1].decode().replace("T", " ").replace("\t", " "), form).timetuple())
            except ValueError:
                continue
    return int(found[1]) if (found := _EPOCH.search(start)) else None
