"""The site under load behind gunicorn: the pages of ``site`` under Flask."""

from __future__ import annotations

import atexit

from flask import Flask, Response, request

from crawlguard.demo import content
from crawlguard.wsgi import CrawlGuardMiddleware

from .meter import FILE, metered

guard = metered()
atexit.register(guard.write)
app = Flask(__name__)
app.wsgi_app = CrawlGuardMiddleware(app.wsgi_app, guard)  # type: ignore[method-assign]


@app.get("/")
def home() -> str:
    return content.home()


@app.get("/articles/<slug>")
def article(slug: str) -> str:
    return content.article(slug) or ""


@app.get("/items/<int:number>")
def item(number: int) -> str:
    return f"<!doctype html><title>Loaf {number}</title><link rel=stylesheet href=/style.css><img src=/images/{number}.png>"


@app.get("/search")
def search() -> str:
    return f"<!doctype html><title>{len(request.args['q'])} letters, no loaf</title>"


@app.get("/orders/<int:number>")
def order(number: int) -> Response:
    return Response(f"no order {number} of yours", 400)


@app.get("/files/<name>")
def file(name: str) -> Response:
    return Response(FILE, mimetype="application/pdf")


@app.get("/style.css")
def style() -> Response:
    return Response(content.CSS, mimetype="text/css")


@app.get("/favicon.ico")
@app.get("/logo.png")
def logo() -> Response:
    return Response(content.LOGO, mimetype="image/png")


@app.get("/feed.xml")
def feed() -> Response:
    return Response(content.feed(), mimetype="application/rss+xml")


@app.get("/robots.txt")
def robots() -> Response:
    return Response(content.ROBOTS, mimetype="text/plain")
