"""The WSGI door: Flask, Bottle, Pyramid, Django WSGI.

    app.wsgi_app = CrawlGuardMiddleware(app.wsgi_app)   # Flask; elsewhere: app = CrawlGuardMiddleware(app)

It decides before the application hears of the request; an allowed one gets the application's own iterable, never buffered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, Unpack

from .decision import ALLOW, Decision
from .guard import Guard
from .marks import Marks
from .policy.model import Policy
from .refusal import LISTS, answers, refuse
from .request import EnvironView, environ_path
from .settings import Settings

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class CrawlGuardMiddleware:
    """Guards a WSGI application. ``policy``: None (the bundled default), a path, ``builtin:NAME``, a Policy or a Guard.

    ``settings`` are those of Guard. The decision is in ``environ["crawlguard.decision"]``. Raises PolicyError, ConfigError
    or DataError while it is made, and nothing of its own after that.
    """

    def __init__(self, app: App, policy: str | os.PathLike[str] | Policy | Guard | None = None, **settings: Unpack[Settings]) -> None:
        self.app = app
        self.guard = policy if isinstance(policy, Guard) else Guard(policy, **settings)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        decision = self._decide(environ)
        environ["crawlguard.decision"] = decision
        if decision is not ALLOW and answers(decision, environ.get("REQUEST_METHOD", "GET")):
            try:
                status, headers, body = refuse(decision, environ.get("HTTP_ACCEPT"), environ.get("REQUEST_METHOD", "GET"))
            except Exception:  # an answer that cannot be made: the request is served
                environ["crawlguard.decision"] = self.guard.fail_open()
            else:
                start_response(f"{status} {_phrase(status)}", headers)
                return [body]
        said = self.guard.site_headers(environ_path, environ)
        return self.app(environ, partial(_say, start_response, said) if said else start_response)

    def _decide(self, environ: Environ) -> Decision:
        try:
            view = EnvironView(environ)
            return self.guard.decide(view, partial(_locate, self.app, environ) if Marks.used else None)
        except Exception:  # an environ that no server should hand over is the application's to deal with
            return self.guard.fail_open()


def _say(start_response: Callable[..., Any], said: tuple[tuple[str, str], ...], status: str, headers: Any, exc_info: Any = None) -> Any:
    """Start the application's answer, adding what it does not say itself."""
    own = {name.lower() for name, _ in headers} - LISTS
    headers = [*headers, *(h for h in said if h[0].lower() not in own)]
    return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"


def _locate(app: Any, environ: Environ) -> Any:
    """The view function that a Flask application would run, None when that cannot be told.

    No framework is imported: ``app`` is a Flask object, its bound ``wsgi_app``, or another middleware around one.
    """
    found = app
    while found is not None and not hasattr(found, "url_map"):
        found = getattr(found, "__self__", None) or getattr(found, "wsgi_app", None) or getattr(found, "app", None)
    if found is None:
        return None
    endpoint, _ = found.url_map.bind_to_environ(environ).match()
    return found.view_functions.get(endpoint)
