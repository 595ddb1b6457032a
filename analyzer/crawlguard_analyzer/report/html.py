"""One HTML page that needs nothing else: no script, no font, no request. Its size is bounded by rows and cells, whatever the log held."""

from __future__ import annotations

from collections.abc import Sequence

from crawlguard import __version__

from ..analysis import Analysis
from ..tables import UNDECLARED
from .markup import Markup, el, join
from .sections import sections
from .style import CSS
from .words import NEXT, in_short, moment, percent, period, shares, size

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(analysis: Analysis, *, now: int | None = None, then: str = NEXT) -> str:
    """The page. ``now``: seconds since 1970, when it was made; ``then``: the command that comes next."""
    parts = sections(analysis, then)
    return f"<!DOCTYPE html>\n{el('html', _head(), el('body', _top(analysis, [(name, title) for name, title, _ in parts]), el('main', [content for _, _, content in parts]), _foot(now)), lang='en')}\n"


def _head() -> Markup:
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", "Who visits this site: crawlguard report"),
        el("style", CSS),
    )


def _top(analysis: Analysis, titles: Sequence[tuple[str, str]]) -> Markup:
    totals, by_class = analysis.totals, shares(analysis)
    whole = sum(by_class.values())
    hidden = sum(by_class.get(name, 0) for name in UNDECLARED)
    figures = (
        ("requests", f"{totals.rows:,}"),
        ("clients", f"{analysis.clients.height:,}"),
        ("sent", size(totals.bytes)),
        ("of the requests by people", percent(by_class.get("person", 0), whole)),
        ("by crawlers that name themselves", percent(by_class.get("declared", 0), whole)),
        ("by machines that hide it", percent(hidden, whole)),
    )
    return el(
        "header",
        el("h1", "Who visits this site"),
        el("p", period(totals), class_="soft"),
        el("p", join(*(f"{sentence} " for sentence in in_short(analysis))), class_="lead"),
        el("dl", (el("div", el("dt", name), el("dd", value)) for name, value in figures), class_="figures"),
        el("nav", el("ul", (el("li", el("a", title, href=f"#{name}")) for name, title in titles)), aria_label="Sections"),
    )


def _foot(now: int | None) -> Markup:
    made = f"Made by crawlguard {__version__}{f' on {moment(now)} UTC' if now is not None else ''}."
    return el("footer", f"{made} All times are UTC. This page is complete in itself: it runs no script and loads nothing.")
