"""What a format has found in a line becomes a row: the same checks for all formats, once exactly, once as whole columns.

The columns take only what is plain (usual methods, addresses in digits, nothing escaped); all else is left to the exact way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import polars as pl

from ..rows import LONGEST, ROWS
from . import times

FIELDS: Final = (
    "time",
    "ip",
    "request",
    "method",
    "target",
    "query",
    "protocol",
    "status",
    "bytes",
    "referrer",
    "ua",
    "host",
    "action",
    "rule",
    "shadow",
    "spent",
)
"""What a format may find, as text. ``request`` is the whole request line, or ``method``, ``target`` and ``protocol`` are told one by one;
``query`` is what stands after the question mark where ``target`` does not have it. An action whose ``shadow`` is "true" was only rehearsed:
it becomes "shadow:block" and the like. ``spent`` is a number, in the unit of the format's ``Ways``; of several (nginx writes one for each
server that it tried) the last counts, and what is none is not known."""


class Ways(NamedTuple):
    """How a format writes."""

    port: bool = False
    """The address is always followed by a port."""
    chain: bool = False
    """The address is the last of a list, each of which a proxy has added (X-Forwarded-For)."""
    absolute: bool = False
    """Targets are whole URLs, of which host and path are taken."""
    nobody: bool = False
    """A line may be without an address."""
    unit: float = 0.0
    """Microseconds in a unit of ``spent``; 0 where the format has none."""


PLAIN: Final = Ways()


class Row(NamedTuple):
    """As ``rows.ROWS``."""

    time: int
    ip: str
    method: str
    target: str
    protocol: str
    status: int
    bytes: int
    referrer: str
    ua: str
    host: str
    action: str
    rule: str
    spent: int


METHODS: Final = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "PROPFIND", "CONNECT")
PROTOCOLS: Final = ("HTTP/1.1", "HTTP/2.0", "HTTP/1.0", "HTTP/3.0", "HTTP/2", "HTTP/3")
_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PROTOCOL = re.compile(r"[A-Z]+/[0-9][0-9.]*")
_ADDRESS = re.compile(r"[^\x00-\x20\"\x7f]{1,255}")
_V4_PORT = re.compile(r"([0-9.]{7,15}):[0-9]+")
_BRACKETS = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?")
_PORT = re.compile(r":[0-9]+\Z")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)(.*)", re.DOTALL)
_NOTHING = ("", "-")
_NUMBER = r"^[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,2})?$"
_IS_NUMBER = re.compile(_NUMBER)
_PLAIN_ADDRESS = "^(?:[0-9.]{7,15}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,40})$"


def row(found: Mapping[str, str | None], ways: Ways) -> Row | None:
    """The row of one line's fields, or None when it is no request. Absent and None are the same."""
    get = {name: value for name, value in found.items() if value is not None}
    time = times.seconds(get.get("time", ""))
    ip = address(get.get("ip", ""), ways)
    asked = request(get["request"]) if "request" in get else _asked(get)
    status, size, action = get.get("status", ""), get.get("bytes", ""), get.get("action", "")
    numbers = (status in (*_NOTHING, "-1") or _digits(status, 3)) and (size in _NOTHING or _digits(size, 18))
    if time is None or ip is None or asked is None or not numbers:
        return None
    method, target, protocol = asked
    host = dashed(get.get("host"))
    if ways.absolute and (url := _URL.fullmatch(target)):
        host, target = url[1], url[2] or "/"
    return Row(
        time, ip, method, target, protocol,
        int(status) if status.isdigit() else 0, int(size) if size.isdigit() else -1,
        dashed(get.get("referrer")), dashed(get.get("ua")), host, f"shadow:{action}" if get.get("shadow") == "true" else action, get.get("rule", ""),
        _spent(get.get("spent", ""), ways),
    )  # fmt: skip


def request(line: str) -> tuple[str, str, str] | None:
    """Method, target and protocol of a request line, as ``combined_exact`` has them; None for what is no HTTP."""
    if line in _NOTHING:
        return "", "", ""
    if not " " < line[0] < "\x7f" or line[0] == "\\":
        return None
    method, blank, rest = line.partition(" ")
    if not blank or not _METHOD.fullmatch(method):
        method, rest = "", line
    target, _, protocol = rest.rpartition(" ")
    return (method, target, protocol) if _PROTOCOL.fullmatch(protocol) else (method, rest, "")


def _asked(get: Mapping[str, str]) -> tuple[str, str, str] | None:
    method, protocol = dashed(get.get("method")), dashed(get.get("protocol"))
    target, query = dashed(get.get("target")), dashed(get.get("query")).removeprefix("?")
    if (method and not _METHOD.fullmatch(method)) or (protocol and not _PROTOCOL.fullmatch(protocol)):
        return None
    return method, f"{target}?{query}" if query else target, protocol


