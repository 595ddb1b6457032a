"""The ASGI door: what it refuses, what it hands through untouched, and four frameworks behind it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import litestar
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from hypothesis import given
from hypothesis import strategies as st
from litestar.response import Stream
from quart import Quart, request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from crawlguard import ConfigError, Decision, Guard, PolicyError
from crawlguard.asgi import App, CrawlGuardMiddleware, Message, Receive, Scope, Send
from crawlguard.loader import parse_policy

CRAWLER = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.4; +https://openai.com/gptbot)"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"


class Site:
    """An application that writes down what reaches it."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"yes")]})
        await send({"type": "http.response.body", "body": b"hello"})


def scope_of(user_agent: str = BROWSER, **changes: Any) -> Scope:
    headers = [(b"host", b"example.org"), (b"user-agent", user_agent.encode())]
    base: Scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers, "client": ("203.0.113.7", 5)}
    return {**base, **changes}


def run(app: App, scope: Scope, *events: Message) -> list[Message]:
    """Everything that the application sends for one scope."""
    sent: list[Message] = []
    waiting = list(events)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return sent


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def door(site: Site) -> CrawlGuardMiddleware:
    return CrawlGuardMiddleware(site, store="memory")


def test_a_crawler_gets_403_and_never_reaches_the_app(site: Site, door: CrawlGuardMiddleware) -> None:
    start, body = run(door, scope_of(CRAWLER))
    assert (start["type"], start["status"]) == ("http.response.start", 403)
    headers = dict(start["headers"])
    assert all(isinstance(k, bytes) and k == k.lower() and isinstance(v, bytes) for k, v in start["headers"])
    assert int(headers[b"content-length"]) == len(body["body"])
    assert b"ai-training" in body["body"]
    assert not body.get("more_body")
    assert site.scopes == []


def test_a_browser_reaches_the_app_with_the_decision(site: Site, door: CrawlGuardMiddleware) -> None:
    scope = scope_of(BROWSER)
    start, body = run(door, scope)
    assert (start["status"], dict(start["headers"]), body["body"]) == (200, {b"x-app": b"yes"}, b"hello")
    assert site.scopes[0] is scope
    decision = scope["crawlguard"]
    assert isinstance(decision, Decision)
    assert decision.allowed


def test_robots_txt_is_served_to_everybody(site: Site, door: CrawlGuardMiddleware) -> None:
    assert run(door, scope_of(CRAWLER, path="/robots.txt"))[0]["status"] == 200


def test_the_default_policy_is_the_bundled_one(door: CrawlGuardMiddleware) -> None:
    assert door.guard.policy.name == "builtin:default"


def test_several_doors_may_share_one_guard(site: Site) -> None:
    guard = Guard(store="memory")
    doors = [CrawlGuardMiddleware(site, guard), CrawlGuardMiddleware(site, policy=guard)]
    for one in doors:
        run(one, scope_of(CRAWLER))
    assert sum(row["count"] for row in guard.counters.snapshot()["rules"]) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"polcy": "x"}, ConfigError),
        ({"store": "redis"}, ConfigError),
        ({"policy": "builtin:nonsense"}, PolicyError),
        ({"policy": "/no/such.yaml"}, PolicyError),
    ],
)
def test_what_is_wrong_is_said_at_start(site: Site, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        CrawlGuardMiddleware(site, **arguments)


@pytest.mark.parametrize("kind", ["lifespan", "something.new"])
def test_other_scopes_pass_untouched(kind: str, door: CrawlGuardMiddleware) -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive, send))

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    scope: Scope = {"type": kind}
    door.app = app
    asyncio.run(door(scope, receive, send))
    assert seen == [scope, receive, send]
    assert seen[0] is scope
    assert scope == {"type": kind}


def test_an_exception_of_the_app_stays_its_own(door: CrawlGuardMiddleware) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("the application's own")

    door.app = app
    with pytest.raises(LookupError, match="the application's own"):
        run(door, scope_of())
    assert door.guard.counters.errors == 0


def test_the_first_chunk_leaves_before_the_second_is_made(door: CrawlGuardMiddleware) -> None:
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            log.append(f"made {number}")
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": number < 2})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            log.append(f"left {message['body'].decode()}")

    async def receive() -> Message:
        return {"type": "http.request"}

    door.app = app
    asyncio.run(door(scope_of(), receive, send))
    assert log == ["made 0", "left 0", "made 1", "left 1", "made 2", "left 2"]


def test_the_app_is_given_the_servers_own_receive_and_send(door: CrawlGuardMiddleware) -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((receive, send))

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        return None

    door.app = app
    asyncio.run(door(scope_of(), receive, send))
    assert seen == [receive, send]


# ---- websockets

CONNECT = {"type": "websocket.connect"}


