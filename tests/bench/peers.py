"""The guard beside others, each at its comparable job and behind the same door: ``python -m tests.bench.peers [--json FILE]``.

The job: a list of 166 crawlers' names and a limit for each address, where the peer has them; all requests are a known
browser's. Time is CPU time of a whole request through the framework, minus that of the same framework with a no-op
middleware. This runs in an environment of the bench's own; a peer that is not there or does not start is named.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from statistics import median
from time import process_time_ns
from typing import Any

from . import traffic
from .table import layout
from .timing import NoOpAsgi, NoOpWsgi

NAMES = 166
LIMIT = 1200
ROUNDS, REQUESTS, VISITORS = 150, 20, 100
HERE = "tests.bench.peers"
"""This module's name, also when it runs as a script."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One guard: the package, the framework it stands in, what it does here, and how it is put there."""

    name: str
    package: str
    door: str
    job: str
    install: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Result:
    """Added CPU time of one peer, or why there is none."""

    name: str
    version: str
    door: str
    job: str
    added_us: float | None
    note: str = ""


def names() -> list[str]:
    """Names of crawlers, as a site would list them."""
    from crawlguard.catalogue import agents

    return [pattern.token for agent in agents() if agent.ai for pattern in agent.user_agent][:NAMES]


# ---- FastAPI


def fastapi_app() -> Any:
    app = importlib.import_module("fastapi").FastAPI()
    plain = importlib.import_module("starlette.responses").PlainTextResponse

    async def page(path: str) -> Any:
        return plain("ok")

    app.add_api_route("/{path:path}", page, response_class=plain)
    return app


def no_op_fastapi() -> Any:
    app = fastapi_app()
    app.add_middleware(NoOpAsgi)
    return app


def crawlguard_fastapi() -> Any:
    from crawlguard.asgi import CrawlGuardMiddleware

    app = fastapi_app()
    app.add_middleware(CrawlGuardMiddleware)
    return app


def fastapi_guard() -> Any:
    guard = importlib.import_module("guard")
    config = guard.SecurityConfig(
        blocked_user_agents=names(), rate_limit=LIMIT, rate_limit_window=60, enable_redis=False, enable_penetration_detection=False
    )
    app = fastapi_app()
    app.add_middleware(guard.PureASGISecurityMiddleware, config=config)
    return app


def bot_guard() -> Any:
    guard = importlib.import_module("bot_guard")
    door = importlib.import_module("bot_guard.middleware.fastapi")
    app = fastapi_app()
    app.add_middleware(door.BotGuardMiddleware, guard=guard.BotGuard(deny_user_agents=names()))
    return app


def bot_guard_with_limits() -> Any:
    guard = importlib.import_module("bot_guard")
    door = importlib.import_module("bot_guard.middleware.fastapi")
    app = bot_guard()
    app.add_middleware(door.DDoSProtectionMiddleware, protector=guard.DDoSProtector())
    return app


def slowapi() -> Any:
    limits = importlib.import_module("slowapi")
    app = fastapi_app()
    by_address = importlib.import_module("slowapi.util").get_remote_address
    app.state.limiter = limits.Limiter(key_func=by_address, default_limits=[f"{LIMIT}/minute"])
    app.add_middleware(importlib.import_module("slowapi.middleware").SlowAPIASGIMiddleware)
    return app


# ---- Flask


def flask_app() -> Any:
    app = importlib.import_module("flask").Flask("bench")
    app.add_url_rule("/<path:path>", "page", lambda path: "ok")
    return app


def no_op_flask() -> Any:
    app = flask_app()
    app.wsgi_app = NoOpWsgi(app.wsgi_app)
    return app


def crawlguard_flask() -> Any:
    from crawlguard.wsgi import CrawlGuardMiddleware

    app = flask_app()
    app.wsgi_app = CrawlGuardMiddleware(app.wsgi_app)
    return app


def flask_limiter() -> Any:
    app = flask_app()
    by_address = importlib.import_module("flask_limiter.util").get_remote_address
    importlib.import_module("flask_limiter").Limiter(by_address, app=app, default_limits=[f"{LIMIT} per minute"], storage_uri="memory://")
    return app


# ---- Django


def django_app(*middleware: str) -> Any:
    conf = importlib.import_module("django.conf")
    if not conf.settings.configured:
        conf.settings.configure(
            ROOT_URLCONF=HERE, ALLOWED_HOSTS=["*"], SECRET_KEY="bench", INSTALLED_APPS=[], LOGGING_CONFIG=None, USE_I18N=False
        )
        importlib.import_module("django").setup()
    with importlib.import_module("django.test.utils").override_settings(MIDDLEWARE=list(middleware)):
        return importlib.import_module("django.core.handlers.wsgi").WSGIHandler()


