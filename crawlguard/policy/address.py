"""Where a store on another machine is: a URL, read without the client library, so that ``check`` can do it anywhere.

    valkey://[USER[:PASSWORD]@]HOST[:PORT][/DB]       valkeys:// with TLS; redis:// and rediss:// mean the same
    unix:///PATH[?db=DB]
    valkey+cluster://HOST[:PORT],HOST[:PORT]...       any of its nodes
    valkey+sentinel://HOST[:PORT],.../SERVICE[/DB]    the sentinels, and the name that they know the master by

``?ca=FILE`` names the certificates that are trusted besides the system's. A password is better named than written: see ``password_env``.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("valkey", "valkeys", "redis", "rediss")
PORTS = {"": 6379, "cluster": 6379, "sentinel": 26379}
MAX_DB = 1023


class Address(NamedTuple):
    """A server, a cluster or a service. ``topology``: "", "cluster" or "sentinel"; ``path``: of a unix socket, "" for TCP."""

    topology: str = ""
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    user: str = ""
    password: str = ""
    tls: bool = False
    ca: str = ""

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @property
    def shown(self) -> str:
        """What may be printed: who is asked, and no secret."""
        if self.path:
            return f"unix://{self.path}"
        kind = f"valkey{'s' if self.tls else ''}{'+' if self.topology else ''}{self.topology}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{kind}://{hosts}{'/' if self.service else ''}{self.service}"


def read_address(url: str) -> Address:
    """The address that a URL names. Raises ValueError saying what is wrong and what to write instead, without the password."""
    try:
        parts = urlsplit(url)
        scheme, _, topology = parts.scheme.partition("+")
        asked = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("this is no URL; write for example valkey://127.0.0.1:6379/0") from None
    unknown = sorted(set(asked) - {"db", "ca"})
    if unknown:
        raise ValueError(f"the URL asks for {unknown[0]!r}; only db and ca may stand behind its ?")
    if scheme == "unix" and not topology:
        if not parts.path.startswith("/") or parts.netloc:
            raise ValueError("a unix socket is written with its whole path: unix:///run/valkey/valkey.sock")
        return Address(path=unquote(parts.path), db=_db(asked.get("db", "0")))
    if scheme not in SCHEMES or topology not in PORTS:
        raise ValueError(
            f"{parts.scheme[:30]!r} is no scheme of a store; use valkey, valkeys (TLS), unix, valkey+cluster or valkey+sentinel"
        )
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    found = tuple(_host(host, PORTS[topology]) for host in hosts.split(","))
    if len(found) > 1 and not topology:
        raise ValueError("several hosts are a cluster or sentinels: write valkey+cluster:// or valkey+sentinel://")
    service, db = "", parts.path.strip("/")
    if topology == "sentinel":
        service, _, db = db.partition("/")
        if not service:
            raise ValueError("the name of the service is missing: valkey+sentinel://HOST/SERVICE")
    if topology == "cluster" and db not in ("", "0"):
        raise ValueError("a cluster has only database 0: leave the number out")
    return Address(
        topology, found, "", unquote(service), _db(asked.get("db") or db or "0"), unquote(user), unquote(password), scheme.endswith("s") and scheme != "redis",
        asked.get("ca", ""),
    )  # fmt: skip


def _db(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > MAX_DB:
        raise ValueError(f"{text[:30]!r} is no number of a database; write 0 to {MAX_DB}, or leave it out")
    return int(text)


def _host(text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host or any(c.isspace() for c in host):
        raise ValueError("the host is missing; write for example valkey://127.0.0.1:6379/0")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port[:20]!r} is no port (an IPv6 address stands in brackets)")
    return host, int(port or default)
