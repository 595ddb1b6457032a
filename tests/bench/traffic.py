"""Requests as servers hand them over: a Chrome's 15 headers, every object made anew, so that no hash of it is cached."""

from __future__ import annotations

import random
from typing import Any

HEADERS = (
    (b"host", b"shop.example.org"),
    (b"connection", b"keep-alive"),
    (b"sec-ch-ua", b'"Chromium";v="156", "Google Chrome";v="156", "Not=A?Brand";v="24"'),
    (b"sec-ch-ua-mobile", b"?0"),
    (b"sec-ch-ua-platform", b'"Windows"'),
    (b"upgrade-insecure-requests", b"1"),
    (b"user-agent", b""),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
    (b"sec-fetch-site", b"same-origin"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-user", b"?1"),
    (b"sec-fetch-dest", b"document"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"),
    (b"cookie", b"session=eyJ1c2VyIjo0Miwia2V5IjoiYWJjZGVmZ2hpamtsbW5vcCJ9; theme=dark"),
)
_SYSTEMS = ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64", "Linux; Android 10; K")
BROWSERS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36".encode()
    for system in _SYSTEMS
    for version in range(150, 158)
]
"""What the site's visitors use: 32 strings, as the big sites see a few hundred at most."""

_rng = random.Random(20261122)
PEOPLE = [f"{_rng.randrange(11, 100)}.{n >> 8}.{n & 255}.{_rng.randrange(1, 255)}" for n in range(2000)]
"""Addresses of visitors in the caches, each in a subnet of its own, so that none meets a limit."""

Request = tuple[bytes, str]
"""A User-Agent and an address."""


def people(number: int, among: int = len(PEOPLE)) -> list[Request]:
    """Visitors who have been here before, if there was time for all of ``among``."""
    return [(bytes(bytearray(_rng.choice(BROWSERS))), PEOPLE[_rng.randrange(among)]) for _ in range(number)]


def new_user_agents(number: int) -> list[bytes]:
    """User-Agents that nobody has sent before, each like a browser's."""
    found = []
    for _ in range(number):
        a, b, c, d = (_rng.getrandbits(16) for _ in range(4))
        found.append(
            f"Mozilla/5.0 (X11; U; Linux i{a % 900}; rv:{b}.{a % 10}) AppleWebKit/{c}.36 (KHTML, like Gecko) Chrome/{d}.0.{a}.{b} Safari/{c}.36".encode()
        )
    return found


def new_words(number: int) -> list[bytes]:
    """User-Agents of words that nobody has used before."""
    return [
        " ".join("".join(_rng.choices("abcdefghijklmnopqrstuvwxyz(;/.)", k=8)) + f"/{_rng.randrange(999)}.0" for _ in range(9)).encode()
        for _ in range(number)
    ]


def new_addresses(number: int) -> list[str]:
    """Addresses that nobody has come from before; a fifth of them IPv6."""
    found = []
    for _ in range(number):
        bits = _rng.getrandbits(64)
        if bits % 5:
            found.append(f"{1 + bits % 99}.{bits >> 8 & 255}.{bits >> 16 & 255}.{bits >> 24 & 255}")
        else:
            found.append(f"2a{bits & 15:02x}:{bits >> 8 & 65535:x}:{bits >> 24 & 65535:x}:{bits >> 40 & 65535:x}::{1 + (bits >> 56):x}")
    return found


def strangers(number: int) -> list[Request]:
    """The attacker: a new User-Agent and a new address each time."""
    return list(zip(new_user_agents(number), new_addresses(number), strict=True))


def wordy_strangers(number: int) -> list[Request]:
    """The attacker who knows that versions are not looked at: User-Agents of random words."""
    return list(zip(new_words(number), new_addresses(number), strict=True))


def scopes(requests: list[Request]) -> list[dict[str, Any]]:
    """ASGI scopes for the requests."""
    made = []
    for ua, address in requests:
        headers = [(bytes(bytearray(name)), ua if name == b"user-agent" else bytes(bytearray(value))) for name, value in HEADERS]
        made.append(
            {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https", "root_path": "",
                "path": f"/articles/{_rng.getrandbits(20)}", "raw_path": b"/articles/", "query_string": b"page=2", "headers": headers,
                "client": (str(address), 50_000), "server": ("10.0.0.1", 443), "extensions": {}, "state": {},
            }
        )  # fmt: skip
    return made


def environs(requests: list[Request]) -> list[dict[str, Any]]:
    """WSGI environs for the requests."""
    made = []
    for ua, address in requests:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": f"/articles/{_rng.getrandbits(20)}", "QUERY_STRING": "page=2",
            "SERVER_NAME": "10.0.0.1", "SERVER_PORT": "443", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": address, "REMOTE_PORT": "50000",
            "wsgi.version": (1, 0), "wsgi.url_scheme": "https", "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
        }  # fmt: skip
        for name, value in HEADERS:
            text = (ua if name == b"user-agent" else value).decode("latin-1")
            environ["HTTP_" + name.decode().upper().replace("-", "_")] = text[:1] + text[1:]
        made.append(environ)
    return made
