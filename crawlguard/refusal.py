"""The guard's own answers: to a refused request, in the media type that the client prefers, and to one for a document of the policy."""

from __future__ import annotations

import json

from .decision import Action, Decision

_TITLES = {
    Action.BLOCK: "Automated access is not allowed here",
    Action.THROTTLE: "Too many requests",
    Action.HIDE: "Not Found",
    Action.PRICE: "Payment required",
}
_WORDS = {
    Action.BLOCK: "This site does not serve this kind of automated client. Its robots.txt says what it allows.",
    Action.THROTTLE: "Please slow down, and try again after the time that the Retry-After header names.",
    Action.HIDE: "The requested page was not found.",
    Action.PRICE: "This site asks automated clients to pay for its pages.",
}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">
<title>{title}</title>
<style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem}}small{{color:#555}}</style>
<h1>{title}</h1><p>{words}</p>{foot}
</html>
"""
_TYPES = {"html": "text/html; charset=utf-8", "json": "application/json", "text": "text/plain; charset=utf-8"}
_MEDIA = {"text/html": "html", "application/xhtml+xml": "html", "application/json": "json", "text/plain": "text"}


def preferred(accept: str | None) -> str:
    """ "html", "json" or "text": the one with the highest q in an Accept header (RFC 9110 12.5.1); text when it names none."""
    best, best_q = "text", 0.0
    for part in (accept or "")[:1024].split(","):
        media, *parameters = (p.strip().lower() for p in part.split(";"))
        kind = _MEDIA.get(media)
        if kind is None:
            continue
        q = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    q = float(parameter[2:])
                except ValueError:
                    q = 0.0
        if q > best_q:
            best, best_q = kind, q
    return best


LISTS = frozenset(("link", "x-robots-tag", b"link", b"x-robots-tag"))
"""Headers that may stand several times: what the policy says stands beside what the application says."""

PAGE_AGE = 3600
"""Seconds for which a document of the policy may be cached: RFC 9309 2.4 allows a day, and a changed policy should be heard sooner."""


def answers(decision: Decision, method: str) -> bool:
    """Whether the guard answers this request by itself: it is refused, or asks for a document of the policy."""
    return decision.action is not Action.ALLOW or (decision.page is not None and method in ("GET", "HEAD"))


def refuse(decision: Decision, accept: str | None, method: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of the guard's own answer. A HEAD gets the headers of the GET, without the body."""
    if decision.page is not None:
        headers = [
            ("Content-Type", decision.page.content_type),
            ("Content-Length", str(len(decision.page.body))),
            ("Cache-Control", f"max-age={PAGE_AGE}"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        return 200, headers, b"" if method == "HEAD" else decision.page.body
    kind = preferred(accept)
    body = _body(decision, kind).encode()
    headers = [
        ("Content-Type", _TYPES[kind]),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept, User-Agent"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if decision.retry_after is not None:
        headers.append(("Retry-After", str(decision.retry_after)))
    if decision.answer is not None:
        own = {name.lower() for name, _ in decision.answer.headers}
        headers = [h for h in headers if h[0].lower() not in own] + list(decision.answer.headers)
    return decision.status, headers, b"" if method == "HEAD" else body


def _body(decision: Decision, kind: str) -> str:
    from html import escape  # its table of entities takes longer to import than all of this file

    answer = decision.answer
    if answer is not None:
        custom = {"html": answer.html, "json": answer.json, "text": answer.text}
        if custom[kind] is not None:
            return str(custom[kind])
        if answer.text is not None:  # one text for every media type
            return escape(answer.text) if kind == "html" else json.dumps({"error": answer.text}) if kind == "json" else answer.text
    title, words = _TITLES[decision.action], _WORDS[decision.action]
    # A hidden page is not there: the body names no rule and no reason.
    rule = None if decision.action is Action.HIDE else decision.rule
    reason = decision.reason if rule and decision.reason != f"rule {rule}" else None
    if kind == "json":
        told = {"error": title, "detail": words, "reason": reason, "rule": rule, "retry_after": decision.retry_after}
        return json.dumps({k: v for k, v in told.items() if v is not None}) + "\n"
    if kind == "html":
        why = f"<p>Reason: {escape(reason)}.</p>" if reason else ""
        foot = f"<p><small>If you are a person and see this, tell the site's owner: rule {escape(rule)}.</small></p>" if rule else ""
        return _PAGE.format(title=title, words=words, foot=why + foot)
    why = f"Reason: {reason}.\n" if reason else ""
    foot = f"\nIf you are a person and see this, tell the site's owner: rule {rule}.\n" if rule else ""
    return f"{title}\n\n{words}\n{why}{foot}"
