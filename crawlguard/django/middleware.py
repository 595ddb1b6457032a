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
        return self._answer(request) or self._say(request, self.get_response(request))

    async def _acall(self, request: HttpRequest) -> Any:
        return self._answer(request) or self._say(request, await self.get_response(request))  # type: ignore[misc]

    def _say(self, request: HttpRequest, response: Any) -> Any:
        for name, value in self.guard.site_headers(attrgetter("path"), request):
            there = response.headers.get(name)
            if there is None or name.lower() in LISTS:
                response.headers[name] = f"{there}, {value}" if there else value
        view = request.__dict__.pop(OWED, None)
        if view is not None:
            charge(self.guard, view, response)
        return response

    def _answer(self, request: HttpRequest) -> HttpResponse | None:
        decision = self._decide(request)
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
            scope = getattr(request, "scope", None)
            view = RequestView.from_scope(scope) if scope else RequestView.from_environ(request.META)
            decision = self.guard.decide(view, partial(_locate, request) if Marks.used else None)
            if (self.guard.charges or Marks.used) and hasattr(view, "owed"):
                setattr(request, OWED, view)
            return decision
        except Exception:  # a request that no server should hand over is the application's to deal with
            return self.guard.fail_open()


def _locate(request: HttpRequest) -> Any:
    return resolve(request.path_info, getattr(request, "urlconf", None)).func
