"""The WSGI door: Flask, Bottle, Pyramid, Django WSGI.

    app.wsgi_app = CrawlGuardMiddleware(app.wsgi_app)   # Flask; elsewhere: app = CrawlGuardMiddleware(app)

It decides before the application hears of the request; an allowed one gets the application's own iterable, never buffered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, Unpack

from .decision import ALLOW
from .guard import Guard
from .marks import Marks
from .policy.model import Policy
from .refusal import LISTS, answers, refuse
from .request import EnvironView, RequestView, environ_path
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
        guard, view = self.guard, None
        try:
            view = EnvironView(environ)
            decision = guard.decide(view, partial(_locate, self.app, environ) if Marks.used else None)
        except Exception:  # an environ that no server should hand over is the application's to deal with
            decision = guard.fail_open()
        environ["crawlguard.decision"] = decision
        if decision is not ALLOW and answers(decision, environ.get("REQUEST_METHOD", "GET")):
            try:
                status, headers, body = refuse(decision, environ.get("HTTP_ACCEPT"), environ.get("REQUEST_METHOD", "GET"))
            except Exception:  # an answer that cannot be made: the request is served
                environ["crawlguard.decision"] = guard.fail_open()
            else:
                start_response(f"{status} {_phrase(status)}", headers)
                return [body]
        if guard.speaks and (said := guard.site_headers(environ_path, environ)):
            start_response = partial(_say, start_response, said)
        if (guard.charges or Marks.used) and view is not None and hasattr(view, "owed"):
            return _Charged(guard, view, start_response).answer(self.app, environ)
        return self.app(environ, start_response)


class _Charged:
    """One answer that is told to the guard when it is over: its status, and the bytes of its body as they go by."""

    def __init__(self, guard: Guard, view: RequestView, start_response: Callable[..., Any]) -> None:
        self._guard, self._view, self._start = guard, view, start_response
        self._status, self._size, self._announced, self._over = 500, 0, 0, False
        self._body: Iterable[bytes] = ()
        self._chunks: Iterator[bytes] = iter(())

    def answer(self, app: App, environ: Environ) -> Iterable[bytes]:
        """What the application returns: itself where its length is known, else through this object, chunk by chunk."""
        try:
            body = app(environ, self._started)
        except BaseException:  # the server answers by itself
            self._done()
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(body, list | tuple):
            self._size += sum(map(len, body))
        elif isinstance(wrapper, type) and isinstance(body, wrapper):  # the server sends the file itself
            self._size += self._announced
        else:
            self._body, self._chunks = body, iter(body)
            return self
        self._done()
        return body

    def _started(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self._status = int(status[:3]) if status[:3].isdigit() else 500
        self._announced = next((int(value) for name, value in headers if name.lower() == "content-length" and value.isdigit()), 0)
        write = self._start(status, headers, exc_info) if exc_info else self._start(status, headers)
        return partial(self._write, write)

    def _write(self, write: Callable[[bytes], Any], data: bytes) -> Any:
        self._size += len(data)
        return write(data)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._size += len(chunk)
        return chunk

    def close(self) -> None:
        """Close the application's iterable, and tell the guard."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._done()

    def _done(self) -> None:
        if not self._over:
            self._over = True
            # Whatever an application returns to a HEAD, nothing of it is sent.
            self._guard.responded(self._view, self._status, 0 if self._view.method == "HEAD" else self._size)


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
