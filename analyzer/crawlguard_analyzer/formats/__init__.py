"""Log formats: what a log is told by its first lines (``detect``), or taken for because the user says so (``named``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from crawlguard.errors import DataError

from ..combined_exact import BOM
from . import known
from .base import Format, Tabular
from .jsonkinds import kind
from .jsonl import Json
from .known import NAMES
from .strings import Known
from .w3c import HEADER
from .wrapped import Wrapped, bare, wrap_of

__all__ = ["HEADER", "LOOKED_AT", "Format", "Json", "Known", "detect", "fits", "misfit", "named"]

SAMPLE = 1 << 16
"""Bytes that are looked at, at most."""
LOOKED_AT = 100
"""Lines that are looked at once more, when none of all is of the format that was named."""
FEW = 64
"""Lines that are sooner read one by one than as columns, which takes 10 ms however few they are."""
SHARE = 5
"""A log is of the first format that reads half of its first lines, else of the one that reads most, if that is one line in so many."""

_ADDRESS = rb"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+)"
_HOSTED = re.compile(rb"[^ \"\[{]+ " + _ADDRESS + rb" ")
_DIRECT = re.compile(_ADDRESS + rb" ")
_GARBAGE = re.compile(rb'"\\x(?:[^"\\\n]|\\.)*"')
"""Bytes that were no HTTP request, as servers write them in the place of one: on a quiet site a new log may begin with nothing else."""


def named(name: str, client: str = "", sample: bytes = b"") -> Format:
    """The format that a user names: see ``known.named``. Where the first lines have a prefix (syslog), it is of what stands behind that."""
    wrap = wrap_of(sample)
    one = known.named(name, client, bare(sample, wrap) if wrap else sample)
    return Wrapped(one, wrap) if wrap and not one.parse(sample).rows.height else one


def detect(sample: bytes, *, path: str = "", client: str = "") -> Format:
    """The format of a log that begins so; some of its lines may be anything.

    ``client`` as in ``named``. Raises DataError that shows the first line and says how to name the format.
    """
    sample = sample[:SAMPLE]
    sample = sample[: sample.rfind(b"\n") + 1] or sample
    if (wrap := wrap_of(sample)) and (inner := _best(bare(sample, wrap), client)):
        return Wrapped(inner, wrap)
    found = _best(sample, client) or _best(_sound(sample), client)
    if found is None:
        first = next((line for line in sample.split(b"\n") if line.strip()), b"")
        if not first:
            raise DataError(f"{path or 'this log'}: nothing but blank lines; name a log that has some requests")
        raise DataError(
            f"{path or 'this log'}: the format of its lines is not known; the first one is\n    {_shown(first)}\n"
            f"Name it with --format: one of {', '.join(NAMES)}, json, or the log_format (nginx) or LogFormat (Apache) string of the server"
        )
    return found


def misfit(name: str, one: Format, lines: Sequence[bytes], path: str) -> DataError | None:
    """What is to be said of a log none of whose lines is of the format that a user has named; None of one in which there are but broken requests.

    ``lines``: the first of them, or none when nothing is known of them.
    """
    if not lines or fits(one, b"\n".join(lines[:LOOKED_AT])):
        return None
    return DataError(
        f"{path}: no line of it is of the format {_shown(name.encode())}; the first one is\n    {_shown(lines[0])}\n"
        "Leave --format away, to have the format told from the lines, or give the log_format (nginx) or LogFormat (Apache) string of the server"
    )


def fits(one: Format, sample: bytes) -> bool:
    """Whether any of the first lines of a log is of a format, or a broken request of it."""
    return _rows(one, _sound(sample)) > 0


def _sound(sample: bytes) -> bytes:
    return _GARBAGE.sub(b'"GET / HTTP/1.0"', sample)


def _shown(line: bytes) -> str:
    """The beginning of a line, harmless on a terminal."""
    return line[:160].decode("latin-1").encode("unicode_escape").decode() + ("..." if len(line) > 160 else "")


def _rows(one: Format, sample: bytes) -> int:
    """How many of these lines are of a format. Few of them are read faster by hand."""
    lines = sample.split(b"\n", FEW)
    if len(lines) > FEW or sample.startswith(BOM) or not isinstance(one, Known | Tabular):
        return one.parse(sample).rows.height
    return sum(one.exact(line.removesuffix(b"\r")) is not None for line in lines if line)


def _best(sample: bytes, client: str) -> Format | None:
    lines = sum(1 for line in sample.split(b"\n") if line.strip() and not line.startswith(b"#"))
    best: Format | None = None
    most = 0
    for one in _candidates(sample, client):
        rows = _rows(one, sample)
        if rows * 2 > lines:
            return one
        least = 1 if isinstance(one, Json) else max(lines / SHARE, 1)  # servers write all that they say as JSON, requests are some of it
        if rows >= least and rows > most:
            best, most = one, rows
    return best


def _candidates(sample: bytes, client: str) -> Iterator[Format]:
    lines = [line for line in sample.split(b"\n")[:400] if line.strip()]
    if any(line.startswith(b"#Fields:") for line in lines):
        yield known.named("w3c", client).after(sample)
        return
    if any(line.startswith(b"{") for line in lines) and (found := kind(sample, client)):
        yield found
    if client:
        raise DataError(f"--client-field {client}: this log is no JSON and has no named columns; give its log_format string with --format")
    hosted = sum(_HOSTED.match(line) is not None and _DIRECT.match(line) is None for line in lines)
    first = ["vhost_combined", "combined"] if hosted * 2 > len(lines) else ["combined", "vhost_combined"]
    for name in (*first, *(name for name in NAMES if name not in (*first, "common", "w3c")), "common"):
        yield known.named(name)
