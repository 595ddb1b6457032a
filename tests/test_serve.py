"""The documents and headers that a policy publishes, through the real doors of real frameworks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from wsgiref.validate import validator

import httpx
import protego
import pytest
from flask import Flask
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from crawlguard import Policy
from crawlguard.asgi import CrawlGuardMiddleware as AsgiGuard
from crawlguard.loader import parse_policy
from crawlguard.wsgi import CrawlGuardMiddleware as WsgiGuard

GPTBOT = "GPTBot/1.2"
POLICY = """
version: 1
include: [builtin:default]
serve: {robots: true, tdmrep: true, rsl: true, ai_txt: true, headers: true}
robots:
  sitemap: https://site.example/sitemap.xml
  license: https://site.example/licences/rsl.xml
  tdm_policy: https://site.example/mining
  content_usage: auto
rules:
  - {id: open, when: {path: /open/}, then: allow}
"""
DOCUMENTS = {
    "/robots.txt": "text/plain; charset=utf-8",
    "/.well-known/tdmrep.json": "application/json",
    "/licences/rsl.xml": "application/rsl+xml",
    "/ai.txt": "text/plain; charset=utf-8",
}
Get = Callable[..., httpx.Response]


def policy_of(text: str) -> Policy:
    policy, problems = parse_policy(text)
    assert policy is not None, problems
    return policy


def over_asgi(policy: Policy) -> Get:
    async def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse("the app", headers={"X-Robots-Tag": "noindex", "tdm-policy": "https://app.example/"})

    app = AsgiGuard(Starlette(routes=[Route("/{rest:path}", page, methods=["GET", "POST", "HEAD"])]), policy, store="memory")

    def get(path: str, method: str = "GET", **headers: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=app, client=("203.0.113.7", 1))
            async with httpx.AsyncClient(transport=transport, base_url="https://site.example") as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(ask())

    return get


def over_wsgi(policy: Policy) -> Get:
    flask = Flask(__name__)

    @flask.route("/", defaults={"rest": ""}, methods=["GET", "POST"])
    @flask.route("/<path:rest>", methods=["GET", "POST"])
    def page(rest: str) -> Any:
        return "the app", 200, {"X-Robots-Tag": "noindex", "tdm-policy": "https://app.example/"}

    app = validator(WsgiGuard(validator(flask.wsgi_app), policy, store="memory"))

    def get(path: str, method: str = "GET", **headers: str) -> httpx.Response:
        transport = httpx.WSGITransport(app=app, remote_addr="203.0.113.7")
        with httpx.Client(transport=transport, base_url="https://site.example") as client:
            return client.request(method, path, headers=headers)

    return get


DOORS = pytest.mark.parametrize("door", [over_asgi, over_wsgi], ids=["asgi", "wsgi"])


@DOORS
@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_is_answered_to_everybody(door: Callable[[Policy], Get], path: str) -> None:
    get = door(policy_of(POLICY))
    for agent in (GPTBOT, "Mozilla/5.0 Firefox/156.0"):
        answer = get(path, **{"User-Agent": agent})
        assert (answer.status_code, answer.headers["content-type"]) == (200, DOCUMENTS[path])
        assert answer.headers["cache-control"] == "max-age=3600"
        assert "the app" not in answer.text
        assert len(answer.content) == int(answer.headers["content-length"])
    assert get("/", **{"User-Agent": GPTBOT}).status_code == 403


@DOORS
def test_head_gets_the_headers_and_post_goes_to_the_application(door: Callable[[Policy], Get]) -> None:
    get = door(policy_of(POLICY))
    head = get("/robots.txt", "HEAD")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", get("/robots.txt").headers["content-length"])
    assert get("/robots.txt", "POST").text == "the app"


@DOORS
def test_the_documents_say_what_the_policy_says(door: Callable[[Policy], Get]) -> None:
    get = door(policy_of(POLICY))
    robots = get("/robots.txt").text
    assert "User-agent: GPTBot\n" in robots
    assert "Sitemap: https://site.example/sitemap.xml\n" in robots
    # The licence can be read by those who are told to stay away.
    assert protego.Protego.parse(robots).can_fetch("https://site.example/licences/rsl.xml", "GPTBot")
    assert not protego.Protego.parse(robots).can_fetch("https://site.example/licences/", "GPTBot")
    (open_, closed) = json.loads(get("/.well-known/tdmrep.json").text)
    assert (open_["location"], open_["tdm-reservation"]) == ("/open/", 0)
    assert (closed["location"], closed["tdm-reservation"], closed["tdm-policy"]) == ("/", 1, "https://site.example/mining")


@DOORS
def test_answers_of_the_application_carry_the_headers(door: Callable[[Policy], Get]) -> None:
    get = door(policy_of(POLICY))
    closed, open_ = get("/article").headers, get("/open/article").headers
    assert (closed["tdm-reservation"], open_["tdm-reservation"]) == ("1", "0")
    assert closed["content-usage"] == "train-ai=n, search=y"
    assert closed["link"] == '<https://site.example/licences/rsl.xml>; rel="license"; type="application/rsl+xml"'
    assert closed["tdm-policy"] == "https://app.example/"  # what the application says itself stands
    assert sorted(closed.get_list("x-robots-tag")) == ["noai, noimageai", "noindex"]  # a list, so both are heard


@DOORS
def test_without_serve_nothing_is_answered_and_nothing_added(door: Callable[[Policy], Get]) -> None:
    get = door(policy_of("version: 1\ninclude: [builtin:default]\nrules: []\n"))
    assert get("/robots.txt").text == "the app"
    assert "tdm-reservation" not in get("/article").headers


def test_a_policy_that_is_reloaded_changes_the_documents() -> None:
    site = AsgiGuard(Starlette(), policy_of("version: 1\nserve: {robots: true}\nrules: [{id: shut, then: block}]\n"), store="memory")
    ask = {"type": "http", "method": "GET", "path": "/robots.txt", "headers": [], "client": ("203.0.113.7", 1)}

    def body() -> bytes:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(site(dict(ask), None, send))  # type: ignore[arg-type]
        return sent[1]["body"]  # type: ignore[no-any-return]

    assert b"Disallow: /\n" in body()
    site.guard.swap(policy_of("version: 1\nserve: {robots: true}\nrules: [{id: some, when: {path: /x}, then: block}]\n"))
    assert b"Disallow: /x\n" in body()