def handshake(user_agent: str, **changes: Any) -> Scope:
    scope = scope_of(user_agent, type="websocket", scheme="ws", path="/ws", subprotocols=[], **changes)
    del scope["method"]
    return scope


def test_a_refused_websocket_is_closed_before_it_is_accepted(site: Site, door: CrawlGuardMiddleware) -> None:
    (close,) = run(door, handshake(CRAWLER), dict(CONNECT))
    assert (close["type"], close["code"]) == ("websocket.close", 1008)
    assert 0 < len(close["reason"].encode()) <= 123  # RFC 6455 5.5: a control frame holds no more
    assert site.scopes == []


def test_a_refused_websocket_gets_the_whole_answer_where_the_server_can_send_it(site: Site, door: CrawlGuardMiddleware) -> None:
    start, body = run(door, handshake(CRAWLER, extensions={"websocket.http.response": {}}), dict(CONNECT))
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert body["type"] == "websocket.http.response.body"
    assert b"ai-training" in body["body"]
    assert site.scopes == []


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}])
def test_a_server_without_that_extension(extensions: Any, site: Site, door: CrawlGuardMiddleware) -> None:
    assert [m["type"] for m in run(door, handshake(CRAWLER, extensions=extensions), dict(CONNECT))] == ["websocket.close"]


def test_a_long_reason_fits_into_a_close_frame(site: Site) -> None:

    policy, _ = parse_policy(f"version: 1\nrules: [{{id: r, reason: {'ü' * 150}, then: block}}]\n")
    (close,) = run(CrawlGuardMiddleware(site, policy, store="memory"), handshake(BROWSER), dict(CONNECT))
    assert len(close["reason"].encode()) <= 123


def test_a_persons_websocket_reaches_the_app_untouched(site: Site, door: CrawlGuardMiddleware) -> None:
    scope = handshake(BROWSER)
    run(door, scope, dict(CONNECT))
    assert site.scopes[0] is scope
    assert scope["crawlguard"].allowed


# ---- what no server should send

MALFORMED = [
    {"path": None},
    {"headers": None},
    {"headers": 5},
    {"headers": [b"junk"]},
    {"headers": [(b"a", b"b", b"c")]},
    {"headers": [("user-agent", "GPTBot")]},
    {"headers": [(b"user-agent", "GPTBot")]},
    {"headers": [(b"user-agent", None)]},
    {"client": 5},
    {"client": ("not an address", 1)},
    {"client": (None, None)},
    {"client": (b"1.2.3.4", 1)},
    {"method": None},
    {"query_string": None},
    {"scheme": 7},
]


@pytest.mark.parametrize("changes", MALFORMED, ids=repr)
def test_a_malformed_scope_is_the_apps_to_deal_with(changes: dict[str, Any], site: Site, door: CrawlGuardMiddleware) -> None:
    assert run(door, scope_of(**changes))[0]["status"] == 200
    assert len(site.scopes) == 1


@pytest.mark.parametrize("missing", ["method", "path", "query_string", "headers", "client"])
def test_a_scope_with_a_part_missing(missing: str, site: Site, door: CrawlGuardMiddleware) -> None:
    scope = scope_of()
    del scope[missing]
    assert run(door, scope)[0]["status"] == 200
    assert isinstance(scope["crawlguard"], Decision)
    assert door.guard.counters.errors == (missing in ("path", "headers"))


@pytest.mark.parametrize("headers", [[(b"user-agent", b"GPTBot"), (b"accept", None)], [(b"user-agent", b"GPTBot"), b"junk"]])
def test_a_refusal_that_cannot_be_written_serves_the_request(headers: Any, site: Site, door: CrawlGuardMiddleware) -> None:
    assert run(door, scope_of(headers=headers))[0]["status"] in (200, 403)


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.binary(max_size=10), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(st.text(max_size=5), inner, max_size=2)),
    max_leaves=6,
)
SHARED_GUARD = Guard(store="memory")


@given(st.dictionaries(st.sampled_from(["method", "path", "query_string", "headers", "client", "scheme", "extensions"]), ANYTHING))
def test_no_scope_makes_the_door_raise(changes: dict[str, Any]) -> None:
    site = Site()
    run(CrawlGuardMiddleware(site, SHARED_GUARD), scope_of(**changes))
    assert len(site.scopes) == 1


# ---- frameworks


def fastapi_site(seen: list[Decision]) -> App:

    app = FastAPI()
    app.add_middleware(CrawlGuardMiddleware, store="memory")

    @app.get("/")
    async def page(request: Request) -> dict[str, str]:
        seen.append(request.scope["crawlguard"])
        return {"hello": "world"}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(_chunks())

    return app


