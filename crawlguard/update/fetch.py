"""One safe GET over https: what a hostile or broken server, or whoever answers for it in DNS, can do to us is nothing but fail.

https with verified certificates alone; public addresses alone, each checked and then connected to itself, so that no second
answer of DNS counts; redirects within the site alone; everything bounded in bytes and in time. Nothing is decompressed.

No proxy is used, HTTPS_PROXY included: a proxy resolves the name itself, so no address could be checked. Where a proxy is the only
way out, the error says so, and the data directory of a machine that is connected can be copied instead.
"""

from __future__ import annotations

import io
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import SplitResult

from .urls import Address, FetchError, is_public, redirected, split

MAX_BODY = 8 << 20
"""Bytes of an answer. AWS's list, the largest of the catalogue, has 2 MiB."""
MAX_HEAD = 1 << 20
"""Bytes of an answer that are not body: its headers, and the framing of chunks."""
MAX_REDIRECTS = 4
CONNECT = 10.0
"""Seconds to reach one address."""
READ = 15.0
"""Seconds that a server may be silent."""
TOTAL = 60.0
"""Seconds for one URL, redirects included. (Names are resolved by the system, in its own time: 5 s a try by default.)"""
USER_AGENT = "crawlguard-update"

_REDIRECTS = (301, 302, 303, 307, 308)


class Answer(NamedTuple):
    """What a server said. ``changed`` is False for a 304; then there is no body."""

    changed: bool
    body: bytes = b""
    kind: str = ""
    """The media type, in lower case, without parameters; "" when the server did not say."""
    etag: str = ""
    modified: str = ""


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host by the system's resolver. Raises OSError when it has none."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


class Fetcher:
    """Fetches by the rules above. All that they rest on can be given: TLS context, resolver, which addresses are good, clock, limits."""

    def __init__(
        self,
        *,
        context: ssl.SSLContext | None = None,
        resolver: Callable[[str, int], Sequence[str]] = resolve,
        allowed: Callable[[Address], bool] = is_public,
        clock: Callable[[], float] = time.monotonic,
        max_body: int = MAX_BODY,
        connect: float = CONNECT,
        read: float = READ,
        total: float = TOTAL,
    ) -> None:
        self._context = context
        self._resolve, self._allowed, self._clock = resolver, allowed, clock
        self._max_body, self._connect_time, self._read_time, self._total = max_body, connect, read, total

    def get(self, url: str, etag: str = "", modified: str = "") -> Answer:
        """The answer of a URL. ``etag`` and ``modified`` ask whether it has changed since. Raises FetchError."""
        end = self._clock() + self._total
        first = parts = split(url)
        for _ in range(MAX_REDIRECTS + 1):
            try:
                found = self._once(parts, etag, modified, end)
            except TimeoutError:
                raise FetchError(self._late(end)) from None
            except ssl.SSLCertVerificationError as error:
                raise FetchError(f"{parts.hostname}: the certificate is not good ({error.verify_message})") from None
            except (OSError, HTTPException, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise FetchError(f"{parts.hostname}: the connection failed ({why}){_proxy()}") from None
            if isinstance(found, Answer):
                return found
            parts = redirected(first, parts, found)
        raise FetchError(f"more than {MAX_REDIRECTS} redirects")

    def _late(self, end: float) -> str:
        if self._clock() >= end:
            return f"not there within {self._total:g} s"
        return f"the server was silent for {self._read_time:g} s, or could not be reached in {self._connect_time:g} s{_proxy()}"

    def _once(self, parts: SplitResult, etag: str, modified: str, end: float) -> Answer | str:
        """One request: the answer, or where it redirects to."""
        with self._connect(parts, end) as connection:
            connection.sendall(_request(parts, etag, modified))
            response = HTTPResponse(_Timed(connection, lambda: self._left(end), self._max_body + MAX_HEAD))  # type: ignore[arg-type]
            with response:
                response.begin()
                if response.status in _REDIRECTS:
                    return response.getheader("Location", "")
                return self._answer(response, asked=bool(etag or modified))

    def _left(self, end: float) -> float:
        left = min(self._read_time, end - self._clock())
        if left <= 0:
            raise TimeoutError
        return left

    def _connect(self, parts: SplitResult, end: float) -> ssl.SSLSocket:
        """A TLS connection to the first checked address that takes one. The name is resolved once, and every address must be good."""
        host, port = parts.hostname or "", parts.port or 443
        try:
            addresses = self._resolve(host, port)
        except OSError as error:
            raise FetchError(f"{host}: the name has no address ({error.strerror or error}){_proxy()}") from None
        for address in addresses:
            if not self._allowed(ip_address(address)):
                raise FetchError(f"{host}: its address {address} is not a public one")
        failure: OSError = OSError("the name has no address")
        for address in addresses:
            try:
                plain = socket.create_connection((address, port), timeout=min(self._connect_time, self._left(end)))
            except OSError as error:
                failure = error
                continue
            try:
                plain.settimeout(self._left(end))
                context = self._context or ssl.create_default_context()
                return context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False)
            except BaseException:
                plain.close()
                raise
        raise failure

    def _answer(self, response: HTTPResponse, *, asked: bool) -> Answer:
        if response.status == 304 and asked:
            return Answer(changed=False)
        if response.status != 200:
            raise FetchError(f"the server answers {response.status}{' ' + response.reason[:40] if response.reason.isprintable() else ''}")
        coding = response.getheader("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise FetchError(f"the answer is compressed ({coding[:20]!r}), which was not asked for")
        body = b"".join(self._pieces(response))
        kind = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
        return Answer(True, body, kind, _plain(response.getheader("ETag")), _plain(response.getheader("Last-Modified")))

    def _pieces(self, response: HTTPResponse) -> Iterator[bytes]:
        too_large = FetchError(f"the answer is larger than {self._max_body >> 10} KiB")
        if (response.length or 0) > self._max_body:
            raise too_large
        size = 0
        while piece := response.read(65_536):
            size += len(piece)
            if size > self._max_body:
                raise too_large
            yield piece
        if response.length:  # Python 3.11 takes an answer that broke off for a short one
            raise FetchError("the answer broke off")


class _Timed(io.RawIOBase):
    """A connection as a file whose every read is bounded by the time and the bytes that are left: what HTTPResponse reads from."""

    def __init__(self, connection: ssl.SSLSocket, left: Callable[[], float], most: int) -> None:
        self._connection, self._left, self._most = connection, left, most

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._connection.settimeout(self._left())
        count = self._connection.recv_into(buffer)
        self._most -= count
        if self._most < 0:
            raise FetchError("the answer is larger than it may be")
        return count


def _request(parts: SplitResult, etag: str, modified: str) -> bytes:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    lines = [
        f"GET {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1",
        f"Host: {host}{f':{parts.port}' if parts.port not in (None, 443) else ''}",
        f"User-Agent: {USER_AGENT}",
        "Accept: application/json, text/csv, text/plain, */*;q=0.1",
        "Accept-Encoding: identity",
        "Connection: close",
        *([f"If-None-Match: {etag}"] if etag else []),
        *([f"If-Modified-Since: {modified}"] if modified else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _plain(value: str | None) -> str:
    """A header that can be sent back as it came; a folded or foreign one is forgotten."""
    return value if value and len(value) <= 256 and value.isascii() and value.isprintable() else ""


def _proxy() -> str:
    set_ = next((name for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy") if os.environ.get(name)), None)
    return f"; {set_} is set, and is not used, because the addresses behind a proxy cannot be checked" if set_ else ""
