"""The site under load: the demo's pages under FastAPI, guarded by the bundled default policy behind a trusted proxy."""

from __future__ import annotations

import os

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

from crawlguard.asgi import CrawlGuardMiddleware
from crawlguard.demo import content

app = FastAPI()
# The locust clients play the reverse proxy: each names its client's address in X-Forwarded-For.
app.add_middleware(CrawlGuardMiddleware, trusted_proxies=["127.0.0.1"], log=os.environ["LOAD_LOG"])


@app.get("/", response_class=HTMLResponse)
async def home() -> str:
    return content.home()


@app.get("/articles/{slug}", response_class=HTMLResponse)
async def article(slug: str) -> str:
    return content.article(slug) or ""


@app.get("/style.css")
async def style() -> Response:
    return Response(content.CSS, media_type="text/css")


@app.get("/logo.png")
async def logo() -> Response:
    return Response(content.LOGO, media_type="image/png")


@app.get("/feed.xml")
async def feed() -> Response:
    return Response(content.feed(), media_type="application/rss+xml")


@app.get("/robots.txt")
async def robots() -> Response:
    return Response(content.ROBOTS, media_type="text/plain")
