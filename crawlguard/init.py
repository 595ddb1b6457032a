"""``crawlguard init``: which framework a directory holds, the starter policy, and the two lines that switch it on."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import ConfigError

# What an import of each framework looks like, the most telling first: FastAPI sites import starlette too.
_IMPORTS = ("fastapi", "litestar", "quart", "django", "flask", "starlette")
_FILES = ("app.py", "main.py", "asgi.py", "wsgi.py", "server.py", "application.py", "api.py")
_LISTS = ("pyproject.toml", "requirements.txt", "requirements.in", "Pipfile", "setup.cfg", "setup.py", "uv.lock", "poetry.lock")
_MAX_READ = 1 << 20

_ADD = ["from crawlguard.asgi import CrawlGuardMiddleware", 'app.add_middleware(CrawlGuardMiddleware, policy="{file}")']
_WRAP = ["from crawlguard.{door} import CrawlGuardMiddleware", 'app = CrawlGuardMiddleware(app, policy="{file}")']
_LINES = {
    "fastapi": _ADD,
    "starlette": _ADD,
    "litestar": ["from crawlguard.asgi import CrawlGuardMiddleware", 'app = CrawlGuardMiddleware(app, policy="{file}")'],
    "quart": ["from crawlguard.asgi import CrawlGuardMiddleware", 'app.asgi_app = CrawlGuardMiddleware(app.asgi_app, policy="{file}")'],
    "flask": ["from crawlguard.wsgi import CrawlGuardMiddleware", 'app.wsgi_app = CrawlGuardMiddleware(app.wsgi_app, policy="{file}")'],
    "django": ['MIDDLEWARE = ["crawlguard.django.CrawlGuardMiddleware", *MIDDLEWARE]', 'CRAWLGUARD = {{"policy": BASE_DIR / "{file}"}}'],
    "wsgi": [line.replace("{door}", "wsgi") for line in _WRAP],
    "asgi": [line.replace("{door}", "asgi") for line in _WRAP],
}


def detect(directory: str | os.PathLike[str]) -> tuple[str, str]:
    """The framework of the site in a directory, and what told it; ("wsgi", ...) when nothing does."""
    here = Path(directory)
    if (here / "manage.py").is_file():
        return "django", "manage.py"
    sources = (
        [here / name for name in _FILES]
        + sorted(here.glob("*/__init__.py"))
        + sorted(here.glob("*/main.py"))
        + sorted(here.glob("*/app.py"))
    )
    for path in sources:
        text = _read(path)
        for name in _IMPORTS:
            if re.search(rf"^\s*(?:from|import) {name}\b", text, re.MULTILINE):
                return name, str(path.relative_to(here))
    for path in (here / name for name in _LISTS):
        text = _read(path).lower()
        for name in _IMPORTS:
            if re.search(rf"(?<![a-z0-9_-]){name}(?![a-z0-9_-])", text):
                return name, path.name
    return "wsgi", "no framework found; --framework names it"


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_READ).decode("utf-8", "replace")
    except OSError:
        return ""


def lines_for(framework: str, file: str) -> list[str]:
    """The two lines that put the guard in front of an application."""
    return [line.format(file=file) for line in _LINES[framework]]


def write_starter(output: str, framework: str, force: bool) -> None:
    """Write the starter policy. Raises ConfigError when the file is there already or cannot be written."""
    path = Path(output)
    lines = "\n".join(f"#     {line}" for line in lines_for(framework, output))
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(_STARTER.format(file=output, lines=lines))
    except FileExistsError:
        raise ConfigError(f"{output} is there already; --force overwrites it, --output names another file") from None
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror or error}") from None


_STARTER = """\
# What this site lets in. Check it with:   crawlguard check {file}
#
# Switched on by:
#
{lines}

version: 1

# shadow: decide and log, but refuse nobody. Look at the log for a few days, then write enforce.
mode: enforce

# The bundled default refuses declared AI training crawlers, serves people, search engines, AI search, feed readers and
# monitors, and slows down who asks for far too much.
include: [builtin:default]

# Leave a rule of the included policy out by its id:
# disable: [ai-unspecified]

# Behind nginx, Caddy, a load balancer or a CDN? Name it, or clients stay unknown and rates are not counted.
# client_ip:
#   trusted_proxies: [127.0.0.1]        # addresses, CIDRs, private, unix
#   header: x-forwarded-for             # or forwarded, cf-connecting-ip, ...

# One JSON line for each decision that is not a plain allow: off, logging (the logger crawlguard.decisions), or a file.
log: crawlguard-decisions.jsonl

# What a visitor's address looks like in the log: full, subnet or keyed.
privacy: {{addresses: full}}

# Networks of your own, by name:
# networks:
#   office: [203.0.113.0/24, 2001:db8:1234::/48]

# Your rules come before the included ones; the first that decides wins.
rules: []
# rules:
#   - id: office
#     when: {{network: office}}
#     then: allow
#
#   - id: no-crawlers-in-the-archive
#     when: {{path: /archive/, agent: {{ai: true}}}}
#     then: block
#
#   - id: busy-search
#     when: {{path: /search, rate: {{per: ip, requests: 30, within: 1m}}}}
#     then: throttle
"""
