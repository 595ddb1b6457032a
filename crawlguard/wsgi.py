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

from .decision import Action, Decision
from .guard import Guard
from .marks import Marks
from .policy.model import Policy
from .refusal import refuse
from .request import EnvironView
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
        if decision.action is not Action.ALLOW:
            try:
                status, headers, body = refuse(decision, environ.get("HTTP_ACCEPT"), environ.get("REQUEST_METHOD", "GET"))
            except Exception:  # an answer that cannot be made: the request is served
                environ["crawlguard.decision"] = self.guard.fail_open()
            else:
                start_response(f"{status} {_phrase(status)}", headers)
                return [body]
        return self.app(environ, start_response)

    def _decide(self, environ: Environ) -> Decision:
        try:
            view = EnvironView(environ)
            return self.guard.decide(view, partial(_locate, self.app, environ) if Marks.used else None)
        except Exception:  # an environ that no server should hand over is the application's to deal with
            return self.guard.fail_open()


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
