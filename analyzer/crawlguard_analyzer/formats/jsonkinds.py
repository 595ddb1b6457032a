"""The kinds of JSON logs, the keys that give each away, and where its fields are."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crawlguard.errors import DataError

from .fields import PLAIN, Ways
from .jsonl import Json, Path


@dataclass(frozen=True, slots=True)
class Keys:
    """A kind of JSON log: the keys that give it away, and where its fields are (the first path that an object has)."""

    name: str
    marks: tuple[str, ...]
    paths: Mapping[str, tuple[str, ...]]
    ways: Ways = PLAIN
    lists: frozenset[str] = frozenset()
    assumed: str = ""
    units: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Microseconds in a unit of each path of ``spent``; what has none here is not taken for it."""


_ENVOY: Final = {
    "time": ("start_time",), "method": ("method",), "target": ("x-envoy-original-path", "x-envoy-origin-path", "path"), "protocol": ("protocol",),
    "status": ("response_code",), "bytes": ("bytes_sent",), "referrer": ("referer",), "ua": ("user-agent", "user_agent"), "host": (":authority", "authority"),
    "spent": ("x-envoy-upstream-service-time", "upstream_service_time", "duration"),
}  # fmt: skip
_MILLISECONDS: Final = {"x-envoy-upstream-service-time": 1e3, "upstream_service_time": 1e3, "duration": 1e3}
JSON: Final = (
    Keys(
        "crawlguard",
        ("fingerprint", "action", "rule", "client"),
        {"time": ("time",), "ip": ("client",), "method": ("method",), "target": ("path",), "status": ("status",), "ua": ("agent",), "action": ("action",), "rule": ("rule",), "shadow": ("shadow",)},
        Ways(nobody=True),
        assumed="the agent's name stands for the User-Agent, which this log does not have",
    ),
    Keys(
        "caddy",
        ("request.uri", "request.method", "request.headers"),
        {
            "time": ("ts",), "ip": ("request.client_ip", "request.remote_ip", "request.remote_addr"), "method": ("request.method",), "target": ("request.uri",),
            "protocol": ("request.proto",), "status": ("status",), "bytes": ("size",), "referrer": ("request.headers.Referer",),
            "ua": ("request.headers.User-Agent",), "host": ("request.host",), "spent": ("duration",),
        },
        lists=frozenset({"referrer", "ua"}),
        units={"duration": 1e6},
    ),
    Keys(
        "traefik",
        ("ClientHost", "RequestMethod", "RequestPath"),
        {
            "time": ("StartUTC", "time"), "ip": ("ClientHost",), "method": ("RequestMethod",), "target": ("RequestPath",), "protocol": ("RequestProtocol",),
            "status": ("DownstreamStatus",), "bytes": ("DownstreamContentSize",), "referrer": ("request_Referer",), "ua": ("request_User-Agent",), "host": ("RequestHost",),
            "spent": ("OriginDuration", "Duration"),
        },
        units={"OriginDuration": 1e-3, "Duration": 1e-3},
    ),
    Keys("envoy-json", ("response_code", "start_time", "downstream_remote_address"), {"ip": ("downstream_remote_address",), **_ENVOY}, Ways(port=True), units=_MILLISECONDS),
    Keys("envoy-json", ("response_code", "start_time"), {"ip": ("x-forwarded-for", "x_forwarded_for"), **_ENVOY}, Ways(chain=True), units=_MILLISECONDS),
)  # fmt: skip
ANY: Final = {
    "time": ("time_iso8601", "time_local", "msec", "timestamp", "@timestamp", "time", "ts", "datetime", "date", "t"),
    "ip": ("remote_addr", "client_ip", "clientip", "remote_ip", "clientIp", "ip", "client", "remoteIp", "remote_host", "client_addr", "remoteAddr", "c_ip", "c-ip", "host_ip",
           "source.ip", "client.ip", "httpRequest.remoteIp"),
    "request": ("request", "request_line"),
    "method": ("request_method", "method", "verb", "http_method", "requestMethod", "http.request.method", "httpRequest.requestMethod", "cs-method"),
    "target": ("request_uri", "uri", "url", "path", "request_path", "requestUri", "url.original", "httpRequest.requestUrl", "cs-uri-stem"),
    "query": ("args", "query_string", "query", "cs-uri-query"),
    "protocol": ("server_protocol", "protocol", "http_version", "proto", "httpRequest.protocol", "cs-version"),
    "status": ("status", "status_code", "response", "response_status", "code", "http.response.status_code", "httpRequest.status", "sc-status"),
    "bytes": ("body_bytes_sent", "bytes_sent", "bytes", "size", "body_bytes", "response_size", "length", "http.response.body.bytes", "httpRequest.responseSize", "sc-bytes"),
    "referrer": ("http_referer", "http_referrer", "referer", "referrer", "http.request.referrer", "httpRequest.referer", "cs(Referer)"),
    "ua": ("http_user_agent", "user_agent", "useragent", "userAgent", "ua", "agent", "http_ua", "user_agent.original", "httpRequest.userAgent", "cs(User-Agent)"),
    "host": ("host", "http_host", "server_name", "vhost", "domain", "url.domain"),
    "spent": ("upstream_response_time", "request_time", "event.duration"),
}  # fmt: skip
"""Keys that JSON logs commonly have for each field, the likelier first: nginx's variables, Elastic Common Schema, Google Cloud."""
_BARE: Final = Keys(
    "JSON lines", (), ANY, Ways(absolute=True), units={"upstream_response_time": 1e6, "request_time": 1e6, "event.duration": 1e-3}
)
_OBJECTS: Final = 200
"""Lines that are looked at."""


