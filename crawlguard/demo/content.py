"""What the sample sites show: a few pages of a village bakery, the same under both frameworks."""

from __future__ import annotations

from base64 import b64decode
from html import escape

NAME = "Hillside Bakery"
"""Stands in every page: a client that got it has read the site, and not a refusal."""

_ARTICLES: dict[str, tuple[str, str]] = {
    "sourdough": (
        "Sourdough for beginners",
        "Flour, water, salt and patience. Feed the starter in the evening, mix in the morning, bake on the day after.",
    ),
    "rye": (
        "Why we went back to rye",
        "Rye keeps for a week and wants no kneading. The mill down the valley grinds it for us on Thursdays.",
    ),
    "opening-hours": (
        "Opening hours in winter",
        "From December to February we open at seven, an hour later, and the oven stays warm for soup until three.",
    ),
}

CSS = """\
body { font: 1.1rem/1.6 Georgia, serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; color: #222; }
header { display: flex; align-items: center; gap: .7rem; border-bottom: 2px solid #b05420; }
header img { width: 2rem; image-rendering: pixelated; }
a { color: #b05420; }
"""

LOGO = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAMAAAAoLQ9TAAAABlBMVEX///+wVCB1JZX2AAAAL0lEQVR42mNgwAYYoQCdDxNhZEQVgbHg"
    "IqhKcQggmY5DgLAZqNZiOAzT6ZieQwEARRAAgaVSqw8AAAAASUVORK5CYII="
)

ROBOTS = """\
User-agent: GPTBot
User-agent: ClaudeBot
User-agent: Bytespider
User-agent: CCBot
Disallow: /

User-agent: *
Allow: /
"""

PAGES = ("/", *(f"/articles/{slug}" for slug in _ARTICLES))
"""The paths of all pages for people."""


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)} - {NAME}</title>
<link rel="stylesheet" href="/style.css"><link rel="icon" href="/logo.png">
<link rel="alternate" type="application/rss+xml" href="/feed.xml" title="{NAME}">
</head>
<body>
<header><img src="/logo.png" alt=""><p><a href="/">{NAME}</a></p></header>
<main><h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""


def home() -> str:
    """The front page, with a link to every article."""
    items = "\n".join(f'<li><a href="/articles/{slug}">{escape(title)}</a></li>' for slug, (title, _) in _ARTICLES.items())
    return _page("Bread, and how it is made", f"<p>News from the oven at the foot of the hill.</p>\n<ul>\n{items}\n</ul>")


def article(slug: str) -> str | None:
    """One article's page, None when there is none of that name."""
    found = _ARTICLES.get(slug)
    return _page(found[0], f"<p>{escape(found[1])}</p>") if found else None


def listing() -> list[dict[str, str]]:
    """The articles as the API gives them."""
    return [{"slug": slug, "title": title, "text": text} for slug, (title, text) in _ARTICLES.items()]


def feed() -> str:
    """The RSS feed."""
    items = "".join(f"<item><title>{escape(title)}</title><link>/articles/{slug}</link></item>" for slug, (title, _) in _ARTICLES.items())
    return f'<?xml version="1.0"?>\n<rss version="2.0"><channel><title>{NAME}</title><link>/</link><description>Bread</description>{items}</channel></rss>\n'