def address(text: str, ways: Ways) -> str | None:
    """The client, less a port and brackets; None when it is none."""
    if ways.chain:
        text = text.rpartition(",")[2].strip(" ")
    if found := _BRACKETS.fullmatch(text) or _V4_PORT.fullmatch(text):
        text = found[1]
    elif ways.port:
        text = _PORT.sub("", text)
    if text in _NOTHING:
        return "" if ways.nobody else None
    return text if _ADDRESS.fullmatch(text) else None


def _spent(text: str, ways: Ways) -> int:
    last = text.rpartition(" ")[2]
    return int(min(float(last) * ways.unit, LONGEST)) if ways.unit and "\n" not in last and _IS_NUMBER.match(last) else -1


def dashed(text: str | None) -> str:
    """ "" for what is not there."""
    return "" if text in (None, "-") else str(text)


def _digits(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= most


def columns(found: pl.DataFrame, ways: Ways) -> tuple[pl.DataFrame, pl.Series]:
    """The same for columns of text (of FIELDS, null where a line has none): ROWS, and which of them hold; the others are for ``row``."""
    have = {name: pl.col(name) if name in found.columns else pl.lit("") for name in FIELDS}
    if "request" in found.columns:
        asked = have["request"].str.splitn(" ", 3).struct
        method, target, protocol = (asked.field(f"field_{n}").fill_null("") for n in range(3))
        spoken = protocol.is_in(PROTOCOLS)
    else:
        method, target, protocol = have["method"].fill_null(""), _undashed(have["target"]), _undashed(have["protocol"])
        spoken = protocol.is_in(("", *PROTOCOLS))
        if "query" in found.columns:
            query = _undashed(have["query"]).str.strip_prefix("?")
            target = pl.when(query == "").then(target).otherwise(pl.concat_str(target, pl.lit("?"), query))
    host = _undashed(have["host"])
    if ways.absolute:
        url = target.str.extract_groups(r"^[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)(.*)$").struct
        at, path = url.field("1"), url.field("2")
        host = pl.coalesce(at, host)
        target = pl.when(at.is_null()).then(target).when(path == "").then(pl.lit("/")).otherwise(path)
    status, size, action = _undashed(have["status"]), _undashed(have["bytes"]), have["action"].fill_null("")
    rows = found.select(
        times.column(found["time"]).alias("time"),
        _address(have["ip"], ways).alias("ip"),
        method.alias("method"),
        target.alias("target"),
        protocol.alias("protocol"),
        pl.when(status == "").then(0).otherwise(status.cast(pl.Int16, strict=False)).alias("status"),
        pl.when(size == "").then(-1).otherwise(size.cast(pl.Int64, strict=False)).alias("bytes"),
        _undashed(have["referrer"]).alias("referrer"),
        _undashed(have["ua"]).alias("ua"),
        host.alias("host"),
        pl.when(have["shadow"] == "true").then(pl.lit("shadow:") + action).otherwise(action).alias("action"),
        have["rule"].fill_null("").alias("rule"),
        _spents(have["spent"], ways).alias("spent"),
        (spoken & (size.str.len_bytes() <= 18) & ~size.str.starts_with("+") & ~size.str.starts_with("-")).alias("good"),
        (status == "").alias("unanswered"),
        (status.str.len_bytes() == 3).alias("short"),
    )
    good = rows.select(
        pl.col("good")
        & pl.col("time").is_not_null()
        & (pl.col("unanswered") | (pl.col("short") & (pl.col("status") >= 100)))
        & pl.col("bytes").is_not_null()
        & pl.col("ip").str.contains(_PLAIN_ADDRESS)
        & pl.col("method").is_in(METHODS)
    )
    return rows.select(pl.col(name).cast(kind) for name, kind in ROWS.items()), good.to_series().fill_null(False)


def _spents(text: pl.Expr, ways: Ways) -> pl.Expr:
    if not ways.unit:
        return pl.lit(-1, pl.Int32)
    last = text.str.replace("(?s)^.* ", "")
    value = pl.when(last.str.contains(_NUMBER)).then(last).cast(pl.Float64, strict=False) * ways.unit
    return value.clip(upper_bound=LONGEST).cast(pl.Int32).fill_null(-1)


def _undashed(text: pl.Expr) -> pl.Expr:
    return pl.when(text == "-").then(pl.lit("")).otherwise(text.fill_null(""))


def _address(text: pl.Expr, ways: Ways) -> pl.Expr:
    if ways.chain:
        text = text.str.replace("^.*,", "").str.strip_chars(" ")
    return text.str.replace(":[0-9]+$", "") if ways.port else text
