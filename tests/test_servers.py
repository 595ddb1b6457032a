"""What a server does to a request before the guard sees it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from crawlguard.asgi import CrawlGuardMiddleware, Receive, Scope, Send
from crawlguard.loader import parse_policy

POLICY = "version: 1\nrules:\n  - {id: two, when: {rate: {per: ip, requests: 2, within: 1m}}, then: throttle}\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]])
@pytest.mark.parametrize("client", ["198.51.100.7", "10.1.2.3", "2001:db8::7", "fd00::7"])
def test_uvicorn_has_put_the_forwarded_address_in_the_peers_place(client: str, trusted: list[str]) -> None:
    """uvicorn does that by default for peers on 127.0.0.1; the header stays, so the peer is one of its hops.

    A private address is then a visitor of an intranet, and not a proxy that nobody has configured yet.
    """
    policy, problems = parse_policy(POLICY, "test")
    assert policy is not None, problems
    guarded: Any = CrawlGuardMiddleware(app, policy, trusted_proxies=trusted, store="memory", log="off")  # uvicorn's types are narrower
    site: Any = ProxyHeadersMiddleware(guarded, trusted_hosts="127.0.0.1")
    statuses = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.request"}

    for _ in range(3):
        scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "query_string": b"", "client": ("127.0.0.1", 9)}
        scope["headers"] = [(b"x-forwarded-for", client.encode())]
        asyncio.run(site(scope, receive, send))
    assert statuses == [200, 200, 429]
