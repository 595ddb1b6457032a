"""The ASGI door: FastAPI, Starlette, Litestar, Quart, Django ASGI.

    app.add_middleware(CrawlGuardMiddleware)            # or: app = CrawlGuardMiddleware(app, policy="crawlguard.yaml")

It decides before the application hears of the request, and hands everything else through untouched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, Unpack

from .decision import ALLOW, Decision
from .errors import CrawlGuardError
from .events import Once
from .guard import Guard
from .marks import Marks
from .policy.model import Policy
from .refusal import LISTS, answers, refuse
from .request import RequestView, ScopeView
from .settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Refusal = tuple[int, list[tuple[bytes, bytes]], bytes]

_PATH = itemgetter("path")

FILES_SENT = ("http.response.pathsend", "http.response.zerocopysend")
"""Messages by which a server is asked to send a file itself."""

MAX_REASON = 123
"""Bytes that a close frame has for its reason (RFC 6455 5.5)."""
POLICY_VIOLATION = 1008
"""The close code of a refused websocket (RFC 6455 7.4.1); before accept the server turns it into HTTP 403."""


class CrawlGuardMiddleware:
    """Guards an ASGI application. ``policy``: None (the bundled default), a path, ``builtin:NAME``, a Policy or a Guard.

    ``settings`` are those of Guard. The decision is in ``scope["crawlguard"]``. Raises PolicyError, ConfigError or
    DataError while it is made, and nothing of its own after that. Where it is made by a running event loop (Starlette makes its
    middleware when the server asks the application to start, and a server takes an exception there for an application without a
    start) the server is told that the start has failed, and why.
    """

    def __init__(self, app: App, policy: str | os.PathLike[str] | Policy | Guard | None = None, **settings: Unpack[Settings]) -> None:
        self.app = app
        try:
            self.guard = policy if isinstance(policy, Guard) else Guard(policy, **settings)
        except CrawlGuardError as error:
            if not _in_a_loop():
                raise
            self.error = error
            self.__class__ = _Unusable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self.app(scope, receive, send)
            return
        guard, view = self.guard, None
        try:
            view = ScopeView(scope)
            locate = partial(_locate, self.app, scope) if Marks.used else None
            decision = await guard.adecide(view, locate) if guard.remote else guard.decide(view, locate)
        except Exception:  # a scope that no server should send is the application's to deal with
            decision = guard.fail_open()
        scope["crawlguard"] = decision
        refusal = None
        if decision is not ALLOW and answers(decision, scope.get("method", "")):
            refusal = self._refusal(decision, scope)
        if refusal is None:
            if guard.speaks and (said := guard.site_headers(_PATH, scope)):
                send = partial(_say, send, _encoded(said))
            if (guard.charges or Marks.used) and kind == "http" and view is not None and hasattr(view, "owed"):
                await self._charged(view, scope, receive, send)
            else:
                await self.app(scope, receive, send)
        elif kind == "websocket":
            await _close(decision, refusal, scope, receive, send)
        else:
            await _answer(refusal, send)

    async def _charged(self, view: RequestView, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and tell the guard how it answered. What it sends goes on as it is, at once."""
        status, size, announced = 500, 0, 0  # an application that raises gets the server's own answer

        async def count(message: Message) -> None:
            nonlocal status, size, announced
            what = message.get("type")
            if what == "http.response.start":
                status = message.get("status", 500)
                announced = _announced(message.get("headers") or ())
            elif what == "http.response.body":
                size += len(message.get("body") or b"")
            elif what in FILES_SENT:
                size += announced
            await send(message)

        try:
            await self.app(scope, receive, count)
        finally:
            self.guard.responded(view, status, 0 if scope.get("method") == "HEAD" else size)

    def _refusal(self, decision: Decision, scope: Scope) -> Refusal | None:
        """The guard's whole answer, before any of it is sent; None when it cannot be made, and the request is served."""
        try:
            accept = b", ".join(v for k, v in scope["headers"] if k == b"accept").decode("latin-1")
            status, headers, body = refuse(decision, accept, scope.get("method", "GET"))
            return status, [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers], body
        except Exception:
            scope["crawlguard"] = self.guard.fail_open()
            return None


class _Unusable(CrawlGuardMiddleware):
    """A middleware whose policy cannot be used: the server does not start. One that never asks (``--lifespan off``) serves the site unguarded, and hears of it."""

    error: CrawlGuardError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()  # lifespan.startup
            await send({"type": "lifespan.startup.failed", "message": f"crawlguard cannot start:\n{self.error}"})
            return
        _told.warn("unusable", f"the site is NOT guarded: {self.error}")
        await self.app(scope, receive, send)


_told = Once()


def _in_a_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # whoever runs a loop has it; others save 50 ms
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The Content-Length of an answer, 0 when it has none."""
    for name, value in headers:
        if bytes(name).lower() == b"content-length" and value.isdigit():
            return int(value)
    return 0


@lru_cache(maxsize=256)
def _encoded(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers)


async def _say(send: Send, said: tuple[tuple[bytes, bytes], ...], message: Message) -> None:
    """Send on, adding to the application's answer what it does not say itself."""
    if message["type"] == "http.response.start":
        own = {bytes(name).lower() for name, _ in message.get("headers") or ()} - LISTS
        message = {**message, "headers": [*(message.get("headers") or ()), *(h for h in said if h[0] not in own)]}
    await send(message)


async def _answer(refusal: Refusal, send: Send, prefix: str = "") -> None:
    status, headers, body = refusal
    await send({"type": f"{prefix}http.response.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}http.response.body", "body": body})


async def _close(decision: Decision, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a websocket before it is accepted: with the whole answer where the server can send it, else by closing."""
    await receive()  # websocket.connect
    if "websocket.http.response" in (scope.get("extensions") or ()):
        await _answer(refusal, send, "websocket.")
    else:
        reason = decision.reason.encode()[:MAX_REASON].decode("utf-8", "ignore")
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})


def _locate(app: Any, scope: Scope) -> Any:
    """The endpoint that a Starlette or FastAPI application would run, None when that cannot be told.

    No framework is imported: a router is whatever has ``routes`` that can ``matches(scope)``.
    """
    found = scope.get("app") or app
    while found is not None and not hasattr(found, "routes"):
        found = getattr(found, "app", None)  # another middleware in between
    return _endpoint(getattr(found, "routes", ()), dict(scope))


def _endpoint(routes: Any, scope: Scope) -> Any:
    for route in routes:
        match, child = route.matches(scope)
        if match.value == 2:  # starlette.routing.Match.FULL
            inner = getattr(route, "routes", None)  # a mount
            included = getattr(route, "effective_route_contexts", None)  # a router that newer FastAPIs keep whole
            if inner:
                return _endpoint(inner, {**scope, **child})
            if included is not None:
                return _endpoint([getattr(c, "starlette_route", None) or c for c in included()], scope)
            return child.get("endpoint")
    return None
