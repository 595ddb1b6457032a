"""nginx ``log_format`` and Apache ``LogFormat`` strings as formats: the fast path where they are combined and a tail, JSON where they write JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, TypeVar

from crawlguard.errors import DataError

from ..combined import Combined, Tail
from ..combined_exact import Line
from .base import Format
from .fields import Ways
from .jsonl import Json
from .template import Piece, Template

NGINX: Final = {
    "remote_addr": "ip", "http_x_forwarded_for": "forwarded", "proxy_add_x_forwarded_for": "forwarded",
    "time_local": "time", "time_iso8601": "time", "msec": "time",
    "request": "request", "request_method": "method", "request_uri": "target", "uri": "target", "document_uri": "target", "args": "query",
    "query_string": "query", "server_protocol": "protocol", "status": "status", "body_bytes_sent": "bytes", "bytes_sent": "bytes",
    "http_referer": "referrer", "http_user_agent": "ua", "host": "host", "http_host": "host", "server_name": "host",
    "upstream_response_time": "upstream", "request_time": "spent",
}  # fmt: skip
"""nginx's variables and the fields that they are (nginx.org/en/docs/varindex.html)."""
APACHE: Final = {
    "h": "ip", "a": "ip", "{c}a": "ip", "{c}h": "ip", "{x-forwarded-for}i": "forwarded", "t": "time", "r": "request", "m": "method", "U": "target", "q": "query",
    "H": "protocol", "s": "status", "b": "bytes", "B": "bytes", "O": "bytes", "{referer}i": "referrer", "{user-agent}i": "ua",
    "v": "host", "V": "host", "{host}i": "host", "D": "spent", "T": "spent", "{s}T": "spent", "{ms}T": "spent", "{us}T": "spent",
}  # fmt: skip
"""Apache's directives (httpd.apache.org/docs/2.4/mod/mod_log_config.html)."""
SECONDS: Final = 1e6
UNITS: Final = {"D": 1.0, "{us}T": 1.0, "{ms}T": 1e3, "T": SECONDS, "{s}T": SECONDS}
"""Microseconds in a unit of Apache's times; nginx writes seconds."""
T = TypeVar("T")

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_DIRECTIVE = re.compile(r"%(?:!?[0-9,]+)?[<>]?(?:(\{[^}]*\})?(\^\w\w|\w)|(%))")
_TOGETHER = ("request", "method", "target", "query", "protocol")

_AGENT: Final = [("referrer", '" "'), ("ua", '"')]
_COMMON: Final = [("", " "), ("", " ["), ("time", '] "'), ("request", '" '), ("status", " ")]


class Known(Combined):
    """A variant of combined, with its name."""

    def __init__(self, variant: str, name: str = "", tail: Tail | None = None) -> None:
        super().__init__(variant, tail)
        self.name = name or f"nginx/Apache {variant}"

    def describe(self) -> str:
        return f"{self.name}, with times" if self.tail else self.name

    def after(self, chunk: bytes) -> Known:
        return self

    def exact(self, line: bytes) -> Line | None:
        """The row of a line, slowly."""
        return self._line(line)


def nginx(form: str, name: str = "", client: str = "") -> Format:
    """The format of a ``log_format`` string. ``client`` names the variable that holds the client's address, if not $remote_addr.

    Raises DataError when no row can be had of it.
    """
    if form.lstrip().startswith("{"):
        return _json(form, name or "nginx JSON", client)
    form = form.replace("$uri$is_args$args", "$request_uri").replace("$uri?$args", "$request_uri")
    wanted = {**NGINX, client.lstrip("$"): "ip"} if client else NGINX
    if client:
        wanted = {variable: field for variable, field in wanted.items() if field != "ip" or variable == client.lstrip("$")}
    found = [(found[1] or found[2], found.span()) for found in _VARIABLE.finditer(form)]
    fields = [(wanted.get(variable, ""), span) for variable, span in found]
    return _compiled(form, _timed(fields), name or "nginx log_format", client, SECONDS)


def _timed(fields: list[tuple[str, T]]) -> list[tuple[str, T]]:
    """What the server behind took is better than what the visitor's line took as well, where a log has both."""
    if not any(field == "upstream" for field, _ in fields):
        return fields
    return [({"upstream": "spent", "spent": ""}.get(field, field), where) for field, where in fields]


def apache(form: str, name: str = "", client: str = "") -> Format:
    """The format of a ``LogFormat`` string. ``client`` names the directive or header that holds the client's address, if not %h or %a."""
    form = (
        form.replace('\\"', '"')
        .replace("\\t", "\t")
        .replace("%v:%p", "%v")
        .replace("%U%q", "%{URL}U")
        .replace("%t", "[%{}t]")
        .replace("%%", "\0")
    )
    own = client.lstrip("%")
    own = own if own.startswith("{") or len(own) < 3 else f"{{{own}}}i"
    fields: list[tuple[str, tuple[int, int]]] = []
    told = [(found[1] or "").lower() + (found[2] or "") for found in _DIRECTIVE.finditer(form)]
    finest = min((one for one in told if one in UNITS), key=lambda one: UNITS[one], default="")
    for found in _DIRECTIVE.finditer(form):
        argument, letter = (found[1] or "").lower(), found[2] or ""
        field = APACHE.get(argument + letter) or ("target" if letter == "U" else "time" if letter == "t" else "")
        if client:
            field = "ip" if argument + letter == own.lower() else "" if field == "ip" else field
        if field == "spent" and argument + letter != finest:
            field = ""
        fields.append((field, found.span()))
    return _compiled(form, fields, name or "Apache LogFormat", client, UNITS.get(finest, 0.0))


