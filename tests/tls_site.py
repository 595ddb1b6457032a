"""A real HTTPS server on loopback, with a certificate authority made for the run, that answers each path as badly as a test wants.

It speaks raw bytes over TLS, because most of what it has to do is what an HTTP library would refuse to do.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from crawlguard.update.fetch import Fetcher
from crawlguard.update.urls import Address

HOST = "lists.test"
Headers = dict[str, str]
Behaviour = Callable[[ssl.SSLSocket, Headers], None]

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_authority(directory: Path) -> None:
    """ca.pem, and site.pem with site.key for lists.test and all below it."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)

    ca = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=an authority for one test run", *ca)
    openssl("req", *_KEY, "-keyout", "site.key", "-out", "site.csr", "-subj", f"/CN={HOST}")
    (directory / "ext").write_text(f"subjectAltName=DNS:{HOST},DNS:*.{HOST}\nbasicConstraints=CA:FALSE\n")
    signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext")
    openssl("x509", "-req", "-in", "site.csr", "-out", "site.pem", *signed_by)


class Site:
    """The server. ``answers``: what each path does. ``seen``: the path and headers of each request, in order."""

    def __init__(self, authority: Path) -> None:
        self.authority = authority
        self.answers: dict[str, Behaviour] = {}
        self.seen: list[tuple[str, Headers]] = []
        self.stop = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority / "site.pem", authority / "site.key")
        site = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError), context.wrap_socket(self.request, server_side=True) as connection:
                    connection.settimeout(10)
                    site._serve(connection)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 32

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def _serve(self, connection: ssl.SSLSocket) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            piece = connection.recv(65_536)
            if not piece:
                return
            raw += piece
        first, *lines = raw.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        path = first.split(" ")[1]
        self.seen.append((path, headers))
        self.answers.get(path, reply(b"nothing here", status=404))(connection, headers)

    def url(self, path: str, host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"

    def resolver(self, host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    def fetcher(self, **changed: Any) -> Fetcher:
        """A fetcher that finds every name here, and takes this one address for a public one."""
        given: dict[str, Any] = {"context": self.context(), "resolver": self.resolver, "allowed": only_here, "total": 10.0, "read": 5.0}
        return Fetcher(**{**given, **changed})

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority / "ca.pem"))


def only_here(address: Address) -> bool:
    return address == ip_address("127.0.0.1")


@contextmanager
def serving(authority: Path) -> Iterator[Site]:
    site = Site(authority)
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.stop.set()
        site.server.shutdown()
        site.server.server_close()
        thread.join()


# ---- what a path can do


def head(status: int, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def reply(body: bytes, status: int = 200, **headers: str) -> Behaviour:
    """A well-behaved answer. Underscores in names of headers stand for dashes."""
    given = {"Content_Length": str(len(body)), **headers}
    return lambda connection, _: connection.sendall(head(status, **given) + body)


def redirect(location: str, status: int = 302) -> Behaviour:
    return reply(b"", status, Location=location)


def raw(data: bytes) -> Behaviour:
    """These bytes, then a proper end of the connection."""

    def behave(connection: ssl.SSLSocket, _: Headers) -> None:
        connection.sendall(data)
        connection.unwrap()

    return behave


def cut(data: bytes) -> Behaviour:
    """These bytes, then nothing: the connection ends without TLS's own good-bye."""

    def behave(connection: ssl.SSLSocket, _: Headers) -> None:
        connection.sendall(data)
        socket.socket.shutdown(connection, socket.SHUT_RDWR)

    return behave


def reset(data: bytes = b"") -> Behaviour:
    """These bytes, then a RST."""

    def behave(connection: ssl.SSLSocket, _: Headers) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return behave


def endless(data: bytes, piece: bytes = b"1.2.3.4\n" * 4096) -> Behaviour:
    """These bytes, then pieces until the client has had enough."""

    def behave(connection: ssl.SSLSocket, _: Headers) -> None:
        connection.sendall(data)
        while True:
            connection.sendall(piece)

    return behave


def drip(site: Site, data: bytes, piece: bytes = b"1") -> Behaviour:
    """These bytes, then a small piece every few milliseconds: never silent, never done."""

    def behave(connection: ssl.SSLSocket, _: Headers) -> None:
        connection.sendall(data)
        while not site.stop.wait(0.01):
            connection.sendall(piece)

    return behave


def silent(site: Site, data: bytes = b"") -> Behaviour:
    def behave(connection: ssl.SSLSocket, _: Headers) -> None:
        connection.sendall(data)
        site.stop.wait(10)

    return behave