def kind(sample: bytes, client: str = "", name: str = "") -> Json | None:
    """The format of JSON lines, from the keys that most of the first ones have; None when there are none, or no request among them.

    Raises DataError for a ``client`` that is no key.
    """
    seen: Counter[str] = Counter()
    for line in sample.split(b"\n")[:_OBJECTS]:
        try:
            one = json.loads(line) if line.startswith(b"{") else None
        except (ValueError, RecursionError):
            continue
        seen.update(_paths(one) if isinstance(one, dict) else ())
    for keys in (*JSON, _BARE):
        if name not in ("", "json", keys.name) or not all(seen[mark] for mark in keys.marks):
            continue
        if (found := keyed(keys, seen, client)) is not None:
            return found
    return None


def keyed(keys: Keys, seen: Mapping[str, int], client: str) -> Json | None:
    """The format of a kind whose log has these keys (dotted), each so many times."""
    found: dict[str, Path] = {}
    for field, paths in keys.paths.items():
        have = [path for path in paths if seen[path]]
        most = max((seen[path] for path in have), default=0)
        if use := next((path for path in have if seen[path] * 2 >= most), ""):
            found[field] = tuple(use.split("."))
    ways = keys.ways._replace(unit=keys.units[".".join(found["spent"])] if "spent" in found else 0.0)
    if client:
        if not seen[client]:
            raise DataError(f"--client-field {client}: no such key in the first lines; there are {', '.join(sorted(seen)[:30])}")
        found["ip"], ways = tuple(client.split(".")), ways._replace(chain=True)
    if "request" in found:
        found = {field: path for field, path in found.items() if field not in ("method", "target", "query", "protocol")}
    if not {"time", "ip"} <= set(found) or not {"request", "target"} & set(found):
        return None
    return Json(keys.name, found, ways, lists=keys.lists, assumed=keys.assumed)


def _paths(one: Mapping[str, Any], before: str = "", depth: int = 0) -> list[str]:
    """Dotted paths of what is no object, and of objects. A key with a dot in it is taken as it stands only at the top."""
    found = []
    for key, value in list(one.items())[:200]:
        path = f"{before}{key}"
        if "." not in key:
            if value is not None:
                found.append(path)
            if isinstance(value, dict) and depth < 4:
                found += _paths(value, f"{path}.", depth + 1)
    return found
