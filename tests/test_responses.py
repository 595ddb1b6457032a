"""What the doors tell the guard of responses, and that they change nothing in them: each kind of answer, through ASGI, WSGI and Django."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from crawlguard import Guard, strict
from crawlguard.asgi import CrawlGuardMiddleware as AsgiDoor
from crawlguard.request import RequestView
from crawlguard.wsgi import CrawlGuardMiddleware as WsgiDoor
from crawlguard.wsgi import Environ

from .policy_corpus import guard_of
from .test_asgi import run as run_asgi
from .test_asgi import scope_of
from .test_django import BROWSER, through_asgi, through_wsgi
from .test_wsgi import environ_of
from .test_wsgi import run as run_wsgi

COUNTS = {"id": "counts", "when": {"rate": {"per": "ip", "bytes": "1GB", "within": "1h"}}, "then": "throttle"}
Told = list[tuple[int, int]]


@pytest.fixture
def guard() -> Guard:
    return guard_of(COUNTS)


@pytest.fixture
def told(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> Told:
    """What the guard has been told: (status, bytes) of each response."""
    found: Told = []
    monkeypatch.setattr(guard, "responded", lambda view, status, size: found.append((status, size)))
    return found


# ---- ASGI


async def page(request: Request) -> Response:
    return PlainTextResponse("x" * 1000, status_code=int(request.path_params["status"]))


async def streamed(request: Request) -> Response:
    async def chunks() -> Any:
        for _ in range(10):
            yield b"x" * 100

    return StreamingResponse(chunks(), status_code=206)


async def broken(request: Request) -> Response:
    raise ValueError("the application's own")


async def this_file(request: Request) -> Response:
    return FileResponse(__file__)


SITE = Starlette(
    routes=[Route("/page/{status}", page), Route("/stream", streamed), Route("/broken", broken), Route("/file", this_file)],
)
SIZE = Path(__file__).stat().st_size


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/page/200", "GET", (200, 1000)),
        ("/page/404", "GET", (404, 1000)),
        ("/page/200", "HEAD", (200, 0)),
        ("/nowhere", "GET", (404, 9)),
        ("/stream", "GET", (206, 1000)),
    ],
)
def test_asgi_tells_the_status_and_the_bytes(guard: Guard, told: Told, path: str, method: str, expected: tuple[int, int]) -> None:
    scope = scope_of(path=path, method=method)
    through = run_asgi(
        AsgiDoor(SITE, guard), dict(scope), {"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}
    )
    direct = run_asgi(SITE, dict(scope), {"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"})
    assert told == [expected]
    assert [m["type"] for m in through] == [m["type"] for m in direct]
    assert [m.get("body") for m in through] == [m.get("body") for m in direct], "every message as it was, none held back"


def test_asgi_tells_of_an_application_that_raises(guard: Guard, told: Told) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("the application's own")

    with pytest.raises(ValueError, match="own"):
        run_asgi(AsgiDoor(app, guard), scope_of())
    assert told == [(500, 0)]


def test_asgi_counts_a_file_that_the_server_sends_itself(guard: Guard, told: Told) -> None:
    scope = scope_of(path="/file", extensions={"http.response.pathsend": {}})
    sent = run_asgi(AsgiDoor(SITE, guard), scope, {"type": "http.disconnect"})
    assert sent[-1]["type"] == "http.response.pathsend"
    assert told == [(200, SIZE)]


def test_two_doors_in_a_row_charge_once_each(guard: Guard, told: Told) -> None:
    run_asgi(AsgiDoor(AsgiDoor(SITE, Guard(store="memory")), guard), scope_of(path="/page/200"))
    assert told == [(200, 1000)]


def test_a_websocket_is_charged_nothing(guard: Guard, told: Told) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    assert run_asgi(AsgiDoor(app, guard), scope_of(type="websocket")) == [{"type": "websocket.close"}]
    assert told == []


def test_a_client_that_hangs_up_has_paid_for_what_it_got(guard: Guard, told: Told) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
            await asyncio.sleep(0)

    async def main() -> None:
        got = asyncio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                got.set()

        task = asyncio.ensure_future(AsgiDoor(app, guard)(scope_of(), None, send))  # type: ignore[arg-type]
        await got.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert len(told) == 1
    assert told[0][1] >= 10


# ---- WSGI


def listed(environ: Environ, start_response: Any) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "10")])
    return [b"hello", b"world"] if environ["REQUEST_METHOD"] != "HEAD" else []


def generated(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"hello"
    yield b"world"


def written(environ: Environ, start_response: Any) -> Iterable[bytes]:
    write = start_response("500 Oops", [("Content-Type", "text/plain")])
    write(b"hello")
    return iter([b"world"])


@pytest.mark.parametrize(("app", "expected"), [(listed, (404, 10)), (generated, (200, 10)), (written, (500, 10))])
def test_wsgi_tells_the_status_and_the_bytes(guard: Guard, told: Told, app: Any, expected: tuple[int, int]) -> None:
    _, _, body = run_wsgi(validator(WsgiDoor(validator(app), guard)), environ_of())
    assert body.endswith(b"world")
    assert told == [expected]


def test_wsgi_hands_on_a_list_and_a_file_as_they_are(guard: Guard, told: Told) -> None:
    """Servers look at them: at a list's length, and for the class that stands for sendfile."""
    assert isinstance(WsgiDoor(listed, guard)(environ_of(), lambda *_: None), list)

    def file(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "12345")])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"short"))
        return wrapped

    answer = WsgiDoor(file, guard)(environ_of() | {"wsgi.file_wrapper": FileWrapper}, lambda *_: None)
    assert isinstance(answer, FileWrapper)
    assert told == [(404, 10), (200, 12345)]