def starlette_site(seen: list[Decision]) -> App:

    async def page(request: Request) -> JSONResponse:
        seen.append(request.scope["crawlguard"])
        return JSONResponse({"hello": "world"})

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(_chunks())

    return Starlette(routes=[Route("/", page), Route("/stream", stream)], middleware=[Middleware(CrawlGuardMiddleware, store="memory")])


def litestar_site(seen: list[Decision]) -> App:

    @litestar.get("/")
    async def page(request: litestar.Request[Any, Any, Any]) -> dict[str, str]:
        seen.append(request.scope["crawlguard"])  # type: ignore[typeddict-item]
        return {"hello": "world"}

    @litestar.get("/stream")
    async def stream() -> Stream:
        return Stream(_chunks())

    # Around the application: what Litestar calls middleware runs after routing, so that a 404 or 405 comes before it.
    return CrawlGuardMiddleware(litestar.Litestar([page, stream], openapi_config=None), store="memory")  # type: ignore[arg-type]


def quart_site(seen: list[Decision]) -> App:

    app = Quart(__name__)
    app.asgi_app = CrawlGuardMiddleware(app.asgi_app, store="memory")  # type: ignore[method-assign, assignment, arg-type]

    @app.get("/")
    async def page() -> dict[str, str]:
        seen.append(request.scope["crawlguard"])  # type: ignore[typeddict-item]
        return {"hello": "world"}

    @app.get("/stream")
    async def stream() -> AsyncIterator[bytes]:
        return _chunks()

    return app  # type: ignore[return-value]


async def _chunks() -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"%d" % number


SITES: list[Callable[[list[Decision]], App]] = [fastapi_site, starlette_site, litestar_site, quart_site]


def asked(app: App, work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://example.org") as client:
            await work(client)

    asyncio.run(main())


@pytest.mark.parametrize("make", SITES, ids=lambda f: f.__name__)
def test_a_framework_behind_the_door(make: Callable[[list[Decision]], App]) -> None:
    seen: list[Decision] = []

    async def work(client: httpx.AsyncClient) -> None:
        page = await client.get("/", headers={"user-agent": BROWSER})
        assert (page.status_code, page.json()) == (200, {"hello": "world"})
        assert [d.allowed for d in seen] == [True]
        assert (await client.get("/stream", headers={"user-agent": BROWSER})).text == "012"
        assert (await client.get("/absent", headers={"user-agent": BROWSER})).status_code == 404

        refused = await client.get("/", headers={"user-agent": CRAWLER, "accept": "application/json"})
        assert (refused.status_code, refused.json()["rule"]) == (403, "ai-training")
        head = await client.head("/", headers={"user-agent": CRAWLER, "accept": "application/json"})
        assert (head.status_code, head.content, head.headers["content-length"]) == (403, b"", refused.headers["content-length"])
        assert len(seen) == 1

    asked(make(seen), work)
    gc.collect()  # a response or a task that was left open would warn here, inside the test that left it


def test_fastapi_lifespan_runs_through_the_door() -> None:

    log: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        log.append("up")
        yield
        log.append("down")

    app = CrawlGuardMiddleware(FastAPI(lifespan=lifespan), store="memory")
    sent = run(
        app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
    )
    assert [m["type"] for m in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert log == ["up", "down"]


BROKEN = "version: 1\nrules:\n  - {id: a, when: {agnt: GPTBot}, then: block}\n"


def test_a_policy_that_is_broken_when_the_server_asks_for_the_start_fails_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.yaml").write_text(BROKEN)
    site = Starlette()
    site.add_middleware(CrawlGuardMiddleware, policy=tmp_path / "broken.yaml")  # made when the first scope comes

    async def main() -> tuple[list[Message], list[Message]]:
        said: list[Message] = []
        answered: list[Message] = []

        async def receive() -> Message:
            return {"type": "lifespan.startup"}

        async def send(message: Message) -> None:
            said.append(message)

        async def answer(message: Message) -> None:
            answered.append(message)

        await site({"type": "lifespan", "app": site}, receive, send)
        await site(scope_of(CRAWLER), receive, answer)  # a server that did not ask
        return said, answered

    said, answered = asyncio.run(main())
    assert [message["type"] for message in said] == ["lifespan.startup.failed"]
    assert "broken.yaml:3" in said[0]["message"]
    assert "CG004" in said[0]["message"]
    assert answered[0]["status"] == 404  # the application's own
    assert "NOT guarded" in caplog.text


def test_uvicorn_does_not_start_with_a_broken_policy(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(BROKEN)
    (tmp_path / "guarded.py").write_text(
        "from fastapi import FastAPI\nfrom crawlguard.asgi import CrawlGuardMiddleware\n"
        "app = FastAPI()\napp.add_middleware(CrawlGuardMiddleware, policy='broken.yaml')\n"
    )
    command = [sys.executable, "-m", "uvicorn", "guarded:app", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "CG004" in done.stderr
