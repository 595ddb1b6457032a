"""The site under load behind uvicorn: the demo's pages and a catalogue of goods under FastAPI. ``wsgi`` is the same under Flask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

from crawlguard.asgi import CrawlGuardMiddleware
from crawlguard.demo import content

from .meter import FILE, metered

guard = metered()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """uvicorn ends a worker by a signal, past ``atexit``, but after this."""
    yield
    guard.write()


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
async def logo() -> Response:
    return Response(content.LOGO, media_type="image/png")


@app.get("/feed.xml")
async def feed() -> Response:
    return Response(content.feed(), media_type="application/rss+xml")


@app.get("/robots.txt")
async def robots() -> Response:
    return Response(content.ROBOTS, media_type="text/plain")
