"""The site under load: the demo's pages and a catalogue of goods under FastAPI, guarded behind a trusted proxy, and the guard's time measured."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import thread_time_ns

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

from crawlguard import Decision, Guard
from crawlguard.asgi import CrawlGuardMiddleware
from crawlguard.demo import content
from crawlguard.request import RequestView

DIRECTORY = Path(os.environ["LOAD_DIRECTORY"])
FILE = os.urandom(256 << 10)


class Metered(Guard):
    """A guard that adds up the CPU time (ns) of its decisions, and of what it notes of responses. The first decisions open tables."""

    spent, decisions = 0, -50

    def decide(self, view: RequestView, locate: Callable[[], object] | None = None) -> Decision:
        began = thread_time_ns()
        decision = super().decide(view, locate)
        self._spend(began)
        self.decisions += 1
        return decision

    def responded(self, view: RequestView, status: int, size: int) -> None:
        began = thread_time_ns()
        super().responded(view, status, size)
        self._spend(began)

    def _spend(self, began: int) -> None:
        if self.decisions >= 0:
            self.spent += thread_time_ns() - began


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Writes down what was measured when the worker ends."""
    yield
    meter = {"spent": guard.spent, "decisions": guard.decisions}
    (DIRECTORY / f"meter-{os.getpid()}.json").write_text(json.dumps(meter), "utf-8")


# The locust clients play the reverse proxy: each names its client's address in X-Forwarded-For.
guard = Metered(os.environ.get("LOAD_POLICY"), trusted_proxies=["127.0.0.1"], log=DIRECTORY / "decisions.log")
app = FastAPI(lifespan=lifespan)
app.add_middleware(CrawlGuardMiddleware, policy=guard)


@app.get("/", response_class=HTMLResponse)
async def home() -> str:
    return content.home()


@app.get("/articles/{slug}", response_class=HTMLResponse)
async def article(slug: str) -> str:
    return content.article(slug) or ""


@app.get("/items/{number}", response_class=HTMLResponse)
async def item(number: int) -> str:
    return f"<!doctype html><title>Loaf {number}</title><link rel=stylesheet href=/style.css><img src=/images/{number}.png>"


@app.get("/search", response_class=HTMLResponse)
async def search(q: str) -> str:
    return f"<!doctype html><title>{len(q)} letters, no loaf</title>"


@app.get("/orders/{number}")
async def order(number: int) -> Response:
    return Response(f"no order {number} of yours", 400)


@app.get("/files/{name}")
async def file(name: str) -> Response:
    return Response(FILE, media_type="application/pdf")


@app.get("/style.css")
async def style() -> Response:
    return Response(content.CSS, media_type="text/css")


@app.get("/favicon.ico")
@app.get("/logo.png")
@app.get("/images/{name}")
async def logo() -> Response:
    return Response(content.LOGO, media_type="image/png")


@app.get("/feed.xml")
async def feed() -> Response:
    return Response(content.feed(), media_type="application/rss+xml")


@app.get("/robots.txt")
async def robots() -> Response:
    return Response(content.ROBOTS, media_type="text/plain")
