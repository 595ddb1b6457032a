"""Marked views of Flask, Starlette and FastAPI: served whatever the policy says, or held to a second one. (Django's: test_django.)"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import fastapi
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from flask import Blueprint, Flask, jsonify
from flask.views import MethodView
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Host, Mount, Route, Router

from crawlguard import Decision, Guard, Policy, PolicyError, RequestView, exempt, strict
from crawlguard.asgi import App
from crawlguard.asgi import CrawlGuardMiddleware as AsgiDoor
from crawlguard.loader import parse_policy
from crawlguard.marks import EXEMPT, STRICT, Marks
from crawlguard.wsgi import CrawlGuardMiddleware as WsgiDoor

CRAWLER = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.4; +https://openai.com/gptbot)"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
LIBRARY = "Scrapy/2.14.0 (+https://scrapy.org)"


def policy_of(text: str) -> Policy:
    policy, problems = parse_policy(f"version: 1\n{text}")
    assert policy is not None, problems
    return policy


NO_LIBRARIES = Guard(
    policy_of("rules: [{id: no-libraries, when: {agent: {category: [scraper-library, training]}}, then: {block: {status: 451}}}]\n"),
    store="memory",
)

# For each kind of view: what a browser, a scraping library and a crawler get.
EXPECTED = {"plain": [200, 200, 403], "status": [200, 200, 200], "archive": [200, 451, 403]}


# ---- ASGI


def asked(app: App, path: str, user_agent: str, host: str = "example.org") -> int:
    async def main() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"http://{host}") as client:
            return (await client.get(path, headers={"user-agent": user_agent})).status_code

    return asyncio.run(main())


async def plain(request: Request) -> JSONResponse:
    return JSONResponse({})


@exempt
async def status(request: Request) -> JSONResponse:
    return JSONResponse({})


@strict(NO_LIBRARIES)
def archive(request: Request) -> JSONResponse:  # Starlette runs it in a thread
    return JSONResponse({})


@exempt
class Status(HTTPEndpoint):
    async def get(self, request: Request) -> JSONResponse:
        return JSONResponse({})


ROUTES = [Route("/plain", plain), Route("/status", status), Route("/archive", archive)]


def starlette_site() -> Starlette:
    return Starlette(
        routes=[
            *ROUTES,
            Route("/class/status", Status),
            Mount("/mounted", routes=ROUTES),
            Mount("/app", app=Starlette(routes=[Mount("/deep", app=Router(ROUTES))])),
            Host("status.example.org", app=Router(ROUTES)),
        ]
    )


def fastapi_site() -> FastAPI:
    app, inner = FastAPI(), APIRouter(prefix="/router")
    for router in (app, inner):

        @router.get("/plain")
        async def plain() -> dict[str, str]:
            return {}

        @router.get("/status")
        @exempt
        async def status() -> dict[str, str]:
            return {}

        @router.get("/archive")
        @strict(NO_LIBRARIES)
        def archive() -> dict[str, str]:
            return {}

    outer = APIRouter(prefix="/outer")
    outer.include_router(inner)
    app.include_router(inner)
    app.include_router(outer)
    sub = FastAPI()
    sub.include_router(inner)
    app.mount("/sub", sub)
    return app


def inside(app: Any) -> App:
    app.add_middleware(AsgiDoor, store="memory")
    return app  # type: ignore[no-any-return]


def around(app: Any) -> App:
    return AsgiDoor(app, store="memory")


STARLETTE = ["", "/mounted", "/app/deep"]
FASTAPI = ["", "/router", "/outer/router", "/sub/router"]


@pytest.mark.parametrize("put", [inside, around], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize(
    ("make", "prefix"),
    [(starlette_site, p) for p in STARLETTE] + [(fastapi_site, p) for p in FASTAPI],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_marks_are_found_in_routers_and_mounts(make: Callable[[], Any], prefix: str, kind: str, put: Callable[[Any], App]) -> None:
    app = put(make())
    assert [asked(app, f"{prefix}/{kind}", who) for who in (BROWSER, LIBRARY, CRAWLER)] == EXPECTED[kind]


@pytest.mark.parametrize("put", [inside, around], ids=lambda f: f.__name__)
def test_a_class_and_a_host_of_starlette(put: Callable[[Any], App]) -> None:
    app = put(starlette_site())
    assert asked(app, "/class/status", CRAWLER) == 200
    assert asked(app, "/status", CRAWLER, host="status.example.org") == 200


@pytest.mark.parametrize("make", [starlette_site, fastapi_site], ids=lambda f: f.__name__)
def test_a_path_that_is_nobodys_is_refused_as_ever(make: Callable[[], Any]) -> None:
    app = around(make())
    assert [asked(app, "/absent", who) for who in (BROWSER, CRAWLER)] == [404, 403]


def test_another_middleware_in_between_hides_no_mark() -> None:
    class Between:
        def __init__(self, app: App) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    assert asked(AsgiDoor(Between(Between(starlette_site())), store="memory"), "/status", CRAWLER) == 200


def test_an_app_without_routes_is_guarded_as_ever() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert [asked(AsgiDoor(app, store="memory"), "/status", who) for who in (BROWSER, CRAWLER)] == [200, 403]


def user(q: str = "nobody") -> str:
    return q


def test_fastapi_sees_the_views_signature_through_the_marks() -> None:
    app = FastAPI()
    inside(app)

    @app.get("/items/{number}")
    @exempt
    @strict(NO_LIBRARIES)
    async def item(number: int, who: Annotated[str, Depends(user)], request: fastapi.Request, size: int = 3) -> dict[str, Any]:
        return {"number": number, "who": who, "size": size, "allowed": request.scope["crawlguard"].allowed}

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://example.org") as client:
            answer = await client.get("/items/7?q=ada&size=9", headers={"user-agent": CRAWLER})
            assert answer.json() == {"number": 7, "who": "ada", "size": 9, "allowed": True}
            assert (await client.get("/items/x", headers={"user-agent": BROWSER})).status_code == 422
            schema = (await client.get("/openapi.json", headers={"user-agent": BROWSER})).json()
            assert [p["name"] for p in schema["paths"]["/items/{number}"]["get"]["parameters"]] == ["number", "size", "q"]

    asyncio.run(main())


# ---- Flask


def flask_site() -> Flask:
    app, blueprint, nested = Flask(__name__), Blueprint("b", __name__, url_prefix="/blue"), Blueprint("n", __name__, url_prefix="/nested")
    for place in (app, blueprint, nested):

        @place.get("/plain", endpoint="plain")
        def plain() -> Any:
            return jsonify({})

        @place.get("/status", endpoint="status")
        @exempt
        def status() -> Any:
            return jsonify({})

        @place.get("/archive", endpoint="archive")
        @strict(NO_LIBRARIES)
        def archive() -> Any:
            return jsonify({})

    class Status2(MethodView):
        decorators = [exempt]

        def get(self) -> Any:
            return jsonify({})

    app.add_url_rule("/class/status", view_func=Status2.as_view("class-status"))
    blueprint.register_blueprint(nested)
    app.register_blueprint(blueprint)
    app.wsgi_app = WsgiDoor(app.wsgi_app, store="memory")  # type: ignore[method-assign]
    return app


def flask_status(app: Flask, path: str, user_agent: str, method: str = "GET") -> int:
    with app.test_client().open(path, method=method, headers={"User-Agent": user_agent}) as answer:
        return answer.status_code


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("prefix", ["", "/blue", "/blue/nested"])
def test_marks_are_found_in_blueprints(prefix: str, kind: str) -> None:
    app = flask_site()
    assert [flask_status(app, f"{prefix}/{kind}", who) for who in (BROWSER, LIBRARY, CRAWLER)] == EXPECTED[kind]


def test_flask_classes_absent_pages_and_wrong_methods() -> None:
    app = flask_site()
    assert flask_status(app, "/class/status", CRAWLER) == 200
    assert [flask_status(app, "/absent", who) for who in (BROWSER, CRAWLER)] == [404, 403]
    assert [flask_status(app, "/status", who, "POST") for who in (BROWSER, CRAWLER)] == [405, 403]


def test_a_flask_object_may_be_wrapped_whole() -> None:
    app = WsgiDoor(flask_site(), store="memory")
    started: list[str] = []
    for path in ("/status", "/plain"):
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "HTTP_USER_AGENT": CRAWLER,
            "SERVER_NAME": "x",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
        }
        app(environ, lambda status, headers, exc_info=None: started.append(status))
    assert [s[:3] for s in started] == ["200", "403"]


# ---- the marks themselves


def test_a_mark_returns_the_very_function() -> None:
    def view() -> None: ...

    assert exempt(view) is view
    assert strict(NO_LIBRARIES)(view) is view
    assert getattr(view, EXEMPT)
    assert getattr(view, STRICT) is NO_LIBRARIES


def test_strict_takes_what_a_guard_takes() -> None:
    policy = policy_of("rules: [{id: none, then: block}]\n")
    for given in (policy, "builtin:default"):
        assert isinstance(getattr(strict(given, store="memory")(lambda: None), STRICT), Guard)
    with pytest.raises(PolicyError):
        strict("builtin:nonsense")


def test_while_no_view_is_marked_no_door_looks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr("crawlguard.asgi._locate", lambda *_: calls.append("asgi"))
    monkeypatch.setattr("crawlguard.wsgi._locate", lambda *_: calls.append("wsgi"))
    asgi, flask = around(starlette_site()), flask_site()
    for used in (False, True):
        monkeypatch.setattr(Marks, "used", used)
        assert asked(asgi, "/plain", BROWSER) == flask_status(flask, "/plain", BROWSER) == 200
        assert calls == (["asgi", "wsgi"] if used else [])


def view_of(user_agent: str = BROWSER, peer: str = "203.0.113.7", forwarded: str = "") -> RequestView:
    headers = [(b"user-agent", user_agent.encode())] + ([(b"x-forwarded-for", forwarded.encode())] if forwarded else [])
    return RequestView(headers=headers, peer=peer)


def decided(site: Guard, target: object, view: RequestView) -> Decision:
    return site.decide(view, lambda: target)


def test_an_exempt_view_still_tells_what_would_have_been() -> None:
    decision = decided(Guard(store="memory"), exempt(lambda: None), view_of(CRAWLER))
    assert decision.allowed
    assert [d.rule for d in decision.shadow] == ["ai-training"]


def test_a_strict_view_that_lets_pass_keeps_what_the_sites_policy_said() -> None:
    site = Guard(policy_of("rules: [{id: seen, then: {tag: seen}}, {id: mine, then: allow}]\n"), store="memory")
    decision = decided(site, strict(NO_LIBRARIES)(lambda: None), view_of())
    assert (decision.allowed, decision.rule, decision.tags) == (True, "mine", ("seen",))


def test_a_strict_view_knows_the_sites_proxies() -> None:
    site = Guard(policy_of("client_ip: {trusted_proxies: [private, 198.51.100.0/24]}\nrules: []\n"), store="memory")
    far = strict(policy_of("rules: [{id: far, when: {ip: 203.0.113.9}, then: block}]\n"), store="memory")(lambda: None)
    for proxy in ("10.0.0.1", "198.51.100.1", ""):
        assert decided(site, far, view_of(peer=proxy, forwarded="203.0.113.9")).rule == "far"
        assert decided(site, far, view_of(peer=proxy, forwarded="203.0.113.8")).allowed


def test_a_strict_rate_does_not_hold_a_whole_proxy_as_one() -> None:
    site = Guard(policy_of("client_ip: {trusted_proxies: [198.51.100.0/24]}\nrules: []\n"), store="memory")
    slow = strict(policy_of("rules: [{id: slow, when: {rate: {per: ip, requests: 1, within: 1h}}, then: throttle}]\n"), store="memory")(
        lambda: None
    )
    answers = [decided(site, slow, view_of(peer="198.51.100.1", forwarded=f"203.0.113.{n}")).allowed for n in range(5)]
    assert answers == [True] * 5


def test_a_router_that_raises_leaves_the_decision() -> None:
    def nowhere() -> object:
        raise LookupError

    guard = Guard(store="memory")
    assert [guard.decide(view_of(who), nowhere).allowed for who in (BROWSER, CRAWLER)] == [True, False]
    assert guard.counters.errors == 0
