"""Ways around a rule that real frameworks leave open: paths and methods that mean another one to them, headers that a visitor writes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import flask
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from crawlguard.asgi import CrawlGuardMiddleware as AsgiDoor
from crawlguard.request import tidy
from crawlguard.wsgi import CrawlGuardMiddleware as WsgiDoor

from .policy_corpus import guard_of, view
from .test_wsgi import environ_of, run

CLOSED = {"id": "closed", "when": {"path": ["/secret/", "/static/private/"]}, "then": "block"}
DETOURS = [
    "/static/private/a.txt",
    "/static/./private/a.txt",
    "/static/x/../private/a.txt",
    "/static//private/a.txt",
    "//static/private/a.txt",
]


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/", "/"), ("//", "/"), ("/a/", "/a/"), ("//a", "/a"), ("/a//", "/a/"), ("/./a", "/a"), ("/a/.", "/a/"), ("/a/..", "/"), ("/a/b/..", "/a/"),
        ("/../a", "/a"), ("/x/../a", "/a"), ("/.well-known/a", "/.well-known/a"), ("/...", "/..."), ("/a.b//c", "/a.b/c"), ("", ""), ("*", "*"),
    ],
)  # fmt: skip
def test_a_tidy_path_is_what_routers_come_to_see(path: str, plain: str) -> None:
    assert tidy(path) == plain


@pytest.mark.parametrize("path", ["/secret/1", "//secret/1", "///secret/1", "/x/../secret/1", "/./secret/1"])
def test_flask_serves_no_page_by_a_detour(path: str) -> None:
    site = flask.Flask(__name__)
    site.add_url_rule("/secret/<int:number>", "secret", lambda number: "the page")
    site.wsgi_app = WsgiDoor(site.wsgi_app, guard_of(CLOSED))  # type: ignore[method-assign]
    status, _, _ = run(site.wsgi_app, environ_of(PATH_INFO=path))
    assert status == 403


@pytest.mark.parametrize("path", DETOURS)
def test_static_files_are_not_served_by_a_detour(path: str, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.txt").write_text("a secret")
    door = AsgiDoor(Starlette(routes=[Mount("/static", StaticFiles(directory=tmp_path))]), guard_of(CLOSED))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://x") as client:
            request = client.build_request("GET", "http://x/")
            request.url = httpx.URL("http://x/").copy_with(raw_path=path.encode())
            return await client.send(request)

    assert asyncio.run(ask()).status_code == 403


def test_an_allowed_path_lets_nobody_into_another_one() -> None:
    guard = guard_of({"id": "open", "when": {"path": "/pub/"}, "then": "allow"}, CLOSED)
    assert guard.decide(view("/pub/a")).rule == "open"
    assert guard.decide(view("/pub/../secret/1")).rule == "closed"


@pytest.mark.parametrize("method", ["POST", "post", "PoST"])
def test_a_method_counts_in_any_case(method: str) -> None:
    guard = guard_of({"id": "closed", "when": {"method": ["POST"]}, "then": "block"})
    assert guard.decide(view("/", method=method)).rule == "closed"


@pytest.mark.parametrize(("proxy", "sent"), [("127.0.0.1", {}), ("10.0.0.2", {"x-real-ip": "203.0.113.9"}), ("::1", {})])
def test_nobody_takes_the_address_of_a_proxy_that_is_not_configured(proxy: str, sent: dict[str, str]) -> None:
    guard = guard_of({"id": "local", "when": {"ip": [proxy]}, "then": "allow"}, {"id": "rest", "then": "block"})
    assert guard.decide(view("/", ip=proxy)).rule == "local"
    assert guard.decide(view("/", ip=proxy, headers={**sent, "x-forwarded-for": proxy})).rule == "rest"


def test_the_advice_names_every_header_that_a_proxy_may_have_written(caplog: pytest.LogCaptureFixture) -> None:
    guard_of(CLOSED).decide(view("/", ip="127.0.0.1", headers={"x-real-ip": "203.0.113.9", "x-forwarded-for": "127.0.0.1"}))
    assert "x-forwarded-for, x-real-ip: the one that your proxy itself writes" in caplog.text
