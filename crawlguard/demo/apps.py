"""The two sample sites, each guarded by the two lines that a real site adds. Started by a server, through a factory.

The policy's path comes in CRAWLGUARD_DEMO_POLICY, as the servers run in processes of their own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import content

if TYPE_CHECKING:
    from fastapi import FastAPI
    from flask import Flask

POLICY = "CRAWLGUARD_DEMO_POLICY"


def fastapi_site() -> FastAPI:
    """The sample site under FastAPI."""
    from fastapi import FastAPI, HTTPException, Response
    from fastapi.responses import HTMLResponse, PlainTextResponse

    app = FastAPI(title=content.NAME)

    from crawlguard.asgi import CrawlGuardMiddleware

    app.add_middleware(CrawlGuardMiddleware, policy=os.environ[POLICY])

    @app.get("/", response_class=HTMLResponse)
    async def home() -> str:
        return content.home()

    @app.get("/articles/{slug}", response_class=HTMLResponse)
    async def article(slug: str) -> str:
        page = content.article(slug)
        if page is None:
            raise HTTPException(404)
        return page

    @app.get("/api/articles")
    async def listing() -> list[dict[str, str]]:
        return content.listing()

    @app.get("/robots.txt", response_class=PlainTextResponse)
    async def robots() -> str:
        return content.ROBOTS

    @app.get("/style.css")
    async def style() -> Response:
        return Response(content.CSS, media_type="text/css")

    @app.get("/logo.png")
    async def logo() -> Response:
        return Response(content.LOGO, media_type="image/png")

    @app.get("/feed.xml")
    async def feed() -> Response:
        return Response(content.feed(), media_type="application/rss+xml")

    return app


def flask_site() -> Flask:
    """The sample site under Flask."""
    from flask import Flask, Response, abort, jsonify

    app = Flask(__name__)

    from crawlguard.wsgi import CrawlGuardMiddleware

    app.wsgi_app = CrawlGuardMiddleware(app.wsgi_app, policy=os.environ[POLICY])  # type: ignore[method-assign]

    @app.get("/")
    def home() -> str:
        return content.home()

    @app.get("/articles/<slug>")
    def article(slug: str) -> str:
        return content.article(slug) or abort(404)

    @app.get("/api/articles")
    def listing() -> Response:
        return jsonify(content.listing())

    @app.get("/robots.txt")
    def robots() -> Response:
        return Response(content.ROBOTS, mimetype="text/plain")

    @app.get("/style.css")
    def style() -> Response:
        return Response(content.CSS, mimetype="text/css")

    @app.get("/logo.png")
    def logo() -> Response:
        return Response(content.LOGO, mimetype="image/png")

    @app.get("/feed.xml")
    def feed() -> Response:
        return Response(content.feed(), mimetype="application/rss+xml")

    return app
