"""The formats that have a name, and how a log's format is told from its first lines or from what a user says. Never guessed silently."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from crawlguard.errors import DataError

from .base import Format
from .fields import Ways
from .haproxy import HaProxy
from .jsonkinds import JSON, kind
from .strings import Known, apache, nginx
from .template import Piece, Template
from .w3c import W3c

_LITESPEED: Final = '"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""'
_HOSTED: Final = '$remote_addr - $remote_user [$time_local] $host "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
_NPM: Final = (
    '[$time_local] $upstream_cache_status $upstream_status $status - $request_method $scheme $host "$request_uri" [Client $remote_addr] '
    '[Length $body_bytes_sent] [Gzip $gzip_ratio] [Sent-to $server] "$http_user_agent" "$http_referer"'
)
"""What Nginx Proxy Manager writes (its nginx.conf, "proxy")."""


def _columns(names: str) -> list[Piece]:
    """Pieces from a line written as fields.FIELDS in braces; {} is passed over."""
    found = list(re.finditer(r"\{(\w*)\}([^{]*)", names))
    return [Piece(one[1], one[2]) for one in found]


_ALB: Final = '{} {time} {} {ip} {} {} {spent} {} {status} {} {} {bytes} "{request}" "{ua}"'
"""docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html"""
_ELB: Final = '{time} {} {ip} {} {} {spent} {} {status} {} {} {bytes} "{request}" "{ua}"'
_ENVOY: Final = '{time}] "{request}" {status} {} {} {bytes} {} {spent} "{ip}" "{ua}" "{}" "{host}"'
"""envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage, the default format."""
_ZORAXY: Final = "{} {} [{time}] [router:{}] [origin:{host}] [client: {ip}] [useragent: {ua}] {method} {target} {status}"
_ISTIO: Final = '{time}] "{request}" {status} {} {} {} "{}" {} {bytes} {} {spent} "{}" "{ua}" "{}" "{host}" "{}" {} {} {} {ip} '


def _combined(variant: str) -> Callable[[str], Format]:
    def make(client: str) -> Format:
        if client:
            raise DataError(f"{variant} logs have one address; give the log_format string with --format to take {client} for the client")
        return Known(variant)

    return make


NAMES: Final[dict[str, Callable[[str], Format]]] = {
    "combined": _combined("combined"),
    "vhost_combined": _combined("vhost_combined"),
    "common": _combined("common"),
    "litespeed": lambda client: nginx(_LITESPEED, "LiteSpeed", client),
    "nginx-proxy-manager": lambda client: nginx(_NPM, "Nginx Proxy Manager", client),
    "combined-host": lambda client: nginx(_HOSTED, "combined with the host behind the time", client),
    "alb": lambda client: Template("AWS ALB", "", _columns(_ALB), Ways(port=True, absolute=True, unit=1e6)),
    "elb": lambda client: Template("AWS classic ELB", "", _columns(_ELB), Ways(port=True, absolute=True, unit=1e6)),
    "zoraxy": lambda client: Template("Zoraxy", "", _columns(_ZORAXY), assumed="its times have no zone and are taken for UTC"),
    "haproxy": lambda client: HaProxy(),
    "istio": lambda client: Template("Istio's Envoy", "[", _columns(_ISTIO), Ways(port=True, unit=1e3)),
    "envoy": lambda client: Template(
        "Envoy's default",
        "[",
        _columns(_ENVOY),
        Ways(chain=True, unit=1e3),
        "the client is the last address of X-Forwarded-For, as the line has no other",
    ),
    "w3c": lambda client: W3c(client=client),
}
_ALIASES: Final = {
    "iis": "w3c", "cloudfront": "w3c", "apache": "combined", "nginx": "combined", "clf": "common", "ncsa": "common", "npm": "nginx-proxy-manager",
    "traefik-clf": "combined",
}  # fmt: skip
JSON_NAMES: Final = ("json", *dict.fromkeys(keys.name for keys in JSON))


def named(name: str, client: str = "", sample: bytes = b"") -> Format:
    """The format that a user names: one of NAMES or JSON_NAMES, or an nginx ``log_format`` or Apache ``LogFormat`` string.

    ``client``: the field that holds the client's address (``--client-field``), where the format has a choice: a variable of the string, a
    column or a key. ``sample``: the first lines, from which the keys of JSON logs are taken.
    Raises DataError for what is no format.
    """
    lower = name.strip().lower()
    lower = _ALIASES.get(lower, lower)
    if lower in NAMES:
        return NAMES[lower](client)
    if lower in JSON_NAMES:
        found = kind(sample, client, lower)
        if found is None:
            raise DataError(
                f"{name}: the first lines are no JSON objects with a time, an address and a request; see whether it is another format"
            )
        return found
    if "$" in name:
        return nginx(name, client=client)
    if "%" in name:
        return apache(name, client=client)
    known = ", ".join([*NAMES, *JSON_NAMES, *_ALIASES])
    raise DataError(f"{name!r} is no format; name one of {known}, or paste the log_format (nginx) or LogFormat (Apache) string")