def no_op_django(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Django's no-op middleware."""

    def middleware(request: Any) -> Any:
        return get_response(request)

    return middleware


def __getattr__(name: str) -> Any:
    """``urlpatterns``, made when Django asks for them."""
    if name != "urlpatterns":
        raise AttributeError(name)
    answer = importlib.import_module("django.http").HttpResponse
    return [importlib.import_module("django.urls").re_path("", lambda request: answer("ok"))]


PEERS = [
    Peer("no-op", "fastapi", "FastAPI", "", no_op_fastapi),
    Peer(
        "crawlguard", "crawlguard", "FastAPI", "default policy: the whole catalogue, two limits shared by all workers", crawlguard_fastapi
    ),
    Peer("bot-guard-py", "bot-guard-py", "FastAPI", f"{NAMES} names, header heuristics", bot_guard),
    Peer("bot-guard-py", "bot-guard-py", "FastAPI", "the same, and its flood limits", bot_guard_with_limits),
    Peer("slowapi", "slowapi", "FastAPI", "a limit", slowapi),
    Peer("fastapi-guard", "fastapi-guard", "FastAPI", f"{NAMES} names, a limit; attack detection off", fastapi_guard),
    Peer("no-op", "flask", "Flask", "", no_op_flask),
    Peer("crawlguard", "crawlguard", "Flask", "as above", crawlguard_flask),
    Peer("Flask-Limiter", "flask-limiter", "Flask", "a limit", flask_limiter),
    Peer("no-op", "django", "Django", "", partial(django_app, f"{HERE}.no_op_django")),
    Peer("crawlguard", "crawlguard", "Django", "as above", partial(django_app, "crawlguard.django.CrawlGuardMiddleware")),
    Peer("django-bots", "django-bots", "Django", "its own names", partial(django_app, "django_bots.middleware.AIBotBlockMiddleware")),
]


# ---- timing


def _received() -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


def through_asgi(loop: asyncio.AbstractEventLoop, app: Any, requests: list[traffic.Request]) -> float:
    """Nanoseconds of CPU per request; raises RuntimeError when a browser is not served."""
    statuses: set[int] = set()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    async def all_of_them() -> int:
        made = traffic.scopes(requests)
        started = process_time_ns()
        for scope in made:
            await app(scope, _received(), send)
        return process_time_ns() - started

    spent = loop.run_until_complete(all_of_them())
    _served(statuses)
    return spent / len(requests)


def through_wsgi(app: Any, requests: list[traffic.Request]) -> float:
    """The same for a WSGI application."""
    statuses: set[int] = set()

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        statuses.add(int(status[:3]))

    made = traffic.environs(requests)
    for environ in made:
        environ |= {"wsgi.input": BytesIO(), "wsgi.errors": sys.stderr}
    started = process_time_ns()
    for environ in made:
        body: Iterable[bytes] = app(environ, start_response)
        for _ in body:
            pass
        getattr(body, "close", int)()
    spent = process_time_ns() - started
    _served(statuses)
    return spent / len(requests)


def _served(statuses: set[int]) -> None:
    if statuses != {200}:
        raise RuntimeError(f"it answers a browser with {sorted(statuses)}")


def measure() -> list[Result]:
    """All peers, door by door, in turns."""
    logging.disable(logging.CRITICAL)  # what a peer logs about each request is not what is compared
    loop = asyncio.new_event_loop()
    found: dict[int, Result] = {}
    for door in dict.fromkeys(peer.door for peer in PEERS):
        sides: dict[int, Callable[[list[traffic.Request]], float]] = {}
        for number, peer in enumerate(PEERS):
            if peer.door == door:
                try:
                    app = peer.install()
                    side = partial(through_wsgi, app) if door != "FastAPI" else partial(through_asgi, loop, app)
                    for _ in range(30):  # every visitor is known, all code specialised
                        side(traffic.people(REQUESTS, VISITORS))
                    sides[number] = side
                except Exception as error:  # somebody else's code: whatever goes wrong, the others are measured
                    found[number] = Result(peer.name, _version(peer), door, peer.job, None, f"{type(error).__name__}: {error}"[:120])
        if any(PEERS[number].name == "no-op" for number in sides):
            found |= _turns(sides)
    loop.close()
    return [found[number] for number in sorted(found) if PEERS[number].name != "no-op" or found[number].added_us is None]


def _turns(sides: dict[int, Callable[[list[traffic.Request]], float]]) -> dict[int, Result]:
    base, *_ = sides
    added: dict[int, list[float]] = {number: [] for number in sides}
    for turn in range(ROUNDS):
        spent = {number: sides[number](traffic.people(REQUESTS, VISITORS)) for number in (sides if turn % 2 else reversed(sides))}
        for number in sides:
            added[number].append(spent[number] - spent[base])
    return {
        number: Result(PEERS[number].name, _version(PEERS[number]), PEERS[number].door, PEERS[number].job, median(values) / 1e3)
        for number, values in added.items()
    }


def _version(peer: Peer) -> str:
    try:
        return version(peer.package)
    except PackageNotFoundError:
        return "not installed"


def table(results: list[Result]) -> str:
    """Door, guard, version, added time, job."""
    rows = [[r.door, r.name, r.version, r.note or f"{r.added_us:.1f}", r.job] for r in results]
    return layout(("door", "guard", "version", "added us of CPU", "job"), rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers into this file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crawlguard-bench-") as state:
        os.environ["CRAWLGUARD_STATE_DIR"] = state
        results = measure()
    print(f"\n{table(results)}")
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
