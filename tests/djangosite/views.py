"""Sync and async views, plain and marked, as functions and as classes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.utils.decorators import method_decorator
from django.views import View

from crawlguard import exempt, strict

from .policies import no_libraries


def page(request: HttpRequest) -> HttpResponse:
    """What the view knows of the decision."""
    decision = request.crawlguard  # type: ignore[attr-defined]
    return JsonResponse({"action": decision.action, "rule": decision.rule, "tags": decision.tags})


async def apage(request: HttpRequest) -> HttpResponse:
    """The same, asynchronously."""
    return page(request)


def stream(request: HttpRequest) -> HttpResponseBase:
    """A response that is made while it is sent."""

    def chunks() -> Iterator[bytes]:
        for number in range(3):
            yield b"%d" % number

    return StreamingHttpResponse(chunks())


async def astream(request: HttpRequest) -> HttpResponseBase:
    """The same, asynchronously."""

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number

    return StreamingHttpResponse(chunks())


@exempt
def status(request: HttpRequest) -> HttpResponse:
    """Served to everybody."""
    return page(request)


@exempt
async def astatus(request: HttpRequest) -> HttpResponse:
    """Served to everybody, asynchronously."""
    return page(request)


@strict(no_libraries)
def archive(request: HttpRequest) -> HttpResponse:
    """Held to a second policy."""
    return page(request)


@strict(no_libraries)
async def aarchive(request: HttpRequest) -> HttpResponse:
    """Held to a second policy, asynchronously."""
    return page(request)


@method_decorator(exempt, name="dispatch")
class Status(View):
    """A class-based view that is served to everybody."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return page(request)


@method_decorator(strict(no_libraries), name="dispatch")
class Archive(View):
    """A class-based view that is held to a second policy."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return page(request)


class Plain(View):
    """A class-based view without a mark."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return page(request)


class AsyncPlain(View):
    """An asynchronous one without a mark."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return page(request)
