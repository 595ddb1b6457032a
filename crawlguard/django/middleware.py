"""The middleware class. One ``await`` sets the two kinds of views apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from operator import attrgetter
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.checks import Error
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import resolve

from ..decision import ALLOW, Decision
from ..guard import Guard
from ..marks import Marks
from ..refusal import LISTS, answers, refuse
from ..request import RequestView
from .checks import configuration
from .responses import OWED, charge

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class CrawlGuardMiddleware:
    """Guards a Django site by the setting CRAWLGUARD. The decision is in ``request.crawlguard``.

    Raises ImproperlyConfigured at start, with the ids of ``checks``, when the setting or the policy cannot be used.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        given = getattr(settings, "CRAWLGUARD", {})
        wrong = [m for m in configuration(given) if isinstance(m, Error)]
        if wrong:
            raise ImproperlyConfigured("\n".join(str(m) for m in wrong))
        self.guard = Guard(given.get("policy"), **{k: v for k, v in given.items() if k != "policy"})
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self._acall(request)
        return self._answer(request, self._decide(request)) or self._say(request, self.get_response(request))

    async def _acall(self, request: HttpRequest) -> Any:
        decision = await self._adecide(request) if self.guard.remote else self._decide(request)
        return self._answer(request, decision) or self._say(request, await self.get_response(request))  # type: ignore[misc]

    def _say(self, request: HttpRequest, response: Any) -> Any:
        for name, value in self.guard.site_headers(attrgetter("path"), request):
            there = response.headers.get(name)
            if there is None or name.lower() in LISTS:
                response.headers[name] = f"{there}, {value}" if there else value
        view = request.__dict__.pop(OWED, None)
        if view is not None:
            charge(self.guard, view, response)
        return response

    def _answer(self, request: HttpRequest, decision: Decision) -> HttpResponse | None:
        request.crawlguard = decision  # type: ignore[attr-defined]
        if decision is ALLOW or not answers(decision, request.method or "GET"):
            return None
        try:
            status, headers, body = refuse(decision, request.META.get("HTTP_ACCEPT"), request.method or "GET")
            return HttpResponse(body, status=status, headers=dict(headers))
        except Exception:  # an answer that cannot be made: the request is served
            request.crawlguard = self.guard.fail_open()  # type: ignore[attr-defined]
            return None

    def _decide(self, request: HttpRequest) -> Decision:
        try:
            view = _view(request)
            return self._owing(request, view, self.guard.decide(view, partial(_locate, request) if Marks.used else None))
        except Exception:  # a request that no server should hand over is the application's to deal with
            return self.guard.fail_open()

    async def _adecide(self, request: HttpRequest) -> Decision:
        """``_decide`` with a store on another machine, which is awaited."""
        try:
            view = _view(request)
            return self._owing(request, view, await self.guard.adecide(view, partial(_locate, request) if Marks.used else None))
        except Exception:
            return self.guard.fail_open()

    def _owing(self, request: HttpRequest, view: RequestView, decision: Decision) -> Decision:
        if (self.guard.charges or Marks.used) and hasattr(view, "owed"):
            setattr(request, OWED, view)
        return decision


def _view(request: HttpRequest) -> RequestView:
    scope = getattr(request, "scope", None)
    return RequestView.from_scope(scope) if scope else RequestView.from_environ(request.META)


def _locate(request: HttpRequest) -> Any:
    return resolve(request.path_info, getattr(request, "urlconf", None)).func
