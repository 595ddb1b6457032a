"""Addresses of Valkey and Redis servers. Reads text and nothing else, so that a policy can be checked where no server and no client library is.

valkey://[user[:password]@]host[:port][/db]           redis:// is the same; valkeys:// and rediss:// speak TLS
unix://[user[:password]@]/path/of/the.sock[?db=N]
valkey+cluster://host[:port],host[:port]              any of its nodes; valkeys+cluster:// with TLS
valkey+sentinel://host[:port],host[:port]/service[/db]    the Sentinels, and the name they know the master by

?db=N  ?ca=FILE (certificate authority for TLS)  ?password_env=NAME  ?password_file=FILE  ?sentinel_password_env=NAME
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote

Kind = Literal["single", "cluster", "sentinel"]
Address = tuple[str, int]
"""Host and port; for a unix socket its path, and 0."""

_SCHEME = r"(?:(?P<name>valkey|redis)(?P<tls>s?)(?:\+(?P<kind>cluster|sentinel))?|(?P<unix>unix))://"
_HOST = r"(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?"
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_OPTIONS = ("db", "ca", "password_env", "password_file", "sentinel_password_env")
_PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379}
SHAPE = "write valkey://host:6379/0, valkeys://host:6379/0 (TLS), unix:///path/of/the.sock, valkey+cluster://host,host or valkey+sentinel://host,host/service"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """Where the servers are and how to log in. ``repr`` and ``name`` never show a password."""

    kind: Kind = "single"
    nodes: tuple[Address, ...] = ()
    tls: bool = False
    db: int = 0
    service: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    password_env: str = ""
    password_file: str = ""
    sentinel_password_env: str = ""
    ca: str = ""

    @property
    def name(self) -> str:
        """What an operator knows the server by: the address without who logs in."""
        if self.nodes and not self.nodes[0][1]:
            return f"unix://{self.nodes[0][0]}" + (f"?db={self.db}" if self.db else "")
        scheme = ("valkeys" if self.tls else "valkey") + ("" if self.kind == "single" else f"+{self.kind}")
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        return f"{scheme}://{hosts}" + (f"/{self.service}" if self.service else "") + (f"/{self.db}" if self.db else "")


def parse_url(text: str) -> LinkSpec | str:
    """The servers that a text names, or what is wrong with it and what to write instead. Says nothing of what may be a password."""
    scheme = re.match(_SCHEME, text)
    if not scheme:
        return f"the scheme is none that is known; {SHAPE}"
    if re.search(r"[\s\x00-\x1f#]", text):
        return "it holds a blank or a '#'; write them as %20 and %23"
    rest, _, query = text[scheme.end() :].partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    wrong = _wrong_options(options)
    if wrong:
        return wrong
    given = dict(options)
    login, _, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    if password and (given.get("password_env") or given.get("password_file")):
        return "there is a password before the '@' and another in an option; keep password_env or password_file alone"
    kind: Kind = scheme["kind"] or "single"  # type: ignore[assignment]
    tls = scheme["tls"] == "s"
    if given.get("ca") and not tls:
        return "?ca= is for TLS; write valkeys:// (or rediss://), or leave it out"
    if given.get("sentinel_password_env") and kind != "sentinel":
        return "?sentinel_password_env= is for valkey+sentinel:// alone; write password_env"
    where = _socket(place) if scheme["unix"] else _hosts(place, kind)
    if isinstance(where, str):
        return where
    nodes, service, db = where
    if db and "db" in given:
        return "the database number stands after the host and in ?db=; keep one of them"
    number = given.get("db", db or "0")
    if not re.fullmatch("[0-9]{1,4}", number, re.ASCII):
        return "the database is not a number; write /0 after the host, or ?db=0"
    if kind == "cluster" and int(number):
        return "a Cluster has database 0 alone; leave the number out"
    return LinkSpec(
        kind=kind,
        nodes=nodes,
        tls=tls,
        db=int(number),
        service=service,
        user=unquote(user),
        password=unquote(password),
        password_env=given.get("password_env", ""),
        password_file=given.get("password_file", ""),
        sentinel_password_env=given.get("sentinel_password_env", ""),
        ca=given.get("ca", ""),
    )


def _wrong_options(options: list[tuple[str, str]]) -> str:
    names = [name for name, _ in options]
    for name, value in options:
        if name not in _OPTIONS:
            return f"an option after the '?' is none of {', '.join(_OPTIONS)}; remove it"
        if names.count(name) > 1 or not value:
            return f"the option {name} is empty or stands there twice; give it once, with a value"
        if name.endswith("_env") and not re.fullmatch(_NAME, value):
            return f"{name} is not the name of an environment variable; write {name}=VALKEY_PASSWORD"
    if {"password_env", "password_file"} <= set(names):
        return "there are password_env and password_file; keep one of them"
    return ""


def _socket(place: str) -> tuple[tuple[Address, ...], str, str] | str:
    if not place.startswith("/") or len(place) < 2:
        return "the path of the unix socket is missing or relative; write unix:///path/of/the.sock (three slashes)"
    return ((unquote(place), 0),), "", ""


def _hosts(place: str, kind: Kind) -> tuple[tuple[Address, ...], str, str] | str:
    """The nodes, the service's name and the database as text."""
    hosts, _, path = place.partition("/")
    nodes: list[Address] = []
    for one in hosts.split(","):
        match = re.fullmatch(_HOST, one)
        if not match:
            return f"a host is missing, or no name, address or [IPv6 address] with a port of digits; {SHAPE}"
        port = int(match["port"] or _PORTS[kind])
        if not 0 < port < 65_536:
            return "a port is not between 1 and 65535; write host:6379"
        nodes.append((match["host"].strip("[]"), port))
    if kind == "single" and len(nodes) > 1:
        return "there are several hosts; write valkey+cluster:// or valkey+sentinel://, or one host"
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", service, re.ASCII):
            return "the name of the Sentinels' service is missing; write valkey+sentinel://host:26379/mymaster"
    return tuple(nodes), service, path