def test_wsgi_closes_what_it_counts_and_tells_once(guard: Guard, told: Told) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"abc", b"def"])

        def close(self) -> None:
            closed.append(1)

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Body()

    answer: Any = WsgiDoor(app, guard)(environ_of(), lambda *_: None)
    assert next(answer) == b"abc"
    assert told == []
    answer.close()  # the client hangs up
    answer.close()
    assert (told, len(closed)) == ([(200, 3)], 2)


def test_wsgi_tells_of_an_application_that_raises_and_of_a_head(guard: Guard, told: Told) -> None:
    def broken(environ: Environ, start_response: Any) -> Iterable[bytes]:
        raise ValueError("the application's own")

    with pytest.raises(ValueError, match="own"):
        WsgiDoor(broken, guard)(environ_of(), None)  # type: ignore[arg-type]
    run_wsgi(WsgiDoor(listed, guard), environ_of(method="HEAD"))
    assert told == [(500, 0), (404, 0)]


# ---- Django


@pytest.fixture
def django(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawlguard.django.middleware.Guard", lambda *_, **__: guard)


@pytest.mark.usefixtures("django")
@pytest.mark.parametrize(
    ("path", "through"),
    [
        *((path, through) for path in ("/", "/apage", "/nowhere") for through in (through_wsgi, through_asgi)),
        ("/stream", through_wsgi),
        ("/astream", through_asgi),
    ],
)
def test_django_tells_the_status_and_the_bytes(guard: Guard, told: Told, path: str, through: Any) -> None:
    status, _, body = through(path, BROWSER)
    assert told == [(status, len(body))]
    through(path, BROWSER, "HEAD")
    assert told[1:] == [(status, 0)]


# ---- all of them


def test_nothing_is_wrapped_while_no_policy_counts_responses() -> None:
    plain, seen = Guard(store="memory"), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((send, "crawlguard.owed" in scope))

    async def send(message: Any) -> None:
        pass

    asyncio.run(AsgiDoor(app, plain)(scope_of(), None, send))  # type: ignore[arg-type]
    assert seen == [(send, False)]
    started: list[Any] = []

    def wsgi(environ: Environ, start_response: Any) -> Iterable[bytes]:
        started.append(start_response)
        return iter(())

    def start(*_: Any) -> Any:
        pass

    WsgiDoor(wsgi, plain)(environ_of(), start)
    assert started == [start]


def test_a_strict_views_own_guard_hears_of_its_responses_too() -> None:
    inner = guard_of({"when": {"rate": {"per": "ip", "misses": 2, "within": "1h"}}})

    @strict(inner)
    async def picky(request: Request) -> Response:
        return PlainTextResponse("no", status_code=404)

    door = AsgiDoor(Starlette(routes=[Route("/picky", picky)]), Guard(store="memory"))
    assert [run_asgi(door, scope_of(path="/picky"))[0]["status"] for _ in range(4)] == [404, 404, 404, 403]


def test_a_scraper_of_missing_pages_is_stopped_through_every_door() -> None:
    for through in ("asgi", "wsgi"):
        guard = guard_of({"when": {"rate": {"per": "ip", "misses": 5, "within": "1h"}}})
        found = []
        for n in range(8):
            if through == "asgi":
                found.append(run_asgi(AsgiDoor(SITE, guard), scope_of(path=f"/nowhere/{n}"))[0]["status"])
            else:
                found.append(run_wsgi(WsgiDoor(listed, guard), environ_of(path=f"/{n}"))[0])
        assert found == [404] * 6 + [403] * 2


def test_a_view_owes_nothing_by_itself() -> None:
    guard = Guard(store="memory")
    guard.responded(RequestView(), 500, 10**9)
    assert guard.counters.errors == 0
