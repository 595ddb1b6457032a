"""The site that is visited: some hundreds of pages of a small museum, generated, the same each time.

Pages have a style sheet, a script, pictures and links to their neighbours, sections and tags; lists come in pages and orders, as those of a
CMS do. Beside them robots.txt, a sitemap, a feed and a favicon.
"""

from __future__ import annotations

import random
import struct
import zlib
from html import escape
from pathlib import Path

ARTICLES = 260
PER_LIST = 20
SECTIONS = ("boats", "harbour", "people", "knots", "charts", "weather")
TAGS = ("rope", "pilot", "lighthouse", "herring", "regatta", "sail", "winter", "drawing", "letter", "archive")
DRAFTS = tuple(f"/drafts/{number}.html" for number in range(6))
"""What robots.txt asks to leave alone; pages link there."""
NAME = "Museum at the Old Harbour"
"""Stands in every page."""

ROBOTS = """\
User-agent: *
Disallow: /drafts/

Sitemap: /sitemap.xml
"""
_WORDS = ["the", "a", "boat", "lay", "in", "of", "harbour", "under", "snow", "and", "its", "crew", "told", "us", "how", "they", "had", "hauled", "nets", "by", "hand", "until", "late", "autumn", "when", "ice", "came", "early", "that", "year", "old", "chart", "shows", "where", "pilot", "waited", "for", "ships", "from", "north", "a", "letter", "names", "three", "of", "them", "one", "was", "never", "seen", "again", "rope", "makers", "walk", "ran", "along", "quay", "behind", "church", "light", "was", "kept", "by", "two", "sisters", "who", "wrote", "down", "wind", "at", "every", "hour"]  # fmt: skip
_CSS = """\
body { font: 1.05rem/1.6 Georgia, serif; margin: 0 auto; max-width: 46rem; padding: 1rem; color: #1d2b36 }
header { display: flex; gap: 1rem; align-items: center; border-bottom: 1px solid #9ab }
nav a { margin-right: 1rem } img { max-width: 100% } footer { color: #567; font-size: .9rem }
"""
_SCRIPT = "document.documentElement.classList.add('js');\n"


def build(root: Path) -> list[str]:
    """Write the site to a directory, and name the paths of its articles."""
    dice = random.Random(20_261_101)
    titles = [f"{' '.join(dice.sample(_WORDS, 4)).capitalize()}, no. {number}" for number in range(ARTICLES)]
    paths = [f"/articles/{number:03}.html" for number in range(ARTICLES)]
    files: dict[str, str | bytes] = {
        "/robots.txt": ROBOTS,
        "/style.css": _CSS,
        "/print.css": "header, nav { display: none }\n",
        "/site.js": _SCRIPT,
        "/favicon.ico": _icon(dice),
        "/logo.png": _png(dice, 48, 48),
        "/sitemap.xml": _sitemap(paths),
        "/feed.xml": _feed(paths, titles),
    }
    files |= {f"/images/{number:02}.png": _png(dice, 96, 64) for number in range(40)}
    for number, (path, title) in enumerate(zip(paths, titles, strict=True)):
        near = [*range(max(0, number - 2), number), *range(number + 1, min(ARTICLES, number + 3)), *dice.sample(range(ARTICLES), 5)]
        links = [(paths[other], titles[other]) for other in near]
        tags = [(f"/tags/{tag}.html", tag) for tag in dice.sample(TAGS, 2)]
        body = "".join(f"<p>{' '.join(dice.choices(_WORDS, k=60)).capitalize()}.</p>\n" for _ in range(4))
        body += f'<img src="/images/{number % 40:02}.png" alt="" width="96" height="64">\n'
        files[path] = _page(title, f"{body}{_list(tags)}<h2>Read on</h2>{_list(links)}")
    for number, section in enumerate(SECTIONS):
        _listing(files, f"/{section}/", section.capitalize(), list(zip(paths, titles, strict=True))[number :: len(SECTIONS)])
    for number, tag in enumerate(TAGS):
        _listing(files, f"/tags/{tag}.html", tag, list(zip(paths, titles, strict=True))[number :: len(TAGS) * 2])
    for number, path in enumerate(DRAFTS):
        files[path] = _page(f"Draft {number}", "<p>Not finished.</p>")
    newest = list(zip(paths, titles, strict=True))[:PER_LIST]
    files["/index.html"] = _page("Welcome", f"<p>Open from Tuesday to Sunday.</p>{_list(newest)}{_list([(d, 'draft') for d in DRAFTS])}")
    for path, content in files.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return paths


def _listing(files: dict[str, str | bytes], path: str, title: str, entries: list[tuple[str, str]]) -> None:
    """A list of articles in pages, which also can be asked for in other orders, as lists of a CMS can."""
    orders = [(f"{path}?order={order}", f"by {order}") for order in ("title", "date")]
    pages = [entries[start : start + PER_LIST] for start in range(0, len(entries), PER_LIST)]
    stem = path + "page-{}.html" if path.endswith("/") else path.removesuffix(".html") + "-{}.html"
    names = [path, *(stem.format(number) for number in range(2, len(pages) + 1))]
    for name, part in zip(names, pages, strict=True):
        turning = [(other, f"page {number}") for number, other in enumerate(names, 1) if other != name]
        files[name + "index.html" if name.endswith("/") else name] = _page(title, _list(part) + _list(turning) + _list(orders))


def _list(links: list[tuple[str, str]]) -> str:
    return "<ul>\n" + "".join(f'<li><a href="{escape(path)}">{escape(text)}</a></li>\n' for path, text in links) + "</ul>\n"


def _page(title: str, body: str) -> str:
    menu = "".join(f'<a href="/{section}/">{section}</a> ' for section in SECTIONS)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)} - {NAME}</title>
<link rel="stylesheet" href="/style.css"><link rel="stylesheet" media="print" href="/print.css">
<link rel="alternate" type="application/rss+xml" href="/feed.xml" title="{NAME}">
<script src="/site.js" defer></script>
</head>
<body>
<header><img src="/logo.png" alt="" width="48" height="48"><p><a href="/">{NAME}</a></p></header>
<nav>{menu}</nav>
<main><h1>{escape(title)}</h1>
{body}
</main>
<footer>{NAME}, at the quay</footer>
</body>
</html>
"""


def _sitemap(paths: list[str]) -> str:
    entries = "".join(f"<url><loc>{path}</loc></url>" for path in paths)
    return f'<?xml version="1.0"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>\n'


def _feed(paths: list[str], titles: list[str]) -> str:
    items = "".join(
        f"<item><title>{escape(title)}</title><link>{path}</link></item>" for path, title in zip(paths[:20], titles[:20], strict=True)
    )
    return f'<?xml version="1.0"?>\n<rss version="2.0"><channel><title>{NAME}</title><link>/</link><description>News</description>{items}</channel></rss>\n'


def _png(dice: random.Random, width: int, height: int) -> bytes:
    """A picture of noise in greys, which does not compress: some kilobytes, as pictures have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + dice.randbytes(width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _icon(dice: random.Random) -> bytes:
    """A favicon: one picture in the file format of icons."""
    picture = _png(dice, 32, 32)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 8, len(picture), 22) + picture
