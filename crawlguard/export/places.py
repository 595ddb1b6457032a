"""Where the documents lie that a policy publishes."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from ..policy.model import Policy

TDMREP, AI_TXT, ROBOTS, LICENSE = "/.well-known/tdmrep.json", "/ai.txt", "/robots.txt", "/license.xml"


def published(policy: Policy, host: str | None = None) -> tuple[str, ...]:
    """The paths of the documents that ``serve`` asks for, besides robots.txt."""
    serve = policy.serve
    path = license_path(policy, host) if serve.rsl else ""
    found = ((path, path.startswith("/")), (TDMREP, serve.tdmrep), (AI_TXT, serve.ai_txt))
    return tuple(place for place, wanted in found if wanted)


def license_path(policy: Policy, host: str | None) -> str:
    """The path of the RSL document; where there is none, why."""
    if not policy.robots.license:
        return LICENSE
    try:
        url = urlsplit(policy.robots.license)
        site = (url.hostname or "").lower()
    except ValueError:
        return "is not a URL"
    if host and site != host.lower():
        return f"lies on {site}, not on {host.lower()}"
    path = unquote(url.path)
    if path in ("", "/", ROBOTS, TDMREP, AI_TXT):
        return f"has the path of something else, {path or '/'}"
    return path