def _compiled(form: str, fields: list[tuple[str, tuple[int, int]]], name: str, client: str, unit: float) -> Format:
    have = {field for field, _ in fields}
    ways, assumed = Ways(unit=unit), ""
    if "ip" not in have and "forwarded" in have:
        fields = [("ip" if field == "forwarded" else field, span) for field, span in fields]
        ways, assumed = ways._replace(chain=True), "the client is the last address of X-Forwarded-For, as the line has no other"
    elif client:
        ways, assumed = ways._replace(chain=True), f"the client is the last address of {client}"
    pieces = list(_pieces(form, fields))
    _needed({piece.name for piece in pieces}, name)
    before = form[: fields[0][1][0]].replace("\0", "%")
    if not ways.chain and not before and (fast := _fast(pieces)):
        tail = _tail(pieces, unit) if "spent" in have else None
        if tail or "spent" not in have:
            return Known(fast, f"{name} (as {fast})", tail)
    return Template(name, before, pieces, ways, assumed)


def _pieces(form: str, fields: list[tuple[str, tuple[int, int]]]) -> Iterator[Piece]:
    """Each field with the text behind it; of two that say the same the first counts."""
    seen: set[str] = {"forwarded"}
    if any(field == "request" for field, _ in fields):
        seen |= set(_TOGETHER[1:])  # the request line says it all
    for number, (field, (_, end)) in enumerate(fields):
        behind = form[end : fields[number + 1][1][0] if number + 1 < len(fields) else len(form)]
        yield Piece("" if field in seen else field, behind.replace("\0", "%"))
        seen.add(field)


def _needed(have: set[str], name: str) -> None:
    if "ip" not in have:
        raise DataError(f"{name}: no field holds the client's address; log $remote_addr (%h), or name the field with --client-field")
    if "time" not in have:
        raise DataError(f"{name}: no field holds the time; log $time_local (%t)")
    if not have & {"request", "target"}:
        raise DataError(f"{name}: no field holds what was asked for; log $request (%r)")


def _fast(pieces: list[Piece]) -> str:
    """The variant of combined that these pieces are the beginning of, or ""."""
    plain: list[tuple[str, str]] = [(piece.name, piece.behind) for piece in pieces]
    head: list[tuple[str, str]] = [("ip", " - ")]
    for variant, begin in (
        ("combined", head),
        ("combined", [("ip", " ")]),
        ("vhost_combined", [("host", " "), *head]),
        ("vhost_combined", [("host", " "), ("ip", " ")]),
    ):
        middle = _COMMON[1:] if begin[-1][1] == " - " else _COMMON
        whole = [*begin, *middle, ("bytes", ' "'), *_AGENT]
        if plain[: len(whole) - 1] == whole[:-1] and plain[len(whole) - 1][0] == "ua" and plain[len(whole) - 1][1].startswith('"'):
            return variant
        if variant == "combined" and plain == [*begin, *middle, ("bytes", "")]:
            return "common"
    return ""


def _tail(pieces: list[Piece], unit: float) -> Tail | None:
    """Where behind the User-Agent the time stands; None where it stands before it."""
    names = [piece.name for piece in pieces]
    if "ua" not in names or names.index("ua") > names.index("spent"):
        return None
    agent = names.index("ua")
    before = pieces[agent].behind[1:] + "".join(f"\0{piece.behind}" for piece in pieces[agent + 1 : names.index("spent")])
    *quotes, last = before.split('"')
    # Of several (nginx writes one for each server that it tried) the last one.
    return Tail(len(quotes), f"^{re.escape(last).replace(re.escape(chr(0)), '.*?')}(?:[0-9.]+(?:,| :) )*([0-9.]+)", unit)


def _json(form: str, name: str, client: str) -> Format:
    try:
        keys = json.loads(re.sub(r"([:\[,]\s*)\$(\w+)", r'\1"$\2"', form))
    except ValueError as error:
        raise DataError(f"{name}: not the JSON of one line ({error}); paste the log_format as it stands") from None
    found: dict[str, tuple[str, ...]] = {}
    leaves = []
    own = client.lstrip("$")
    for path, value in _leaves(keys):
        variable = _VARIABLE.fullmatch(str(value))
        field = NGINX.get((variable[1] or variable[2]) if variable else "", "")
        if client:
            field = "ip" if own in (path[-1], str(value).lstrip("$")) else "" if field == "ip" else field
        leaves.append((field, path))
    for field, path in _timed(leaves):
        if field and field not in found:
            found[field] = path
    if "ip" not in found and "forwarded" in found:
        found["ip"] = found["forwarded"]
    chain = found.get("ip") == found.get("forwarded") or bool(client)
    found.pop("forwarded", None)
    if "request" in found:
        found = {field: path for field, path in found.items() if field not in _TOGETHER[1:]}
    _needed(set(found), name)
    return Json(name, found, Ways(chain=chain, unit=SECONDS))


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value
